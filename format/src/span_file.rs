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
pub use reader::SpanFileReader;
pub use summary::SpanFileSummary;
pub use writer::{SpanFileOptions, SpanFileWriter};

use crate::indexed_file::FileForm;
use holdfast_types::PositionKind;

const FORM: FileForm = FileForm {
    what: "a span file",
    header_magic: b"HFSPAN\r\n",
    trailer_magic: b"HFSPEND\n",
    newest: 2,
};
/// How the error messages name such a file.
const WHAT: &str = FORM.what;
/// The largest block, before and after compression: one row of maximal size, with room for its framing.
const MAX_BLOCK_LENGTH: usize = (1 << 30) + (1 << 21);

/// The version of a file with positions of a kind. Version 2 brought log sequence numbers and nothing else; a file without them is still written
/// as version 1, the same bytes as ever, so that older builds read it.
const fn version_for(positions: PositionKind) -> u16 {
    match positions {
        PositionKind::Hlc => 1,
        _ => 2,
    }
}
