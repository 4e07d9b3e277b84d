//! Tuple files (`.hft`): rows of one relation as one snapshot showed them, in the order in which they were read, without keys and
//! positions. Rows come and go as in PostgreSQL's binary COPY; inside a block they are stored by column.
//!
//! ```text
//! header (16) │ block │ block │ … │ footer (index and totals) │ trailer (56)
//! ```
//!
//! Memory: a writer holds one block, at most [`BLOCK_SIZE`] bytes of rows and one row more, as columns and as stored. A
//! reader holds one block as columns and as rows. A row of 1 GiB, the longest that PostgreSQL sends, is a block of its own or
//! the end of one.

mod assemble;
mod column;
mod decimal;
mod decoder;
mod dictionary;
mod index;
mod numbers;
mod reader;
mod recoded;
mod rows;
mod shuffle;
mod streams;
mod summary;
mod words;
mod writer;

pub use decoder::TupleDecoder;
pub use index::{TupleBlock, TupleIndex, TupleTail};
pub use reader::TupleFileReader;
pub use rows::{TupleFields, TupleRow, TupleRows};
pub use summary::TupleFileSummary;
pub use writer::{TupleFileOptions, TupleFileWriter};

use crate::indexed_file::FileForm;

const FORM: FileForm = FileForm {
    what: "a tuple file",
    header_magic: b"HFTUPL\r\n",
    trailer_magic: b"HFTPEND\n",
    newest: 2,
};
/// The version of files whose columns are not compressed: they have nothing that version 1 cannot say.
const VERSION_PLAIN: u16 = 1;
/// The version of all others. It brought columns that are recoded.
const VERSION: u16 = 2;
/// The most columns: a field count of COPY is a signed number of 16 bits.
const MAX_COLUMNS: u16 = i16::MAX as u16;
/// The longest row: PostgreSQL sends none that is longer.
const MAX_ROW_LENGTH: usize = 1 << 30;
/// Bytes of rows after which a block is closed.
const BLOCK_SIZE: usize = 8 << 20;
/// The most rows of a block.
const MAX_BLOCK_ROWS: u32 = 1 << 16;
/// The most bytes of rows in a block: those of a block just before it is closed, and the longest row.
const MAX_BLOCK_LENGTH: usize = (1 << 30) + (1 << 24);
/// The most bytes of a block as stored: what its rows take, and the framing of its streams.
const MAX_STORED_LENGTH: usize = MAX_BLOCK_LENGTH + (1 << 21);
/// Bytes of a field count, before the fields of a row.
const COUNT_LENGTH: usize = 2;
/// Bytes of a field's length, before the field.
const LENGTH_LENGTH: usize = 4;
/// The length of a field that is null, as COPY spells it and as we keep it.
const NULL: u32 = u32::MAX;
/// Fields of one width up to this are stored shuffled: all first bytes, all second bytes, and so on. Numbers and times gain most by it. Longer
/// ones are texts and blobs of a chance width.
const MAX_SHUFFLED_WIDTH: u32 = 32;
/// The head of a stream: its stored length, and in this bit whether it is compressed.
const STREAM_ZSTD: u32 = 1 << 31;

/// The first byte of a column.
mod head {
    /// Which rows are null.
    pub(super) const NULLS: u8 = 0b11;
    /// No row is null.
    pub(super) const NO_NULLS: u8 = 0;
    /// A bitmap says which.
    pub(super) const SOME_NULL: u8 = 1;
    /// All are; nothing follows.
    pub(super) const ALL_NULL: u8 = 2;
    /// Where the lengths begin in the byte: 0 is one length for all, 1 to 3 are lengths of 1, 2 and 4 bytes each.
    pub(super) const LENGTHS_SHIFT: u8 = 2;
    /// The bits of the lengths.
    pub(super) const LENGTHS: u8 = 0b1100;
    /// The data are shuffled.
    pub(super) const SHUFFLED: u8 = 1 << 4;
    /// Where the way in which the fields are recoded begins in the byte: 0 if they are not.
    pub(super) const RECODED_SHIFT: u8 = 5;
    /// The bits of it. Since version 2.
    pub(super) const RECODED: u8 = 0b110_0000;
    /// The fields are told by their words. Since version 2.
    pub(super) const WORDS: u8 = 1 << 7;
}
