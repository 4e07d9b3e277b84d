//! Connections to the other coordinators.

use holdfast_env::{Env, Net};
use holdfast_proto::v1;
use holdfast_proto::v1::raft_transport_client::RaftTransportClient;
use holdfast_proto::{CallKind, ChannelOptions, channel, status_to_fault};
use holdfast_types::{ClusterId, ErrorCode, Fault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::config::MAX_RAFT_MESSAGE;
use crate::identity::Identity;
use crate::wire;

/// Connections of addresses that are no longer used are dropped when there are more than this many.
const MAX_CHANNELS: usize = 64;

/// Which connection a message takes: neither a large append nor a snapshot may stand in a heartbeat's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Heartbeats, votes.
    Control,
    /// Log entries.
    Log,
    /// What is forwarded to the leader.
    Forward,
    /// Snapshots.
    Snapshot,
}

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Append,
    Vote,
    PreVote,
    TransferLeader,
    Forward,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The other side never got it.
    NotSent(Fault),
    /// The other side refused it, and nothing has happened.
    Refused(Fault),
    /// It was sent, and what became of it is not known.
    Lost(Fault),
    /// The same, because the deadline passed.
    TimedOut(Fault),
}

impl CallError {
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::NotSent(fault)
            | Self::Refused(fault)
            | Self::Lost(fault)
            | Self::TimedOut(fault) => fault,
        }
    }
}

/// Connections by address, opened when first used.
#[derive(Debug)]
pub(crate) struct Peers {
    net: Arc<dyn Net>,
    options: ChannelOptions,
    identity: Arc<Identity>,
    channels: Mutex<BTreeMap<(String, Lane), Channel>>,
}

impl Peers {
    /// Connections that are given up on when nothing is heard for `patience`.
    pub(crate) fn new(env: &Env, identity: Arc<Identity>, patience: Duration) -> Self {
        Self {
            net: Arc::clone(&env.net),
            options: ChannelOptions {
                connect_timeout: patience,
                // Every call has a deadline of its own.
                call_timeout: None,
                keep_alive_interval: patience,
                keep_alive_timeout: patience,
            },
            identity,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The cluster in whose name this node speaks.
    pub(crate) fn cluster(&self) -> Result<ClusterId, Fault> {
        self.identity.cluster().ok_or_else(|| {
            Fault::new(
                ErrorCode::FailedPrecondition,
                format!("node {} belongs to no cluster yet", self.identity.node()),
            )
            .hint("run `holdfast init` once, or add this node to a cluster")
        })
    }

    /// A client of a node.
    pub(crate) fn client(
        &self,
        address: &str,
        lane: Lane,
    ) -> Result<RaftTransportClient<Channel>, Fault> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), lane);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                if channels.len() >= MAX_CHANNELS {
                    channels.clear();
                }
                let made =
                    channel(Arc::clone(&self.net), address, self.options).map_err(|error| {
                        Fault::new(
                            ErrorCode::InvalidArgument,
                            format!("\"{}\" is not an address: {error}", address.escape_debug()),
                        )
                        .hint("an address is host:port")
                    })?;
                channels.insert(key, made.clone());
                made
            }
        };
        Ok(RaftTransportClient::new(channel)
            .max_decoding_message_size(MAX_RAFT_MESSAGE)
            .max_encoding_message_size(MAX_RAFT_MESSAGE))
    }

    /// Makes one call with a deadline.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        (target, address): (u64, &str),
        lane: Lane,
        call: Call,
        payload: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let not_sent = CallError::NotSent;
        let cluster = self.cluster().map_err(not_sent)?;
        let mut message =
            wire::envelope(cluster, self.identity.node().0, target, payload).map_err(not_sent)?;
        message.key_check = self.identity.key_check().value.clone().into();
        let mut client = self.client(address, lane).map_err(not_sent)?;
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        let answer = tokio::time::timeout(timeout, async {
            match call {
                Call::Append => client.append_entries(request).await,
                Call::Vote => client.vote(request).await,
                Call::PreVote => client.pre_vote(request).await,
                Call::TransferLeader => client.transfer_leader(request).await,
                Call::Forward => client.forward(request).await,
            }
        })
        .await;
        let answer: v1::RaftMessage = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(call_error(target, address, &status)),
            Err(_) => {
                return Err(CallError::TimedOut(Fault::new(
                    ErrorCode::DeadlineExceeded,
                    format!("node {target} at {address} did not answer within {timeout:?}"),
                )));
            }
        };
        wire::decode(answer.version, &answer.payload).map_err(CallError::Lost)
    }
}

/// What a status says about whether the call was carried out.
pub(crate) fn call_error(target: u64, address: &str, status: &Status) -> CallError {
    let fault = status_to_fault(status, CallKind::Repeatable)
        .context(format!("node {target} at {address}"));
    if never_connected(status) {
        return CallError::NotSent(fault);
    }
    // Our own service puts the fault into the details, and only of calls that changed nothing.
    if !status.details().is_empty() {
        return CallError::Refused(fault);
    }
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => CallError::TimedOut(fault),
        Code::Unimplemented | Code::OutOfRange | Code::ResourceExhausted => {
            CallError::Refused(fault)
        }
        _ => CallError::Lost(fault),
    }
}

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
