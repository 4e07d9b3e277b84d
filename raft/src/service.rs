//! What the other coordinators may ask of this one.

use holdfast_proto::v1::raft_transport_server::{RaftTransport, RaftTransportServer};
use holdfast_proto::{fault_to_status, v1};
use holdfast_types::{ClusterId, ErrorCode, Fault};
use openraft::Snapshot;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

use crate::config::{
    MAX_COMMAND_SIZE, MAX_FORWARD_COMMANDS, MAX_RAFT_MESSAGE, SNAPSHOT_CHUNK_SIZE,
};
use crate::core::Core;
use crate::identity::Arrival;
use crate::leadership::Standing;
use crate::peers::Call;
use crate::type_config::TypeConfig;
use crate::wire::{self, ForwardReply, ForwardRequest, SnapshotAnnouncement};

type Answer = Result<Response<v1::RaftMessage>, Status>;

/// The largest snapshot that is taken from another node, in bytes. Far above any real one; it bounds what a broken peer
/// can fill the disk with.
const MAX_SNAPSHOT_SIZE: u64 = 4 * 1024 * 1024 * 1024;

/// The gRPC service that coordinators talk raft over. Mount it beside the node's other services.
#[derive(Debug, Clone)]
pub struct RaftService {
    core: Arc<Core>,
}

/// [`RaftService`] as a server takes it.
pub type RaftServer = RaftTransportServer<RaftService>;

/// What a message does to a node without a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newcomer {
    /// It makes it belong to the sender's.
    Arrives(Arrival),
    /// It is answered, and nothing changes.
    Answers,
    /// It is refused.
    Refuses,
}

/// Where a message comes from, and whom it is for.
#[derive(Debug, Clone, Copy)]
struct Sender<'a> {
    cluster: &'a [u8],
    from: u64,
    target: u64,
    key_check: &'a [u8],
}

impl<'a> Sender<'a> {
    fn of(message: &'a v1::RaftMessage) -> Self {
        Self {
            cluster: &message.cluster_id,
            from: message.from,
            target: message.target,
            key_check: &message.key_check,
        }
    }
}

impl RaftService {
    pub(crate) fn server(core: Arc<Core>) -> RaftServer {
        RaftTransportServer::new(Self { core })
            .max_decoding_message_size(MAX_RAFT_MESSAGE)
            .max_encoding_message_size(MAX_RAFT_MESSAGE)
    }

