//! Row versions as files hold them.

use bytes::Bytes;
use holdfast_types::Position;
use std::cmp::Ordering;
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
pub struct Entry {
    /// The key, in memcmp order.
    pub key: Bytes,
    /// When this version was committed.
    pub position: Position,
    /// What it says.
    pub change: Change,
}

impl Change {
    /// The content, unless the row was deleted.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put(value) => Some(value),
            Self::Delete => None,
        }
    }
}

impl Entry {
    /// Bytes of key and value before any encoding.
    #[must_use]
    pub fn logical_len(&self) -> usize {
        let value = self.change.value().map_or(0, Bytes::len);
        self.key.len().saturating_add(value)
    }

    /// The order of entries in files and streams: key ascending, then position descending.
    #[must_use]
    pub fn file_order(&self, other: &Self) -> Ordering {
        order(&self.key, self.position, &other.key, other.position)
    }
}

/// [`Entry::file_order`] of two entries given by key and position.
pub(crate) fn order(
    left_key: &[u8],
    left: Position,
    right_key: &[u8],
    right: Position,
) -> Ordering {
    left_key.cmp(right_key).then_with(|| right.cmp(&left))
}

impl fmt::Debug for Change {
    /// Row values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => write!(f, "Put({} bytes)", value.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

impl fmt::Debug for Entry {
    /// Keys never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Entry({} bytes at {})",
            self.logical_len(),
            self.position
        )
    }
}
