//! How openraft talks to the other nodes.

use futures::future::{Either, select};
use holdfast_env::Env;
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RPCTypes};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::config::SNAPSHOT_CHUNK_SIZE;
use crate::leadership::Standing;
use crate::peers::{Call, CallError, Lane, Peers, call_error};
use crate::snapshot::SnapshotFile;
use crate::type_config::{TypeConfig, Vote};
use crate::wire::{self, SnapshotAnnouncement, WIRE_VERSION};

type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// How many chunks of a snapshot are read ahead of the network.
const CHUNKS_AHEAD: usize = 2;

const _: () = assert!(SNAPSHOT_CHUNK_SIZE <= crate::config::MAX_RAFT_MESSAGE);

/// Makes the connections that openraft asks for.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) env: Env,
    pub(crate) peers: Arc<Peers>,
    /// How long an append with entries may take. openraft's own deadline is that of a heartbeat, and too short for a large
    /// batch and its fsync.
    pub(crate) append_timeout: Duration,
    /// How long one chunk of a snapshot, or installing it, may take.
    pub(crate) chunk_timeout: Duration,
    /// Set when another node says that this one is no member any more.
    pub(crate) verdict: watch::Sender<Standing>,
}

impl Network {
    fn peer(&self, target: u64, node: &BasicNode, lane: Lane) -> PeerNetwork {
        PeerNetwork {
            network: self.clone(),
            target,
            address: node.addr.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.peer(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.peer(target, node, Lane::Snapshot)
    }
}

/// The way to one node.
#[derive(Debug)]
pub(crate) struct PeerNetwork {
    network: Network,
    target: u64,
    address: String,
    lane: Lane,
}

impl PeerNetwork {
    async fn call<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        (lane, call, action): (Lane, Call, RPCTypes),
        payload: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let peers = &self.network.peers;
        let to = (self.target, self.address.as_str());
        peers
            .call(to, lane, call, payload, timeout)
            .await
            .map_err(|error| self.rpc_error(error, action, timeout))
    }

    fn rpc_error(
        &self,
        error: CallError,
        action: RPCTypes,
        timeout: Duration,
    ) -> RPCError<TypeConfig> {
        match error {
            CallError::TimedOut(_) => RPCError::Timeout(Timeout {
                action,
                id: self.network.peers.identity().node().0,
                target: self.target,
                timeout,
            }),
            CallError::NotSent(fault) => RPCError::Unreachable(Unreachable::new(&fault)),
            CallError::Lost(fault) => RPCError::Network(NetworkError::new(&fault)),
            CallError::Refused(fault) => {
                match fault.code {
                    ErrorCode::NotFound => self.removed(&fault),
                    ErrorCode::WrongCluster => {
                        tracing::error!(target_node = self.target, "{fault}")
                    }
                    _ => {}
                }
                RPCError::Unreachable(Unreachable::new(&fault))
            }
        }
    }

    /// Only asking for a vote is answered with `NotFound`, and only to a node that is known to have been removed.
    fn removed(&self, fault: &Fault) {
        if self.network.verdict.send_replace(Standing::Removed) == Standing::Running {
            tracing::warn!("{fault}");
        }
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = match self.lane {
            Lane::Log => self.network.append_timeout,
            Lane::Control | Lane::Forward | Lane::Snapshot => option.soft_ttl(),
        };
        let call = (self.lane, Call::Append, RPCTypes::AppendEntries);
        self.call(call, &request, timeout).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let call = (Lane::Control, Call::Vote, RPCTypes::Vote);
        self.call(call, &request, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let call = (Lane::Control, Call::PreVote, RPCTypes::Vote);
        self.call(call, &request, option.soft_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let call = (
            Lane::Control,
            Call::TransferLeader,
            RPCTypes::TransferLeader,
        );
        self.call(call, &request, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = pin!(self.send_snapshot(vote, snapshot));
        match select(pin!(cancel), send).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((Ok(response), _)) => Ok(response),
            Either::Right((Err(error), _)) => {
                let timeout = self.network.chunk_timeout;
                Err(self
                    .rpc_error(error, RPCTypes::InstallSnapshot, timeout)
                    .into())
            }
        }
    }
}

impl PeerNetwork {
    /// Streams a snapshot. Each chunk has a deadline, and so has installing it.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, CallError> {
        let peers = &self.network.peers;
        let timeout = self.network.chunk_timeout;
        let announcement = SnapshotAnnouncement {
            vote,
            meta: snapshot.meta,
            length: snapshot.snapshot.pointer.length,
            digest: snapshot.snapshot.pointer.digest,
        };
        let first = v1::SnapshotChunk {
            cluster_id: peers
                .cluster()
                .map_err(CallError::NotSent)?
                .0
                .to_vec()
                .into(),
            header: wire::encode(&announcement).map_err(CallError::NotSent)?,
            version: WIRE_VERSION,
            from: peers.identity().node().0,
            target: self.target,
            key_check: peers.identity().key_check().value.clone().into(),
            ..v1::SnapshotChunk::default()
        };
        let mut client = peers
            .client(&self.address, Lane::Snapshot)
            .map_err(CallError::NotSent)?;
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let call = client.install_snapshot(Request::new(ReceiverStream::new(queue)));
        let feed = self.feed(chunks, first, snapshot.snapshot);
        let mut call = pin!(call);
        // The other side may answer early: it refuses, or has a newer snapshot.
        let answer = match select(call.as_mut(), pin!(feed)).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right((Ok(()), _)) => tokio::time::timeout(timeout, call).await,
            Either::Right((Err(error), _)) => return Err(error),
        };
        match answer {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                wire::decode(answer.version, &answer.payload).map_err(CallError::Lost)
            }
            Ok(Err(status)) => Err(call_error(self.target, &self.address, &status)),
            Err(_) => Err(self.stalled("installing a snapshot")),
        }
    }

    async fn feed(
        &self,
        chunks: mpsc::Sender<v1::SnapshotChunk>,
        first: v1::SnapshotChunk,
        file: SnapshotFile,
    ) -> Result<(), CallError> {
        let timeout = self.network.chunk_timeout;
        let mut next = first;
        let mut offset = 0;
        loop {
            next.last = offset >= file.pointer.length;
            let last = next.last;
            match tokio::time::timeout(timeout, chunks.send(next)).await {
                Ok(Ok(())) => {}
                // The call has ended; its answer says why.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return Err(self.stalled("a chunk of a snapshot")),
            }
            if last {
                return Ok(());
            }
            let data = file
                .chunk(&self.network.env, offset)
                .await
                .map_err(|error| {
                    CallError::NotSent(Fault::new(
                        ErrorCode::Unavailable,
                        format!("cannot read the snapshot to send: {error}"),
                    ))
                })?;
            offset += data.len() as u64;
            next = v1::SnapshotChunk {
                data,
                ..v1::SnapshotChunk::default()
            };
        }
    }

    fn stalled(&self, what: &str) -> CallError {
        CallError::TimedOut(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!(
                "{what} for node {} at {} made no progress within {:?}",
                self.target, self.address, self.network.chunk_timeout
            ),
        ))
    }
}
