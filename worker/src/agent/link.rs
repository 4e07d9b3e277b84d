//! Keeps one stream to the leader, whoever that is.

use actix::Addr;
use holdfast_proto::v1::leader_message::Body;
use holdfast_proto::v1::worker_link_client::WorkerLinkClient;
use holdfast_proto::{
    CallKind, ChannelOptions, MAX_MESSAGE_SIZE, channel, status_to_fault, v1, wire_to_fault,
};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::Agent;
use super::finder::{LeaderFinder, NextTry};
use super::messages::{Dismissal, Inbound, Introduce, SessionEnded, Welcomed};
use crate::bounds::{OUTBOX_SPARE, SESSION_DEADLINE, TASKS_PER_SLOT, WELCOME_DEADLINE};
use crate::core::Core;

/// How a try ended.
enum Ended {
    /// Nobody there, or nobody who answers.
    Unreachable(Fault),
    /// Somebody else leads.
    NotLeader(v1::NotLeader),
    /// This worker may not take part.
    Dismissed(Fault),
    /// A leader had taken this worker on, and the stream broke.
    Lost(Fault),
    /// The agent is gone, or has said goodbye: nobody wants a stream.
    Unwanted,
}

/// See the module.
pub(super) struct Link {
    shared: Arc<Core>,
    agent: Addr<Agent>,
    finder: LeaderFinder,
    sessions: u64,
}

impl Link {
    pub(super) fn new(shared: Arc<Core>, agent: Addr<Agent>) -> Self {
        let finder = LeaderFinder::new(
            shared.config.coordinators.clone(),
            shared.env.entropy.next_u64(),
        );
        Self {
            shared,
            agent,
            finder,
            sessions: 0,
        }
    }

    /// Runs until the agent is gone or this worker is dismissed for good.
    pub(super) async fn run(mut self) {
        loop {
            let address = match self.finder.next(self.shared.env.entropy.next_u64()) {
                NextTry::Pause(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                NextTry::Address(address) => address,
            };
            match self.session(&address).await {
                Ended::Unreachable(fault) => debug!(%address, %fault, "no leader here"),
                Ended::NotLeader(answer) => {
                    self.finder.redirected(&answer.leader, &answer.coordinators);
                }
                Ended::Lost(fault) => warn!(%address, %fault, "lost the leader"),
                Ended::Dismissed(fault) => {
                    warn!(%address, %fault, "the leader does not take this worker");
                    let retryable = fault.is_retryable();
                    if self.agent.send(Dismissal(fault)).await.is_err() || !retryable {
                        return;
                    }
                }
                Ended::Unwanted => return,
            }
        }
    }

    /// One try, and if it succeeds one whole stream.
    async fn session(&mut self, address: &str) -> Ended {
        // Taken before the Hello exists: the fence must count from no later than its sending.
        let hello_sent = self.shared.env.clock.monotonic();
        let Ok(Some(hello)) = self.agent.send(Introduce).await else {
            return Ended::Unwanted;
        };
        let capacity = self.shared.config.slots as usize * TASKS_PER_SLOT + OUTBOX_SPARE;
        let (outbox, queue) = mpsc::channel(capacity);
        let hello = v1::WorkerMessage {
            body: Some(v1::worker_message::Body::Hello(hello)),
        };
        if outbox.try_send(hello).is_err() {
            return Ended::Unreachable(broken("its outbox is closed"));
        }
        let mut inbound = match self.open(address, queue).await {
            Ok(inbound) => inbound,
            Err(fault) => return Ended::Unreachable(fault),
        };
        let first = tokio::time::timeout(WELCOME_DEADLINE, receive(&mut inbound)).await;
        let welcome = match first.unwrap_or_else(|_| Err(broken("no answer to Hello"))) {
            Ok(Body::Welcome(welcome)) => welcome,
            Ok(Body::NotLeader(answer)) => return Ended::NotLeader(answer),
            Ok(Body::Dismissed(dismissed)) => return Ended::Dismissed(reason(dismissed)),
            Ok(_) => return Ended::Unreachable(broken("the first answer is not a Welcome")),
            Err(fault) => return Ended::Unreachable(fault),
        };
        self.finder.welcomed(&welcome.coordinators);
        self.sessions += 1;
        info!(leader = address, "found the leader");
        let session = self.sessions;
        let cut = CancellationToken::new();
        let welcomed = Welcomed {
            session,
            leader: address.to_owned(),
            hello_sent,
            welcome,
            outbox,
            cut: cut.clone(),
        };
        if self.agent.send(welcomed).await.is_err() {
            return Ended::Unwanted;
        }
        let ended = self.listen(session, &mut inbound, &cut).await;
        let now = self.shared.env.clock.monotonic();
        self.finder.lost(now.saturating_sub(hello_sent));
        if self.agent.send(SessionEnded { session }).await.is_err() {
            return Ended::Unwanted;
        }
        ended
    }

    async fn open(
        &self,
        address: &str,
        queue: mpsc::Receiver<v1::WorkerMessage>,
    ) -> Result<Streaming<v1::LeaderMessage>, Fault> {
        let options = ChannelOptions {
            // The call is the stream, and lasts.
            call_timeout: None,
            keep_alive_interval: Duration::from_secs(1),
            ..ChannelOptions::default()
        };
        let channel = channel(Arc::clone(&self.shared.env.net), address, options)
            .map_err(|error| broken(&format!("\"{address}\" is not an address: {error}")))?;
        let mut client = WorkerLinkClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE);
        let opening = client.session(ReceiverStream::new(queue));
        match tokio::time::timeout(SESSION_DEADLINE, opening).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status_to_fault(&status, CallKind::Repeatable)),
            Err(_) => Err(broken("no answer")),
        }
    }

    /// Passes on what the leader says, until the stream ends or is cut. The agent's mailbox paces the stream.
    async fn listen(
        &self,
        session: u64,
        inbound: &mut Streaming<v1::LeaderMessage>,
        cut: &CancellationToken,
    ) -> Ended {
        loop {
            let received = tokio::select! {
                biased;
                () = cut.cancelled() => return Ended::Lost(broken("the stream was given up")),
                received = receive(inbound) => received,
            };
            let body = match received {
                Ok(Body::NotLeader(answer)) => return Ended::NotLeader(answer),
                Ok(Body::Dismissed(dismissed)) => return Ended::Dismissed(reason(dismissed)),
                Ok(body) => body,
                Err(fault) => return Ended::Lost(fault),
            };
            if self.agent.send(Inbound { session, body }).await.is_err() {
                return Ended::Unwanted;
            }
        }
    }
}

/// The next message with a body this version knows.
async fn receive(inbound: &mut Streaming<v1::LeaderMessage>) -> Result<Body, Fault> {
    loop {
        match inbound.message().await {
            Ok(Some(v1::LeaderMessage { body: Some(body) })) => return Ok(body),
            // A newer leader's message: it must not rely on an older worker's understanding it.
            Ok(Some(v1::LeaderMessage { body: None })) => {}
            Ok(None) => return Err(broken("the coordinator ended the stream")),
            Err(status) => return Err(status_to_fault(&status, CallKind::Repeatable)),
        }
    }
}

fn reason(dismissed: v1::Dismissed) -> Fault {
    dismissed.fault.map_or_else(
        || {
            Fault::new(
                ErrorCode::FailedPrecondition,
                "the leader dismissed this worker without a reason",
            )
        },
        wire_to_fault,
    )
}

fn broken(what: &str) -> Fault {
    Fault::new(ErrorCode::Unavailable, what)
}
