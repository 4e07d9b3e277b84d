//! SQL as it is spoken here: tokens, statements, the parser and the printer. Pure: text in, statements out, and back.

pub(crate) mod ast;
pub(crate) mod expression;
pub(crate) mod options;
mod parser;
mod print;
mod token;
pub(crate) mod words;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;

pub(crate) use parser::{parse, placeholders};
pub(crate) use print::{Printed, Secrets};
