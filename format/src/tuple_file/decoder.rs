//! Reading one block: checking and decompressing its columns.

use bytes::Bytes;
use holdfast_types::Fault;
use std::fmt;
use std::ops::Range;

use super::assemble::assemble;
use super::index::least_length;
use super::recoded::{self, Recoding};
use super::{
    BLOCK_SIZE, FORM, MAX_SHUFFLED_WIDTH, NULL, STREAM_ZSTD, TupleBlock, TupleIndex, TupleRows,
    head, words,
};
use crate::indexed_file::checksum;
use crate::wire::Decoder;

/// Reads blocks of tuple files, one at a time. Its buffers are kept from block to block, so one decoder for many blocks is faster
/// than one for each.
///
/// Memory: a block as columns and as rows, besides the stored bytes. Columns that did not shrink are read where they lie.
#[derive(Default)]
pub struct TupleDecoder {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    columns: Vec<Column>,
    stream: Vec<u8>,
    numbers: Vec<u64>,
}

impl fmt::Debug for TupleDecoder {
    /// Rows never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TupleDecoder").finish_non_exhaustive()
    }
}

/// What the fields of a column are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// All null.
    #[default]
    Null,
    /// None null, all of one length.
    Fixed(u32),
    /// Anything else: there is a length for each row.
    Varied,
}

/// A column of the block that is being read.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) shape: Shape,
    /// Of a varied column: one for each row, [`NULL`] for none.
    pub(super) lengths: Vec<u32>,
    /// The width of shuffled fields; 0 if they are as they are.
    pub(super) shuffled: u32,
    /// Where the fields lie in the stored bytes, if they do.
    pub(super) in_place: Option<Range<usize>>,
    /// The fields, if they do not.
    pub(super) unpacked: Vec<u8>,
}

impl Column {
    /// The fields that are not null, one after another or shuffled.
    pub(super) fn data<'a>(&'a self, stored: &'a [u8]) -> &'a [u8] {
        match &self.in_place {
            Some(range) => stored.get(range.clone()).unwrap_or_default(),
            None => &self.unpacked,
        }
    }
}

impl TupleIndex {
    /// Checks and reads one block from its stored bytes.
    ///
    /// # Errors
    /// `Corrupted` if the bytes are not the block's.
    pub fn decode(
        &self,
        block: &TupleBlock,
        stored: &[u8],
        decoder: &mut TupleDecoder,
    ) -> Result<TupleRows, Fault> {
        if checksum(stored) != block.checksum {
            return Err(FORM.damaged("the checksum of a block does not match"));
        }
        // The index is checked: both fit.
        let rows = usize::try_from(block.rows.0).unwrap_or(0);
        let logical = usize::try_from(block.logical.0).unwrap_or(0);
        let mut budget = block
            .logical
            .0
            .checked_sub(least_length(block.rows.0, self.columns()))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| FORM.damaged("a block's lengths are impossible"))?;
        let count = usize::from(self.columns());
        decoder.columns.resize_with(count, Column::default);
        let mut at = 0;
        for number in 0..count {
            decoder.column(
                number,
                stored,
                &mut at,
                rows,
                &mut budget,
                self.can_recode(),
            )?;
        }
        if at != stored.len() || budget != 0 {
            return Err(FORM.damaged("a block has another length than the index says"));
        }
        let (bytes, ends) = assemble(&decoder.columns, stored, rows, logical)?;
        decoder.forget();
        Ok(TupleRows::new(Bytes::from(bytes), ends))
    }
}

