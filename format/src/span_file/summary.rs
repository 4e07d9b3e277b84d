//! What a finished span file amounts to.

use bytes::Bytes;
use holdfast_types::{ByteCount, Digest, ObjectRef, Position, RowCount};
use std::fmt;

/// Totals of a finished span file.
#[derive(Clone, PartialEq, Eq)]
pub struct SpanFileSummary {
    /// Length of the file.
    pub length: ByteCount,
    /// Digest of all its bytes.
    pub digest: Digest,
    /// Row versions in it, deletions included.
    pub rows: RowCount,
    /// Bytes of keys and values before compression.
    pub logical: ByteCount,
    /// First and last key; `None` if the file is empty.
    pub keys: Option<(Bytes, Bytes)>,
    /// Oldest and newest position; `None` if the file is empty.
    pub positions: Option<(Position, Position)>,
}

impl SpanFileSummary {
    /// The file as checkpoints and manifests name it.
    #[must_use]
    pub fn object_ref(&self, name: impl Into<String>) -> ObjectRef {
        ObjectRef {
            name: name.into(),
            length: self.length,
            digest: self.digest,
            rows: self.rows,
            logical: self.logical,
        }
    }
}

impl fmt::Debug for SpanFileSummary {
    /// Keys never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanFileSummary")
            .field("length", &self.length.0)
            .field("digest", &self.digest)
            .field("rows", &self.rows)
            .field("logical", &self.logical.0)
            .finish_non_exhaustive()
    }
}
