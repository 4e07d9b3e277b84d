//! Adding, removing and replacing coordinators, and handing leadership over.

use holdfast_types::{ErrorCode, Fault, NodeId};
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::type_config::TypeConfig;
use crate::wire::{ForwardReply, ForwardRequest, MemberChange};

/// How often a new node is asked whether it has caught up. It learns that from the leader's heartbeats.
const CAUGHT_UP_ASKED_EVERY: Duration = Duration::from_millis(50);

/// One coordinator of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Where the others reach it.
    pub address: String,
    /// Whether it has a vote. A node that is being added has none until it has caught up.
    pub is_voter: bool,
}

impl Core {
    /// The members as of the last entry that changed them, committed or not.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut members: Vec<Member> = membership
            .nodes()
            .map(|(id, node)| Member {
                node: NodeId(*id),
                address: node.addr.clone(),
                is_voter: voters.contains(id),
            })
            .collect();
        members.sort_by_key(|member| member.node);
        members
    }

    /// Changes the members, here or at the leader. Repeating a change that was made changes nothing.
    pub(crate) async fn change(self: &Arc<Self>, change: MemberChange) -> Result<(), Fault> {
        let asked = async {
            match self.wait_for_leader().await {
                None => self.change_as_leader(change).await,
                Some(leader) => self.ask(leader, ForwardRequest::Change(change)).await,
            }
        };
        // A little more than the leader gives itself, so that its answer is the one that is heard.
        let timeout = self.config.membership_timeout + self.config.request_timeout;
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_leader()),
        }
    }

    /// Hands leadership over, here or at the leader.
    pub(crate) async fn transfer(&self, to: NodeId) -> Result<(), Fault> {
        let asked = async {
            match self.wait_for_leader().await {
                None => self.transfer_as_leader(to.0).await,
                Some(leader) => self.ask(leader, ForwardRequest::Transfer(to.0)).await,
            }
        };
        match tokio::time::timeout(self.config.request_timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_leader()),
        }
    }

    async fn ask(&self, leader: (NodeId, String), request: ForwardRequest) -> Result<(), Fault> {
        let timeout = self.config.membership_timeout;
        match self.forward((leader.0, &leader.1), &request, timeout).await {
            Ok(ForwardReply::Done) => Ok(()),
            Ok(_) => Err(self.no_leader()),
            Err(error) => Err(error.into_fault()),
        }
    }

    /// Changes the members from this node, which must be the leader. It goes on to its end whoever waits: a change that
    /// stopped halfway would leave both the old and the new majority needed.
    pub(crate) async fn change_as_leader(
        self: &Arc<Self>,
        change: MemberChange,
    ) -> Result<(), Fault> {
        let core = Arc::clone(self);
        let task = tokio::spawn(async move {
            let timeout = core.config.membership_timeout;
            match tokio::time::timeout(timeout, core.make_change(change)).await {
                Ok(done) => done,
                Err(_) => Err(Fault::new(
                    ErrorCode::DeadlineExceeded,
                    format!("the members were not changed within {timeout:?}"),
                )
                .hint("see that the new node runs and can be reached, then repeat the command")),
            }
        });
        match task.await {
            Ok(done) => done,
            Err(_) => Err(self.stopped()),
        }
    }

    async fn make_change(&self, change: MemberChange) -> Result<(), Fault> {
        if self
            .metrics()
            .membership_config
            .membership()
            .get_joint_config()
            .len()
            > 1
        {
            // A leader died between the two steps of a change: the second is still owed.
            self.apply_change(ChangeMembers::AddVoterIds(BTreeSet::new()))
                .await?;
        }
        match change {
            MemberChange::Add { node, address } => {
                self.add_learner(node, &address).await?;
                self.apply_change(ChangeMembers::AddVoterIds(BTreeSet::from([node])))
                    .await
            }
            MemberChange::Remove { node } => {
                let member = self.members().into_iter().find(|m| m.node.0 == node);
                match member {
                    None if self.machine.is_retired(node) => Ok(()),
                    None => Err(self.unknown_member(node)),
                    Some(member) if member.is_voter => {
                        self.apply_change(ChangeMembers::RemoveVoters(BTreeSet::from([node])))
                            .await
                    }
                    Some(_) => {
                        self.apply_change(ChangeMembers::RemoveNodes(BTreeSet::from([node])))
                            .await
                    }
                }
            }
            MemberChange::Replace { old, new, address } => {
                let voters: BTreeSet<u64> = self
                    .members()
                    .iter()
                    .filter(|member| member.is_voter)
                    .map(|member| member.node.0)
                    .collect();
                if !voters.contains(&old) && !self.machine.is_retired(old) {
                    return Err(self.unknown_member(old));
                }
                self.add_learner(new, &address).await?;
                let voters = voters
                    .into_iter()
                    .filter(|voter| *voter != old)
                    .chain([new])
                    .collect();
                self.apply_change(ChangeMembers::ReplaceAllVoters(voters))
                    .await
            }
        }
    }

    /// Makes a node receive the log without a vote, and waits until it has caught up.
    async fn add_learner(&self, node: u64, address: &str) -> Result<(), Fault> {
        let members: BTreeMap<u64, Member> = self
            .members()
            .into_iter()
            .map(|member| (member.node.0, member))
            .collect();
        if self.machine.is_retired(node) {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("node id {node} belonged to a coordinator that was removed"),
            )
            .hint("give the new coordinator an id that was never used"));
        }
        if let Some(member) = members.get(&node)
            && member.address != address
        {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("node {node} is a member already, at {}", member.address),
            )
            .hint("give the new coordinator an id that was never used"));
        }
        if let Some(member) = members
            .values()
            .find(|member| member.address == address && member.node.0 != node)
        {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("{address} is the address of node {}", member.node),
            )
            .hint("give every coordinator an address of its own"));
        }
        if members.get(&node).is_some_and(|member| member.is_voter) {
            return Ok(());
        }
        let timeout = self.config.request_timeout;
        self.forward((NodeId(node), address), &ForwardRequest::Hello, timeout)
            .await
            .map_err(|error| {
                let fault = error.into_fault();
                let hint =
                    "start the new coordinator at this address, with an empty data directory";
                match fault.hint {
                    Some(_) => fault,
                    None => fault.hint(hint),
                }
            })?;
        let added = self.raft.add_learner(node, BasicNode::new(address), true);
        added.await.map_err(|error| self.change_fault(error))?;
        self.wait_until_it_would_vote(node, address).await
    }

    /// A node that has just caught up does not know that yet, and a voter that does not vote counts as a failed one: with the leader
    /// lost at that moment, a cluster of three would have no majority for ever. The caller has a deadline.
    async fn wait_until_it_would_vote(&self, node: u64, address: &str) -> Result<(), Fault> {
        let timeout = self.config.request_timeout;
        loop {
            let asked = self.forward(
                (NodeId(node), address),
                &ForwardRequest::HasCaughtUp,
                timeout,
            );
            match asked.await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    tracing::debug!(node, fault = %error.into_fault(), "it does not vote yet");
                }
            }
            tokio::time::sleep(CAUGHT_UP_ASKED_EVERY).await;
        }
    }

    async fn apply_change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), Fault> {
        self.raft
            .change_membership(change, false)
            .await
            .map(drop)
            .map_err(|error| self.change_fault(error))
    }

    fn unknown_member(&self, node: u64) -> Fault {
        let known: Vec<String> = self
            .members()
            .iter()
            .map(|member| member.node.to_string())
            .collect();
        Fault::new(
            ErrorCode::NotFound,
            format!("node {node} is not a member of this cluster"),
        )
        .hint(format!("its members are {}", known.join(", ")))
    }

    fn change_fault(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Fault {
        match error {
            RaftError::Fatal(fatal) => self.fatal(&fatal),
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => self.no_leader(),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Fault::new(
                ErrorCode::Unknown,
                "the leader changed while it changed the members",
            )
            .hint("repeat the command; what was done already is not done again"),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            )) => Fault::new(
                ErrorCode::Unavailable,
                "another change of the members is under way",
            )
            .hint("repeat the command in a moment"),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::EmptyMembership(_),
            )) => Fault::new(
                ErrorCode::FailedPrecondition,
                "the last coordinator of a cluster cannot be removed",
            )
            .hint("add another one first, or stop the node"),
            RaftError::APIError(other) => Fault::new(
                ErrorCode::FailedPrecondition,
                format!("the members cannot be changed so: {other}"),
            ),
        }
    }

    /// Hands leadership over from this node, which must be the leader, and waits until it has.
    pub(crate) async fn transfer_as_leader(&self, to: u64) -> Result<(), Fault> {
        if !self
            .members()
            .iter()
            .any(|member| member.node.0 == to && member.is_voter)
        {
            return Err(self.unknown_member(to));
        }
        let mut leadership = self.leadership.clone();
        let trigger = self.raft.trigger();
        trigger
            .transfer_leader(to)
            .await
            .map_err(|fatal| self.fatal(&fatal))?;
        let moved =
            leadership.wait_for(|now| now.leader.as_ref().is_some_and(|(node, _)| node.0 == to));
        match tokio::time::timeout(self.config.election_max, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stopped()),
            Err(_) => Err(Fault::new(
                ErrorCode::Unavailable,
                format!("node {to} has not taken leadership over"),
            )
            .hint("see that it runs and has caught up, then repeat the command")),
        }
    }
}
