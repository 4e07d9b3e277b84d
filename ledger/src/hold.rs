//! Holds on sources' histories, as the cluster remembers them.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_types::{Hlc, HoldId, JobId, LayerPath, MemberName, Position, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

/// A hold: kept while its job, or the chain that it belongs to, may still need the history, then released member by member, then
/// forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Its id.
    pub id: HoldId,
    /// The backup that needs it; of a chain's hold, the last one that did.
    pub job: JobId,
    /// The source whose history is kept.
    pub source: SourceName,
    /// All history after this is kept.
    pub position: Hlc,
    /// When the job that made it was accepted: a hold's age is counted from here.
    pub created_at: Timestamp,
    /// The chain that it belongs to, once that has a layer.
    pub chain: Option<ChainHold>,
    /// Once it is not needed any more: the members that may have placed it and have not yet let go.
    pub releasing: Option<BTreeSet<MemberName>>,
}

/// What a chain's hold is for: the next incremental reads on where the chain's newest layer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHold {
    /// The collection's URI.
    pub collection: String,
    /// The chain's newest layer.
    pub layer: LayerPath,
    /// The members on which it is placed.
    pub members: BTreeSet<MemberName>,
    /// Those of them that have not yet been told that the newest layer is durable: up to where their history may go.
    pub behind: BTreeMap<MemberName, Position>,
}

impl HoldRecord {
    /// Whether it belongs to the chain headed by the full in this directory of a collection.
    #[must_use]
    pub fn is_of_chain(&self, collection: &str, full: &str) -> bool {
        self.chain
            .as_ref()
            .is_some_and(|chain| chain.collection == collection && chain.layer.full == full)
    }
}