    /// Checks where a message comes from and whom it is for, before its payload is looked at.
    async fn admit(&self, sender: Sender<'_>, newcomer: Newcomer) -> Result<ClusterId, Fault> {
        let cluster = wire::cluster_of(sender.cluster)?;
        let identity = &self.core.identity;
        identity.check(cluster, sender.target)?;
        self.check_key(cluster, sender)?;
        match newcomer {
            Newcomer::Arrives(arrival) if identity.cluster().is_none() => {
                identity.adopt(cluster, arrival).await?;
                self.core.let_stand();
            }
            Newcomer::Refuses if identity.cluster().is_none() => {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("node {} belongs to no cluster yet", identity.node()),
                ));
            }
            Newcomer::Arrives(_) | Newcomer::Answers | Newcomer::Refuses => {}
        }
        Ok(cluster)
    }

    /// Whether the sender has this node's key. If this node has no cluster yet, it is the one that is wrong: it can never be let in, and ends.
    fn check_key(&self, cluster: ClusterId, sender: Sender<'_>) -> Result<(), Fault> {
        let identity = &self.core.identity;
        let own = identity.key_check();
        if own.agrees(sender.key_check) {
            return Ok(());
        }
        if identity.cluster().is_some() {
            return Err(own.stranger(identity.node(), sender.from));
        }
        let fault = own.refused(identity.node(), cluster, sender.from);
        let verdict = Standing::Stopped(fault.clone());
        self.core.verdict.send_replace(verdict);
        Err(fault)
    }

    async fn open<T: DeserializeOwned>(
        &self,
        message: &v1::RaftMessage,
        newcomer: Newcomer,
    ) -> Result<(ClusterId, T), Fault> {
        let payload = wire::decode(message.version, &message.payload)?;
        let cluster = self.admit(Sender::of(message), newcomer).await?;
        Ok((cluster, payload))
    }

    fn answer<T: Serialize>(
        &self,
        cluster: ClusterId,
        to: u64,
        payload: &T,
    ) -> Result<v1::RaftMessage, Fault> {
        wire::envelope(cluster, self.core.identity.node().0, to, payload)
    }

    fn engine_fault(&self, error: RaftError<TypeConfig>) -> Fault {
        match error {
            RaftError::Fatal(fatal) => self.core.fatal(&fatal),
            RaftError::APIError(never) => match never {},
        }
    }

    /// A node that was removed asks for votes as long as nobody tells it.
    fn refuse_retired(&self, node: u64) -> Result<(), Fault> {
        if self.core.machine.is_retired(node) {
            Err(Fault::new(
                ErrorCode::NotFound,
                format!("node {node} was removed from the cluster"),
            )
            .hint("stop it; to bring it back, give it an empty data directory and a new id"))
        } else {
            Ok(())
        }
    }

    async fn append(&self, message: v1::RaftMessage) -> Result<v1::RaftMessage, Fault> {
        let (cluster, request): (_, AppendEntriesRequest<TypeConfig>) = self
            .open(&message, Newcomer::Arrives(Arrival::Joining))
            .await?;
        self.core
            .note_commit(&request.vote, request.leader_commit)
            .await?;
        let answer = self.core.raft.append_entries(request).await;
        let answer = answer.map_err(|error| self.engine_fault(error))?;
        self.answer(cluster, message.from, &answer)
    }

    async fn ask_vote(
        &self,
        message: v1::RaftMessage,
        call: Call,
    ) -> Result<v1::RaftMessage, Fault> {
        let request: VoteRequest<TypeConfig> = wire::decode(message.version, &message.payload)?;
        let is_founding = request.last_log_id.is_none_or(|id| id.index == 0);
        let newcomer = match call {
            Call::Vote if is_founding => Newcomer::Arrives(Arrival::Founding),
            _ => Newcomer::Answers,
        };
        let cluster = self.admit(Sender::of(&message), newcomer).await?;
        self.refuse_retired(message.from)?;
        if !(is_founding && self.core.identity.cluster().is_none()) {
            self.refuse_newcomer()?;
        }
        let raft = &self.core.raft;
        let answer = match call {
            Call::PreVote => raft.pre_vote(request).await,
            _ => raft.vote(request).await,
        };
        let answer = answer.map_err(|error| self.engine_fault(error))?;
        self.answer(cluster, message.from, &answer)
    }

    /// A node that may have forgotten what it promised promises nothing new.
    fn refuse_newcomer(&self) -> Result<(), Fault> {
        if self.core.identity.is_settled() {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!("node {} has yet to catch up with its cluster", self.core.config.node),
        )
        .hint("it votes when a leader has sent it what it lacks; if it lost its disk, replace it by a new node with a new id"))
    }

    async fn take_over(&self, message: v1::RaftMessage) -> Result<v1::RaftMessage, Fault> {
        let (cluster, request): (_, TransferLeaderRequest<TypeConfig>) =
            self.open(&message, Newcomer::Refuses).await?;
        self.refuse_newcomer()?;
        let answer = self.core.raft.handle_transfer_leader(request).await;
        let answer = answer.map_err(|fatal| self.core.fatal(&fatal))?;
        self.answer(cluster, message.from, &answer)
    }

    async fn lead(&self, message: v1::RaftMessage) -> Result<v1::RaftMessage, Fault> {
        let request = wire::decode(message.version, &message.payload)?;
        let newcomer = match request {
            ForwardRequest::Hello | ForwardRequest::HasCaughtUp => Newcomer::Answers,
            _ => Newcomer::Refuses,
        };
        let cluster = self.admit(Sender::of(&message), newcomer).await?;
        let reply = match request {
            ForwardRequest::Hello => {
                self.refuse_retired(message.from)?;
                ForwardReply::Done
            }
            ForwardRequest::HasCaughtUp => {
                self.refuse_newcomer()?;
                ForwardReply::Done
            }
            ForwardRequest::Propose(commands) => {
                check_forwarded(&commands)?;
                ForwardReply::Outcomes(self.core.propose_as_leader(commands).await?)
            }
            ForwardRequest::ReadIndex => {
                ForwardReply::Index(self.core.read_index_as_leader().await?)
            }
            ForwardRequest::Change(change) => {
                self.core.change_as_leader(change).await?;
                ForwardReply::Done
            }
            ForwardRequest::Transfer(to) => {
                self.core.transfer_as_leader(to).await?;
                ForwardReply::Done
            }
        };
        self.answer(cluster, message.from, &reply)
    }

    async fn install(
        &self,
        mut chunks: Streaming<v1::SnapshotChunk>,
    ) -> Result<v1::RaftMessage, Fault> {
        let timeout = self.core.config.chunk_timeout;
        let first = next_chunk(&mut chunks, timeout).await?;
        let announcement: SnapshotAnnouncement = wire::decode(first.version, &first.header)?;
        let sender = Sender {
            cluster: &first.cluster_id,
            from: first.from,
            target: first.target,
            key_check: &first.key_check,
        };
        let arrives = Newcomer::Arrives(Arrival::Joining);
        let cluster = self.admit(sender, arrives).await?;
        if announcement.length > MAX_SNAPSHOT_SIZE {
            return Err(spoiled(first.from, "is announced as too large"));
        }
        let _receiving = self.core.receiving.try_lock().map_err(|_| {
            Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "node {} is receiving another snapshot",
                    self.core.config.node
                ),
            )
        })?;
        let storage = |error: std::io::Error| {
            crate::log_engine::storage_fault(&self.core.config.data_dir, &error)
        };
        let mut incoming = self.core.snapshots.receive().await.map_err(storage)?;
        let mut last = first.last;
        while !last {
            let chunk = next_chunk(&mut chunks, timeout).await?;
            last = chunk.last;
            let rest = announcement.length.saturating_sub(incoming.length());
            if chunk.data.len() as u64 > rest.min(SNAPSHOT_CHUNK_SIZE as u64) {
                return Err(spoiled(first.from, "holds more than was announced"));
            }
            incoming.write(chunk.data).await.map_err(storage)?;
        }
        let snapshot = incoming.finish().await.map_err(storage)?;
        // Before raft hears of it: what it is given, it must be able to install.
        if snapshot.pointer.length != announcement.length {
            return Err(spoiled(first.from, "was cut off"));
        }
        if snapshot.pointer.digest != announcement.digest {
            return Err(spoiled(first.from, "does not match its digest"));
        }
        let snapshot = Snapshot {
            meta: announcement.meta,
            snapshot,
        };
        let raft = &self.core.raft;
        let answer = raft
            .install_full_snapshot(announcement.vote, snapshot)
            .await;
        let answer: SnapshotResponse<TypeConfig> =
            answer.map_err(|fatal| self.core.fatal(&fatal))?;
        self.answer(cluster, first.from, &answer)
    }
}

