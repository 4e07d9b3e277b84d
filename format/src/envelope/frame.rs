//! One object's frame: where its content lies in what is stored, and how parts of it are opened.
//!
//! ```text
//! head (64) │ chunk 0 │ chunk 1 │ … │ last chunk          each: ciphertext, then its tag (16)
//! ```

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::data_key::DataKey;
use super::needs_key;
use crate::wire::{Decoder, Encoder, corrupted};

/// How every encrypted object starts.
pub(super) const MAGIC: &[u8; 8] = b"HFSEAL\r\n";
const VERSION: u16 = 1;
/// AES-256-GCM in chunks, per-file keys by HKDF-SHA256.
const SUITE: u16 = 1;
/// Bytes of content in every chunk but the last. Part of the version, so that the place of a chunk is known without reading the head.
pub(super) const CHUNK: u64 = 64 << 10;
/// Bytes of a chunk's tag.
pub(super) const TAG: u64 = 16;
/// A chunk as stored.
pub(super) const STORED_CHUNK: u64 = CHUNK + TAG;
/// Magic, version, suite, chunk size, salt, key id.
pub(super) const HEAD_LENGTH: u64 = 64;

/// What it takes to open parts of one object. Cheap to clone.
#[derive(Clone)]
pub struct Frame {
    path: Arc<str>,
    length: u64,
    sealed: Option<Arc<SealedFrame>>,
}

struct SealedFrame {
    key: LessSafeKey,
    /// What every chunk is bound to: the head and the path.
    bound: Vec<u8>,
    chunks: u64,
    stored: u64,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("path", &self.path)
            .field("length", &self.length)
            .field("is_sealed", &self.sealed.is_some())
            .finish()
    }
}

/// The head of an object.
pub(super) fn head(key: &DataKey, salt: &[u8; 32]) -> Vec<u8> {
    let mut head = Encoder::default();
    head.raw(MAGIC)
        .u16(VERSION)
        .u16(SUITE)
        .u32(u32::try_from(CHUNK).unwrap_or(u32::MAX))
        .raw(salt)
        .raw(&key.id().0);
    head.0
}

/// What the chunks of an object are bound to.
pub(super) fn bound(head: &[u8], path: &str) -> Vec<u8> {
    [head, path.as_bytes()].concat()
}

