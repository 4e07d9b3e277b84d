//! The types that openraft is instantiated with. They stay inside this crate.

use bytes::Bytes;
use holdfast_ledger::LogPosition;
use openraft::impls::leader_id_std;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Tokio with randomness that is seeded per node: elections are the only place where openraft draws any.
pub(crate) type Runtime = DeterministicRng<TokioRuntime>;

openraft::declare_raft_types!(
    /// One leader per term (`leader_id_std`), so that term and index alone name an entry.
    pub(crate) TypeConfig:
        D = CommandBytes,
        R = OutcomeBytes,
        NodeId = u64,
        Node = openraft::impls::BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

/// An encoded command. Nothing of it is ever printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CommandBytes(pub(crate) Bytes);

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An encoded outcome.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OutcomeBytes(pub(crate) Bytes);

impl fmt::Debug for OutcomeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcome of {} bytes", self.0.len())
    }
}

/// The place that a log id names.
pub(crate) fn position_of(id: &LogId) -> LogPosition {
    LogPosition {
        term: id.leader_id.term,
        index: id.index(),
    }
}
