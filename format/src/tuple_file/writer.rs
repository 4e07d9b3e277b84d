//! Writing tuple files.

use bytes::Bytes;
use holdfast_types::{ByteCount, ErrorCode, Fault, Hasher, RowCount};
use std::fmt;

use super::column::{ColumnBuilder, Scratch};
use super::streams::Compressor;
use super::{
    BLOCK_SIZE, COUNT_LENGTH, FORM, LENGTH_LENGTH, MAX_BLOCK_ROWS, MAX_COLUMNS, MAX_ROW_LENGTH,
    NULL, TupleFileSummary, VERSION, VERSION_PLAIN,
};
use crate::indexed_file::checksum;
use crate::wire::Encoder;

/// How a tuple file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupleFileOptions {
    /// zstd level 1 to 19; `None` stores columns as they are.
    pub level: Option<i32>,
    /// Bytes of rows after which a block is closed; at most 8 MiB.
    pub block_size: usize,
    /// Rows after which a block is closed; at most 65536.
    pub block_rows: u32,
}

impl Default for TupleFileOptions {
    /// Level 1: higher ones cost much and gain little on columns. Blocks of 8 MiB or 65536 rows, whichever is first.
    fn default() -> Self {
        Self {
            level: Some(1),
            block_size: BLOCK_SIZE,
            block_rows: MAX_BLOCK_ROWS,
        }
    }
}

/// Turns rows as binary COPY has them into a tuple file.
///
/// Memory: the rows of one block twice, as columns and as stored; a block is closed by the row that fills it, so that it is at
/// most 8 MiB and one row. What is finished is held until it is taken.
pub struct TupleFileWriter {
    options: TupleFileOptions,
    compressor: Option<Compressor>,
    count: u16,
    columns: Vec<ColumnBuilder>,
    scratch: Scratch,
    block_rows: u32,
    block_length: usize,
    ready: Vec<u8>,
    hasher: Hasher,
    header: Vec<u8>,
    /// Bytes produced so far, taken or not.
    written: u64,
    index: Encoder,
    blocks: u32,
    rows: u64,
    logical: u64,
}

