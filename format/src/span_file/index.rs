//! The index of a span file: parsed out of header, footer and trailer, however these were fetched.

use bytes::Bytes;
use holdfast_types::{ByteCount, Fault, KeyRange, Position, PositionKind, RowCount};
use std::fmt;
use std::ops::Range;

use super::{FORM, MAX_BLOCK_LENGTH, WHAT, block, version_for};
use crate::MAX_KEY_LENGTH;
use crate::entry::Entry;
use crate::indexed_file::{Codec, HEADER_LENGTH, TRAILER_LENGTH, Trailer, checksum};
use crate::wire::{Decoder, corrupted, position_kind};

/// One block, as the index describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// Row versions in it.
    pub rows: RowCount,
    first_key: Bytes,
    raw_length: u32,
    codec: Codec,
    checksum: [u8; 16],
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:?}, {} rows)", self.bytes, self.rows)
    }
}

/// The trailer of a span file: where the footer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanTail {
    /// The footer's bytes in the file.
    pub footer: Range<u64>,
    trailer: Trailer,
}

impl SpanTail {
    /// Length of the header, which starts the file.
    pub const HEADER_LENGTH: u64 = HEADER_LENGTH;
    /// Length of the trailer, which ends the file.
    pub const TRAILER_LENGTH: u64 = TRAILER_LENGTH;

