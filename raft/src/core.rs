//! What a node consists of, without the state machine's types: proposing, reading, forwarding to the leader.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::{Raft, ReadPolicy};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::config::{MAX_FORWARD_COMMANDS, MAX_FORWARD_SIZE, RaftConfig};
use crate::identity::Identity;
use crate::leadership::{Leadership, Standing};
use crate::log_writer::LogWriter;
use crate::machine::Machine;
use crate::machine_store::MachineStore;
use crate::peers::{Call, CallError, Lane, Peers};
use crate::snapshot::SnapshotStore;
use crate::type_config::{CommandBytes, LogId, Metrics, TypeConfig, Vote};
use crate::wire::{ForwardReply, ForwardRequest};

/// How long to wait before asking again when the node that was thought to lead says that it does not.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The encoded outcome of a proposal.
pub(crate) type Proposed = Result<Bytes, Fault>;

/// What became of a batch that was handed over once.
enum Attempt {
    /// Nothing of it was taken; it may be tried again.
    NotTaken(Fault),
    /// One result for each.
    Done(Vec<Proposed>),
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: RaftConfig,
    pub(crate) env: Env,
    pub(crate) raft: Raft<TypeConfig, MachineStore>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) writer: LogWriter,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) standing: watch::Receiver<Standing>,
    /// What another node has said of this one's standing.
    pub(crate) verdict: watch::Sender<Standing>,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) in_flight: Semaphore,
    pub(crate) disk_full: Arc<AtomicBool>,
    pub(crate) stop: watch::Sender<bool>,
    /// Up to where a newcomer has to catch up before it votes.
    pub(crate) catch_up: OnceLock<u64>,
    /// Held while a snapshot comes in.
    pub(crate) receiving: tokio::sync::Mutex<()>,
}

impl Core {
    /// What openraft says of itself.
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Stands for election from now on, if it may.
    pub(crate) fn let_stand(&self) {
        self.raft.runtime_config().elect(self.identity.is_settled());
    }

    /// A leader says how far the cluster has committed. Once that is applied here, this node is no longer a newcomer.
    pub(crate) async fn note_commit(
        &self,
        vote: &Vote,
        committed: Option<LogId>,
    ) -> Result<(), Fault> {
        if self.identity.is_settled() {
            return Ok(());
        }
        // Only what a leader commits in its own term shows that everything before it is committed, too.
        let Some(committed) = committed.filter(|id| id.leader_id.term == vote.leader_id.term)
        else {
            return Ok(());
        };
        let target = *self.catch_up.get_or_init(|| committed.index);
        if *self.applied.borrow() >= target {
            self.identity.settle().await?;
            self.let_stand();
        }
        Ok(())
    }

    /// Proposes commands in order, here or at the leader. One result for each command.
    pub(crate) async fn propose(&self, commands: Vec<Bytes>) -> Vec<Proposed> {
        let mut results = Vec::with_capacity(commands.len());
        for batch in batches(commands) {
            results.extend(self.propose_batch(batch).await);
        }
        results
    }

    async fn propose_batch(&self, batch: Vec<Bytes>) -> Vec<Proposed> {
        let count = batch.len();
        let all = |fault: Fault| (0..count).map(|_| Err(fault.clone())).collect::<Vec<_>>();
        let _permit = match self.admit(count) {
            Ok(permit) => permit,
            Err(fault) => return all(fault),
        };
        let handed_over = AtomicBool::new(false);
        let timeout = self.config.request_timeout;
        let attempts = self.attempt_until_taken(&batch, &handed_over);
        match tokio::time::timeout(timeout, attempts).await {
            Ok(results) => results,
            Err(_) if handed_over.load(Ordering::Relaxed) => all(self.outcome_unknown()),
            Err(_) => all(self.no_leader()),
        }
    }

