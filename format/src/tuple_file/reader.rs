//! Reading tuple files from anything that has bytes at offsets.

use bytes::Bytes;
use holdfast_types::{ByteCount, Digest, Fault};

use super::{FORM, TupleDecoder, TupleFileSummary, TupleIndex, TupleRows, TupleTail};
use crate::read_at::ReadAt;

/// Reads one tuple file, block by block.
#[derive(Debug)]
pub struct TupleFileReader<R> {
    source: R,
    index: TupleIndex,
}

impl<R: ReadAt> TupleFileReader<R> {
    /// Reads and checks the index.
    ///
    /// # Errors
    /// `Corrupted`, `Unsupported`, or what the source failed with.
    pub fn open(source: R) -> Result<Self, Fault> {
        let length = source.length();
        let tail_start = length
            .checked_sub(TupleTail::TRAILER_LENGTH)
            .ok_or_else(|| FORM.damaged("it is too short"))?;
        let tail = source.read_at(tail_start, TupleTail::TRAILER_LENGTH)?;
        let tail = TupleTail::parse(&tail, length)?;
        let header = source.read_at(0, TupleTail::HEADER_LENGTH)?;
        let footer_length = tail.footer.end.saturating_sub(tail.footer.start);
        let footer = source.read_at(tail.footer.start, footer_length)?;
        let index = TupleIndex::parse(&header, &footer, &tail)?;
        Ok(Self { source, index })
    }

    /// The index.
    pub fn index(&self) -> &TupleIndex {
        &self.index
    }

    /// The rows, one block at a time, each checked. After an error the iterator ends.
    pub fn read(&self) -> impl Iterator<Item = Result<TupleRows, Fault>> + '_ {
        let mut failed = false;
        let mut decoder = TupleDecoder::default();
        self.index.blocks().iter().map_while(move |block| {
            if failed {
                return None;
            }
            let length = block.bytes.end.saturating_sub(block.bytes.start);
            let rows = self
                .source
                .read_at(block.bytes.start, length)
                .and_then(|stored| self.index.decode(block, &stored, &mut decoder));
            failed = rows.is_err();
            Some(rows)
        })
    }
}

impl TupleFileReader<Bytes> {
    /// Decodes a whole file and checks that everything its index claims is so.
    ///
    /// # Errors
    /// `Corrupted` or `Unsupported`.
    pub fn check(file: &Bytes) -> Result<TupleFileSummary, Fault> {
        let reader = Self::open(file.clone())?;
        // A block that is read is as long, and has as many rows, as the index says.
        reader.read().try_for_each(|rows| rows.map(|_| ()))?;
        Ok(TupleFileSummary {
            length: ByteCount(file.len() as u64),
            digest: Digest::of(file),
            rows: reader.index.rows(),
            logical: reader.index.logical(),
        })
    }
}
