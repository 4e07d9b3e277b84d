//! Writing span files.

use bytes::Bytes;
use holdfast_types::{ByteCount, ErrorCode, Fault, Hasher, Position, PositionKind, RowCount};
use std::fmt;

use super::block::BlockBuilder;
use super::{FORM, SpanFileSummary, version_for};
use crate::entry::{Entry, order};
use crate::indexed_file::{Codec, checksum, compressor};
use crate::wire::{Encoder, position_code, split_position};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// How a span file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanFileOptions {
    /// zstd level 1 to 19; `None` stores blocks as they are.
    pub level: Option<i32>,
    /// Bytes after which a block is closed, before compression.
    pub block_size: usize,
}

impl Default for SpanFileOptions {
    /// Level 1, blocks of 64 KiB: small enough to read one row's neighbourhood, large enough to compress.
    fn default() -> Self {
        Self {
            level: Some(1),
            block_size: 64 << 10,
        }
    }
}

/// Turns row versions in order into a span file, holding one block and what the caller has not taken yet.
pub struct SpanFileWriter {
    options: SpanFileOptions,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    block: BlockBuilder,
    ready: Vec<u8>,
    hasher: Hasher,
    /// Empty until the first row says what positions the file has.
    header: Vec<u8>,
    kind: PositionKind,
    /// Bytes produced so far, taken or not.
    written: u64,
    index: Encoder,
    blocks: u32,
    rows: u64,
    logical: u64,
    first_key: Bytes,
    last: Option<(Vec<u8>, Position)>,
    positions: Option<(Position, Position)>,
}

