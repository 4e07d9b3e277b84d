//! The index of a tuple file: parsed out of header, footer and trailer, however these were fetched.

use holdfast_types::{ByteCount, Fault, RowCount};
use std::fmt;
use std::ops::Range;

use super::{
    COUNT_LENGTH, FORM, LENGTH_LENGTH, MAX_BLOCK_LENGTH, MAX_BLOCK_ROWS, MAX_COLUMNS,
    MAX_STORED_LENGTH, VERSION,
};
use crate::indexed_file::{HEADER_LENGTH, TRAILER_LENGTH, Trailer};
use crate::wire::Decoder;

/// One block, as the index describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct TupleBlock {
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// Rows in it.
    pub rows: RowCount,
    /// Bytes of its rows as COPY has them.
    pub logical: ByteCount,
    pub(super) checksum: [u8; 16],
}

impl fmt::Debug for TupleBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TupleBlock({:?}, {} rows)", self.bytes, self.rows)
    }
}

/// The trailer of a tuple file: where the footer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleTail {
    /// The footer's bytes in the file.
    pub footer: Range<u64>,
    trailer: Trailer,
}

impl TupleTail {
    /// Length of the header, which starts the file.
    pub const HEADER_LENGTH: u64 = HEADER_LENGTH;
    /// Length of the trailer, which ends the file.
    pub const TRAILER_LENGTH: u64 = TRAILER_LENGTH;

    /// Reads the trailer: the last [`TupleTail::TRAILER_LENGTH`] bytes of `tail`, which are the last of a file of `length`
    /// bytes.
    ///
    /// # Errors
    /// `Corrupted` if there is no trailer, `Unsupported` if a newer version wrote it.
    pub fn parse(tail: &[u8], length: u64) -> Result<Self, Fault> {
        let trailer = FORM.parse_trailer(tail, length)?;
        Ok(Self {
            footer: trailer.footer.clone(),
            trailer,
        })
    }
}

/// The index and totals of one tuple file.
#[derive(Debug, Clone)]
pub struct TupleIndex {
    version: u16,
    columns: u16,
    blocks: Vec<TupleBlock>,
    rows: RowCount,
    logical: ByteCount,
}

impl TupleIndex {
    /// Reads the index out of the file's first bytes, its footer and its trailer, and checks their common digest.
    ///
    /// # Errors
    /// `Corrupted` or `Unsupported`.
    pub fn parse(header: &[u8], footer: &[u8], tail: &TupleTail) -> Result<Self, Fault> {
        let [low, high, rest @ ..] = FORM.open(header, footer, &tail.trailer)?;
        if rest != [0; 2] {
            return Err(FORM.unknown_feature());
        }
        let columns = u16::from_le_bytes([low, high]);
        if columns > MAX_COLUMNS {
            return Err(FORM.damaged("it has more columns than any"));
        }
        let mut decoder = Decoder::new(footer, FORM.what);
        let count = decoder.u32()?;
        let mut blocks: Vec<TupleBlock> = Vec::new();
        let (mut offset, mut rows, mut logical) = (HEADER_LENGTH, 0u64, 0u64);
        for _ in 0..count {
            let block = parse_block(&mut decoder, offset, columns)?;
            offset = block.bytes.end;
            rows = rows.saturating_add(block.rows.0);
            logical = logical.saturating_add(block.logical.0);
            blocks.push(block);
        }
        let totals = (decoder.u64()?, decoder.u64()?);
        decoder.end()?;
        if offset != tail.footer.start || (rows, logical) != totals {
            return Err(decoder.damaged("its totals do not add up"));
        }
        Ok(Self {
            version: tail.trailer.version,
            columns,
            blocks,
            rows: RowCount(rows),
            logical: ByteCount(logical),
        })
    }

    /// Whether its columns may be recoded.
    pub(super) fn can_recode(&self) -> bool {
        self.version >= VERSION
    }

    /// Columns of every row.
    #[must_use]
    pub fn columns(&self) -> u16 {
        self.columns
    }

    /// The blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[TupleBlock] {
        &self.blocks
    }

    /// Rows in the file.
    #[must_use]
    pub fn rows(&self) -> RowCount {
        self.rows
    }

    /// Bytes of the rows as COPY has them.
    #[must_use]
    pub fn logical(&self) -> ByteCount {
        self.logical
    }
}

/// The bytes of so many rows that have no fields but nulls: none takes less.
pub(super) fn least_length(rows: u64, columns: u16) -> u64 {
    let row = u64::from(columns)
        .saturating_mul(LENGTH_LENGTH as u64)
        .saturating_add(COUNT_LENGTH as u64);
    rows.saturating_mul(row)
}

fn parse_block(decoder: &mut Decoder<'_>, offset: u64, columns: u16) -> Result<TupleBlock, Fault> {
    let stored = decoder.u32()?;
    let logical = decoder.u32()?;
    let rows = decoder.u32()?;
    let checksum = decoder.array()?;
    let is_sane = stored as usize <= MAX_STORED_LENGTH
        && logical as usize <= MAX_BLOCK_LENGTH
        && (1..=MAX_BLOCK_ROWS).contains(&rows)
        && u64::from(logical) >= least_length(u64::from(rows), columns);
    if !is_sane {
        return Err(decoder.damaged("a block's lengths are impossible"));
    }
    Ok(TupleBlock {
        bytes: offset..offset.saturating_add(u64::from(stored)),
        rows: RowCount(u64::from(rows)),
        logical: ByteCount(u64::from(logical)),
        checksum,
    })
}
