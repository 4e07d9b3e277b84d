//! The handle that the rest of the coordinator holds.

use bytes::Bytes;
use holdfast_env::Env;
use holdfast_ledger::LogPosition;
use holdfast_types::{ClusterId, Digest, ErrorCode, Fault, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{BasicNode, Instant, Raft};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::config::{MAX_COMMAND_SIZE, RaftConfig};
use crate::core::Core;
use crate::identity::Arrival;
use crate::leadership::{Leadership, Standing};
use crate::machine::{Machine, Observer, SharedMachine, StateMachine};
use crate::members::Member;
use crate::service::{RaftServer, RaftService};
use crate::start;
use crate::status::RaftStatus;
use crate::wire::MemberChange;

/// One node of the replicated state machine. Cheap to clone; every clone is the same node.
///
/// Effects are not streamed. The leader looks at what the state says is still owed
/// (`Ledger::pending_effects`, through [`Node::read`]) whenever [`Node::applied`] moves and when it becomes the leader:
/// nothing is lost when leadership moves or a watcher is slow.
///
/// A node runs until [`Node::shutdown`] or until the runtime ends; dropping the handles does not stop it.
pub struct Node<S: StateMachine> {
    core: Arc<Core>,
    machine: Arc<SharedMachine<S>>,
}

impl<S: StateMachine> Clone for Node<S> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            machine: Arc::clone(&self.machine),
        }
    }
}

impl<S: StateMachine> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("node", &self.core.config.node)
            .finish_non_exhaustive()
    }
}

impl<S: StateMachine> Node<S> {
    /// Opens the data directory, rebuilds the state from its snapshot and log, and takes part in the cluster it belongs to.
    /// A new node waits to be initialized or to be added. Call it inside a tokio runtime, and mount [`Node::service`] at
    /// the advertised address.
    ///
    /// # Errors
    /// `WrongCluster` if the directory belongs to another node or cluster; `Corrupted` names the file and record that is
    /// damaged; `FailedPrecondition` if another process uses the directory; `InvalidArgument` for unusable timing.
    pub async fn start(config: RaftConfig, env: Env) -> Result<Self, Fault> {
        Self::start_observed(config, env, None).await
    }

