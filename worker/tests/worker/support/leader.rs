//! A leader that says what a test wants.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use holdfast_env::Env;
use holdfast_proto::v1::leader_message::Body as Down;
use holdfast_proto::v1::worker_link_server::{WorkerLink, WorkerLinkServer};
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{Grant, Lease, LeaseReport, fault_to_wire, incoming, v1};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::CLUSTER;

/// Heartbeats and leases of tests, in milliseconds.
const HEARTBEAT: u64 = 200;
const LEASE: u64 = 2000;

pub(crate) struct Leader {
    pub(crate) address: String,
    conversations: Mutex<mpsc::Receiver<Conversation>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(mpsc::Sender<Conversation>);

#[async_trait]
impl WorkerLink for Service {
    type SessionStream = BoxStream<'static, Result<v1::LeaderMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let (outbound, queue) = mpsc::channel(64);
        let conversations = self.0.clone();
        tokio::spawn(async move {
            if let Ok(Some(v1::WorkerMessage {
                body: Some(Up::Hello(hello)),
            })) = inbound.message().await
            {
                let conversation = Conversation::begin(hello, inbound, outbound);
                let _ = conversations.send(conversation).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(queue).boxed()))
    }
}

impl Leader {
    pub(crate) async fn start() -> Self {
        let env = Env::system();
        let listener = env.net.listen("127.0.0.1:0").await.expect("listens");
        let address = listener.local_address();
        let (sender, conversations) = mpsc::channel(8);
        let server = tokio::spawn(async move {
            let _ = tonic::transport::Server::builder()
                .add_service(WorkerLinkServer::new(Service(sender)))
                .serve_with_incoming(incoming(listener))
                .await;
        });
        Self {
            address,
            conversations: Mutex::new(conversations),
            server,
        }
    }

    /// The next stream, after its Hello.
    pub(crate) async fn greeted(&self) -> Conversation {
        self.conversations
            .lock()
            .await
            .recv()
            .await
            .expect("the server lives")
    }

    /// The next stream, welcomed.
    pub(crate) async fn welcomed(&self) -> Conversation {
        let conversation = self.greeted().await;
        conversation.welcome(&[]).await;
        conversation
    }
}

pub(crate) struct Conversation {
    pub(crate) hello: v1::Hello,
    heard: mpsc::Receiver<Up>,
    outbound: mpsc::Sender<Result<v1::LeaderMessage, Status>>,
    /// Whether heartbeats are not acknowledged.
    deaf: Arc<AtomicBool>,
    pump: tokio::task::JoinHandle<()>,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Conversation {
    /// Acknowledges heartbeats by itself, whatever the test is doing.
    fn begin(
        hello: v1::Hello,
        mut inbound: Streaming<v1::WorkerMessage>,
        outbound: mpsc::Sender<Result<v1::LeaderMessage, Status>>,
    ) -> Self {
        let (sender, heard) = mpsc::channel(64);
        let deaf = Arc::new(AtomicBool::new(false));
        let (answers, ignores) = (outbound.clone(), Arc::clone(&deaf));
        let pump = tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                match message.body.expect("a body") {
                    Up::Heartbeat(heartbeat) => {
                        if !ignores.load(Ordering::SeqCst) {
                            let sequence = heartbeat.sequence;
                            let ack = Down::HeartbeatAck(v1::HeartbeatAck { sequence });
                            let body = Some(ack);
                            let _ = answers.send(Ok(v1::LeaderMessage { body })).await;
                        }
                    }
                    body => {
                        let _ = sender.send(body).await;
                    }
                }
            }
        });
        Self {
            hello,
            heard,
            outbound,
            deaf,
            pump,
        }
    }

    /// From now on heartbeats are not acknowledged.
    pub(crate) fn turn_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn say(&self, body: Down) {
        let message = v1::LeaderMessage { body: Some(body) };
        let _ = self.outbound.send(Ok(message)).await;
    }

    pub(crate) async fn welcome(&self, dropped: &[Lease]) {
        self.say(Down::Welcome(v1::Welcome {
            cluster_id: CLUSTER.0.to_vec().into(),
            lease_ttl_ms: LEASE,
            heartbeat_ms: HEARTBEAT,
            dropped: dropped
                .iter()
                .map(|lease| v1::HeldLease::from(*lease))
                .collect(),
            coordinators: Vec::new(),
        }))
        .await;
    }

    pub(crate) async fn grant(&self, grant: &Grant) {
        self.say(Down::Grant(v1::TaskGrant::from(grant))).await;
    }

    pub(crate) async fn stop(&self, lease: Lease) {
        self.say(Down::Stop(v1::TaskStop {
            job: lease.task.job.0,
            task: lease.task.index,
            epoch: lease.epoch.0,
            reason: "the test wishes it".to_owned(),
        }))
        .await;
    }

    async fn answer(&self, report: &LeaseReport, fault: Option<Fault>) {
        self.say(Down::ReportAck(v1::ReportAck {
            job: report.lease.task.job.0,
            task: report.lease.task.index,
            epoch: report.lease.epoch.0,
            sequence: report.sequence,
            accepted: fault.is_none(),
            fault: fault.as_ref().map(fault_to_wire),
        }))
        .await;
    }

    pub(crate) async fn accept(&self, report: &LeaseReport) {
        self.answer(report, None).await;
    }

    pub(crate) async fn refuse(&self, report: &LeaseReport) {
        let fault = Fault::new(ErrorCode::StaleEpoch, "the lease is over");
        self.answer(report, Some(fault)).await;
    }

    /// The next message that is no heartbeat; `None` when the worker has ended the stream.
    pub(crate) async fn hear(&mut self) -> Option<Up> {
        self.heard.recv().await
    }

    /// The next report.
    pub(crate) async fn report(&mut self) -> LeaseReport {
        match self.hear().await {
            Some(Up::Report(report)) => LeaseReport::try_from(report).expect("legible"),
            other => panic!("not a report: {other:?}"),
        }
    }

    /// Nothing but heartbeats comes for a while.
    pub(crate) async fn silence(&mut self, during: Duration) {
        if let Ok(message) = tokio::time::timeout(during, self.hear()).await {
            panic!("a message: {message:?}");
        }
    }

    /// Accepts every report of a lease until its last, and gives them.
    pub(crate) async fn accept_all(&mut self, lease: Lease) -> Vec<LeaseReport> {
        let mut reports = Vec::new();
        loop {
            let report = self.report().await;
            assert_eq!(report.lease, lease);
            assert_eq!(report.sequence, reports.len() as u64 + 1);
            self.accept(&report).await;
            let last = report.body.is_final();
            reports.push(report);
            if last {
                return reports;
            }
        }
    }
}
