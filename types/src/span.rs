//! Spans: half-open ranges of one relation on one member, and the objects that hold them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::RelationId;
use crate::seal::Sealed;
use crate::units::{ByteCount, RowCount};

/// A half-open range of keys in clear: `[start, end)`. An empty `end` is the open end of the key space.
///
/// Only sources, workers and the format see keys in clear; the ledger holds [`Sealed`] bounds.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key that belongs to the range.
    pub start: Bytes,
    /// First key after the range; empty if the range is open.
    pub end: Bytes,
}

impl KeyRange {
    /// The whole key space.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether the key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// Whether the two ranges have a key in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (other.end.is_empty() || self.start < other.end)
            && (self.end.is_empty() || other.start < self.end)
    }
}

impl std::fmt::Debug for KeyRange {
    /// Keys are row data and never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KeyRange({} bytes..{} bytes)",
            self.start.len(),
            self.end.len()
        )
    }
}

/// A span as a planner proposes it: bounds sealed, with the weight that progress is measured by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSpan {
    /// The relation, as its member numbers it.
    pub relation: RelationId,
    /// First key, sealed; the open end if the span starts where the relation does.
    pub start: Sealed,
    /// First key after the span, sealed; the open end if the span ends where the relation does.
    pub end: Sealed,
    /// Estimated bytes.
    pub weight: ByteCount,
    /// Whether it waits until every other span of the job is done: it settles what they could only read one by one.
    pub settles: bool,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// Versions of the rows of a span, by key: a span file.
    Rows,
    /// Rows of a relation as one snapshot showed them, without keys or positions: a tuple file.
    Tuples,
    /// Something in the source's own terms: a catalog file.
    Catalog,
}

impl ObjectKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Rows, Self::Tuples, Self::Catalog];

    /// What the name of such an object ends with.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Rows => ".hfs",
            Self::Tuples => ".hft",
            Self::Catalog => ".hfc",
        }
    }
}

/// A durable object, as a checkpoint and a manifest name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its name under the layer's `data/`, which carries job, task, epoch and sequence, and the object's kind.
    pub name: String,
    /// Stored length.
    pub length: ByteCount,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Rows (of a span file: versions) in it; a catalog file has none.
    pub rows: RowCount,
    /// Bytes of keys and values, of a tuple file all bytes of its rows, of a catalog file all that it holds, before compression.
    pub logical: ByteCount,
}

impl ObjectRef {
    /// What the object holds. Its name says so, by its [`ObjectKind::suffix`], and nothing else does: names are given in one place, never
    /// change, and are part of every record that was ever written of an object.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        let kinds = ObjectKind::ALL.into_iter();
        let mut named = kinds.filter(|kind| self.name.ends_with(kind.suffix()));
        named.next().unwrap_or(ObjectKind::Rows)
    }
}