impl fmt::Debug for TupleFileWriter {
    /// Rows never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TupleFileWriter")
            .field("columns", &self.count)
            .field("rows", &self.rows)
            .field("logical", &self.logical)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl TupleFileWriter {
    /// An empty file for rows of so many columns; there may be none.
    ///
    /// # Errors
    /// `InvalidArgument` if zstd refuses the level, or there are more columns than COPY can count.
    pub fn new(columns: u16, options: TupleFileOptions) -> Result<Self, Fault> {
        if columns > MAX_COLUMNS {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("a tuple file cannot hold {columns} columns"),
            )
            .hint(format!("the limit is {MAX_COLUMNS}")));
        }
        let [low, high] = columns.to_le_bytes();
        let header = FORM.header(version(options), [low, high, 0, 0]);
        let mut writer = Self {
            options: TupleFileOptions {
                level: options.level,
                block_size: options.block_size.clamp(1, BLOCK_SIZE),
                block_rows: options.block_rows.clamp(1, MAX_BLOCK_ROWS),
            },
            compressor: options.level.map(Compressor::new).transpose()?,
            count: columns,
            columns: (0..columns).map(|_| ColumnBuilder::default()).collect(),
            scratch: Scratch::default(),
            block_rows: 0,
            block_length: 0,
            ready: Vec::new(),
            hasher: Hasher::new(),
            header: header.clone(),
            written: 0,
            index: Encoder::default(),
            blocks: 0,
            rows: 0,
            logical: 0,
        };
        writer.emit(&header);
        Ok(writer)
    }

    /// Adds the rows at the start of these bytes, and says how many bytes they took: a row that is cut off at the end is left to be pushed
    /// again with the rest of it. Rows are as in binary COPY, without its header and trailer.
    ///
    /// # Errors
    /// `InvalidArgument` for a row with another number of fields, an impossible length of a field, or more than 1 GiB; rows before it are in the
    /// file.
    pub fn push(&mut self, rows: &[u8]) -> Result<usize, Fault> {
        let mut rest = rows;
        while let Some(after) = self.take_row(rest)? {
            let length = rest.len().saturating_sub(after.len());
            rest = after;
            self.block_length = self.block_length.saturating_add(length);
            self.block_rows = self.block_rows.saturating_add(1);
            self.rows = self.rows.saturating_add(1);
            self.logical = self.logical.saturating_add(length as u64);
            if self.block_length >= self.options.block_size
                || self.block_rows >= self.options.block_rows
            {
                self.close_block()?;
            }
        }
        Ok(rows.len().saturating_sub(rest.len()))
    }

    /// The bytes that are finished and were not taken yet; empty while a block is filling.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.ready).into()
    }

    /// Rows pushed.
    #[must_use]
    pub fn rows(&self) -> RowCount {
        RowCount(self.rows)
    }

    /// Bytes of the rows pushed.
    #[must_use]
    pub fn logical(&self) -> ByteCount {
        ByteCount(self.logical)
    }

    /// Bytes of the file that are finished, taken or not.
    #[must_use]
    pub fn stored(&self) -> ByteCount {
        ByteCount(self.written)
    }

    /// Closes the file: the bytes that were not taken yet, and what the file amounts to.
    ///
    /// # Errors
    /// `ResourceExhausted` if the index outgrew its limit: the part was far too large.
    pub fn finish(mut self) -> Result<(Bytes, TupleFileSummary), Fault> {
        if self.block_rows > 0 {
            self.close_block()?;
        }
        let mut footer = Encoder::default();
        footer
            .u32(self.blocks)
            .raw(&self.index.0)
            .u64(self.rows)
            .u64(self.logical);
        let trailer = FORM.trailer(version(self.options), &self.header, &footer.0, self.written)?;
        self.emit(&footer.0);
        self.emit(&trailer);
        let summary = TupleFileSummary {
            length: ByteCount(self.written),
            digest: self.hasher.finish(),
            rows: RowCount(self.rows),
            logical: ByteCount(self.logical),
        };
        Ok((self.take(), summary))
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.ready.extend_from_slice(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
    }

    /// Takes the first row, and gives what is after it; `None`, and nothing is taken, if the row is not whole.
    fn take_row<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        let Some((count, mut rest)) = bytes.split_first_chunk::<COUNT_LENGTH>() else {
            return Ok(None);
        };
        let count = u16::from_be_bytes(*count);
        if count != self.count {
            return Err(refused(&format!(
                "it has {} fields, and its relation {}",
                count as i16, self.count
            )));
        }
        for at in 0..self.columns.len() {
            let taken = self
                .columns
                .get_mut(at)
                .and_then(|column| column.take(rest));
            match taken {
                Some(after) => rest = after,
                None => {
                    let before = self.columns.iter_mut().take(at);
                    before.for_each(ColumnBuilder::untake);
                    return check_cut_row(bytes, self.count).map(|()| None);
                }
            }
        }
        let length = bytes.len().saturating_sub(rest.len());
        if length > MAX_ROW_LENGTH {
            self.columns.iter_mut().for_each(ColumnBuilder::untake);
            return Err(too_long());
        }
        Ok(Some(rest))
    }

    fn close_block(&mut self) -> Result<(), Fault> {
        let start = self.ready.len();
        let ordinary = self.options.block_size.saturating_mul(2);
        for column in &mut self.columns {
            column.write(&mut self.compressor, &mut self.scratch, &mut self.ready)?;
            column.clear(ordinary);
        }
        let stored = self.ready.get(start..).unwrap_or_default();
        // Lengths fit: a block holds less than `BLOCK_SIZE` bytes and one more row of bounded length.
        self.index
            .u32(u32::try_from(stored.len()).unwrap_or(u32::MAX))
            .u32(u32::try_from(self.block_length).unwrap_or(u32::MAX))
            .u32(self.block_rows)
            .raw(&checksum(stored));
        self.hasher.update(stored);
        self.written = self.written.saturating_add(stored.len() as u64);
        self.blocks = self.blocks.saturating_add(1);
        self.block_rows = 0;
        self.block_length = 0;
        Ok(())
    }
}

/// The version that a file says: the oldest that can say what is in it.
fn version(options: TupleFileOptions) -> u16 {
    match options.level {
        Some(_) => VERSION,
        None => VERSION_PLAIN,
    }
}

fn refused(why: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("a row of a COPY cannot be stored: {why}"),
    )
}

fn too_long() -> Fault {
    refused(&format!("it is longer than {MAX_ROW_LENGTH} bytes"))
}

/// Whether a row that is not whole can still become a row, so that a caller does not wait for more of something impossible.
fn check_cut_row(bytes: &[u8], columns: u16) -> Result<(), Fault> {
    let (_, mut rest) = bytes.split_at_checked(COUNT_LENGTH).unwrap_or_default();
    let mut length = COUNT_LENGTH;
    for _ in 0..columns {
        let Some((field, after)) = rest.split_first_chunk::<LENGTH_LENGTH>() else {
            break;
        };
        let field = match u32::from_be_bytes(*field) {
            NULL => 0,
            field if field > i32::MAX as u32 => {
                return Err(refused("the length of a field is negative"));
            }
            field => field as usize,
        };
        length = length.saturating_add(LENGTH_LENGTH).saturating_add(field);
        rest = after.get(field..).unwrap_or_default();
    }
    if length > MAX_ROW_LENGTH {
        return Err(too_long());
    }
    Ok(())
}
