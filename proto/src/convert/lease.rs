//! Leases.

use holdfast_types::{Epoch, JobId, TaskId};
use std::fmt;

use crate::v1;

/// A lease as both sides name it: a task and the epoch of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The lease's epoch.
    pub epoch: Epoch,
}

impl Lease {
    /// From the three numbers that messages carry.
    #[must_use]
    pub fn new(job: u64, task: u32, epoch: u64) -> Self {
        Self {
            task: TaskId {
                job: JobId(job),
                index: task,
            },
            epoch: Epoch(epoch),
        }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.epoch)
    }
}

impl From<&v1::HeldLease> for Lease {
    fn from(wire: &v1::HeldLease) -> Self {
        Self::new(wire.job, wire.task, wire.epoch)
    }
}

impl From<Lease> for v1::HeldLease {
    fn from(lease: Lease) -> Self {
        Self {
            job: lease.task.job.0,
            task: lease.task.index,
            epoch: lease.epoch.0,
        }
    }
}
