//! What a member has served since it was started: how work that was done twice is seen from the source's side.

use holdfast_types::{ByteCount, RelationId, RowCount};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was served of one relation since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelationCount {
    /// Row versions given to reads.
    pub rows_read: RowCount,
    /// Bytes of their keys and values.
    pub bytes_read: ByteCount,
    /// Row versions taken from writes and loads.
    pub rows_written: RowCount,
    /// Bytes of their keys and values.
    pub bytes_written: ByteCount,
}

/// Counters by relation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    relations: Mutex<BTreeMap<RelationId, RelationCount>>,
    commits: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, relation: RelationId, rows: u64, bytes: u64) {
        let mut relations = self.relations();
        let count = relations.entry(relation).or_default();
        count.rows_read += RowCount(rows);
        count.bytes_read += ByteCount(bytes);
    }

    pub(crate) fn written(&self, relation: RelationId, rows: u64, bytes: u64) {
        let mut relations = self.relations();
        let count = relations.entry(relation).or_default();
        count.rows_written += RowCount(rows);
        count.bytes_written += ByteCount(bytes);
    }

    pub(crate) fn committed(&self, transactions: u64) {
        self.commits.fetch_add(transactions, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> BTreeMap<RelationId, RelationCount> {
        self.relations().clone()
    }

    fn relations(&self) -> MutexGuard<'_, BTreeMap<RelationId, RelationCount>> {
        self.relations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
