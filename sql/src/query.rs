//! The small part of SELECT that people use over lists of jobs: columns and expressions, WHERE, GROUP BY with the usual aggregates, DISTINCT, ORDER BY,
//! LIMIT. Pure: rows in, rows out.

mod aggregate;
mod compare;
mod infer;
mod like;
mod scalar;
mod select;

#[cfg(test)]
mod tests;

pub(crate) use infer::columns_of_select;
pub(crate) use scalar::{Known, constant, to_int};
pub(crate) use select::{columns_of_values, evaluate, values};
