//! Catalog files (`.hfc`): something in the source's own terms, such as what a database consists of or a dump of its schema. They are
//! read and written whole.
//!
//! ```text
//! header (24) │ content, or one zstd frame of it │ digest (32)
//! ```

use bytes::Bytes;
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, ObjectRef, RowCount};

use crate::indexed_file::compressor;
use crate::wire::{Decoder, Encoder, corrupted};

const MAGIC: &[u8; 8] = b"HFCATA\r\n";
const VERSION: u16 = 1;
const HEADER_LENGTH: usize = 24;
const DIGEST_LENGTH: usize = 32;
const WHAT: &str = "a catalog file";
/// The content as it is.
const STORED: u8 = 0;
/// The content as one zstd frame.
const ZSTD: u8 = 1;
/// Bytes that a frame may take beyond its content.
const SLACK: usize = 1 << 20;

/// A catalog file. It is in memory as a whole, as is what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogFile {
    /// All its bytes.
    pub bytes: Bytes,
    /// Digest of them.
    pub digest: Digest,
    /// Bytes of what it holds.
    pub logical: ByteCount,
}

impl CatalogFile {
    /// The most that a catalog file holds, in bytes. What is larger takes several.
    pub const MAX_CONTENT: usize = 256 << 20;

    /// Makes a file of a content, compressed at a zstd level of 1 to 19, or as it is.
    ///
    /// # Errors
    /// `ResourceExhausted` if the content is too large, `InvalidArgument` if zstd refuses the level.
    pub fn encode(content: &[u8], level: Option<i32>) -> Result<Self, Fault> {
        if content.len() > Self::MAX_CONTENT {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "a catalog of {} bytes is larger than any file holds",
                    content.len()
                ),
            )
            .hint("back up fewer relations at once"));
        }
        let frame = match level {
            None => None,
            Some(level) => {
                let packed = compressor(level)?.compress(content);
                let packed = packed.map_err(|error| {
                    Fault::new(
                        ErrorCode::Internal,
                        format!("cannot compress a catalog: {error}"),
                    )
                })?;
                Some(packed).filter(|packed| packed.len() < content.len())
            }
        };
        let mut encoder = Encoder::default();
        encoder.raw(MAGIC).u16(VERSION).u16(0);
        encoder.u8(if frame.is_some() { ZSTD } else { STORED });
        encoder.raw(&[0; 3]).u64(content.len() as u64);
        encoder.raw(frame.as_deref().unwrap_or(content));
        let digest = Digest::of(&encoder.0);
        encoder.digest(&digest);
        Ok(Self {
            digest: Digest::of(&encoder.0),
            bytes: encoder.finish(),
            logical: ByteCount(content.len() as u64),
        })
    }

    /// What a file holds, after checking the digest that it ends with.
    ///
    /// # Errors
    /// `Corrupted`, or `Unsupported` if a newer version wrote it.
    pub fn decode(file: &Bytes) -> Result<Bytes, Fault> {
        let Some((body, digest)) = file.split_last_chunk::<DIGEST_LENGTH>() else {
            return Err(corrupted(WHAT, "it is too short"));
        };
        let mut decoder = Decoder::new(body, WHAT);
        if decoder.raw(MAGIC.len())? != MAGIC {
            return Err(corrupted(WHAT, "it does not start as one"));
        }
        if Digest::of(body).0 != *digest {
            return Err(corrupted(WHAT, "its digest does not match"));
        }
        let (version, flags) = (decoder.u16()?, decoder.u16()?);
        let form = decoder.u8()?;
        let rest = decoder.raw(3)?;
        if version != VERSION || flags != 0 || rest != [0; 3] || form > ZSTD {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "{WHAT} has format version {version}, and this build reads up to {VERSION}"
                ),
            )
            .hint("use the version of holdfast that wrote it, or a newer one"));
        }
        let length = usize::try_from(decoder.u64()?).unwrap_or(usize::MAX);
        let stored = file.slice(HEADER_LENGTH..body.len());
        if length > Self::MAX_CONTENT || stored.len() > Self::MAX_CONTENT.saturating_add(SLACK) {
            return Err(corrupted(WHAT, "it is larger than any"));
        }
        let content = match form {
            STORED => stored,
            _ => zstd::bulk::decompress(&stored, length)
                .map_err(|_| corrupted(WHAT, "it cannot be decompressed"))?
                .into(),
        };
        if content.len() != length {
            return Err(corrupted(WHAT, "it has another length than it says"));
        }
        Ok(content)
    }

    /// The file as checkpoints and manifests name it. The name ends as that of a catalog file
    /// ([`holdfast_types::ObjectKind::suffix`]).
    #[must_use]
    pub fn object_ref(&self, name: impl Into<String>) -> ObjectRef {
        ObjectRef {
            name: name.into(),
            length: ByteCount(self.bytes.len() as u64),
            digest: self.digest,
            rows: RowCount(0),
            logical: self.logical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_and_every_flipped_bit_is_found() {
        for level in [None, Some(3)] {
            let content = b"a catalog, a catalog, a catalog, a catalog".repeat(3);
            let file = CatalogFile::encode(&content, level).expect("fits");
            assert_eq!(CatalogFile::decode(&file.bytes).expect("sound"), content);
            for length in 0..file.bytes.len() {
                assert!(CatalogFile::decode(&file.bytes.slice(..length)).is_err());
            }
            for bit in 0..file.bytes.len() * 8 {
                let mut damaged = file.bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(CatalogFile::decode(&damaged.into()).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn what_does_not_compress_and_nothing_at_all_are_kept_as_they_are() {
        for content in [Vec::new(), Digest::of(b"noise").0.to_vec()] {
            let file = CatalogFile::encode(&content, Some(3)).expect("fits");
            assert_eq!(
                file.bytes.len(),
                HEADER_LENGTH + content.len() + DIGEST_LENGTH
            );
            assert_eq!(CatalogFile::decode(&file.bytes).expect("sound"), content);
        }
    }

    #[test]
    fn a_length_that_is_not_that_of_the_frame_is_found_before_memory_is_taken() {
        let content = vec![7; 10_000];
        for claimed in [0u64, 9_999, 10_001, 1 << 40] {
            let mut file = CatalogFile::encode(&content, Some(3))
                .expect("fits")
                .bytes
                .to_vec();
            file.truncate(file.len() - DIGEST_LENGTH);
            file[16..24].copy_from_slice(&claimed.to_le_bytes());
            let digest = Digest::of(&file);
            file.extend_from_slice(&digest.0);
            let fault = CatalogFile::decode(&file.into()).expect_err("another length");
            assert_eq!(fault.code, ErrorCode::Corrupted, "{claimed}");
        }
    }
}
