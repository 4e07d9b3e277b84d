//! Rows as sources give and take them.

use bytes::Bytes;
use holdfast_types::Position;
use std::fmt;

/// What a row version says.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The row has this content.
    Put(Bytes),
    /// The row was deleted.
    Delete,
}

/// One version of one row.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The key, in the source's memcmp order.
    pub key: Bytes,
    /// When this version was committed.
    pub position: Position,
    /// What it says.
    pub change: Change,
}

impl Row {
    /// Bytes of key and value: what progress and part sizes are measured in.
    #[must_use]
    pub fn logical_len(&self) -> usize {
        self.key.len()
            + match &self.change {
                Change::Put(value) => value.len(),
                Change::Delete => 0,
            }
    }
}

impl fmt::Debug for Row {
    /// Row values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes at {})", self.logical_len(), self.position)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => write!(f, "Put({} bytes)", value.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

/// Rows in the order of (key ascending, position descending): the newest version of a key comes first.
pub type RowBatch = Vec<Row>;
