//! The committer: workers' reports become raft entries, many at a time, and are acknowledged when they are committed.
//!
//! One proposal is in flight at a time; what arrives meanwhile makes up the next one. So a single report waits for nobody, and under load
//! the batches grow until the log's fsync is no longer what limits. Back-pressure: a report takes one of [`QUEUE_CAPACITY`] places,
//! held until it is acknowledged; a session that finds none stops reading from its worker.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use holdfast_ledger::{Action, Outcome, Report, ReportOutcome};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_proto::{fault_to_wire, v1};
use holdfast_types::{Epoch, ErrorCode, Fault, Incarnation, TaskId, WorkerId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::Core;
use crate::office::Office;

/// Reports that may be waiting or in flight together.
const QUEUE_CAPACITY: usize = 16_384;
/// Bytes of them, as they came over the wire: many reports are small, and what many large ones take must not grow with their number.
const QUEUE_BYTES: u32 = 32 << 20;
/// Reports in one proposal.
const MAX_BATCH: usize = 4096;
/// Bytes of reports in one proposal, as they came over the wire. What raft takes is larger ([`holdfast_raft::MAX_COMMAND_SIZE`]), so
/// that a batch that is this long, and one more report, fit.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// The longest report, in bytes as it came over the wire.
pub(crate) const MAX_REPORT_BYTES: usize = 1 << 20;
/// Between two attempts to propose the same batch.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Mailbox places beyond the queue's, for the actor's own messages.
const SPARE_MAIL: usize = 16;

const _: () = assert!(MAX_REPORT_BYTES < QUEUE_BYTES as usize);
const _: () = assert!(MAX_BATCH_BYTES + MAX_REPORT_BYTES < holdfast_raft::MAX_COMMAND_SIZE);

/// A report on its way into the ledger.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who speaks.
    pub(crate) worker: WorkerId,
    /// Which life of it.
    pub(crate) incarnation: Incarnation,
    /// The report's number within its lease.
    pub(crate) sequence: u64,
    /// What it says.
    pub(crate) report: Report,
    /// Its length on the wire.
    pub(crate) bytes: usize,
}

/// The way to the committer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    actor: Supervised<CommitterActor>,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// The committer does not take the report: it is being started again, or the office is over. The worker will repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotTaken;

impl Committer {
    /// Starts the committer of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let mut restarted = false;
        let over = office.over.clone();
        let actor = supervise("committer", Backoff::default(), over, move || {
            if restarted {
                // What was queued is lost: reconnecting workers repeat what was not acknowledged.
                office.sessions.cut_all();
            }
            restarted = true;
            CommitterActor {
                core: Arc::clone(&core),
                office: Arc::clone(&office),
                queue: VecDeque::new(),
                in_flight: false,
            }
        });
        Self {
            actor,
            places: Arc::new(Semaphore::new(QUEUE_CAPACITY)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
        }
    }

    /// Queues a report, waiting for a place and for room.
    pub(crate) async fn submit(&self, incoming: Incoming) -> Result<(), NotTaken> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| NotTaken)?;
        let bytes = u32::try_from(incoming.bytes).unwrap_or(QUEUE_BYTES);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(bytes.min(QUEUE_BYTES))
            .await
            .map_err(|_| NotTaken)?;
        self.actor
            .try_send(Submit {
                incoming,
                place: (place, room),
            })
            .map_err(|_| NotTaken)
    }
}

/// One of the queue's places, and the room that a report takes.
type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A report with its place in the queue.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Submit {
    incoming: Incoming,
    place: Place,
}

/// See the module.
pub(crate) struct CommitterActor {
    core: Arc<Core>,
    office: Arc<Office>,
    queue: VecDeque<Submit>,
    in_flight: bool,
}

impl Actor for CommitterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(QUEUE_CAPACITY + SPARE_MAIL);
        crate::core::stop_when_over(&self.office, context);
    }
}

impl Handler<Submit> for CommitterActor {
    type Result = ();