impl TupleDecoder {
    /// Reads one column from `at` on. `budget` is what the fields of this and all later columns may amount to: nothing is allocated beyond
    /// it.
    fn column(
        &mut self,
        number: usize,
        stored: &[u8],
        at: &mut usize,
        rows: usize,
        budget: &mut usize,
        can_recode: bool,
    ) -> Result<(), Fault> {
        let Self {
            zstd,
            columns,
            stream,
            numbers,
        } = self;
        let Some(column) = columns.get_mut(number) else {
            return Ok(());
        };
        column.in_place = None;
        column.unpacked.clear();
        let mut source = Source { zstd, stored, at };
        let code = source.byte()?;
        let size = (code & head::LENGTHS) >> head::LENGTHS_SHIFT;
        let nulls = code & head::NULLS;
        let is_shuffled = code & head::SHUFFLED != 0;
        let recoding = Recoding::of(code);
        let is_by_words = code & head::WORDS != 0;
        if (is_by_words && (!can_recode || is_shuffled || recoding.is_some()))
            || (recoding.is_some() && (!can_recode || size != 0 || is_shuffled))
            || nulls > head::ALL_NULL
            || (is_shuffled && size != 0)
            || (nulls == head::ALL_NULL && code != head::ALL_NULL)
        {
            return Err(FORM.damaged("a column is stored unknown"));
        }
        if nulls == head::ALL_NULL {
            column.shape = Shape::Null;
            return Ok(());
        }
        let recoding = match recoding {
            Some(recoding) => Some((recoding, source.take(Decoder::varint)?)),
            None => None,
        };
        let width = if size == 0 && recoding.is_none() {
            Some(source.width()?)
        } else {
            None
        };
        column.lengths.clear();
        let present = if nulls == head::SOME_NULL {
            source.fill(rows.div_ceil(8), stream)?;
            mark_nulls(stream, rows, &mut column.lengths)?
        } else {
            rows
        };
        if let Some(recoding) = recoding {
            let scratch = (stream, numbers);
            let total = recoded::read(
                recoding,
                &mut source,
                column,
                (rows, present),
                scratch,
                *budget,
            )?;
            *budget = budget
                .checked_sub(total)
                .ok_or_else(|| FORM.damaged("a column is longer than its block"))?;
            return Ok(());
        }
        let total = match width {
            Some(width) => {
                column.shape = if nulls == head::NO_NULLS {
                    Shape::Fixed(width)
                } else {
                    let given = column.lengths.iter_mut().filter(|length| **length != NULL);
                    given.for_each(|length| *length = width);
                    Shape::Varied
                };
                (width as usize).saturating_mul(present)
            }
            None => {
                column.shape = Shape::Varied;
                if nulls == head::NO_NULLS {
                    column.lengths.resize(rows, 0);
                }
                let bytes = 1usize << (size.wrapping_sub(1) & 3);
                source.fill(present.saturating_mul(bytes), stream)?;
                fill_lengths(stream, present, &mut column.lengths)?
            }
        };
        *budget = budget
            .checked_sub(total)
            .ok_or_else(|| FORM.damaged("a column is longer than its block"))?;
        column.shuffled = match width {
            Some(width @ 2..=MAX_SHUFFLED_WIDTH) if is_shuffled => width,
            _ if is_shuffled => return Err(FORM.damaged("a column is stored unknown")),
            _ => 0,
        };
        if is_by_words {
            return words::read(&mut source, total, &mut column.unpacked);
        }
        column.in_place = source.fill_or_point(total, &mut column.unpacked)?;
        Ok(())
    }

    /// Gives up buffers that are out of the ordinary, because a row was very long.
    fn forget(&mut self) {
        for column in &mut self.columns {
            if column.unpacked.capacity() > BLOCK_SIZE.saturating_mul(2) {
                column.unpacked = Vec::new();
            }
        }
    }
}

/// The stored bytes of a block, taken one after another.
pub(super) struct Source<'a> {
    zstd: &'a mut Option<zstd::bulk::Decompressor<'static>>,
    stored: &'a [u8],
    at: &'a mut usize,
}

impl<'a> Source<'a> {
    #[cfg(test)]
    pub(super) fn new(
        zstd: &'a mut Option<zstd::bulk::Decompressor<'static>>,
        stored: &'a [u8],
        at: &'a mut usize,
    ) -> Self {
        Self { zstd, stored, at }
    }

