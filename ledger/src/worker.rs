//! Registered workers.

use std::collections::BTreeSet;

use holdfast_types::{Incarnation, Locality, TaskId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

/// A worker process that has announced itself and has not expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its id.
    pub id: WorkerId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where it is.
    pub locality: Locality,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// Its version, for people.
    pub version: String,
    /// When it announced itself.
    pub registered_at: Timestamp,
    /// The tasks that it holds. Computed.
    #[serde(skip)]
    pub(crate) leases: BTreeSet<TaskId>,
    /// Revoked leases that it has not yet given back. Computed.
    #[serde(skip)]
    pub(crate) lingering: u32,
}

impl WorkerRecord {
    /// The tasks that it holds, in order.
    pub fn leases(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.leases.iter().copied()
    }

    /// How many more tasks it takes. A revoked lease occupies its slot until it was given back.
    #[must_use]
    pub fn free_slots(&self) -> u32 {
        let held = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        self.slots
            .saturating_sub(held)
            .saturating_sub(self.lingering)
    }
}
