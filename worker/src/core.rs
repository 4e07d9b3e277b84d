//! What every part of one worker shares.

use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use holdfast_proto::Lease;
use holdfast_source::SourceFactory;
use holdfast_types::{Epoch, Fault, Incarnation, TaskId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::Gate;
use crate::config::WorkerConfig;
use crate::stats::Stats;
use crate::task::LayerCache;

/// Tasks whose newest epoch is remembered. Jobs end long before as many tasks of theirs were leased again.
const REMEMBERED_TASKS: usize = 1 << 16;

/// What every part of one worker shares.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: WorkerConfig,
    pub(crate) incarnation: Incarnation,
    pub(crate) env: Env,
    pub(crate) sources: Arc<dyn SourceFactory>,
    pub(crate) stores: Arc<dyn StoreProvider>,
    /// Closed whenever no lease is surely alive.
    pub(crate) gate: Gate,
    /// One permit per slot.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) stats: Stats,
    pub(crate) layers: LayerCache,
    pub(crate) begun: BegunLeases,
    pub(crate) lifecycle: Lifecycle,
}

/// How a worker's life goes.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Cancelled when everything is to end at once.
    pub(crate) over: CancellationToken,
    /// Cancelled when the worker is to finish in order.
    pub(crate) leaving: CancellationToken,
    /// How it ended, once it has.
    pub(crate) ended: watch::Sender<Option<Result<(), Fault>>>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            over: CancellationToken::new(),
            leaving: CancellationToken::new(),
            ended: watch::Sender::new(None),
        }
    }

    /// The worker has ended; the first word counts.
    pub(crate) fn end(&self, how: Result<(), Fault>) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(how);
            }
            first
        });
    }
}

/// Leases under which this process has begun to work.
///
/// A leader grants a lease again, under its old epoch, when the worker does not announce it. A worker that gave the lease up by itself
/// (fenced, or its agent restarted) must not begin a second time under one epoch: object names and report numbers carry no more than the
/// epoch to tell the two tries apart. It gives such a lease back, and gets another one.
#[derive(Debug, Default)]
pub(crate) struct BegunLeases(Mutex<BTreeMap<TaskId, Epoch>>);

impl BegunLeases {
    /// Notes a lease. `false` if work under it, or under a later one of its task, has begun before.
    pub(crate) fn begin(&self, lease: Lease) -> bool {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if begun
            .get(&lease.task)
            .is_some_and(|epoch| *epoch >= lease.epoch)
        {
            return false;
        }
        begun.insert(lease.task, lease.epoch);
        if begun.len() > REMEMBERED_TASKS {
            // Job ids grow with time: the smallest is the oldest.
            begun.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lease_is_begun_twice() {
        let begun = BegunLeases::default();
        assert!(begun.begin(Lease::new(7, 1, 3)));
        assert!(!begun.begin(Lease::new(7, 1, 3)));
        assert!(!begun.begin(Lease::new(7, 1, 2)), "an older one");
        assert!(begun.begin(Lease::new(7, 1, 4)));
        assert!(begun.begin(Lease::new(7, 2, 1)));
        for job in 0..2 * REMEMBERED_TASKS as u64 {
            begun.begin(Lease::new(job, 0, 1));
        }
        assert_eq!(begun.0.lock().expect("the lock").len(), REMEMBERED_TASKS);
    }
}
