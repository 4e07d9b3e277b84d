//! How raft's messages are put into the protocol's envelopes.

use bytes::Bytes;
use holdfast_proto::v1;
use holdfast_types::{ClusterId, Digest, ErrorCode, Fault};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::type_config::{SnapshotMeta, Vote};

/// The version that is spoken. Payloads are postcard of openraft's own types.
pub(crate) const WIRE_VERSION: u32 = 1;

/// What comes before the bytes of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotAnnouncement {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

/// A change of the members.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    Add { node: u64, address: String },
    Remove { node: u64 },
    Replace { old: u64, new: u64, address: String },
}

/// What a node asks of the leader. Append variants at the end only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ForwardRequest {
    /// Encoded commands, to be proposed in this order.
    Propose(Vec<Bytes>),
    /// Up to where must be applied what a linearizable read shows?
    ReadIndex,
    /// Change the members.
    Change(MemberChange),
    /// Hand leadership to a node.
    Transfer(u64),
    /// Are you there, and free to join my cluster? The one question that is for a node that does not lead.
    Hello,
    /// Have you caught up, so that you would vote? For a node that does not lead, too.
    HasCaughtUp,
}

/// The leader's answer. Append variants at the end only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ForwardReply {
    /// For each command, its encoded outcome.
    Outcomes(Vec<Result<Bytes, Fault>>),
    /// An index.
    Index(u64),
    /// Done.
    Done,
}

/// Encodes a payload.
pub(crate) fn encode<T: Serialize>(payload: &T) -> Result<Bytes, Fault> {
    postcard::to_allocvec(payload)
        .map(Bytes::from)
        .map_err(|error| {
            Fault::new(
                ErrorCode::Internal,
                format!("cannot encode a raft message: {error}"),
            )
        })
}

/// Decodes a payload of a version.
pub(crate) fn decode<T: DeserializeOwned>(version: u32, payload: &[u8]) -> Result<T, Fault> {
    if version != WIRE_VERSION {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!("a raft message is of version {version}, and this node speaks only version {WIRE_VERSION}"),
        )
        .hint("let all coordinators run releases that are at most one apart"));
    }
    postcard::from_bytes(payload).map_err(|error| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("a raft message cannot be decoded: {error}"),
        )
    })
}

/// Reads a cluster id.
pub(crate) fn cluster_of(bytes: &[u8]) -> Result<ClusterId, Fault> {
    bytes.try_into().map(ClusterId).map_err(|_| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "a raft message has a cluster id of {} bytes instead of 16",
                bytes.len()
            ),
        )
    })
}

/// A message in its envelope.
pub(crate) fn envelope<T: Serialize>(
    cluster: ClusterId,
    from: u64,
    target: u64,
    payload: &T,
) -> Result<v1::RaftMessage, Fault> {
    Ok(v1::RaftMessage {
        cluster_id: Bytes::copy_from_slice(&cluster.0),
        payload: encode(payload)?,
        version: WIRE_VERSION,
        from,
        target,
        // For whoever sends a request to fill in.
        key_check: Bytes::new(),
    })
}
