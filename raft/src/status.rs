//! What a node shows of itself.

use holdfast_ledger::LogPosition;
use holdfast_types::{ClusterId, Digest, NodeId};
use openraft::{Instant, ServerState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::Core;
use crate::leadership::{Standing, leadership_of};
use crate::type_config::position_of;

/// What a node shows of itself, for people, checks and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct RaftStatus {
    /// Which node.
    pub node: NodeId,
    /// Of which cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
    /// The term it is in.
    pub term: u64,
    /// Who leads, and where.
    pub leader: Option<(NodeId, String)>,
    /// Whether it is this node.
    pub is_leader: bool,
    /// Whether it takes part.
    pub standing: Standing,
    /// Index of the last entry in its log.
    pub last_log: Option<u64>,
    /// What it knows to be committed.
    pub committed: Option<LogPosition>,
    /// Up to where its state is applied.
    pub applied: LogPosition,
    /// Digest of the state as of `applied`.
    pub digest: Digest,
    /// Up to where its snapshot reaches.
    pub snapshot: Option<LogPosition>,
    /// Up to where its log was cut.
    pub purged: Option<LogPosition>,
    /// How long ago a majority last answered; on the leader only.
    pub quorum_acked_ago: Option<Duration>,
    /// Whether it refuses new work because its disk is nearly full.
    pub storage_full: bool,
    /// The members, by id.
    pub members: Vec<MemberStatus>,
}

/// What a node shows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// Where the others reach it.
    pub address: String,
    /// Whether it has a vote.
    pub is_voter: bool,
    /// Up to which index its log is known to equal the leader's; on the leader only.
    pub matched: Option<u64>,
}

impl Core {
    pub(crate) async fn status(&self) -> RaftStatus {
        let machine = Arc::clone(&self.machine);
        let (applied, digest) = self.env.blocking(move || machine.digest()).await;
        let metrics = self.metrics();
        let leadership = leadership_of(&metrics);
        let is_leader = metrics.state == ServerState::Leader;
        let members = self
            .members()
            .into_iter()
            .map(|member| {
                let matched = if is_leader && member.node == self.config.node {
                    metrics.last_log_index
                } else {
                    metrics
                        .replication
                        .as_ref()
                        .and_then(|matching| matching.get(&member.node.0).copied().flatten())
                        .map(|id| id.index)
                };
                MemberStatus {
                    node: member.node,
                    address: member.address,
                    is_voter: member.is_voter,
                    matched,
                }
            })
            .collect();
        RaftStatus {
            node: self.config.node,
            cluster: self.identity.cluster(),
            term: metrics.current_term,
            leader: leadership.leader,
            is_leader: leadership.is_self,
            standing: self.standing.borrow().clone(),
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(position_of),
            applied,
            digest,
            snapshot: metrics.snapshot.as_ref().map(position_of),
            purged: metrics.purged.as_ref().map(position_of),
            quorum_acked_ago: metrics.last_quorum_acked.map(|acked| acked.elapsed()),
            storage_full: self.disk_full.load(Ordering::Relaxed),
            members,
        }
    }
}