    fn decoder(&self) -> Decoder<'a> {
        Decoder::new(self.stored.get(*self.at..).unwrap_or_default(), FORM.what)
    }

    /// Takes fields off the front.
    pub(super) fn take<T>(
        &mut self,
        of: impl FnOnce(&mut Decoder<'a>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut decoder = self.decoder();
        let taken = of(&mut decoder)?;
        *self.at = self.stored.len().saturating_sub(decoder.remaining());
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.take(Decoder::u8)
    }

    /// The one length of all fields.
    fn width(&mut self) -> Result<u32, Fault> {
        match u32::try_from(self.take(Decoder::varint)?) {
            Ok(width) if width != NULL => Ok(width),
            _ => Err(FORM.damaged("a field is longer than any")),
        }
    }

    /// The next stream, which has so many bytes: decompressed into the buffer, or where it lies if it is not compressed. A stream without bytes
    /// is not there.
    fn fill_or_point(
        &mut self,
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Range<usize>>, Fault> {
        buffer.clear();
        if length == 0 {
            return Ok(None);
        }
        let mut decoder = self.decoder();
        let head = decoder.u32()?;
        let is_packed = head & STREAM_ZSTD != 0;
        let stored = (head & !STREAM_ZSTD) as usize;
        let bytes = decoder.raw(stored)?;
        let start = self.at.saturating_add(4);
        let end = start.saturating_add(stored);
        if !is_packed {
            if stored != length {
                return Err(FORM.damaged("a stream has another length than its column"));
            }
            *self.at = end;
            return Ok(Some(start..end));
        }
        // The frame says how long its content is; only then is there memory for it.
        let claimed = zstd::zstd_safe::get_frame_content_size(bytes);
        if !matches!(claimed, Ok(Some(claimed)) if claimed == length as u64) {
            return Err(FORM.damaged("a stream has another length than its column"));
        }
        let unpack = match &mut *self.zstd {
            Some(unpack) => unpack,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| refuse())?),
        };
        buffer.reserve_exact(length);
        let filled = unpack.decompress_to_buffer(bytes, buffer);
        if filled.map_err(|_| refuse())? != length || buffer.len() != length {
            return Err(refuse());
        }
        *self.at = end;
        Ok(None)
    }

    /// The next stream, in the buffer.
    pub(super) fn fill(&mut self, length: usize, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(range) = self.fill_or_point(length, buffer)? {
            buffer.extend_from_slice(self.stored.get(range).unwrap_or_default());
        }
        Ok(())
    }
}

fn refuse() -> Fault {
    FORM.damaged("a stream cannot be decompressed")
}

/// Makes a length for each row, [`NULL`] where the bitmap says so and 0 elsewhere, and counts the latter.
fn mark_nulls(bitmap: &[u8], rows: usize, lengths: &mut Vec<u32>) -> Result<usize, Fault> {
    let bits = |byte: &u8| {
        let byte = *byte;
        (0..8u32).map(move |bit| if byte >> bit & 1 == 1 { NULL } else { 0 })
    };
    lengths.extend(bitmap.iter().flat_map(bits));
    let is_clean = lengths
        .get(rows..)
        .is_some_and(|rest| rest.iter().all(|length| *length == 0));
    if !is_clean {
        return Err(FORM.damaged("a column has more nulls than rows"));
    }
    lengths.truncate(rows);
    Ok(lengths.iter().filter(|length| **length != NULL).count())
}

/// Fills in the lengths of the rows that are not null, and adds them up. The stream has all lowest bytes first, then all second ones, and so
/// on.
fn fill_lengths(stream: &[u8], present: usize, lengths: &mut [u32]) -> Result<usize, Fault> {
    let is_dense = lengths.len() == present;
    let mut planes = stream.chunks_exact(present.max(1));
    let mut lane = || planes.next().unwrap_or_default();
    for shift in [0u32, 8, 16, 24] {
        let lane = lane();
        if is_dense {
            for (length, byte) in lengths.iter_mut().zip(lane) {
                *length |= u32::from(*byte) << (shift & 31);
            }
        } else if !lane.is_empty() {
            // A length of four bytes could turn into the sign of a null here; the sum below is then beyond every budget.
            let mut bytes = lane.iter();
            let given = lengths.iter_mut().filter(|length| **length != NULL);
            for (length, byte) in given.zip(bytes.by_ref()) {
                *length |= u32::from(*byte) << (shift & 31);
            }
        }
    }
    let mut total = 0u64;
    let mut nulls = 0usize;
    for length in lengths.iter() {
        let is_null = *length == NULL;
        nulls = nulls.wrapping_add(usize::from(is_null));
        total = total.wrapping_add(if is_null { 0 } else { u64::from(*length) });
    }
    if nulls.saturating_add(present) != lengths.len() {
        return Err(FORM.damaged("a field is longer than any"));
    }
    usize::try_from(total).map_err(|_| FORM.damaged("a field is longer than any"))
}