    /// Reads the trailer: the last [`SpanTail::TRAILER_LENGTH`] bytes of `tail`, which are the last of a file of `length`
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

/// The index and totals of one span file.
#[derive(Clone)]
pub struct SpanIndex {
    kind: PositionKind,
    blocks: Vec<Block>,
    rows: RowCount,
    logical: ByteCount,
    keys: Option<(Bytes, Bytes)>,
    positions: Option<(Position, Position)>,
}

impl fmt::Debug for SpanIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanIndex")
            .field("blocks", &self.blocks.len())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl SpanIndex {
    /// Reads the index out of the file's first bytes, its footer and its trailer, and checks their common digest.
    ///
    /// # Errors
    /// `Corrupted` or `Unsupported`.
    pub fn parse(header: &[u8], footer: &[u8], tail: &SpanTail) -> Result<Self, Fault> {
        let [positions, rest @ ..] = FORM.open(header, footer, &tail.trailer)?;
        let kind = position_kind(positions).ok_or_else(|| FORM.unknown_feature())?;
        if rest != [0; 3] {
            return Err(FORM.unknown_feature());
        }
        if tail.trailer.version < version_for(kind) {
            return Err(corrupted(
                WHAT,
                "its positions are younger than its version",
            ));
        }
        Self::parse_footer(footer, tail.footer.start, kind)
    }

    fn parse_footer(footer: &[u8], footer_offset: u64, kind: PositionKind) -> Result<Self, Fault> {
        let mut decoder = Decoder::new(footer, WHAT);
        let count = decoder.u32()?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut offset = HEADER_LENGTH;
        let mut rows = 0u64;
        for _ in 0..count {
            let block = parse_block(&mut decoder, offset)?;
            offset = block.bytes.end;
            rows = rows.saturating_add(block.rows.0);
            // Versions of one key may go on in the next block, so equal first keys are legal.
            if blocks
                .last()
                .is_some_and(|last| last.first_key > block.first_key)
            {
                return Err(decoder.damaged("its blocks are out of order"));
            }
            blocks.push(block);
        }
        let total = decoder.u64()?;
        let logical = ByteCount(decoder.u64()?);
        let bounds = decoder.option(|decoder| {
            let first = Bytes::copy_from_slice(decoder.bytes(MAX_KEY_LENGTH)?);
            let last = Bytes::copy_from_slice(decoder.bytes(MAX_KEY_LENGTH)?);
            Ok(((first, last), (decoder.position()?, decoder.position()?)))
        })?;
        decoder.end()?;
        let of_kind =
            |(oldest, newest): (Position, Position)| oldest.kind() == kind && newest.kind() == kind;
        if bounds
            .as_ref()
            .is_some_and(|(_, positions)| !of_kind(*positions))
        {
            return Err(decoder.damaged("its positions are of different kinds"));
        }
        if offset != footer_offset || rows != total || bounds.is_some() == blocks.is_empty() {
            return Err(decoder.damaged("its totals do not add up"));
        }
        let (keys, positions) = bounds.unzip();
        Ok(Self {
            kind,
            blocks,
            rows: RowCount(total),
            logical,
            keys,
            positions,
        })
    }

    /// The blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// What all positions in the file are.
    #[must_use]
    pub fn position_kind(&self) -> PositionKind {
        self.kind
    }

    /// Row versions in the file.
    #[must_use]
    pub fn rows(&self) -> RowCount {
        self.rows
    }

    /// Bytes of keys and values before compression.
    #[must_use]
    pub fn logical(&self) -> ByteCount {
        self.logical
    }

    /// First and last key; `None` if the file is empty.
    #[must_use]
    pub fn keys(&self) -> Option<&(Bytes, Bytes)> {
        self.keys.as_ref()
    }

    /// Oldest and newest position; `None` if the file is empty.
    #[must_use]
    pub fn positions(&self) -> Option<(Position, Position)> {
        self.positions
    }

    /// Which blocks may hold keys of a range, as indices into [`SpanIndex::blocks`].
    #[must_use]
    pub fn blocks_for(&self, range: &KeyRange) -> Range<usize> {
        let before = |key: &Bytes| self.blocks.partition_point(|block| block.first_key < *key);
        // The block before may end with keys of the range.
        let start = before(&range.start).saturating_sub(1);
        let end = if range.end.is_empty() {
            self.blocks.len()
        } else {
            before(&range.end)
        };
        start..end.max(start)
    }

    /// Checks and reads one block from its stored bytes.
    ///
    /// # Errors
    /// `Corrupted` if the bytes are not the block's.
    pub fn decode(&self, block: &Block, stored: Bytes) -> Result<Vec<Entry>, Fault> {
        if checksum(&stored) != block.checksum {
            return Err(corrupted(WHAT, "the checksum of a block does not match"));
        }
        let raw = match block.codec {
            Codec::Raw => stored,
            Codec::Zstd => zstd::bulk::decompress(&stored, block.raw_length as usize)
                .map_err(|_| corrupted(WHAT, "a block cannot be decompressed"))?
                .into(),
        };
        if raw.len() != block.raw_length as usize {
            return Err(corrupted(
                WHAT,
                "a block has another length than the index says",
            ));
        }
        let rows = u32::try_from(block.rows.0).unwrap_or(u32::MAX);
        let entries = block::decode(&raw, rows, self.kind)?;
        if entries.first().map(|entry| &entry.key) == Some(&block.first_key) {
            Ok(entries)
        } else {
            Err(corrupted(
                WHAT,
                "a block starts with another key than the index says",
            ))
        }
    }
}

fn parse_block(decoder: &mut Decoder<'_>, offset: u64) -> Result<Block, Fault> {
    let stored_length = decoder.u32()?;
    let raw_length = decoder.u32()?;
    let rows = decoder.u32()?;
    let codec = decoder.u8()?;
    let checksum = decoder.array()?;
    let first_key = Bytes::copy_from_slice(decoder.bytes(MAX_KEY_LENGTH)?);
    let codec =
        Codec::from_code(codec).ok_or_else(|| decoder.damaged("a block is stored unknown"))?;
    let is_sane = stored_length as usize <= MAX_BLOCK_LENGTH
        && raw_length as usize <= MAX_BLOCK_LENGTH
        && rows > 0
        && (codec == Codec::Zstd || stored_length == raw_length);
    if !is_sane {
        return Err(decoder.damaged("a block's lengths are impossible"));
    }
    Ok(Block {
        bytes: offset..offset.saturating_add(u64::from(stored_length)),
        rows: RowCount(u64::from(rows)),
        first_key,
        raw_length,
        codec,
        checksum,
    })
}
