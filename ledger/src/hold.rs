//! Holds on sources' histories, as the cluster remembers them.

use std::collections::BTreeSet;

use holdfast_types::{Hlc, HoldId, JobId, MemberName, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

/// A hold: kept while its job may still need the history, then released member by member, then forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Its id.
    pub id: HoldId,
    /// The backup that needs it.
    pub job: JobId,
    /// The source whose history is kept.
    pub source: SourceName,
    /// All history after this is kept.
    pub position: Hlc,
    /// When the job was accepted: a hold's age is counted from here.
    pub created_at: Timestamp,
    /// Once the job is terminal: the members that may have placed it and have not yet let go.
    pub releasing: Option<BTreeSet<MemberName>>,
}
