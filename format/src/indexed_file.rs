//! What files with an index have in common: a header, blocks with checksums, a footer that describes them, a trailer that seals it.

use holdfast_types::{Digest, ErrorCode, Fault, Hasher};
use std::ops::Range;

use crate::wire::{Decoder, Encoder, corrupted};

/// Length of the header.
pub(crate) const HEADER_LENGTH: u64 = 16;
/// Length of the trailer.
pub(crate) const TRAILER_LENGTH: u64 = 56;
/// The largest footer.
const MAX_FOOTER_LENGTH: usize = 64 << 20;
/// Bytes of the trailer that its digest covers: all before the digest.
const SEALED_LENGTH: usize = 16;

/// One kind of such files.
#[derive(Debug)]
pub(crate) struct FileForm {
    /// How error messages name such a file.
    pub(crate) what: &'static str,
    /// Its first bytes. The carriage return shows transfers that mangle line ends.
    pub(crate) header_magic: &'static [u8; 8],
    /// Its last bytes.
    pub(crate) trailer_magic: &'static [u8; 8],
    /// The newest version of it that this build reads; it reads all before.
    pub(crate) newest: u16,
}

/// The end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// The footer's bytes in the file.
    pub(crate) footer: Range<u64>,
    /// The version that the file is of.
    pub(crate) version: u16,
    bytes: [u8; TRAILER_LENGTH as usize],
}

impl FileForm {
    pub(crate) fn damaged(&self, why: &str) -> Fault {
        corrupted(self.what, why)
    }

    fn check_version(&self, version: u16) -> Result<(), Fault> {
        if (1..=self.newest).contains(&version) {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "{} has format version {version}, and this build reads up to {}",
                self.what, self.newest
            ),
        )
        .hint("use the version of holdfast that wrote it, or a newer one"))
    }

    /// Reads the trailer: the last bytes of `tail`, which are the last of a file of `length` bytes.
    pub(crate) fn parse_trailer(&self, tail: &[u8], length: u64) -> Result<Trailer, Fault> {
        let Some(bytes) = tail.last_chunk::<{ TRAILER_LENGTH as usize }>() else {
            return Err(self.damaged("it is too short"));
        };
        let mut decoder = Decoder::new(bytes, self.what);
        let offset = decoder.u64()?;
        let footer_length = u64::from(decoder.u32()?);
        let version = decoder.u16()?;
        decoder.u16()?;
        decoder.digest()?;
        if decoder.raw(self.trailer_magic.len())? != self.trailer_magic {
            return Err(self.damaged("it does not end as one"));
        }
        self.check_version(version)?;
        let end = offset.checked_add(footer_length);
        if offset < HEADER_LENGTH
            || footer_length > MAX_FOOTER_LENGTH as u64
            || end.and_then(|end| end.checked_add(TRAILER_LENGTH)) != Some(length)
        {
            return Err(self.damaged("its parts do not fill its length"));
        }
        Ok(Trailer {
            footer: offset..end.unwrap_or(offset),
            version,
            bytes: *bytes,
        })
    }

    /// Checks the digest that the trailer holds of header, footer and itself, and gives the four bytes of the header that are the file's own.
    pub(crate) fn open(
        &self,
        header: &[u8],
        footer: &[u8],
        trailer: &Trailer,
    ) -> Result<[u8; 4], Fault> {
        let header = header
            .get(..HEADER_LENGTH as usize)
            .ok_or_else(|| self.damaged("it is too short"))?;
        let mut end = Decoder::new(&trailer.bytes, self.what);
        let sealed = end.raw(SEALED_LENGTH)?;
        let digest = Hasher::new()
            .update(header)
            .update(footer)
            .update(sealed)
            .finish();
        if end.digest()? != digest {
            return Err(self.damaged("the digest of its index does not match"));
        }
        let mut decoder = Decoder::new(header, self.what);
        if decoder.raw(self.header_magic.len())? != self.header_magic {
            return Err(decoder.damaged("it does not start as one"));
        }
        let version = decoder.u16()?;
        self.check_version(version)?;
        if version != trailer.version {
            return Err(decoder.damaged("it starts and ends as different versions"));
        }
        if decoder.u16()? != 0 {
            return Err(self.unknown_feature());
        }
        decoder.array()
    }

    pub(crate) fn unknown_feature(&self) -> Fault {
        Fault::new(
            ErrorCode::Unsupported,
            format!("{} uses a feature that this build does not know", self.what),
        )
        .hint("use a newer version of holdfast")
    }

    /// A header; the last four bytes are the file's own.
    pub(crate) fn header(&self, version: u16, own: [u8; 4]) -> Vec<u8> {
        let mut header = Encoder::default();
        header.raw(self.header_magic).u16(version).u16(0).raw(&own);
        header.0
    }

    /// The trailer of a file with this header, and this footer at this offset.
    ///
    /// # Errors
    /// `ResourceExhausted` if the footer is too long.
    pub(crate) fn trailer(
        &self,
        version: u16,
        header: &[u8],
        footer: &[u8],
        offset: u64,
    ) -> Result<Vec<u8>, Fault> {
        let length = u32::try_from(footer.len()).unwrap_or(u32::MAX);
        if length as usize > MAX_FOOTER_LENGTH {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("the index of {} grew to {length} bytes", self.what),
            )
            .hint("choose a smaller part size"));
        }
        let mut trailer = Encoder::default();
        trailer.u64(offset).u32(length).u16(version).u16(0);
        let digest = Hasher::new()
            .update(header)
            .update(footer)
            .update(&trailer.0)
            .finish();
        trailer.digest(&digest).raw(self.trailer_magic);
        Ok(trailer.0)
    }
}

/// How bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The compressor for a level.
///
/// # Errors
/// `InvalidArgument` if zstd refuses the level.
pub(crate) fn compressor(level: i32) -> Result<zstd::bulk::Compressor<'static>, Fault> {
    zstd::bulk::Compressor::new(level).map_err(|error| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("compression level {level} is refused: {error}"),
        )
    })
}

/// The checksum of a block: the first half of its BLAKE3 digest.
pub(crate) fn checksum(stored: &[u8]) -> [u8; 16] {
    let mut half = [0u8; 16];
    half.iter_mut()
        .zip(Digest::of(stored).0)
        .for_each(|(to, from)| *to = from);
    half
}