    /// The same, with somebody who sees every command that this node applies.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_observed(
        config: RaftConfig,
        env: Env,
        observer: Option<Observer<S>>,
    ) -> Result<Self, Fault> {
        let machine = Arc::new(SharedMachine::new(observer));
        let erased: Arc<dyn Machine> = Arc::clone(&machine) as Arc<dyn Machine>;
        let core = start::start(config, env, erased).await?;
        Ok(Self { core, machine })
    }

    /// Founds a cluster with these members, on one of them and once. The others need only be running. Repeating it with the
    /// same id changes nothing.
    ///
    /// # Errors
    /// `WrongCluster` if this node belongs to another cluster; `InvalidArgument` if this node is not among the members or
    /// is there with another address.
    pub async fn initialize(
        &self,
        cluster: ClusterId,
        members: BTreeMap<NodeId, String>,
    ) -> Result<(), Fault> {
        let core = &self.core;
        if members.get(&core.config.node) != Some(&core.config.advertised_address) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "node {} at {} is not among the members of the new cluster",
                    core.config.node, core.config.advertised_address
                ),
            )
            .hint("name every member with the address it advertises"));
        }
        core.identity.check(cluster, core.config.node.0)?;
        core.identity.adopt(cluster, Arrival::Founding).await?;
        core.let_stand();
        if core
            .raft
            .is_initialized()
            .await
            .map_err(|f| core.fatal(&f))?
        {
            return Ok(());
        }
        let members: BTreeMap<u64, BasicNode> = members
            .into_iter()
            .map(|(node, address)| (node.0, BasicNode::new(address)))
            .collect();
        match core.raft.initialize(members).await {
            // Lost a race against another call, or against a leader that found this node meanwhile.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                Err(Fault::new(ErrorCode::InvalidArgument, error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(core.fatal(&fatal)),
        }
    }

    /// Stops taking part and lets the data directory go. A leader hands leadership over first, if that is quick.
    pub async fn shutdown(&self) {
        start::shutdown(&self.core).await;
    }

    /// The gRPC service for the other coordinators.
    #[must_use]
    pub fn service(&self) -> RaftServer {
        RaftService::server(Arc::clone(&self.core))
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.core.config.node
    }

    /// The cluster that this node belongs to, once it does.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.core.identity.cluster()
    }

    /// Replicates one command and gives its outcome. Works on any node; waits for a leader, up to the request timeout.
    /// Commands that are proposed at the same time share fsyncs and messages.
    ///
    /// # Errors
    /// `NoLeader`, `StorageFull`, `ResourceExhausted`: the command was not and will not be applied.
    /// `Unknown`: it was handed over, and may or may not be applied, now or later.
    pub async fn propose(&self, command: &S::Command) -> Result<S::Outcome, Fault> {
        let mut outcomes = self.propose_batch([command]).await;
        outcomes.pop().unwrap_or_else(|| Err(self.core.stopped()))
    }

    /// Replicates commands in order; one result for each. They are one write and one message, so far as the bounds on
    /// messages allow, but not one step: other commands may come between, and a leader's death may cut them short.
    pub async fn propose_batch<'a>(
        &self,
        commands: impl IntoIterator<Item = &'a S::Command>,
    ) -> Vec<Result<S::Outcome, Fault>> {
        let encoded: Vec<Bytes> = commands
            .into_iter()
            .map(|command| S::encode_command(command).into())
            .collect();
        if let Some(large) = encoded
            .iter()
            .find(|command| command.len() > MAX_COMMAND_SIZE)
        {
            let fault = Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "a command of {} bytes is larger than the {MAX_COMMAND_SIZE} that are replicated",
                    large.len()
                ),
            )
            .hint("send it in smaller pieces");
            return encoded.iter().map(|_| Err(fault.clone())).collect();
        }
        let outcomes = self.core.propose(encoded).await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.and_then(|bytes| S::decode_outcome(&bytes)))
            .collect()
    }

    /// Reads this node's own state, which may lag behind. Keep it short: nothing is applied meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        self.machine.read(|applied| read(&applied.machine))
    }

    /// The same with the place up to which the state is applied.
    pub fn read_at<T>(&self, read: impl FnOnce(LogPosition, &S) -> T) -> T {
        self.machine
            .read(|applied| read(applied.position(), &applied.machine))
    }

    /// Reads a state that shows everything that was acknowledged, anywhere, before this call. Works on any node.
    ///
    /// # Errors
    /// `NoLeader` or `DeadlineExceeded` after the request timeout.
    pub async fn linearizable<T>(&self, read: impl FnOnce(&S) -> T) -> Result<T, Fault> {
        let timeout = self.core.config.request_timeout;
        let ready = async {
            let index = self.core.read_index().await?;
            self.core.wait_applied(index).await
        };
        match tokio::time::timeout(timeout, ready).await {
            Ok(Ok(())) => Ok(self.read(read)),
            Ok(Err(fault)) => Err(fault),
            Err(_) if self.core.leadership.borrow().leader.is_none() => Err(self.core.no_leader()),
            Err(_) => Err(Fault::new(
                ErrorCode::DeadlineExceeded,
                format!(
                    "node {} did not learn within {timeout:?} that its state is current",
                    self.core.config.node
                ),
            )
            .hint("see that a majority of the coordinators runs and can reach each other")),
        }
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.clone()
    }

    /// Whether this node takes part. When it does not any more, the process should end.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.core.standing.clone()
    }

    /// Index of the last applied entry. The state is at least as new as what is seen here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.core.applied.clone()
    }

    /// Whether this node leads and a majority has confirmed that within `age`: then nobody else has led for as long. A
    /// leader renews leases only while this is so.
    #[must_use]
    pub fn quorum_acked_within(&self, age: Duration) -> bool {
        if !self.core.leadership.borrow().is_self {
            return false;
        }
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        // A leader that is the only voter is its own majority; openraft notes no acknowledgements of it.
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().all(|voter| voter == metrics.id) {
            return true;
        }
        metrics
            .last_quorum_acked
            .is_some_and(|acked| acked.elapsed() <= age)
    }

    /// Adds a coordinator: it must be running, with an empty data directory and an id that was never used. It gets a vote
    /// when it has caught up. Works on any node, while commands flow; repeating it changes nothing.
    ///
    /// # Errors
    /// `AlreadyExists` if the id or the address is taken; `DeadlineExceeded` if it does not catch up, in which case it
    /// receives the log without a vote until this is repeated or it is removed.
    pub async fn add_member(&self, node: NodeId, address: &str) -> Result<(), Fault> {
        let address = address.to_owned();
        self.core
            .change(MemberChange::Add {
                node: node.0,
                address,
            })
            .await
    }

    /// Removes a coordinator, running or not. Repeating it changes nothing.
    ///
    /// # Errors
    /// `NotFound` if it never was a member; `FailedPrecondition` for the last one.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), Fault> {
        self.core
            .change(MemberChange::Remove { node: node.0 })
            .await
    }

    /// Puts a new coordinator in the place of another in one step: the new one catches up first.
    ///
    /// # Errors
    /// As [`Node::add_member`] and [`Node::remove_member`].
    pub async fn replace_member(
        &self,
        old: NodeId,
        new: NodeId,
        address: &str,
    ) -> Result<(), Fault> {
        let address = address.to_owned();
        self.core
            .change(MemberChange::Replace {
                old: old.0,
                new: new.0,
                address,
            })
            .await
    }

    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.core.members()
    }

    /// Hands leadership to a member with a vote. Works on any node.
    ///
    /// # Errors
    /// `NotFound` if it is none; `Unavailable` if it does not take over.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), Fault> {
        self.core.transfer(to).await
    }

    /// What this node shows of itself.
    pub async fn status(&self) -> RaftStatus {
        self.core.status().await
    }

    /// Where this node's state is applied to, with its digest: equal places mean equal digests on all nodes.
    #[must_use]
    pub fn digest(&self) -> (LogPosition, Digest) {
        self.machine.digest()
    }

    /// Makes a snapshot that covers at least what is applied now, and cuts the log behind it.
    ///
    /// # Errors
    /// `DeadlineExceeded` after the membership timeout; what this node stopped of, if it has.
    pub async fn snapshot_now(&self) -> Result<(), Fault> {
        let core = &self.core;
        let wanted = *core.applied.borrow();
        let timeout = core.config.membership_timeout;
        let made = async {
            let mut metrics = core.raft.metrics();
            if covers(&core.raft, wanted) {
                return Ok(());
            }
            let trigger = core.raft.trigger();
            trigger.snapshot().await.map_err(|f| core.fatal(&f))?;
            while !covers(&core.raft, wanted) {
                metrics.changed().await.map_err(|_| core.stopped())?;
            }
            Ok(())
        };
        match tokio::time::timeout(timeout, made).await {
            Ok(made) => made,
            Err(_) => Err(Fault::new(
                ErrorCode::DeadlineExceeded,
                format!(
                    "node {} made no snapshot within {timeout:?}",
                    core.config.node
                ),
            )),
        }
    }
}

fn covers(
    raft: &Raft<crate::type_config::TypeConfig, crate::machine_store::MachineStore>,
    index: u64,
) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    metrics.snapshot.is_some_and(|id| id.index >= index) || metrics.last_applied.is_none()
}
