//! The ends of files with an index: header, footer and trailer, in as few requests as may be.

use bytes::Bytes;
use holdfast_format::SpanTail;
use holdfast_types::Fault;
use object_store::path::Path;
use std::ops::Range;

use crate::store::{CollectionStore, damaged};

/// Bytes that are fetched with the trailer, in the hope that the footer is among them.
const TAIL_GUESS: u64 = 64 << 10;

/// The last bytes of a file.
#[derive(Debug)]
pub(crate) struct Tail {
    /// They.
    pub(crate) bytes: Bytes,
    /// Length of the file.
    pub(crate) length: u64,
    /// Its length as stored.
    stored: u64,
}

impl CollectionStore {
    /// The end of a file, with its trailer.
    pub(crate) async fn get_tail(&self, at: &Path, stored: u64) -> Result<Tail, Fault> {
        let length = self.envelope().clear_length(stored);
        let start = length.saturating_sub(TAIL_GUESS);
        Ok(Tail {
            bytes: self.get_clear(at, stored, start..length).await?,
            length,
            stored,
        })
    }

    /// Header and footer of a file whose end is known.
    pub(crate) async fn get_ends(
        &self,
        at: &Path,
        tail: &Tail,
        footer: Range<u64>,
    ) -> Result<(Bytes, Bytes), Fault> {
        // All files with an index have headers of one length.
        let header = 0..SpanTail::HEADER_LENGTH.min(tail.length);
        let header = self.get_clear(at, tail.stored, header).await?;
        let start = tail.length.saturating_sub(tail.bytes.len() as u64);
        if footer.start < start {
            return Ok((header, self.get_clear(at, tail.stored, footer).await?));
        }
        let from = usize::try_from(footer.start.saturating_sub(start));
        let to = usize::try_from(footer.end.saturating_sub(start));
        match (from, to) {
            (Ok(from), Ok(to)) if from <= to && to <= tail.bytes.len() => {
                Ok((header, tail.bytes.slice(from..to)))
            }
            _ => Err(damaged(at, "its footer is not where it says")),
        }
    }

    /// A range of an object's content.
    pub(crate) async fn get_clear(
        &self,
        at: &Path,
        stored: u64,
        range: Range<u64>,
    ) -> Result<Bytes, Fault> {
        let mut cover = self.envelope().cover(range.clone());
        cover.end = cover.end.min(stored);
        if cover.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self.get_range(at, cover).await?;
        self.envelope().open_range(at.as_ref(), &range, bytes)
    }
}
