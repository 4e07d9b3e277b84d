//! Who leads, and whether this node takes part: watched from openraft's metrics.

use holdfast_types::{ErrorCode, Fault, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, ServerState};
use std::sync::Arc;
use tokio::sync::watch;

use crate::config::RaftConfig;
use crate::log_store::LogReader;
use crate::log_writer::LogWriter;
use crate::machine::Machine;
use crate::machine_store::MachineStore;
use crate::type_config::{Metrics, TypeConfig};

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader and its advertised address.
    pub leader: Option<(NodeId, String)>,
    /// The term this node is in.
    pub term: u64,
    /// Whether it is this node. A leader that is cut off believes so for a while: before acting on time, ask
    /// [`crate::Node::quorum_acked_within`].
    pub is_self: bool,
}

/// Whether this node takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It does, or waits to be added.
    #[default]
    Running,
    /// It was removed from its cluster, for good.
    Removed,
    /// Its storage failed, it was shut down, or it was refused by the cluster that it should join: it serves nothing any more. The
    /// process should end.
    Stopped(Fault),
}

/// What is watched.
pub(crate) struct Watched {
    pub(crate) raft: Raft<TypeConfig, MachineStore>,
    pub(crate) writer: LogWriter,
    pub(crate) log: LogReader,
    pub(crate) machine: Arc<dyn Machine>,
    /// What another node has said of this one's standing.
    pub(crate) verdict: watch::Receiver<Standing>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Turns openraft's metrics into what others watch.
struct Watcher {
    watched: Watched,
    node: NodeId,
    snapshot_bytes: u64,
    leadership: watch::Sender<Leadership>,
    standing: watch::Sender<Standing>,
}

impl Watched {
    /// Starts to watch, until raft stops.
    pub(crate) fn start(
        self,
        config: &RaftConfig,
    ) -> (watch::Receiver<Leadership>, watch::Receiver<Standing>) {
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let (standing_sender, standing) = watch::channel(Standing::Running);
        let watcher = Watcher {
            watched: self,
            node: config.node,
            snapshot_bytes: config.snapshot_bytes,
            leadership: leadership_sender,
            standing: standing_sender,
        };
        drop(tokio::spawn(watcher.run()));
        (leadership, standing)
    }
}

impl Watcher {
    async fn run(mut self) {
        let mut metrics = self.watched.raft.metrics();
        let mut was_member = false;
        let mut snapshot_asked_at = None;
        loop {
            let now = metrics.borrow_watched().clone();
            let committed = now.committed_membership_config.membership();
            let is_member = committed.get_node(&now.id).is_some();
            let told = self.watched.verdict.borrow_and_update().clone();
            let left = (was_member && !is_member) || self.watched.machine.is_retired(now.id);
            self.publish(&now, if left { Standing::Removed } else { told });
            was_member |= is_member;
            if now.running_state.is_err() {
                return;
            }
            // Asked for once per snapshot: the next one resets the count.
            let asked_at = Some(now.snapshot.map(|id| id.index));
            if self.watched.log.bytes_since_snapshot() > self.snapshot_bytes
                && snapshot_asked_at != asked_at
            {
                snapshot_asked_at = asked_at;
                // It fails only when raft has stopped, which the next turn finds out.
                let _ = self.watched.raft.trigger().snapshot().await;
            }
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() { break },
                Ok(()) = self.watched.verdict.changed() => {}
                _ = self.watched.stop.changed() => break,
            }
        }
        self.stopped(&metrics.borrow_watched().clone());
    }

    fn publish(&self, metrics: &Metrics, verdict: Standing) {
        if metrics.running_state.is_err() {
            self.stopped(metrics);
            return;
        }
        let next = leadership_of(metrics);
        self.leadership.send_if_modified(|leadership| {
            let changed = *leadership != next;
            if changed {
                tracing::info!(node = %self.node, term = next.term, leader = ?next.leader, "leadership");
                *leadership = next;
            }
            changed
        });
        if verdict == Standing::Running {
            return;
        }
        self.standing.send_if_modified(|standing| {
            let changed = *standing == Standing::Running;
            if changed {
                match &verdict {
                    Standing::Stopped(fault) => tracing::error!(node = %self.node, "{fault}"),
                    _ => {
                        tracing::warn!(node = %self.node, "this node was removed from its cluster")
                    }
                }
                *standing = verdict;
            }
            changed
        });
    }

    /// Raft runs no more: nobody leads from here.
    fn stopped(&self, metrics: &Metrics) {
        self.leadership.send_replace(Leadership {
            term: metrics.current_term,
            ..Leadership::default()
        });
        let fault = match (self.watched.writer.failure(), &metrics.running_state) {
            (Some(fault), _) => fault.clone(),
            (None, Err(openraft::errors::Fatal::StorageError(error))) => Fault::new(
                ErrorCode::Corrupted,
                format!("raft storage of node {}: {error}", self.node),
            )
            .hint("replace this node by a new one with an empty data directory and a new id"),
            (None, Err(openraft::errors::Fatal::Panicked)) => Fault::new(
                ErrorCode::Internal,
                format!("raft on node {} has failed", self.node),
            )
            .hint("start the node again, and report the panic in its log"),
            (None, Err(openraft::errors::Fatal::Stopped) | Ok(())) => Fault::new(
                ErrorCode::Unavailable,
                format!("node {} was shut down", self.node),
            ),
        };
        self.standing.send_replace(Standing::Stopped(fault));
    }
}

/// Reads who leads out of the metrics.
pub(crate) fn leadership_of(metrics: &Metrics) -> Leadership {
    let is_self = metrics.state == ServerState::Leader;
    let leader = metrics.current_leader.and_then(|id| {
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some((NodeId(id), node.addr.clone()))
    });
    Leadership {
        leader,
        term: metrics.current_term,
        is_self: is_self && metrics.current_leader == Some(metrics.id),
    }
}
