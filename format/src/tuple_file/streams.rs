//! Streams of a block, each compressed for what it is.

use holdfast_types::{ErrorCode, Fault};
use std::io::Cursor;
use zstd::zstd_safe::{CParameter, Strategy};

use super::STREAM_ZSTD;
use crate::indexed_file::compressor;

/// The level at which streams are compressed each in their own way, about as quickly; at others all are compressed as zstd has it.
const TUNED_LEVEL: i32 = 1;
/// Bytes of a field from which on a text is a long one, on the average.
const LONG: usize = 64;

/// What a stream is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texture {
    /// Numbers, byte by byte.
    Numbers,
    /// Places in a list of words, a byte each. Sentences of a few words are worth finding again.
    Words,
    /// Short texts and the like. Words of six letters are worth finding again.
    Short,
    /// Long texts and documents. They are most of the bytes where they are, and repeat themselves over long distances: a larger table and window find
    /// more in about the same time. (`ZSTD_dfast` finds a few hundredths more still, for a third more time.)
    Long,
}

impl Texture {
    /// Of so many bytes in so many fields.
    pub(super) fn of(bytes: usize, fields: usize) -> Self {
        if bytes.checked_div(fields).unwrap_or(0) < LONG {
            Self::Short
        } else {
            Self::Long
        }
    }

    const fn parameters(self) -> [CParameter; 5] {
        use CParameter::{ChainLog, HashLog, MinMatch, WindowLog};
        match self {
            Self::Numbers => [
                WindowLog(19),
                HashLog(14),
                ChainLog(13),
                MinMatch(6),
                CParameter::Strategy(Strategy::ZSTD_fast),
            ],
            Self::Words => [
                WindowLog(20),
                HashLog(14),
                ChainLog(13),
                MinMatch(5),
                CParameter::Strategy(Strategy::ZSTD_fast),
            ],
            Self::Short => [
                WindowLog(19),
                HashLog(15),
                ChainLog(13),
                MinMatch(6),
                CParameter::Strategy(Strategy::ZSTD_fast),
            ],
            Self::Long => [
                WindowLog(21),
                HashLog(15),
                ChainLog(13),
                MinMatch(7),
                CParameter::Strategy(Strategy::ZSTD_fast),
            ],
        }
    }
}

/// Compresses streams.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    is_tuned: bool,
    /// What it is set up for.
    texture: Option<Texture>,
}

impl Compressor {
    /// At a level of zstd.
    ///
    /// # Errors
    /// `InvalidArgument` if zstd refuses the level.
    pub(super) fn new(level: i32) -> Result<Self, Fault> {
        Ok(Self {
            zstd: compressor(level)?,
            is_tuned: level == TUNED_LEVEL,
            texture: None,
        })
    }

    fn compress(
        &mut self,
        texture: Texture,
        bytes: &[u8],
        stored: &mut Cursor<&mut Vec<u8>>,
    ) -> Result<(), Fault> {
        if self.is_tuned && self.texture != Some(texture) {
            for parameter in texture.parameters() {
                self.zstd.set_parameter(parameter).map_err(refused)?;
            }
            self.texture = Some(texture);
        }
        let outcome = self.zstd.compress_to_buffer(bytes, stored);
        outcome.map(|_| ()).map_err(refused)
    }
}

fn refused(error: std::io::Error) -> Fault {
    Fault::new(
        ErrorCode::Internal,
        format!("a column cannot be compressed: {error}"),
    )
}

/// Writes a stream: compressed, or as it is if that is not longer. One without bytes is left out.
pub(super) fn write_stream(
    compressor: Option<&mut Compressor>,
    texture: Texture,
    bytes: &[u8],
    stored: &mut Vec<u8>,
) -> Result<(), Fault> {
    if bytes.is_empty() {
        return Ok(());
    }
    let start = stored.len();
    let begin = start.saturating_add(4);
    stored.extend_from_slice(&[0; 4]);
    let mut shrank = false;
    if let Some(compressor) = compressor {
        stored.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let mut cursor = Cursor::new(&mut *stored);
        cursor.set_position(begin as u64);
        compressor.compress(texture, bytes, &mut cursor)?;
        shrank = stored.len().saturating_sub(begin) < bytes.len();
    }
    if !shrank {
        stored.truncate(begin);
        stored.extend_from_slice(bytes);
    }
    // Lengths fit: a block holds less than 2^31 bytes.
    let length = stored.len().saturating_sub(begin) as u32;
    let head = length | if shrank { STREAM_ZSTD } else { 0 };
    if let Some(place) = stored.get_mut(start..begin) {
        place.copy_from_slice(&head.to_le_bytes());
    }
    Ok(())
}
