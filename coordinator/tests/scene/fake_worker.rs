//! A worker without a source: it speaks the protocol, and puts real objects into the collection.

use super::{PATIENCE, Place, cluster_key, log};
use holdfast_collection::{CollectionStore, DataName, StoreProvider};
use holdfast_env::Env;
use holdfast_format::{Change, Entry, SpanFileOptions, SpanFileWriter};
use holdfast_proto::v1::leader_message::Body as Down;
use holdfast_proto::v1::worker_link_client::WorkerLinkClient;
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{
    ChannelOptions, CheckAnswer, CheckOrder, CheckReport, CheckWhat, Grant, Lease, LeaseReport,
    LeaseReportBody, Work, channel, v1, wire_to_fault,
};
use holdfast_types::{
    ByteCount, Fault, Hlc, JobSpec, KeyRange, PlannedSpan, Relation, RelationId, RowCount, Sealed,
    TableName,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// How a worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Does what it is granted, and stops when it is told to. Plans this many spans.
    Diligent(u32),
    /// Plans diligently, then takes spans and reports nothing; stops when it is told to.
    Idle(u32),
    /// The same, and does not stop either.
    Deaf(u32),
    /// Fails every span.
    Clumsy(u32),
}

/// What a worker has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) grants: Vec<Lease>,
    pub(crate) stops: Vec<Lease>,
    pub(crate) refused: Vec<Fault>,
    pub(crate) acks: u64,
    pub(crate) holds_released: u64,
    pub(crate) holds_advanced: u64,
    /// The specifications of the jobs that it planned.
    pub(crate) specs: Vec<JobSpec>,
    /// Members that it was asked to look at.
    pub(crate) looked_at: Vec<String>,
    /// Bytes of log that every hold keeps; it may keep 100.
    pub(crate) log_kept: u64,
    pub(crate) ended: bool,
    pub(crate) held: BTreeMap<Lease, Grant>,
}

