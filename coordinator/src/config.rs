//! What a coordinator is started with.

use holdfast_ledger::{Command, Ledger, LogPosition, Outcome};
use holdfast_node::ClusterKey;
use holdfast_raft::{Observer, RaftConfig};
use holdfast_types::NodeId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::ControlLimits;

/// How a node without a log comes to belong to a cluster. A node with a log belongs to one already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Bootstrap {
    /// It waits for `holdfast init`, or to be added to a cluster.
    #[default]
    Wait,
    /// It starts a cluster by itself with these coordinators, itself included; empty: with itself alone. Exactly one
    /// node of a new cluster may do so.
    Init(Vec<(NodeId, String)>),
}

/// Called with the texts of violated ledger invariants. Production ends the process: a state that is known to be wrong must not be
/// acted on.
#[derive(Clone)]
pub struct ViolationHook(Arc<Hook>);

type Hook = dyn Fn(&[String]) + Send + Sync;

impl ViolationHook {
    /// Another reaction, for tests and the simulator.
    pub fn new(hook: impl Fn(&[String]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn call(&self, violations: &[String]) {
        (self.0)(violations);
    }
}

impl Default for ViolationHook {
    fn default() -> Self {
        Self::new(|_| std::process::abort())
    }
}

impl fmt::Debug for ViolationHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ViolationHook")
    }
}

/// Sees every command that a node applies, after it. For tests and the simulator; production has none.
#[derive(Clone)]
pub struct ApplyHook(pub(crate) Observer<Ledger>);

impl ApplyHook {
    /// It is called under the lock of the node's state: it must be quick, and read no more than it is given.
    pub fn new(
        hook: impl Fn(LogPosition, &Command, &Outcome, &Ledger) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(hook))
    }
}

impl fmt::Debug for ApplyHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplyHook")
    }
}

/// What a coordinator is started with. All times are real time on the node's own clock.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Who the node is, where its data is, and raft's timing. An empty advertised address means the one that is listened on.
    pub raft: RaftConfig,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// How a node without a log begins.
    pub bootstrap: Bootstrap,
    /// The key that every process of the cluster has.
    pub cluster_key: ClusterKey,
    /// Bounds on requests.
    pub limits: ControlLimits,
    /// How much longer than a lease lasts a worker must have been silent before it expires: covers the message's way and what
    /// two monotonic clocks may differ by over one lease.
    pub lease_margin: Duration,
    /// For one call to a collection.
    pub io_timeout: Duration,
    /// The first rest of an effect that failed; doubled with each further failure, up to `effect_rest_most`.
    pub effect_rest_first: Duration,
    /// See `effect_rest_first`.
    pub effect_rest_most: Duration,
    /// How often one looks how holds stand on members whose history is a log: what they keep costs those members' disks.
    pub hold_look_every: Duration,
    /// Whether the ledger's invariants are checked while it runs.
    pub check_invariants: bool,
    /// What is done when one is violated.
    pub on_violation: ViolationHook,
    /// Who sees the commands that the node applies.
    pub on_apply: Option<ApplyHook>,
}

impl CoordinatorConfig {
    /// The defaults for a node.
    #[must_use]
    pub fn new(raft: RaftConfig, listen: impl Into<String>, cluster_key: ClusterKey) -> Self {
        Self {
            raft,
            listen: listen.into(),
            bootstrap: Bootstrap::default(),
            cluster_key,
            limits: ControlLimits::default(),
            lease_margin: Duration::from_secs(1),
            io_timeout: Duration::from_secs(45),
            effect_rest_first: Duration::from_millis(100),
            effect_rest_most: Duration::from_secs(30),
            hold_look_every: Duration::from_secs(60),
            check_invariants: cfg!(debug_assertions),
            on_violation: ViolationHook::default(),
            on_apply: None,
        }
    }
}
