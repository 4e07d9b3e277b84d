//! What a finished tuple file amounts to.

use holdfast_types::{ByteCount, Digest, ObjectRef, RowCount};

/// Totals of a finished tuple file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleFileSummary {
    /// Length of the file.
    pub length: ByteCount,
    /// Digest of all its bytes.
    pub digest: Digest,
    /// Rows in it.
    pub rows: RowCount,
    /// Bytes of the rows as COPY has them, field counts and lengths included.
    pub logical: ByteCount,
}

impl TupleFileSummary {
    /// The file as checkpoints and manifests name it. The name ends as that of a tuple file
    /// ([`holdfast_types::ObjectKind::suffix`]).
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