    /// Repeats only what is known not to have been taken.
    async fn attempt_until_taken(
        &self,
        batch: &[Bytes],
        handed_over: &AtomicBool,
    ) -> Vec<Proposed> {
        loop {
            let leader = self.wait_for_leader().await;
            handed_over.store(true, Ordering::Relaxed);
            let attempt = match leader {
                None => self.propose_here(batch.to_vec()).await,
                Some((node, address)) => self.propose_there(node, &address, batch).await,
            };
            match attempt {
                Attempt::Done(results) => return results,
                Attempt::NotTaken(fault) if fault.code == ErrorCode::NoLeader => {}
                Attempt::NotTaken(fault) => {
                    return batch.iter().map(|_| Err(fault.clone())).collect();
                }
            }
            handed_over.store(false, Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Proposes on this node, which must be the leader. For clients of this node and for those that were forwarded.
    pub(crate) async fn propose_as_leader(
        &self,
        batch: Vec<Bytes>,
    ) -> Result<Vec<Proposed>, Fault> {
        let _permit = self.admit(batch.len())?;
        for command in &batch {
            self.machine.check(command)?;
        }
        match self.propose_here(batch).await {
            Attempt::Done(results) => Ok(results),
            Attempt::NotTaken(fault) => Err(fault),
        }
    }

    async fn propose_here(&self, batch: Vec<Bytes>) -> Attempt {
        if self.disk_full.load(Ordering::Relaxed) {
            return Attempt::NotTaken(self.disk_fault());
        }
        let count = batch.len();
        let commands = batch.into_iter().map(CommandBytes);
        let mut answers = match self.raft.client_write_many(commands).await {
            Ok(answers) => answers,
            Err(fatal) => return Attempt::NotTaken(self.fatal(&fatal)),
        };
        let mut results = Vec::with_capacity(count);
        while let Some(answer) = answers.next().await {
            results.push(match answer {
                Ok(Ok(written)) => Ok(written.response.0),
                Ok(Err(ClientWriteError::ForwardToLeader(_))) if results.is_empty() => {
                    // One batch is one message to the core: if it did not take the first, it took none.
                    return Attempt::NotTaken(self.no_leader());
                }
                Ok(Err(_)) | Err(_) => Err(self.outcome_unknown()),
            });
        }
        results.resize_with(count, || Err(self.outcome_unknown()));
        Attempt::Done(results)
    }

    async fn propose_there(&self, node: NodeId, address: &str, batch: &[Bytes]) -> Attempt {
        let request = ForwardRequest::Propose(batch.to_vec());
        let timeout = self.config.request_timeout;
        match self.forward((node, address), &request, timeout).await {
            Ok(ForwardReply::Outcomes(outcomes)) if outcomes.len() == batch.len() => {
                Attempt::Done(outcomes)
            }
            Ok(_) => Attempt::Done(batch.iter().map(|_| Err(self.outcome_unknown())).collect()),
            Err(CallError::NotSent(_)) => Attempt::NotTaken(self.no_leader()),
            Err(CallError::Refused(fault)) => Attempt::NotTaken(fault),
            Err(CallError::Lost(fault) | CallError::TimedOut(fault)) => {
                let unknown = Fault {
                    message: format!("{}: {}", self.outcome_unknown().message, fault.message),
                    ..self.outcome_unknown()
                };
                Attempt::Done(batch.iter().map(|_| Err(unknown.clone())).collect())
            }
        }
    }

    /// The index up to which a linearizable read must see. Asks the leader, until the deadline.
    pub(crate) async fn read_index(&self) -> Result<u64, Fault> {
        self.check_standing()?;
        loop {
            let found = match self.wait_for_leader().await {
                None => self.read_index_as_leader().await,
                Some((node, address)) => {
                    let timeout = self.config.request_timeout;
                    let request = ForwardRequest::ReadIndex;
                    match self.forward((node, &address), &request, timeout).await {
                        Ok(ForwardReply::Index(index)) => Ok(index),
                        Ok(_) => Err(self.no_leader()),
                        Err(error) => Err(error.into_fault()),
                    }
                }
            };
            match found {
                Err(fault) if fault.is_retryable() => tokio::time::sleep(RETRY_PAUSE).await,
                found => return found,
            }
        }
    }

    /// The same on this node, which must be the leader: a quorum confirms that it still is.
    pub(crate) async fn read_index_as_leader(&self) -> Result<u64, Fault> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(_)) => Err(self.no_leader()),
            Err(RaftError::Fatal(fatal)) => Err(self.fatal(&fatal)),
        }
    }