/// The nonce of a chunk: its number, big endian, and whether it is the last. Each file has a key of its own, so numbers need not differ between
/// files; the flag makes a file that was cut after a whole chunk a file that does not open.
pub(super) fn nonce(index: u64, is_last: bool) -> Nonce {
    let mut bytes = [0u8; 12];
    for (byte, part) in bytes.iter_mut().skip(3).zip(index.to_be_bytes()) {
        *byte = part;
    }
    if let Some(flag) = bytes.last_mut() {
        *flag = u8::from(is_last);
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Chunks of a content of this length: an empty one has one, too.
pub(super) fn chunks(length: u64) -> u64 {
    length.div_ceil(CHUNK).max(1)
}

/// The length of the content of an object with this stored length; `None` if no object has it.
fn content_length(stored: u64) -> Option<u64> {
    let body = stored.checked_sub(HEAD_LENGTH)?;
    let chunks = body.div_ceil(STORED_CHUNK);
    let length = body.checked_sub(chunks.checked_mul(TAG)?)?;
    // The last chunk of several is not empty; that of an object without content is all there is.
    (chunks > 0 && self::chunks(length) == chunks).then_some(length)
}

impl Frame {
    pub(super) fn clear(path: &str, stored: u64) -> Self {
        Self {
            path: Arc::from(path),
            length: stored,
            sealed: None,
        }
    }

    pub(super) fn sealed(
        key: &DataKey,
        path: &str,
        head: &[u8],
        stored: u64,
    ) -> Result<Self, Fault> {
        let what = || format!("object {path}");
        let mut decoder = Decoder::new(head, "the frame of an encrypted object");
        if decoder.raw(MAGIC.len()).ok() != Some(MAGIC.as_slice()) {
            return Err(corrupted(
                &what(),
                "it is not encrypted, and all objects of its chain should be",
            ));
        }
        let (version, suite) = (decoder.u16()?, decoder.u16()?);
        let size = decoder.u32()?;
        if (version, suite, u64::from(size)) != (VERSION, SUITE, CHUNK) {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "{} is encrypted in version {version}, suite {suite}, chunks of {size} bytes, which this build does not read",
                    what()
                ),
            )
            .hint("use the version of holdfast that wrote it, or a newer one"));
        }
        let salt = decoder.array::<32>()?;
        if decoder.array::<16>()? != key.id().0 {
            return Err(corrupted(
                &what(),
                "it is encrypted with another key than its chain's",
            ));
        }
        decoder.end()?;
        let length = content_length(stored)
            .ok_or_else(|| corrupted(&what(), "no encrypted object has its length"))?;
        Ok(Self {
            path: Arc::from(path),
            length,
            sealed: Some(Arc::new(SealedFrame {
                key: key.file_key(&salt)?,
                bound: bound(head, path),
                chunks: chunks(length),
                stored,
            })),
        })
    }

    /// The length of the content.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The length of the object as it is stored.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.sealed
            .as_ref()
            .map_or(self.length, |sealed| sealed.stored)
    }

    /// The stored bytes that must be read to see a range of the content, which must not be empty.
    #[must_use]
    pub fn cover(&self, clear: &Range<u64>) -> Range<u64> {
        let Some(sealed) = &self.sealed else {
            return clear.start..clear.end.min(self.length);
        };
        let chunks = chunks_of(clear);
        let at = |chunk: u64| HEAD_LENGTH.saturating_add(chunk.saturating_mul(STORED_CHUNK));
        at(chunks.start)..at(chunks.end).min(sealed.stored)
    }

    /// A range of the content, out of the stored bytes that [`Frame::cover`] asked for.
    ///
    /// # Errors
    /// `Corrupted` if they are not what was sealed at this place of this object.
    pub fn open(&self, clear: &Range<u64>, stored: Bytes) -> Result<Bytes, Fault> {
        let wanted = clear.end.saturating_sub(clear.start);
        let Some(sealed) = &self.sealed else {
            return match stored.len() as u64 == wanted {
                // The start of the object tells whether it is one that needs a key.
                true if clear.start == 0 && stored.starts_with(MAGIC) => Err(needs_key(&self.path)),
                true => Ok(stored),
                false => Err(self.damaged("it is shorter than its manifest says")),
            };
        };
        let chunks = chunks_of(clear);
        let size = chunks.end.saturating_sub(chunks.start);
        let mut opened = vec![0; usize::try_from(size.saturating_mul(CHUNK)).unwrap_or_default()];
        let (mut at, mut rest) = (0usize, stored.as_ref());
        for index in chunks.clone() {
            let take = rest
                .len()
                .min(usize::try_from(STORED_CHUNK).unwrap_or_default());
            let (chunk, after) = rest.split_at(take);
            let length = chunk
                .len()
                .saturating_sub(usize::try_from(TAG).unwrap_or_default());
            let end = at.saturating_add(length);
            let is_last = index.saturating_add(1) == sealed.chunks;
            let (Some((cipher, tag)), Some(out)) =
                (chunk.split_at_checked(length), opened.get_mut(at..end))
            else {
                return Err(self.damaged("it is shorter than its manifest says"));
            };
            let bound = Aad::from(&sealed.bound);
            sealed
                .key
                .open_separate_gather(nonce(index, is_last), bound, cipher, tag, out)
                .map_err(|_| self.damaged("it was changed, cut, or put in the place of another"))?;
            (at, rest) = (end, after);
        }
        if !rest.is_empty() {
            return Err(self.damaged("it is longer than it should be"));
        }
        opened.truncate(at);
        let start = clear
            .start
            .saturating_sub(chunks.start.saturating_mul(CHUNK));
        let range = usize::try_from(start).unwrap_or(usize::MAX)
            ..usize::try_from(start.saturating_add(wanted)).unwrap_or(usize::MAX);
        match range.end <= opened.len() {
            true => Ok(Bytes::from(opened).slice(range)),
            false => Err(self.damaged("it is shorter than its manifest says")),
        }
    }

    fn damaged(&self, why: &str) -> Fault {
        corrupted(&format!("object {}", self.path), why)
    }
}

/// The chunks that hold a range of the content: at least one, so that an object without content is opened, too.
fn chunks_of(clear: &Range<u64>) -> Range<u64> {
    let start = clear.start.checked_div(CHUNK).unwrap_or_default();
    start..clear.end.div_ceil(CHUNK).max(start.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_content_has_a_stored_length_of_its_own() {
        let around = |at: u64| at.saturating_sub(18)..at + 18;
        for length in around(0).chain(around(CHUNK)).chain(around(3 * CHUNK)) {
            let stored = HEAD_LENGTH + length + TAG * chunks(length);
            assert_eq!(content_length(stored), Some(length));
        }
        // Lengths that none has: no whole tag, or a last chunk without content.
        for stored in [
            0,
            63,
            64,
            65,
            79,
            HEAD_LENGTH + STORED_CHUNK + 1,
            HEAD_LENGTH + STORED_CHUNK + TAG,
        ] {
            assert_eq!(content_length(stored), None, "{stored}");
        }
    }
}
