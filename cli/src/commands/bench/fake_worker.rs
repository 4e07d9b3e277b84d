//! Workers that have no source: they plan as many spans as they are told to, and answer every lease with one checkpoint that names an
//! object that is there, but empty. So what is measured is the coordinator, and nothing else.

use bytes::Bytes;
use hdrhistogram::Histogram;
use holdfast_env::Env;
use holdfast_node::ClusterKey;
use holdfast_proto::v1::leader_message::Body as Down;
use holdfast_proto::v1::worker_link_client::WorkerLinkClient;
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{CallKind, ChannelOptions, channel, from_json, status_to_fault, v1};
use holdfast_types::{
    Digest, ErrorCode, Fault, Hlc, JobSpec, MemberRecord, Relation, RelationId, Sealed,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

use super::broken;

/// Spans in one batch of a plan, as real workers send them.
const SPANS_PER_BATCH: u32 = 512;
/// Messages to the leader that may wait: more than one for each lease that a worker can have.
const OUTBOX: usize = 4096;
/// What a span and its object are said to hold.
const SPAN_BYTES: u64 = 64 << 20;

/// What all fake workers share.
#[derive(Debug)]
pub(super) struct Fakes {
    pub(super) env: Env,
    pub(super) key: ClusterKey,
    /// Of every member.
    pub(super) spans: u32,
    pub(super) slots: u32,
    /// The directory of the collection.
    pub(super) collection: PathBuf,
    pub(super) tally: RefCell<Tally>,
}

/// What they have seen.
#[derive(Debug)]
pub(super) struct Tally {
    /// From a checkpoint's sending to its acknowledgement, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// When the first checkpoint was sent.
    pub(super) first: Option<Duration>,
    /// When the last one was acknowledged.
    pub(super) last: Duration,
}

/// One of them.
struct FakeWorker {
    fakes: Rc<Fakes>,
    up: mpsc::Sender<v1::WorkerMessage>,
    /// When the checkpoint of a lease was sent.
    sent: RefCell<BTreeMap<(u32, u64), Duration>>,
}

/// Joins the cluster as a worker and serves until the stream ends.
pub(super) async fn serve(fakes: Rc<Fakes>, leader: String, name: String) -> Result<(), Fault> {
    let options = ChannelOptions {
        call_timeout: None,
        ..ChannelOptions::default()
    };
    let channel = channel(Arc::clone(&fakes.env.net), &leader, options)
        .map_err(|error| broken("reach the leader", &error))?;
    let (up, mut queue) = mpsc::channel(OUTBOX);
    let hello = v1::Hello {
        worker: name,
        incarnation: fakes.env.entropy.next_u64(),
        slots: fakes.slots,
        version: "bench".to_owned(),
        ..v1::Hello::default()
    };
    say(&up, Up::Hello(hello)).await;
    let queue = futures::stream::poll_fn(move |context| queue.poll_recv(context));
    let lost = |status| status_to_fault(&status, CallKind::Repeatable);
    let mut client = WorkerLinkClient::new(channel);
    let mut down = client.session(queue).await.map_err(lost)?.into_inner();
    let worker = FakeWorker {
        fakes,
        up,
        sent: RefCell::default(),
    };
    while let Some(message) = down.message().await.map_err(lost)? {
        if let Some(body) = message.body {
            worker.hear(body).await?;
        }
    }
    Err(Fault::new(
        ErrorCode::Unavailable,
        "the leader ended a worker's stream",
    ))
}

/// The one object that every checkpoint of a job names: making a file for each would measure the file system.
fn object_name(job: u64) -> String {
    format!("{job}-0-1-0.hfs")
}

async fn say(up: &mpsc::Sender<v1::WorkerMessage>, body: Up) {
    // The stream has ended, and whoever reads it finds out.
    let _ = up.send(v1::WorkerMessage { body: Some(body) }).await;
}

async fn beat(up: mpsc::Sender<v1::WorkerMessage>, every: Duration) {
    for sequence in 1.. {
        if up.is_closed() {
            return;
        }
        let heartbeat = v1::Heartbeat {
            sequence,
            activities: Vec::new(),
        };
        say(&up, Up::Heartbeat(heartbeat)).await;
        tokio::time::sleep(every).await;
    }
}

impl FakeWorker {
    async fn hear(&self, body: Down) -> Result<(), Fault> {
        match body {
            Down::Welcome(welcome) => {
                let every = Duration::from_millis(welcome.heartbeat_ms);
                tokio::task::spawn_local(beat(self.up.clone(), every));
            }
            Down::Grant(grant) => self.granted(grant).await?,
            Down::ReportAck(ack) => self.acknowledged(ack).await?,
            Down::HoldOrder(release) => {
                let member: MemberRecord = from_json(&release.member, "member")?;
                let done = v1::HoldOrderDone {
                    hold: release.hold,
                    member: member.name.to_string(),
                    fault: None,
                    advance_to: release.advance_to,
                };
                say(&self.up, Up::HoldDone(done)).await;
            }
            // Nobody asks a fake worker about members that do not exist.
            Down::HeartbeatAck(_) | Down::CheckOrder(_) | Down::StoreCheckOrder(_) => {}
            Down::NotLeader(_) | Down::Dismissed(_) | Down::Stop(_) => {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    "the leader does not want a worker any more",
                ));
            }
        }
        Ok(())
    }

    async fn report(&self, lease: (u64, u32, u64), sequence: u64, body: v1::task_report::Body) {
        let (job, task, epoch) = lease;
        let report = v1::TaskReport {
            job,
            task,
            epoch,
            sequence,
            body: Some(body),
        };
        say(&self.up, Up::Report(report)).await;
    }

    async fn granted(&self, grant: v1::TaskGrant) -> Result<(), Fault> {
        use v1::task_grant::Work;
        let lease = (grant.job, grant.task, grant.epoch);
        match grant.work {
            Some(Work::Plan(_)) => {
                if let JobSpec::Backup(spec) = from_json(&grant.spec, "spec")? {
                    let data = self
                        .fakes
                        .collection
                        .join(spec.path.to_string())
                        .join("data");
                    std::fs::create_dir_all(&data)
                        .map_err(|error| broken("make the data directory", &error))?;
                    std::fs::File::create(data.join(object_name(grant.job)))
                        .map_err(|error| broken("make an object", &error))?;
                }
                self.plan(lease, 0).await;
                Ok(())
            }
            Some(Work::Span(span)) => {
                self.transfer(lease, span).await;
                Ok(())
            }
            Some(Work::Finish(_) | Work::Revert(_)) | None => Ok(()),
        }
    }

    /// Sends a batch of the plan; the next one follows its acknowledgement.
    async fn plan(&self, lease: (u64, u32, u64), batch: u32) {
        let first = batch * SPANS_PER_BATCH;
        let end = self.fakes.spans.min(first + SPANS_PER_BATCH);
        let spans = (first..end)
            .map(|number| v1::PlannedSpan {
                relation: 1,
                start: self.bound(number),
                end: self.bound(number + 1),
                weight: SPAN_BYTES,
                settles: false,
            })
            .collect();
        let relations = if batch == 0 {
            vec![relation()]
        } else {
            Vec::new()
        };
        let plan = v1::PlanBatch {
            batch,
            relations,
            spans,
            last: end == self.fakes.spans,
        };
        let sequence = u64::from(batch) + 1;
        self.report(lease, sequence, v1::task_report::Body::Plan(plan))
            .await;
    }

    fn bound(&self, number: u32) -> Bytes {
        let sealed = if number == 0 || number == self.fakes.spans {
            Sealed::open_end()
        } else {
            self.fakes
                .key
                .seal_bound(format!("row-{number:012}").as_bytes())
        };
        holdfast_proto::sealed_to_wire(&sealed)
    }

    /// Does a span: its object is made, not synced, and one checkpoint says all.
    async fn transfer(&self, lease: (u64, u32, u64), span: v1::SpanWork) {
        let (job, task, epoch) = lease;
        let checkpoint = v1::SpanCheckpoint {
            from: span.frontier,
            to: span.end,
            last: true,
            objects: vec![v1::Object {
                name: object_name(job),
                length: 0,
                digest: Bytes::copy_from_slice(&Digest::of(&[]).0),
                rows: 1000,
                logical: SPAN_BYTES,
            }],
            bytes_read: SPAN_BYTES,
            bytes_written: 0,
            rows: 1000,
            settled: Bytes::new(),
        };
        let now = self.fakes.env.clock.monotonic();
        self.fakes.tally.borrow_mut().first.get_or_insert(now);
        self.sent.borrow_mut().insert((task, epoch), now);
        let body = v1::task_report::Body::Checkpoint(checkpoint);
        self.report(lease, 1, body).await;
    }

    async fn acknowledged(&self, ack: v1::ReportAck) -> Result<(), Fault> {
        if let Some(fault) = ack.fault.filter(|_| !ack.accepted) {
            return Err(holdfast_proto::wire_to_fault(fault));
        }
        let now = self.fakes.env.clock.monotonic();
        if let Some(sent) = self.sent.borrow_mut().remove(&(ack.task, ack.epoch)) {
            let mut tally = self.fakes.tally.borrow_mut();
            tally.latency += u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
            tally.last = now;
            return Ok(());
        }
        // Of a plan: its batches are numbered from 0, and the reports from 1.
        let next = u32::try_from(ack.sequence).unwrap_or(u32::MAX);
        if next.saturating_mul(SPANS_PER_BATCH) < self.fakes.spans {
            self.plan((ack.job, ack.task, ack.epoch), next).await;
        }
        Ok(())
    }
}

fn relation() -> Bytes {
    holdfast_proto::to_json(&Relation {
        id: RelationId(1),
        name: holdfast_types::TableName {
            database: "bench".into(),
            table: "rows".into(),
        },
        created_at: Hlc::ZERO.next().into(),
        dropped_at: None,
        definition: Vec::new(),
    })
}