    /// Waits until this node has applied up to an index.
    pub(crate) async fn wait_applied(&self, index: u64) -> Result<(), Fault> {
        let mut applied = self.applied.clone();
        match applied.wait_for(|applied| *applied >= index).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.stopped()),
        }
    }

    /// Asks the leader for something.
    pub(crate) async fn forward(
        &self,
        (node, address): (NodeId, &str),
        request: &ForwardRequest,
        timeout: Duration,
    ) -> Result<ForwardReply, CallError> {
        self.peers
            .call(
                (node.0, address),
                Lane::Forward,
                Call::Forward,
                request,
                timeout,
            )
            .await
    }

    /// Waits until there is a leader: another node with its address, or `None` for this one. Waits for ever if this node has
    /// stopped, so it is only used under a deadline; see [`Core::no_leader`].
    pub(crate) async fn wait_for_leader(&self) -> Option<(NodeId, String)> {
        let mut leadership = self.leadership.clone();
        loop {
            {
                let now = leadership.borrow_and_update();
                if now.is_self {
                    return None;
                }
                if let Some((node, address)) = &now.leader
                    && *node != self.config.node
                {
                    return Some((*node, address.clone()));
                }
            }
            if leadership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The fault of a node that takes part no more.
    fn check_standing(&self) -> Result<(), Fault> {
        let is_running = *self.standing.borrow() == Standing::Running;
        if is_running {
            Ok(())
        } else {
            Err(self.stopped())
        }
    }

    /// Room for so many proposals, or the fault that says there is none.
    fn admit(&self, count: usize) -> Result<SemaphorePermit<'_>, Fault> {
        self.check_standing()?;
        let many = u32::try_from(count).unwrap_or(u32::MAX);
        self.in_flight.try_acquire_many(many).map_err(|_| {
            Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "node {} has {} proposals in flight and takes no more",
                    self.config.node, self.config.max_in_flight
                ),
            )
            .hint("ask again in a moment")
        })
    }

    /// No leader was found, or it changed before anything was handed over.
    pub(crate) fn no_leader(&self) -> Fault {
        if let Err(stopped) = self.check_standing() {
            return stopped;
        }
        let quorum = if self.identity.cluster().is_none() {
            "run `holdfast init` once, or add this node to a cluster"
        } else {
            "see that a majority of the coordinators runs and can reach each other"
        };
        Fault::new(
            ErrorCode::NoLeader,
            format!("node {} knows of no leader", self.config.node),
        )
        .hint(quorum)
    }

    /// Why this node takes part no more.
    pub(crate) fn stopped(&self) -> Fault {
        match &*self.standing.borrow() {
            Standing::Stopped(fault) => fault.clone(),
            Standing::Removed => Fault::new(
                ErrorCode::FailedPrecondition,
                format!("node {} was removed from its cluster", self.config.node),
            )
            .hint("stop it; to bring it back, give it an empty data directory and a new id"),
            Standing::Running => Fault::new(
                ErrorCode::Unavailable,
                format!("node {} is shutting down", self.config.node),
            ),
        }
    }

    fn outcome_unknown(&self) -> Fault {
        Fault::new(
            ErrorCode::Unknown,
            format!(
                "node {} handed a command over and does not know what became of it",
                self.config.node
            ),
        )
        .hint("look at the state, or repeat the request with the same request key")
    }

    pub(crate) fn disk_fault(&self) -> Fault {
        Fault::new(
            ErrorCode::StorageFull,
            format!(
                "node {} has less than {} bytes free at {} and accepts no new work",
                self.config.node, self.config.disk_reserve, self.config.data_dir
            ),
        )
        .hint("free space on its disk; nothing is lost")
    }

    pub(crate) fn fatal(&self, fatal: &Fatal<TypeConfig>) -> Fault {
        if let Some(fault) = self.writer.failure() {
            return fault.clone();
        }
        match fatal {
            Fatal::Stopped => self.stopped(),
            Fatal::Panicked => Fault::new(
                ErrorCode::Internal,
                format!("raft on node {} has failed", self.config.node),
            )
            .hint("start the node again, and report the panic in its log"),
            Fatal::StorageError(error) => Fault::new(
                ErrorCode::Unavailable,
                format!("raft storage of node {}: {error}", self.config.node),
            )
            .hint("see to this node's disk and start it again"),
        }
    }
}

/// Cuts commands into batches that one message can carry.
fn batches(commands: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut size = 0;
    for command in commands {
        let full = batch.len() >= MAX_FORWARD_COMMANDS || size + command.len() > MAX_FORWARD_SIZE;
        if full && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            size = 0;
        }
        size += command.len();
        batch.push(command);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_bounds() {
        let commands: Vec<Bytes> = (0..5000u32)
            .map(|n| Bytes::from(vec![n as u8; if n % 100 == 0 { 1024 * 1024 } else { 10 }]))
            .collect();
        let cut = batches(commands.clone());
        assert_eq!(cut.concat(), commands);
        for batch in &cut {
            assert!(!batch.is_empty() && batch.len() <= MAX_FORWARD_COMMANDS);
            assert!(batch.iter().map(Bytes::len).sum::<usize>() <= MAX_FORWARD_SIZE);
        }
        assert!(batches(Vec::new()).is_empty());
    }
}
