//! What the agent is told.

use actix::Message;
use holdfast_proto::{CheckAnswer, HoldAnswer, Lease, LeaseReport, v1};
use holdfast_types::Fault;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Asks for the Hello of a new stream; `None`: this worker wants none any more.
#[derive(Message)]
#[rtype(result = "Option<v1::Hello>")]
pub(crate) struct Introduce;

/// A leader has taken this worker on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Welcomed {
    /// Which stream; they count up.
    pub(crate) session: u64,
    /// The leader's address.
    pub(crate) leader: String,
    /// When the Hello was sent at the earliest, on the monotonic clock.
    pub(crate) hello_sent: Duration,
    pub(crate) welcome: v1::Welcome,
    /// Where messages to the leader go; dropping it ends the stream in order.
    pub(crate) outbox: mpsc::Sender<v1::WorkerMessage>,
    /// Cuts the stream.
    pub(crate) cut: CancellationToken,
}

/// A message of the leader.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Inbound {
    pub(crate) session: u64,
    pub(crate) body: v1::leader_message::Body,
}

/// A stream has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionEnded {
    pub(crate) session: u64,
}

/// The leader does not want this worker.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Dismissal(pub(crate) Fault);

/// A report of a task. It is sent now or, without a leader, when there is one again. Dropping `ack` unanswered says that the task has no
/// lease any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SubmitReport {
    pub(crate) report: LeaseReport,
    pub(crate) ack: oneshot::Sender<Ack>,
}

/// What the leader answered to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ack {
    /// It counts.
    Accepted,
    /// It does not, and the task has no lease any more.
    Refused(Fault),
}

/// A task is gone, with everything that belonged to it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TaskGone(pub(crate) Lease);

/// What was ordered has been done to a hold, or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HoldDone(pub(crate) HoldAnswer);

/// A member was looked at, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CheckDone(pub(crate) CheckAnswer);

/// A store was tried out, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StoreCheckDone(pub(crate) v1::StoreCheckDone);