    fn handle(&mut self, message: Submit, context: &mut Context<Self>) {
        self.queue.push_back(message);
        if !self.in_flight {
            self.in_flight = true;
            // Not at once: what else is in the mailbox already comes along.
            context.notify(Flush);
        }
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for CommitterActor {
    type Result = ();

    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        let batch = take_batch(&mut self.queue);
        if batch.is_empty() {
            self.in_flight = false;
            return;
        }
        let work = commit(Arc::clone(&self.core), Arc::clone(&self.office), batch);
        let work = work
            .into_actor(self)
            .map(|(), _, context: &mut Context<Self>| context.notify(Flush));
        context.spawn(work);
    }
}

/// The reports of the next proposal, within its bounds.
fn take_batch(queue: &mut VecDeque<Submit>) -> Vec<Submit> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < MAX_BATCH
        && bytes < MAX_BATCH_BYTES
        && let Some(next) = queue.pop_front()
    {
        bytes += next.incoming.bytes;
        batch.push(next);
    }
    batch
}

/// Whom a report's acknowledgement goes to, and how it names the report.
struct Addressee {
    worker: WorkerId,
    incarnation: Incarnation,
    sequence: u64,
    task: TaskId,
    epoch: Epoch,
    /// Given back with the acknowledgement.
    _place: Place,
}

/// Proposes a batch until it is known what became of it, then acknowledges. A repetition after a lost answer is harmless: a
/// report that counts already is accepted again.
async fn commit(core: Arc<Core>, office: Arc<Office>, batch: Vec<Submit>) {
    let (addressees, reports): (Vec<Addressee>, Vec<Report>) =
        batch.into_iter().map(address).unzip();
    let command = core.replica.stamp(Action::Reports { reports });
    while !office.over.is_cancelled() {
        match core.replica.propose_command(&command).await {
            Ok(Outcome::Reports(outcomes)) => {
                for (addressee, outcome) in addressees.into_iter().zip(outcomes) {
                    acknowledge(&office, addressee, outcome);
                }
                return;
            }
            Ok(other) => {
                tracing::error!(?other, "reports have an outcome of another kind");
                return;
            }
            Err(fault) => {
                tracing::warn!(%fault, reports = addressees.len(), "reports not committed yet");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

fn address(submit: Submit) -> (Addressee, Report) {
    let Incoming {
        worker,
        incarnation,
        sequence,
        report,
        ..
    } = submit.incoming;
    let addressee = Addressee {
        worker,
        incarnation,
        sequence,
        task: report.task,
        epoch: report.epoch,
        _place: submit.place,
    };
    (addressee, report)
}

fn acknowledge(office: &Office, to: Addressee, outcome: ReportOutcome) {
    let fault = match outcome {
        ReportOutcome::Accepted => None,
        ReportOutcome::Stale => Some(Fault::new(
            ErrorCode::StaleEpoch,
            format!(
                "the lease of task {} under epoch {} is no longer current",
                to.task, to.epoch
            ),
        )),
        ReportOutcome::Refused(fault) => Some(fault),
    };
    let ack = v1::ReportAck {
        job: to.task.job.0,
        task: to.task.index,
        epoch: to.epoch.0,
        sequence: to.sequence,
        accepted: fault.is_none(),
        fault: fault.as_ref().map(fault_to_wire),
    };
    // A worker without a stream repeats the report when it is back.
    let _ = office.sessions.send(
        &to.worker,
        to.incarnation,
        v1::leader_message::Body::ReportAck(ack),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_ledger::ReportBody;
    use holdfast_types::JobId;

    fn queue(sizes: &[usize]) -> VecDeque<Submit> {
        let places = Arc::new(Semaphore::new(2 * sizes.len()));
        let permit = || Arc::clone(&places).try_acquire_owned().expect("a place");
        sizes
            .iter()
            .map(|&bytes| Submit {
                incoming: Incoming {
                    worker: WorkerId::new("w").expect("a legal id"),
                    incarnation: Incarnation(1),
                    sequence: 1,
                    report: Report {
                        task: TaskId {
                            job: JobId(1),
                            index: 0,
                        },
                        epoch: Epoch(1),
                        body: ReportBody::Released,
                    },
                    bytes,
                },
                place: (permit(), permit()),
            })
            .collect()
    }

    #[test]
    fn batches_are_bounded_in_number_and_bytes() {
        let mut many = queue(&vec![10; MAX_BATCH + 7]);
        assert_eq!(take_batch(&mut many).len(), MAX_BATCH);
        assert_eq!(take_batch(&mut many).len(), 7);
        let mut large = queue(&[MAX_REPORT_BYTES, 10, MAX_REPORT_BYTES - 1, 10, 10]);
        assert_eq!(take_batch(&mut large).len(), 1);
        assert_eq!(take_batch(&mut large).len(), 2);
        assert_eq!(take_batch(&mut large).len(), 2);
    }
}
