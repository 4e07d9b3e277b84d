//! The framing between what a writer produced and what the store keeps: the seam for encryption.

use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault};
use std::ops::Range;

/// How the objects of a chain are framed. Every object but pointers and claims passes through it on its way in and out.
///
/// Lengths and digests in manifests speak of *stored* bytes, so that objects can be verified without any key.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Envelope {
    /// Stored as produced.
    #[default]
    Clear,
}

impl Envelope {
    /// Frames an object, given as its bytes in pieces. `path` is its key in the collection, which an encrypting envelope binds to the content.
    ///
    /// # Errors
    /// None for [`Envelope::Clear`].
    pub fn seal(&self, _path: &str, clear: Vec<Bytes>) -> Result<Vec<Bytes>, Fault> {
        match self {
            Self::Clear => Ok(clear),
        }
    }

    /// Takes the frame off a whole object.
    ///
    /// # Errors
    /// `Corrupted` if the frame is damaged.
    pub fn open(&self, _path: &str, stored: Bytes) -> Result<Bytes, Fault> {
        match self {
            Self::Clear => Ok(stored),
        }
    }

    /// The length of the content of an object with this stored length.
    #[must_use]
    pub fn clear_length(&self, stored: u64) -> u64 {
        match self {
            Self::Clear => stored,
        }
    }

    /// The stored bytes that must be read to see a range of the content.
    #[must_use]
    pub fn cover(&self, clear: Range<u64>) -> Range<u64> {
        match self {
            Self::Clear => clear,
        }
    }

    /// A range of the content, out of the stored bytes that [`Envelope::cover`] asked for.
    ///
    /// # Errors
    /// `Corrupted` if there are too few bytes.
    pub fn open_range(
        &self,
        path: &str,
        clear: &Range<u64>,
        stored: Bytes,
    ) -> Result<Bytes, Fault> {
        match self {
            Self::Clear if stored.len() as u64 == clear.end.saturating_sub(clear.start) => {
                Ok(stored)
            }
            Self::Clear => Err(Fault::new(
                ErrorCode::Corrupted,
                format!("object {path} is shorter than its manifest says"),
            )),
        }
    }
}