/// The next chunk, under a deadline; the end of the stream before the last one is an error.
async fn next_chunk(
    chunks: &mut Streaming<v1::SnapshotChunk>,
    timeout: Duration,
) -> Result<v1::SnapshotChunk, Fault> {
    let cut_off = |why: String| {
        Fault::new(
            ErrorCode::Unavailable,
            format!("a snapshot was cut off: {why}"),
        )
    };
    match tokio::time::timeout(timeout, chunks.message()).await {
        Ok(Ok(Some(chunk))) => Ok(chunk),
        Ok(Ok(None)) => Err(cut_off("the stream ended".to_owned())),
        Ok(Err(status)) => Err(cut_off(status.message().to_owned())),
        Err(_) => Err(cut_off(format!("nothing came for {timeout:?}"))),
    }
}

fn spoiled(from: u64, how: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("a snapshot from node {from} {how}"),
    )
}

fn check_forwarded(commands: &[bytes::Bytes]) -> Result<(), Fault> {
    let too_much = commands.len() > MAX_FORWARD_COMMANDS
        || commands
            .iter()
            .any(|command| command.len() > MAX_COMMAND_SIZE);
    if too_much {
        return Err(Fault::new(
            ErrorCode::ResourceExhausted,
            format!(
                "a forwarded batch of {} commands is too large",
                commands.len()
            ),
        ));
    }
    Ok(())
}

fn respond(answer: Result<v1::RaftMessage, Fault>) -> Answer {
    answer
        .map(Response::new)
        .map_err(|fault| fault_to_status(&fault))
}

#[tonic::async_trait]
impl RaftTransport for RaftService {
    async fn append_entries(&self, request: Request<v1::RaftMessage>) -> Answer {
        respond(self.append(request.into_inner()).await)
    }

    async fn vote(&self, request: Request<v1::RaftMessage>) -> Answer {
        respond(self.ask_vote(request.into_inner(), Call::Vote).await)
    }

    async fn pre_vote(&self, request: Request<v1::RaftMessage>) -> Answer {
        respond(self.ask_vote(request.into_inner(), Call::PreVote).await)
    }

    async fn transfer_leader(&self, request: Request<v1::RaftMessage>) -> Answer {
        respond(self.take_over(request.into_inner()).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<v1::SnapshotChunk>>) -> Answer {
        respond(self.install(request.into_inner()).await)
    }

    async fn forward(&self, request: Request<v1::RaftMessage>) -> Answer {
        respond(self.lead(request.into_inner()).await)
    }
}
