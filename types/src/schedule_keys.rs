//! What the chains of a schedule are encrypted with, as the ledger holds it.

use serde::{Deserialize, Serialize};

use crate::seal::Sealed;

/// The keys of a schedule's chains: what may be shown of them, and the rest sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleKeys {
    /// Whether there is a passphrase among them.
    pub passphrase: bool,
    /// The KMS keys, without anything but what tells one from another.
    pub kms: Vec<String>,
    /// What a user gave, sealed with the cluster key: the leader opens it for each run.
    pub sealed: Sealed,
}

/// Keys that a schedule had before others took their place. A chain that was begun with them goes on with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerKeys {
    /// How often the schedule's keys had been changed when they came.
    pub version: u32,
    /// The keys; `None`: chains were not encrypted.
    pub keys: Option<ScheduleKeys>,
}
