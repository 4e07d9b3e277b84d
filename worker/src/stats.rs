//! What a worker has done since it started.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a worker has done since it started. For metrics and tests; nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkerStats {
    /// The leader it is connected to.
    pub leader: Option<String>,
    /// Leases held at present.
    pub leases: usize,
    /// Streams that a leader welcomed.
    pub sessions: u64,
    /// Times that all work was stopped because no leader had been heard for as long as a lease lasts.
    pub fenced: u64,
    /// Tasks brought to their end.
    pub finished: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Leases given back.
    pub released: u64,
    /// Leases lost: refused, dropped by a leader, or fenced.
    pub lost: u64,
    /// Reports that the leader accepted.
    pub reports: u64,
    /// Bytes read from sources and collections, whether they were committed or not.
    pub bytes_read: u64,
    /// Bytes written to collections and sources, whether they were committed or not.
    pub bytes_written: u64,
}

/// Core counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats(Arc<Mutex<WorkerStats>>);

impl Stats {
    pub(crate) fn update(&self) -> MutexGuard<'_, WorkerStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> WorkerStats {
        self.update().clone()
    }
}
