//! The framing between what a writer produced and what the store keeps: nothing, or encryption.
//!
//! Purpose: objects that nobody reads, and nobody changes unnoticed, without the chain's key. Invariants: an object opens under its own
//! path in the collection only, and whole or not at all; no key and nonce are ever used for two contents, whatever is repeated after
//! whichever crash, because the key of an object follows from its content ([`DataKey::salt`]); so sealing is deterministic, and racing
//! writers of one object write the same bytes. Concurrency: none; values are shared by cloning. Crash consistency: none of its own.

mod data_key;
mod frame;
mod sealing;

pub use data_key::DataKey;
pub use frame::Frame;

use bytes::Bytes;
use holdfast_types::{Digest, ErrorCode, Fault, KeyId};

use self::frame::{CHUNK, HEAD_LENGTH, MAGIC, STORED_CHUNK};

/// How the objects of a chain are framed. Every object but pointers, claims and key info passes through it on its way in and out.
///
/// Lengths and digests in manifests speak of *stored* bytes, so that objects can be verified without any key.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Envelope {
    /// Stored as produced.
    #[default]
    Clear,
    /// Encrypted with keys that follow from this one.
    Sealed(DataKey),
}

impl Envelope {
    /// Whether objects are encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// Which key, if objects are encrypted.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Clear => None,
            Self::Sealed(key) => Some(key.id()),
        }
    }

    /// Frames an object, given as its bytes in pieces and their digest. `path` is its key in the collection, to which an encrypting envelope
    /// binds the content. The same arguments give the same bytes.
    ///
    /// # Errors
    /// None for [`Envelope::Clear`]; `Internal` for an object beyond the cipher's limits.
    pub fn seal(
        &self,
        path: &str,
        clear: Vec<Bytes>,
        digest: &Digest,
    ) -> Result<Vec<Bytes>, Fault> {
        match self {
            Self::Clear => Ok(clear),
            Self::Sealed(key) => sealing::seal(key, path, clear, digest),
        }
    }

    /// Takes the frame off a whole object.
    ///
    /// # Errors
    /// `Corrupted` if the frame is damaged, `FailedPrecondition` if it is an encrypted object and no key was given.
    pub fn open(&self, path: &str, stored: Bytes) -> Result<Bytes, Fault> {
        match self {
            Self::Clear if stored.starts_with(MAGIC) => Err(needs_key(path)),
            Self::Clear => Ok(stored),
            Self::Sealed(_) => {
                let length = stored.len() as u64;
                let frame = self.frame(path, &stored, length)?;
                let head = usize::try_from(HEAD_LENGTH.min(length)).unwrap_or_default();
                frame.open(&(0..frame.length()), stored.slice(head..))
            }
        }
    }

    /// How many bytes at an object's start must be read before parts of it can be opened; a shorter object is read whole.
    #[must_use]
    pub fn start_length(&self) -> u64 {
        match self {
            Self::Clear => 0,
            Self::Sealed(_) => HEAD_LENGTH.saturating_add(STORED_CHUNK),
        }
    }

    /// What it takes to open parts of an object with this stored length, out of its first bytes ([`Envelope::start_length`]); and the
    /// content that is in them.
    ///
    /// # Errors
    /// `Corrupted` if it is no encrypted object of this chain, or of a length that none has, or was changed; `Unsupported` for another version
    /// of the framing.
    pub fn open_start(
        &self,
        path: &str,
        start: &Bytes,
        stored: u64,
    ) -> Result<(Frame, Bytes), Fault> {
        let frame = self.frame(path, start, stored)?;
        if !self.is_sealed() {
            return Ok((frame, Bytes::new()));
        }
        let head = start
            .len()
            .min(usize::try_from(HEAD_LENGTH).unwrap_or_default());
        let content = frame.open(&(0..frame.length().min(CHUNK)), start.slice(head..))?;
        Ok((frame, content))
    }

    fn frame(&self, path: &str, start: &[u8], stored: u64) -> Result<Frame, Fault> {
        let head = start
            .len()
            .min(usize::try_from(HEAD_LENGTH).unwrap_or_default());
        match self {
            Self::Clear => Ok(Frame::clear(path, stored)),
            Self::Sealed(key) => {
                Frame::sealed(key, path, start.get(..head).unwrap_or_default(), stored)
            }
        }
    }

    /// Whether bytes start as those of an encrypted object do.
    #[must_use]
    pub fn looks_sealed(stored: &[u8]) -> bool {
        stored.starts_with(MAGIC)
    }
}

/// The error for an encrypted object that is read without a key.
fn needs_key(path: &str) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("object {path} is encrypted, and no key was given"),
    )
    .hint("give the backup's passphrase with --passphrase-file, or one of its KMS keys with --kms; `holdfast keys show` lists what opens it")
}