pub(crate) struct FakeWorker {
    pub(crate) id: String,
    pub(crate) welcome: v1::Welcome,
    pub(crate) seen: Rc<RefCell<Seen>>,
    up: mpsc::Sender<v1::WorkerMessage>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for FakeWorker {
    /// As `kill -9`: the stream breaks without a word.
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Opens a stream and says hello; gives the first answer.
async fn hello(
    env: &Env,
    address: &str,
    hello: v1::Hello,
) -> (
    mpsc::Sender<v1::WorkerMessage>,
    Streaming<v1::LeaderMessage>,
    Down,
) {
    let options = ChannelOptions {
        call_timeout: None,
        ..ChannelOptions::default()
    };
    let channel = channel(Arc::clone(&env.net), address, options).expect("an address");
    let (up, queue) = mpsc::channel(4096);
    up.send(message(Up::Hello(hello))).await.expect("open");
    let mut down = WorkerLinkClient::new(channel)
        .session(ReceiverStream::new(queue))
        .await
        .expect("a stream")
        .into_inner();
    let first = tokio::time::timeout(PATIENCE, down.message())
        .await
        .expect("an answer in time")
        .expect("no error")
        .and_then(|message| message.body)
        .expect("an answer");
    (up, down, first)
}

fn message(body: Up) -> v1::WorkerMessage {
    v1::WorkerMessage { body: Some(body) }
}

impl FakeWorker {
    /// Says hello, and gives the first answer.
    pub(crate) async fn first_answer(place: &Place, introduction: v1::Hello) -> Down {
        hello(&place.env, &place.address, introduction).await.2
    }

    /// Joins as a new process that holds nothing.
    pub(crate) async fn join(
        place: &Place,
        id: &str,
        incarnation: u64,
        locality: &str,
        manner: Manner,
    ) -> Result<Self, Fault> {
        Self::join_with(place, id, incarnation, locality, manner, Vec::new()).await
    }

    /// Joins as a process that goes on with leases.
    pub(crate) async fn join_with(
        place: &Place,
        id: &str,
        incarnation: u64,
        locality: &str,
        manner: Manner,
        held: Vec<Lease>,
    ) -> Result<Self, Fault> {
        let introduction = v1::Hello {
            worker: id.into(),
            incarnation,
            locality: locality.into(),
            slots: 4,
            version: "test".into(),
            cluster_id: Vec::new().into(),
            held: held
                .iter()
                .map(|lease| v1::HeldLease::from(*lease))
                .collect(),
            ..v1::Hello::default()
        };
        let (up, down, first) = hello(&place.env, &place.address, introduction).await;
        let welcome = match first {
            Down::Welcome(welcome) => welcome,
            Down::Dismissed(dismissed) => {
                return Err(wire_to_fault(dismissed.fault.expect("a fault")));
            }
            other => panic!("unexpected answer: {other:?}"),
        };
        let seen = Rc::new(RefCell::new(Seen::default()));
        let mut worker = Self {
            id: id.into(),
            seen: Rc::clone(&seen),
            up: up.clone(),
            tasks: Vec::new(),
            welcome,
        };
        let heartbeat = Duration::from_millis(worker.welcome.heartbeat_ms);
        let hands = Hands {
            env: place.env.clone(),
            stores: Arc::clone(&place.stores),
            manner,
            seen,
            up: up.clone(),
        };
        worker
            .tasks
            .push(tokio::task::spawn_local(beat(up, heartbeat)));
        worker
            .tasks
            .push(tokio::task::spawn_local(hands.serve(down)));
        Ok(worker)
    }

    /// Stops sending heartbeats but keeps its stream.
    pub(crate) fn fall_silent(&self) {
        self.tasks[0].abort();
    }

    pub(crate) async fn say_goodbye(&self) {
        self.up
            .send(message(Up::Goodbye(v1::Goodbye {})))
            .await
            .expect("open");
    }

    pub(crate) async fn report(&self, lease: Lease, body: LeaseReportBody) {
        let report = LeaseReport {
            lease,
            sequence: 1000,
            body,
        };
        self.up
            .send(message(Up::Report((&report).into())))
            .await
            .expect("open");
    }

    /// Puts the object of a span without a report.
    pub(crate) async fn transfer(place: &Place, grant: &Grant) -> LeaseReportBody {
        transfer(&place.env, &place.stores, grant).await
    }

    pub(crate) fn held(&self) -> Vec<Lease> {
        self.seen.borrow().held.keys().copied().collect()
    }
}

async fn beat(up: mpsc::Sender<v1::WorkerMessage>, every: Duration) {
    for sequence in 1.. {
        let heartbeat = v1::Heartbeat {
            sequence,
            activities: Vec::new(),
        };
        if up.send(message(Up::Heartbeat(heartbeat))).await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}

/// The side that works.
struct Hands {
    env: Env,
    stores: Arc<dyn StoreProvider>,
    manner: Manner,
    seen: Rc<RefCell<Seen>>,
    up: mpsc::Sender<v1::WorkerMessage>,
}

impl Hands {
    async fn serve(self, mut down: Streaming<v1::LeaderMessage>) {
        while let Ok(Some(message)) = down.message().await {
            match message.body {
                Some(Down::Grant(grant)) => self.granted(grant).await,
                Some(Down::Stop(stop)) => self.told_to_stop(&stop).await,
                Some(Down::ReportAck(ack)) => {
                    let mut seen = self.seen.borrow_mut();
                    seen.acks += 1;
                    seen.refused.extend(ack.fault.map(wire_to_fault));
                }
                Some(Down::HoldOrder(release)) => {
                    match release.advance_to.is_empty() {
                        true => self.seen.borrow_mut().holds_released += 1,
                        false => self.seen.borrow_mut().holds_advanced += 1,
                    }
                    let member: holdfast_types::MemberRecord =
                        holdfast_proto::from_json(&release.member, "member").expect("a member");
                    self.say(Up::HoldDone(v1::HoldOrderDone {
                        hold: release.hold,
                        member: member.name.to_string(),
                        fault: None,
                        advance_to: release.advance_to,
                    }))
                    .await;
                }
                Some(Down::CheckOrder(order)) => self.look(order).await,
                _ => {}
            }
        }
        self.seen.borrow_mut().ended = true;
    }

    async fn say(&self, body: Up) {
        let _ = self.up.send(message(body)).await;
    }

    async fn report(&self, lease: Lease, sequence: u64, body: LeaseReportBody) {
        let report = LeaseReport {
            lease,
            sequence,
            body,
        };
        self.say(Up::Report((&report).into())).await;
    }

    async fn look(&self, order: v1::CheckOrder) {
        let order = CheckOrder::try_from(order).expect("a legal order");
        if let CheckWhat::Hold(hold) = order.what {
            return self.look_at_hold(order.question, hold).await;
        }
        let what = match &order.what {
            CheckWhat::Restore(spec, index) => format!(", restored as {index} of {}", spec.target),
            _ => String::new(),
        };
        let name = order.member.name;
        self.seen.borrow_mut().looked_at.push(name.to_string());
        let outcome = match self.manner {
            Manner::Deaf(_) => return,
            Manner::Clumsy(_) => Err(not_at_home()),
            Manner::Diligent(_) | Manner::Idle(_) => {
                let report = format!("{{\"server\":\"{} of kind {}{what}\"}}", name, order.kind);
                Ok(CheckReport {
                    report: report.into(),
                    holds: Vec::new(),
                })
            }
        };
        let question = order.question;
        let answer = CheckAnswer { question, outcome };
        self.say(Up::CheckDone((&answer).into())).await;
    }

    async fn look_at_hold(&self, question: u64, hold: holdfast_types::HoldId) {
        let kept = self.seen.borrow().log_kept;
        let outcome = match kept <= 100 {
            true => Ok(CheckReport {
                report: Vec::new().into(),
                holds: vec![v1::HoldStanding {
                    name: format!("slot_{hold}"),
                    wal_retained_bytes: kept,
                    wal_budget_bytes: 100,
                    ..v1::HoldStanding::default()
                }],
            }),
            false => Err(Fault::new(
                holdfast_types::ErrorCode::HistoryGone,
                "the slot was dropped",
            )),
        };
        let answer = CheckAnswer { question, outcome };
        self.say(Up::CheckDone((&answer).into())).await;
    }

    async fn told_to_stop(&self, stop: &v1::TaskStop) {
        let lease = Lease::new(stop.job, stop.task, stop.epoch);
        self.seen.borrow_mut().stops.push(lease);
        if !matches!(self.manner, Manner::Deaf(_)) {
            self.seen.borrow_mut().held.remove(&lease);
            self.report(lease, 1, LeaseReportBody::Released).await;
        }
    }

    async fn granted(&self, wire: v1::TaskGrant) {
        let grant = Grant::try_from(wire).expect("a legal grant");
        let lease = grant.lease;
        self.seen.borrow_mut().grants.push(lease);
        if matches!(grant.work, Work::Plan { .. }) {
            self.seen.borrow_mut().specs.push(grant.spec.clone());
        }
        let spans = match self.manner {
            Manner::Diligent(spans)
            | Manner::Idle(spans)
            | Manner::Deaf(spans)
            | Manner::Clumsy(spans) => spans,
        };
        let body = match (&grant.work, self.manner) {
            (Work::Plan { member, .. }, _) => match &grant.spec {
                JobSpec::Backup(spec) if spec.kind.is_logged() => log::plan(spec, *member),
                _ => plan(spans),
            },
            (Work::Span(_), Manner::Idle(_) | Manner::Deaf(_)) => {
                self.seen.borrow_mut().held.insert(lease, grant);
                return;
            }
            (Work::Span(_), Manner::Clumsy(_)) => LeaseReportBody::Failed {
                fault: not_at_home(),
            },
            (Work::Span(_), Manner::Diligent(_)) => transfer(&self.env, &self.stores, &grant).await,
            (Work::Finish { .. } | Work::Revert { .. }, _) => LeaseReportBody::Done {
                rows: RowCount(0),
                fingerprint: None,
            },
        };
        self.report(lease, 1, body).await;
    }
}

fn not_at_home() -> Fault {
    Fault::new(
        holdfast_types::ErrorCode::Unavailable,
        "the member is not at home",
    )
}

/// One relation, cut into spans by one-byte keys.
fn plan(spans: u32) -> LeaseReportBody {
    let key = cluster_key();
    let bound = |index: u32| key.seal_bound(&index.to_be_bytes());
    LeaseReportBody::Plan {
        batch: 0,
        relations: vec![Relation {
            id: RelationId(1),
            name: TableName {
                database: "bank".into(),
                table: "accounts".into(),
            },
            created_at: Hlc::ZERO.next().into(),
            dropped_at: None,
            definition: Vec::new(),
        }],
        spans: (0..spans)
            .map(|index| PlannedSpan {
                relation: RelationId(1),
                start: if index == 0 {
                    Sealed::open_end()
                } else {
                    bound(index)
                },
                end: if index + 1 == spans {
                    Sealed::open_end()
                } else {
                    bound(index + 1)
                },
                weight: ByteCount(100),
                settles: false,
            })
            .collect(),
        last: true,
    }
}

/// Does a span in one part: a backup puts an object of one row, a restore or verification only says that it did.
async fn transfer(env: &Env, stores: &Arc<dyn StoreProvider>, grant: &Grant) -> LeaseReportBody {
    let Work::Span(span) = &grant.work else {
        panic!("not a span");
    };
    let mut objects = Vec::new();
    if let JobSpec::Backup(spec) = &grant.spec {
        if spec.kind.is_logged() {
            return log::transfer(env, stores, grant, spec, span).await;
        }
        let uri = spec.collection.parse().expect("a uri");
        let store = CollectionStore::open(stores, &uri, env)
            .await
            .expect("open");
        let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a writer");
        let range = KeyRange {
            start: cluster_key().open_bound(&span.start).expect("ours").into(),
            end: cluster_key().open_bound(&span.end).expect("ours").into(),
        };
        let mut key = range.start.to_vec();
        key.push(0);
        writer
            .push(&Entry {
                key: key.into(),
                position: spec.end.into(),
                change: Change::Put(b"value".as_slice().into()),
            })
            .expect("in order");
        let (bytes, summary) = writer.finish().expect("finished");
        let name = DataName::new(grant.lease.task, grant.lease.epoch, 0);
        let object = store
            .put_data(&spec.path, name, vec![bytes], &summary)
            .await
            .expect("put");
        objects.push(object);
    }
    LeaseReportBody::Checkpoint {
        from: span.frontier.clone(),
        to: span.end.clone(),
        last: true,
        objects,
        read: ByteCount(100),
        written: ByteCount(50),
        rows: RowCount(1),
        settled: None,
    }
}
