//! Span files (`.hfs`): sorted row versions in compressed, digested blocks, with an index at the end.
//!
//! ```text
//! header (16) │ block │ block │ … │ footer (index and totals) │ trailer (56)
//! ```

mod block;
mod index;
mod reader;
mod summary;
mod writer;

pub use index::{Block, SpanIndex, SpanTail};
pub use reader::{ReadAt, SpanFileReader};
pub use summary::SpanFileSummary;
pub use writer::{SpanFileOptions, SpanFileWriter};

/// First bytes of every span file. The carriage return shows transfers that mangle line ends.
const HEADER_MAGIC: &[u8; 8] = b"HFSPAN\r\n";
/// Last bytes of every complete span file.
const TRAILER_MAGIC: &[u8; 8] = b"HFSPEND\n";
/// The version that is written.
const VERSION: u16 = 1;
/// Length of the header.
const HEADER_LENGTH: u64 = 16;
/// Length of the trailer.
const TRAILER_LENGTH: u64 = 56;
/// The largest block, before and after compression: one row of maximal size, with room for its framing.
const MAX_BLOCK_LENGTH: usize = (1 << 30) + (1 << 21);
/// The largest footer: 64 MiB index some 400 GiB of rows.
const MAX_FOOTER_LENGTH: usize = 64 << 20;
/// How the error messages name such a file.
const WHAT: &str = "a span file";

/// How a block is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// As it is.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The checksum of a block: the first half of its BLAKE3 digest.
fn checksum(stored: &[u8]) -> [u8; 16] {
    let mut half = [0u8; 16];
    half.iter_mut()
        .zip(holdfast_types::Digest::of(stored).0)
        .for_each(|(to, from)| *to = from);
    half
}
