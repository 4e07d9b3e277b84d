//! Objects that are read in parts, and the ends of files with an index: header, footer and trailer, in as few requests as may be.

use bytes::Bytes;
use holdfast_format::{Frame, SpanTail};
use holdfast_types::Fault;
use object_store::path::Path;
use std::ops::Range;

use crate::store::{CollectionStore, damaged};

/// Bytes that are fetched with the trailer, in the hope that the footer is among them.
const TAIL_GUESS: u64 = 64 << 10;

/// An object of which parts can be read.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it takes to open a part.
    pub(crate) frame: Frame,
    /// The first bytes of the content, as far as they came along.
    start: Bytes,
}

/// The last bytes of a file.
#[derive(Debug)]
pub(crate) struct Tail {
    /// They.
    pub(crate) bytes: Bytes,
    /// Length of the file.
    pub(crate) length: u64,
    /// The object that it is stored as.
    pub(crate) opened: Opened,
}

impl CollectionStore {
    /// Makes ready to read parts of an object with this stored length: no request for one that is stored as it is, one for an encrypted one, and
    /// the start of the content comes with it.
    pub(crate) async fn open_object(&self, at: &Path, stored: u64) -> Result<Opened, Fault> {
        let envelope = self.envelope();
        let bytes = match envelope.start_length().min(stored) {
            0 => Bytes::new(),
            start => self.get_range(at, Some(stored), 0..start).await?,
        };
        let (frame, start) = envelope.open_start(at.as_ref(), &bytes, stored)?;
        Ok(Opened { frame, start })
    }

    /// A range of an object's content.
    pub(crate) async fn get_clear(
        &self,
        at: &Path,
        frame: &Frame,
        range: Range<u64>,
    ) -> Result<Bytes, Fault> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self
            .get_range(at, Some(frame.stored()), frame.cover(&range))
            .await?;
        if !self.envelope().is_sealed() {
            return frame.open(&range, bytes);
        }
        let frame = frame.clone();
        self.env().blocking(move || frame.open(&range, bytes)).await
    }

    /// [`CollectionStore::get_clear`], out of what came along if it is there.
    async fn get_part(
        &self,
        at: &Path,
        opened: &Opened,
        range: Range<u64>,
    ) -> Result<Bytes, Fault> {
        let known = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        match known {
            Some((start, end)) if start <= end && end <= opened.start.len() => {
                Ok(opened.start.slice(start..end))
            }
            _ => self.get_clear(at, &opened.frame, range).await,
        }
    }

    /// The end of a file, with its trailer.
    pub(crate) async fn get_tail(&self, at: &Path, stored: u64) -> Result<Tail, Fault> {
        let opened = self.open_object(at, stored).await?;
        let length = opened.frame.length();
        let start = length.saturating_sub(TAIL_GUESS);
        Ok(Tail {
            bytes: self.get_part(at, &opened, start..length).await?,
            length,
            opened,
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
        let header = self.get_part(at, &tail.opened, header).await?;
        let start = tail.length.saturating_sub(tail.bytes.len() as u64);
        if footer.start < start {
            return Ok((header, self.get_part(at, &tail.opened, footer).await?));
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
}
