//! `COPY … (FORMAT binary)`: read and written as a stream, holding one row at a time. Values are walked over, never decoded.

mod blocks;
mod reader;
mod rows;
mod writer;

pub use blocks::CopyBlocks;
pub(crate) use reader::rows_of;
pub use reader::{CopyReader, MAX_ROW};
pub use rows::CopyRows;
pub use writer::CopyWriter;

/// What a binary copy begins with.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// The field count that ends a binary copy.
const TRAILER: i16 = -1;