impl fmt::Debug for SpanFileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanFileWriter")
            .field("rows", &self.rows)
            .field("logical", &self.logical)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl SpanFileWriter {
    /// An empty file.
    ///
    /// # Errors
    /// `InvalidArgument` if zstd refuses the level.
    pub fn new(options: SpanFileOptions) -> Result<Self, Fault> {
        Ok(Self {
            options,
            compressor: options.level.map(compressor).transpose()?,
            block: BlockBuilder::default(),
            ready: Vec::new(),
            hasher: Hasher::new(),
            header: Vec::new(),
            kind: PositionKind::Hlc,
            written: 0,
            index: Encoder::default(),
            blocks: 0,
            rows: 0,
            logical: 0,
            first_key: Bytes::new(),
            last: None,
            positions: None,
        })
    }

    /// Adds the next row version. Entries come in strict (key ascending, position descending) order, and their positions are of one
    /// kind.
    ///
    /// # Errors
    /// `Internal` if the order is broken or kinds are mixed, `InvalidArgument` if key or value exceed their limits; the file is unusable then.
    pub fn push(&mut self, entry: &Entry) -> Result<(), Fault> {
        let value = entry.change.value().map(AsRef::as_ref);
        self.push_row(&entry.key, entry.position, value)
    }

    /// [`SpanFileWriter::push`] without an [`Entry`]; `None` is a deletion.
    ///
    /// # Errors
    /// As [`SpanFileWriter::push`].
    pub fn push_row(
        &mut self,
        key: &[u8],
        position: Position,
        value: Option<&[u8]>,
    ) -> Result<(), Fault> {
        let value_length = value.map_or(0, <[u8]>::len);
        if key.len() > MAX_KEY_LENGTH || value_length > MAX_VALUE_LENGTH {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "a row with a key of {} bytes and a value of {value_length} bytes cannot be stored",
                    key.len()
                ),
            )
            .hint(format!(
                "the limits are {MAX_KEY_LENGTH} and {MAX_VALUE_LENGTH} bytes"
            )));
        }
        let split = split_position(position)?;
        if self.header.is_empty() {
            self.start(position.kind())?;
        } else if position.kind() != self.kind {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!(
                    "a row at {position} reaches a span file whose positions are of kind {}",
                    self.kind
                ),
            ));
        }
        match &mut self.last {
            None => {
                self.first_key = Bytes::copy_from_slice(key);
                self.last = Some((key.to_vec(), position));
            }
            Some((last, at)) => {
                if !order(last, *at, key, position).is_lt() {
                    return Err(Fault::new(
                        ErrorCode::Internal,
                        "rows reach the span file out of order",
                    ));
                }
                last.clear();
                last.extend_from_slice(key);
                *at = position;
            }
        }
        self.positions = Some(match self.positions {
            None => (position, position),
            Some((oldest, newest)) => (oldest.min(position), newest.max(position)),
        });
        self.rows = self.rows.saturating_add(1);
        self.logical = self
            .logical
            .saturating_add(key.len() as u64)
            .saturating_add(value_length as u64);
        self.block.push(key, split, value);
        if self.block.len() >= self.options.block_size {
            self.close_block()?;
        }
        Ok(())
    }

    /// The bytes that are finished and were not taken yet; empty while a block is filling.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.ready).into()
    }

    /// Row versions pushed.
    #[must_use]
    pub fn rows(&self) -> RowCount {
        RowCount(self.rows)
    }

    /// Bytes of keys and values pushed.
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
    pub fn finish(mut self) -> Result<(Bytes, SpanFileSummary), Fault> {
        if self.header.is_empty() {
            self.start(PositionKind::Hlc)?;
        }
        if self.block.entries() > 0 {
            self.close_block()?;
        }
        let footer_offset = self.written;
        let last_key = self
            .last
            .as_ref()
            .map(|(key, _)| Bytes::copy_from_slice(key));
        let mut footer = Encoder::default();
        footer
            .u32(self.blocks)
            .raw(&self.index.0)
            .u64(self.rows)
            .u64(self.logical);
        footer.option(
            last_key.as_ref().zip(self.positions),
            |encoder, (last, (oldest, newest))| {
                encoder
                    .bytes(&self.first_key)
                    .bytes(last)
                    .position(oldest)?
                    .position(newest)?;
                Ok(())
            },
        )?;
        let version = version_for(self.kind);
        let trailer = FORM.trailer(version, &self.header, &footer.0, footer_offset)?;
        self.emit(&footer.0);
        self.emit(&trailer);
        let summary = SpanFileSummary {
            length: ByteCount(self.written),
            digest: self.hasher.finish(),
            rows: RowCount(self.rows),
            logical: ByteCount(self.logical),
            keys: last_key.map(|last| (self.first_key.clone(), last)),
            positions: self.positions,
        };
        Ok((self.take(), summary))
    }

    /// Writes the header.
    fn start(&mut self, kind: PositionKind) -> Result<(), Fault> {
        self.kind = kind;
        self.header = FORM.header(version_for(kind), [position_code(kind)?, 0, 0, 0]);
        let header = self.header.clone();
        self.emit(&header);
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.ready.extend_from_slice(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
    }

    fn close_block(&mut self) -> Result<(), Fault> {
        let raw_length = self.block.len();
        let compressed = match &mut self.compressor {
            None => None,
            Some(compressor) => Some(compressor.compress(self.block.bytes()).map_err(|error| {
                Fault::new(
                    ErrorCode::Internal,
                    format!("a block cannot be compressed: {error}"),
                )
            })?),
        };
        // A block that does not shrink is stored as it is: reading it costs nothing then.
        let (codec, stored) = match &compressed {
            Some(bytes) if bytes.len() < raw_length => (Codec::Zstd, bytes.as_slice()),
            _ => (Codec::Raw, self.block.bytes()),
        };
        // Lengths fit: a block holds less than `block_size` bytes and one more row of bounded size.
        self.index
            .u32(u32::try_from(stored.len()).unwrap_or(u32::MAX))
            .u32(u32::try_from(raw_length).unwrap_or(u32::MAX))
            .u32(self.block.entries())
            .u8(codec.code())
            .raw(&checksum(stored))
            .bytes(self.block.first_key());
        self.hasher.update(stored);
        self.ready.extend_from_slice(stored);
        self.written = self.written.saturating_add(stored.len() as u64);
        self.blocks = self.blocks.saturating_add(1);
        self.block.clear();
        Ok(())
    }
}
