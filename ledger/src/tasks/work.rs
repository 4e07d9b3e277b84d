//! What every task that was ever leased carries.

use holdfast_types::{Epoch, Incarnation, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

/// One worker's right to run one task. How long it lasts is the leader's business: it ends by `ExpireWorker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Since when.
    pub granted_at: Timestamp,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Work {
    /// How often the task was leased.
    pub(crate) epoch: Epoch,
    /// Failures since the last progress.
    pub(crate) attempts: u32,
    /// The lease, while there is one.
    pub(crate) lease: Option<Lease>,
    /// When it last made progress; before that, when it was first leased.
    pub(crate) moved_at: Timestamp,
    /// When it last failed, unless it has made progress since.
    pub(crate) failed_at: Option<Timestamp>,
}

impl Work {
    /// Gives a lease under the next epoch.
    pub(crate) fn grant(&mut self, lease: Lease, at: Timestamp) -> Epoch {
        if self.epoch == Epoch::ZERO {
            self.moved_at = at;
        }
        self.epoch = self.epoch.next();
        self.lease = Some(lease);
        self.epoch
    }

    /// Notes progress.
    pub(crate) fn progressed(&mut self, at: Timestamp) {
        self.attempts = 0;
        self.failed_at = None;
        self.moved_at = at;
    }

    /// Notes a failure; returns how many there were without progress.
    pub(crate) fn failed(&mut self, at: Timestamp) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.failed_at = Some(at);
        self.attempts
    }
}
