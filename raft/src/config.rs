//! What a node is started with, and the bounds that hold for every node.

use holdfast_types::{ClusterId, ErrorCode, Fault, NodeId};
use std::time::Duration;

use crate::key_check::KeyCheck;

/// The largest encoded command, in bytes. Reports and plan batches are cut far below it; it keeps one entry well inside
/// one message.
pub const MAX_COMMAND_SIZE: usize = 3 * 1024 * 1024;

/// How many bytes of entries one AppendEntries carries, in bytes, unless a single entry is larger.
pub(crate) const MAX_APPEND_SIZE: usize = 4 * 1024 * 1024;

/// How many entries one AppendEntries carries. A batch this long is one fsync on the follower.
pub(crate) const MAX_APPEND_ENTRIES: u64 = 1024;

/// The largest raft message either side accepts, in bytes: an append of the largest size and its largest last entry, or a
/// forwarded batch, with room for the envelope.
pub(crate) const MAX_RAFT_MESSAGE: usize = 8 * 1024 * 1024;

/// How many bytes of snapshot travel in one chunk.
pub(crate) const SNAPSHOT_CHUNK_SIZE: usize = 1024 * 1024;

/// How many commands one forwarded batch carries; a longer batch is forwarded in pieces.
pub(crate) const MAX_FORWARD_COMMANDS: usize = 1024;

/// How many bytes of commands one forwarded batch carries.
pub(crate) const MAX_FORWARD_SIZE: usize = 4 * 1024 * 1024;

const _: () = assert!(MAX_APPEND_SIZE + MAX_COMMAND_SIZE < MAX_RAFT_MESSAGE);
const _: () = assert!(MAX_FORWARD_SIZE + MAX_COMMAND_SIZE < MAX_RAFT_MESSAGE);

/// How one node runs. All times are real time on the node's own clock.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// Who this node is. Never reused: a replacement gets a new id.
    pub node: NodeId,
    /// Where it keeps its log and snapshots; made if it does not exist.
    pub data_dir: String,
    /// `host:port` at which the other coordinators reach it.
    pub advertised_address: String,
    /// The cluster it must belong to, if that is known; without it, a new node joins the first cluster that adds it.
    pub cluster: Option<ClusterId>,
    /// What shows whether another node has the same cluster key. A node with another one is never let in.
    pub key_check: KeyCheck,
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// A follower that has heard of no leader for `election_max`, and then for a random time between this and `election_max`, asks for
    /// votes. Also for how long one answer to that is waited for.
    pub election_min: Duration,
    /// See `election_min`. Also for how long a follower refuses votes after it heard of a leader.
    pub election_max: Duration,
    /// How long a proposal or a linearizable read may take, waiting for a leader included.
    pub request_timeout: Duration,
    /// How long a change of the members may take, catching up of the new one included.
    pub membership_timeout: Duration,
    /// How long one chunk of a snapshot may take, on either side.
    pub chunk_timeout: Duration,
    /// After how many entries a snapshot is made and the log is cut.
    pub snapshot_entries: u64,
    /// After how many bytes of entries a snapshot is made, whatever their number.
    pub snapshot_bytes: u64,
    /// How many entries stay in the log behind a snapshot, so that a node that was away for a moment needs no snapshot.
    pub kept_entries: u64,
    /// How many proposals may be in flight on this node. More are refused with [`ErrorCode::ResourceExhausted`].
    pub max_in_flight: usize,
    /// Free bytes below which the node accepts no new work. It still follows and elects.
    pub disk_reserve: u64,
    /// How often free disk space is looked at.
    pub disk_check_interval: Duration,
    /// Memory for the log store's pages, in bytes.
    pub cache_bytes: usize,
}

impl RaftConfig {
    /// The defaults: an election begins 1.5 to 2 s after the last heartbeat, so that work moves on within 3 s of the loss of a leader, while
    /// five heartbeats in a row may come late; a node uses at most 32 MiB for its log's pages.
    #[must_use]
    pub fn new(
        node: NodeId,
        data_dir: impl Into<String>,
        advertised_address: impl Into<String>,
    ) -> Self {
        Self {
            node,
            data_dir: data_dir.into(),
            advertised_address: advertised_address.into(),
            cluster: None,
            key_check: KeyCheck::default(),
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            request_timeout: Duration::from_secs(5),
            membership_timeout: Duration::from_secs(60),
            chunk_timeout: Duration::from_secs(10),
            snapshot_entries: 10_000,
            snapshot_bytes: 64 * 1024 * 1024,
            kept_entries: 1_000,
            max_in_flight: 8_192,
            disk_reserve: 256 * 1024 * 1024,
            disk_check_interval: Duration::from_secs(1),
            cache_bytes: 32 * 1024 * 1024,
        }
    }

    /// What openraft is configured with.
    pub(crate) fn engine(&self) -> Result<openraft::Config, Fault> {
        let config = openraft::Config {
            cluster_name: "holdfast".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // The deadline of a whole transmission is the sum of its chunks'; this only bounds what openraft may wait for.
            install_snapshot_timeout: millis(self.membership_timeout),
            max_payload_entries: MAX_APPEND_ENTRIES,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_SIZE as u64,
            max_in_snapshot_log_to_keep: self.kept_entries,
            replication_lag_threshold: self.kept_entries.max(1),
            enable_pre_vote: Some(true),
            // Switched on when the node is known to have nothing to catch up with.
            enable_elect: false,
            // Never: followers may have committed what a leader lost in a crash before its own fsync, and a leader that goes on
            // in its old term would write other entries under the same log ids.
            enable_leader_restore: Some(false),
            // A follower that lost its disk is filled again; openraft's other answer is that the leader panics. What makes this safe
            // is that such a follower does not vote before it has caught up: see `identity`.
            allow_log_reversion: Some(true),
            backoff: "50ms 100ms 200ms ..500ms".to_owned(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("raft timing of node {} is not usable: {error}", self.node),
            )
            .hint("the heartbeat must be shorter than election_min, and that shorter than election_max")
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
