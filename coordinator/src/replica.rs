//! This node's replica of the ledger: proposals stamped with the time and measured, and reads.

use hdrhistogram::Histogram;
use holdfast_env::Env;
use holdfast_ledger::{Action, Command, Ledger, Outcome};
use holdfast_raft::{Leadership, Member, RaftNode, RaftStatus};
use holdfast_types::{ErrorCode, Fault, NodeId};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The longest latency that the histogram tells from longer ones, in microseconds.
const LONGEST_LATENCY_US: u64 = 60_000_000;
/// Significant digits of the histogram: 1 % is more than a reader needs.
const DIGITS: u8 = 2;

/// How long proposals took on this node, from handing them over to their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProposeLatency {
    /// Proposals measured.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// See the module.
pub(crate) struct Replica {
    node: RaftNode,
    env: Env,
    /// A leader that no quorum has confirmed for this long does not speak as one.
    confirmed_within: Duration,
    latency: Mutex<Histogram<u64>>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl Replica {
    pub(crate) fn new(node: RaftNode, env: Env, confirmed_within: Duration) -> Self {
        let latency = Histogram::new_with_max(LONGEST_LATENCY_US, DIGITS)
            .expect("a histogram of two digits up to a minute is within its bounds");
        Self {
            node,
            env,
            confirmed_within,
            latency: Mutex::new(latency),
        }
    }

    /// The raft node.
    pub(crate) fn node(&self) -> &RaftNode {
        &self.node
    }

    /// A change, stamped with the present time.
    pub(crate) fn stamp(&self, action: Action) -> Command {
        Command {
            at: self.env.clock.now(),
            action,
        }
    }

    /// Replicates a change, stamped with the present time.
    pub(crate) async fn propose(&self, action: Action) -> Result<Outcome, Fault> {
        self.propose_command(&self.stamp(action)).await
    }

    /// Replicates a command, perhaps not for the first time.
    pub(crate) async fn propose_command(&self, command: &Command) -> Result<Outcome, Fault> {
        let began = self.env.clock.monotonic();
        let outcome = self.node.propose(command).await;
        if outcome.is_ok() {
            let took = self.env.clock.monotonic().saturating_sub(began);
            let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.latency
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .saturating_record(took);
        }
        outcome
    }

    /// Replicates a change that is done or refused.
    pub(crate) async fn make(&self, action: Action) -> Result<(), Fault> {
        match self.propose(action).await? {
            Outcome::Done | Outcome::NoOp | Outcome::State(_) => Ok(()),
            Outcome::Refused(fault) => Err(fault),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads this node's state, which may lag behind. Nothing is applied meanwhile: keep it short.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        self.node.read(read)
    }

    /// Returns when this node's state shows everything that was acknowledged before.
    pub(crate) async fn linearizable(&self) -> Result<(), Fault> {
        self.node.linearizable(|_| ()).await
    }

    /// Whether this node leads and a quorum has confirmed it just now.
    pub(crate) fn leads_for_sure(&self) -> bool {
        self.node.quorum_acked_within(self.confirmed_within)
    }

    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node.leadership()
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.node.applied()
    }

    /// The leader, if one is known.
    pub(crate) fn leader(&self) -> Option<(NodeId, String)> {
        self.node.leadership().borrow().leader.clone()
    }

    /// The leader's address, if one is known.
    pub(crate) fn leader_address(&self) -> Option<String> {
        self.leader().map(|(_, address)| address)
    }

    /// Every coordinator.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.node.members()
    }

    /// Every coordinator's address.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.members()
            .into_iter()
            .map(|member| member.address)
            .collect()
    }

    pub(crate) async fn status(&self) -> RaftStatus {
        self.node.status().await
    }

    /// How long proposals took on this node so far.
    pub(crate) fn latency(&self) -> ProposeLatency {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
        ProposeLatency {
            count: latency.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_micros(latency.max()),
        }
    }
}

/// The term in which this node itself leads, if it does.
pub(crate) fn own_term(leadership: &Leadership) -> Option<u64> {
    leadership.is_self.then_some(leadership.term)
}

/// A command has an outcome of another kind: a defect.
pub(crate) fn unexpected(outcome: &Outcome) -> Fault {
    Fault::new(
        ErrorCode::Internal,
        format!("a command has an unexpected outcome: {outcome:?}"),
    )
}
