//! Reading span files from anything that has bytes at offsets.

use bytes::Bytes;
use holdfast_types::{ByteCount, Digest, Fault, KeyRange};

use super::{SpanFileSummary, SpanIndex, SpanTail, WHAT};
use crate::entry::Entry;
use crate::read_at::ReadAt;
use crate::wire::corrupted;

/// Reads one span file, block by block.
#[derive(Debug)]
pub struct SpanFileReader<R> {
    source: R,
    index: SpanIndex,
}

impl<R: ReadAt> SpanFileReader<R> {
    /// Reads and checks the index.
    ///
    /// # Errors
    /// `Corrupted`, `Unsupported`, or what the source failed with.
    pub fn open(source: R) -> Result<Self, Fault> {
        let length = source.length();
        let tail_start = length
            .checked_sub(SpanTail::TRAILER_LENGTH)
            .ok_or_else(|| corrupted(WHAT, "it is too short"))?;
        let tail = SpanTail::parse(
            &source.read_at(tail_start, SpanTail::TRAILER_LENGTH)?,
            length,
        )?;
        let header = source.read_at(0, SpanTail::HEADER_LENGTH)?;
        let footer_length = tail.footer.end.saturating_sub(tail.footer.start);
        let footer = source.read_at(tail.footer.start, footer_length)?;
        let index = SpanIndex::parse(&header, &footer, &tail)?;
        Ok(Self { source, index })
    }

    /// The index.
    pub fn index(&self) -> &SpanIndex {
        &self.index
    }

    /// The row versions of a key range, one block at a time, each checked. After an error the iterator ends.
    pub fn read(&self, range: KeyRange) -> impl Iterator<Item = Result<Vec<Entry>, Fault>> + '_ {
        let mut failed = false;
        let blocks = self.index.blocks().get(self.index.blocks_for(&range));
        blocks.unwrap_or_default().iter().map_while(move |block| {
            if failed {
                return None;
            }
            let length = block.bytes.end.saturating_sub(block.bytes.start);
            let entries = self
                .source
                .read_at(block.bytes.start, length)
                .and_then(|stored| self.index.decode(block, stored))
                .map(|mut entries| {
                    entries.retain(|entry| range.contains(&entry.key));
                    entries
                });
            failed = entries.is_err();
            Some(entries)
        })
    }
}

impl SpanFileReader<Bytes> {
    /// Decodes a whole file and checks that everything its index claims is so.
    ///
    /// # Errors
    /// `Corrupted` or `Unsupported`.
    pub fn check(file: &Bytes) -> Result<SpanFileSummary, Fault> {
        let reader = Self::open(file.clone())?;
        let mut logical = 0u64;
        let mut first: Option<Entry> = None;
        let mut last: Option<Entry> = None;
        for block in reader.read(KeyRange::all()) {
            for entry in block? {
                if last
                    .as_ref()
                    .is_some_and(|last| !last.file_order(&entry).is_lt())
                {
                    return Err(corrupted(WHAT, "its rows are out of order"));
                }
                logical = logical.saturating_add(entry.logical_len() as u64);
                first.get_or_insert_with(|| entry.clone());
                last = Some(entry);
            }
        }
        let keys = first.zip(last).map(|(first, last)| (first.key, last.key));
        if logical != reader.index.logical().0 || keys.as_ref() != reader.index.keys() {
            return Err(corrupted(
                WHAT,
                "its rows are not those that its index describes",
            ));
        }
        Ok(SpanFileSummary {
            length: ByteCount(file.len() as u64),
            digest: Digest::of(file),
            rows: reader.index.rows(),
            logical: reader.index.logical(),
            keys,
            positions: reader.index.positions(),
        })
    }
}
