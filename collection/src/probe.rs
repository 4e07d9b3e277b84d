//! Trying a place out: something is written, read back and removed, as a backup would do it.

use bytes::Bytes;
use holdfast_types::{Digest, ErrorCode, Fault, Hasher};
use object_store::path::Path;
use std::time::Duration;

use crate::layout;
use crate::store::{CollectionStore, damaged};

/// Bytes of one piece of a probe.
const PIECE: usize = 64 << 10;
/// The most that one probe writes: all of it is in memory.
const MOST: u64 = 256 << 20;

/// What a probe took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeReport {
    /// Bytes written, and read back.
    pub bytes: u64,
    /// How long writing took.
    pub wrote: Duration,
    /// How long reading took.
    pub read: Duration,
}

impl CollectionStore {
    /// Writes so many bytes under a name that nobody has used, reads them back, and compares.
    ///
    /// # Errors
    /// What the store failed with; `Corrupted` if it gives back something else.
    pub async fn write_probe(&self, name: &str, bytes: u64) -> Result<ProbeReport, Fault> {
        let at = key(name)?;
        let bytes = bytes.clamp(1, MOST);
        let text = name.to_owned();
        let content = move || content(&text, bytes);
        let (chunks, digest) = self.env().blocking(content).await;
        let clock = std::sync::Arc::clone(&self.env().clock);
        let started = clock.monotonic();
        self.put_once(&at, chunks).await?;
        let written = clock.monotonic();
        let found = self.get_whole(&at, bytes).await?;
        let read = clock.monotonic();
        if Digest::of(&found) != digest {
            return Err(damaged(&at, "it is not what was written"));
        }
        Ok(ProbeReport {
            bytes,
            wrote: written.saturating_sub(started),
            read: read.saturating_sub(written),
        })
    }

    /// Whether a probe is there.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn sees_probe(&self, name: &str) -> Result<bool, Fault> {
        Ok(self.head(&key(name)?).await?.is_some())
    }

    /// Removes a probe. Whether the store let it go; whoever may not remove anything can still back up.
    ///
    /// # Errors
    /// What the store failed with, other than by refusing.
    pub async fn remove_probe(&self, name: &str) -> Result<bool, Fault> {
        let at = key(name)?;
        match self.remove(&at).await {
            // One under retention may be said to be gone, and stay.
            Ok(()) => Ok(self.head(&at).await?.is_none()),
            Err(fault)
                if matches!(
                    fault.code,
                    ErrorCode::FailedPrecondition | ErrorCode::Unsupported
                ) =>
            {
                Ok(false)
            }
            Err(fault) => Err(fault),
        }
    }
}

fn key(name: &str) -> Result<Path, Fault> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.len() <= 200 && name.chars().all(is_legal) {
        true => Ok(Path::from(layout::PROBES).join(name)),
        false => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("\"{}\" cannot name a probe", name.escape_debug()),
        )),
    }
}

/// Bytes that no store can make less of.
fn content(seed: &str, length: u64) -> (Vec<Bytes>, Digest) {
    let mut hasher = Hasher::new();
    let mut chunks = Vec::new();
    let mut left = usize::try_from(length).unwrap_or(usize::MAX);
    let mut block = Digest::of(seed.as_bytes());
    while left > 0 {
        let mut piece = Vec::with_capacity(PIECE);
        while piece.len() < PIECE.min(left) {
            block = Digest::of(&block.0);
            piece.extend_from_slice(&block.0);
        }
        piece.truncate(left);
        left -= piece.len();
        hasher.update(&piece);
        chunks.push(piece.into());
    }
    (chunks, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_its_length_and_no_two_are_alike() {
        let (chunks, digest) = content("a", 100_001);
        let length: usize = chunks.iter().map(Bytes::len).sum();
        assert_eq!(length, 100_001);
        assert_ne!(digest, content("b", 100_001).1);
        assert!(key("x/y").is_err() && key("").is_err() && key("w1-2").is_ok());
    }
}
