//! The workers' streams, as the leader in office holds them.
//!
//! # Concurrency
//! One lock, held for map look-ups only. Messages to a worker go through a bounded outbox; a worker that does not drain it is cut off and
//! may come back, because waiting for it would hold up everybody else.

use holdfast_proto::v1;
use holdfast_types::{Epoch, Incarnation, TaskId, WorkerId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages to one worker that may wait in its outbox. A leader sends a worker at most a grant, a stop and an acknowledgement per slot at
/// once, and a worker that has not read this many is not reading.
pub(crate) const OUTBOX_CAPACITY: usize = 4096;

/// Activities of one worker that are kept, of one heartbeat; more than any worker has slots.
const MAX_ACTIVITIES: usize = 1024;

/// The sending end of a worker's stream.
pub(crate) type Outbox = mpsc::Sender<Result<v1::LeaderMessage, Status>>;

/// One stream of one worker. A worker that reconnects has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// What a task is doing, as its worker said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activity {
    /// For people: "uploading".
    pub(crate) doing: String,
    /// Milliseconds since it last moved.
    pub(crate) idle_ms: u64,
    /// How far it is with something of many steps.
    pub(crate) step: Option<v1::TaskStep>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    incarnation: Incarnation,
    outbox: Outbox,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Workers {
    opened: u64,
    open: BTreeMap<WorkerId, Session>,
    /// When each process was last heard, on this node's monotonic clock. Outlives the stream: a worker may reconnect.
    heard: BTreeMap<(WorkerId, Incarnation), Duration>,
    activities: BTreeMap<WorkerId, BTreeMap<(TaskId, Epoch), Activity>>,
}

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Workers>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Workers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker's stream in; an older one of the same worker is closed. The token is cancelled when the session is closed
    /// from this side.
    pub(crate) fn open(
        &self,
        worker: &WorkerId,
        incarnation: Incarnation,
        outbox: Outbox,
        now: Duration,
    ) -> (SessionId, CancellationToken) {
        let mut workers = self.lock();
        workers.opened += 1;
        let id = SessionId(workers.opened);
        let closed = CancellationToken::new();
        let session = Session {
            id,
            incarnation,
            outbox,
            closed: closed.clone(),
        };
        if let Some(older) = workers.open.insert(worker.clone(), session) {
            older.closed.cancel();
        }
        workers.heard.insert((worker.clone(), incarnation), now);
        (id, closed)
    }

    /// The stream has ended.
    pub(crate) fn close(&self, worker: &WorkerId, id: SessionId) {
        let mut workers = self.lock();
        if workers.open.get(worker).is_some_and(|open| open.id == id) {
            workers.open.remove(worker);
            workers.activities.remove(worker);
        }
    }

    /// Ends every stream, with a last word.
    pub(crate) fn close_all(&self, last: impl Fn() -> v1::leader_message::Body) {
        let open = std::mem::take(&mut self.lock().open);
        for session in open.into_values() {
            // A full outbox is no loss: the end of the stream says the same.
            let _ = session
                .outbox
                .try_send(Ok(v1::LeaderMessage { body: Some(last()) }));
            session.closed.cancel();
        }
    }

    /// Ends every stream without a word: the workers come back and repeat what was not acknowledged.
    pub(crate) fn cut_all(&self) {
        for session in std::mem::take(&mut self.lock().open).into_values() {
            session.closed.cancel();
        }
    }

    /// Ends the stream of a process without a word.
    pub(crate) fn cut(&self, worker: &WorkerId, incarnation: Incarnation) {
        let mut workers = self.lock();
        let open = workers.open.get(worker);
        if open.is_some_and(|open| open.incarnation == incarnation)
            && let Some(session) = workers.open.remove(worker)
        {
            session.closed.cancel();
        }
    }

    /// Puts a message into a worker's outbox. Returns the stream that it goes over, or `None` if the worker has no stream. A worker whose
    /// outbox is full is cut off.
    pub(crate) fn send(
        &self,
        worker: &WorkerId,
        incarnation: Incarnation,
        body: v1::leader_message::Body,
    ) -> Option<SessionId> {
        let mut workers = self.lock();
        let session = workers
            .open
            .get(worker)
            .filter(|open| open.incarnation == incarnation)?;
        let id = session.id;
        let message = v1::LeaderMessage { body: Some(body) };
        match session.outbox.try_send(Ok(message)) {
            Ok(()) => Some(id),
            Err(error) => {
                let full = matches!(error, mpsc::error::TrySendError::Full(_));
                if full {
                    tracing::warn!(%worker, "worker does not read its messages, closing its stream");
                }
                session.closed.cancel();
                workers.open.remove(worker);
                None
            }
        }
    }

    /// The worker has said something.
    pub(crate) fn heard(&self, worker: &WorkerId, incarnation: Incarnation, now: Duration) {
        let mut workers = self.lock();
        workers.heard.insert((worker.clone(), incarnation), now);
    }

    /// When a process was last heard in this office.
    pub(crate) fn last_heard(
        &self,
        worker: &WorkerId,
        incarnation: Incarnation,
    ) -> Option<Duration> {
        let workers = self.lock();
        workers.heard.get(&(worker.clone(), incarnation)).copied()
    }

    /// Whether a process has a stream at present.
    pub(crate) fn is_open(&self, worker: &WorkerId, incarnation: Incarnation) -> bool {
        self.session_of(worker, incarnation).is_some()
    }

    /// The present stream of a process.
    pub(crate) fn session_of(
        &self,
        worker: &WorkerId,
        incarnation: Incarnation,
    ) -> Option<SessionId> {
        self.lock()
            .open
            .get(worker)
            .filter(|open| open.incarnation == incarnation)
            .map(|open| open.id)
    }

    /// Every process with a stream.
    pub(crate) fn connected(&self) -> BTreeMap<WorkerId, Incarnation> {
        let workers = self.lock();
        workers
            .open
            .iter()
            .map(|(worker, open)| (worker.clone(), open.incarnation))
            .collect()
    }

    /// Forgets when a process was heard: it has expired.
    pub(crate) fn forget(&self, worker: &WorkerId, incarnation: Incarnation) {
        let mut workers = self.lock();
        workers.heard.remove(&(worker.clone(), incarnation));
    }

    /// Notes what a worker's tasks are doing.
    pub(crate) fn note_activities(&self, worker: &WorkerId, said: Vec<v1::TaskActivity>) {
        let activities = said
            .into_iter()
            .take(MAX_ACTIVITIES)
            .map(|said| {
                let task = TaskId {
                    job: holdfast_types::JobId(said.job),
                    index: said.task,
                };
                let activity = Activity {
                    doing: said.doing,
                    idle_ms: said.idle_ms,
                    step: said.step,
                };
                ((task, Epoch(said.epoch)), activity)
            })
            .collect();
        self.lock().activities.insert(worker.clone(), activities);
    }

    /// What a task was doing at its worker's last heartbeat.
    pub(crate) fn activity(
        &self,
        worker: &WorkerId,
        task: TaskId,
        epoch: Epoch,
    ) -> Option<Activity> {
        let workers = self.lock();
        workers.activities.get(worker)?.get(&(task, epoch)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(sequence: u64) -> v1::leader_message::Body {
        v1::leader_message::Body::HeartbeatAck(v1::HeartbeatAck { sequence })
    }

    fn id(text: &str) -> WorkerId {
        WorkerId::new(text).expect("a legal id")
    }

    #[test]
    fn a_reconnected_worker_replaces_its_older_stream() {
        let sessions = Sessions::default();
        let (worker, life) = (id("w"), Incarnation(7));
        let (first, mut first_in) = mpsc::channel(4);
        let (second, mut second_in) = mpsc::channel(4);
        let (old, old_closed) = sessions.open(&worker, life, first, Duration::ZERO);
        let (new, new_closed) = sessions.open(&worker, life, second, Duration::from_secs(1));
        assert!(old_closed.is_cancelled() && !new_closed.is_cancelled());
        // The old stream's end comes late and must not take the new one along.
        sessions.close(&worker, old);
        assert_eq!(sessions.send(&worker, life, ack(1)), Some(new));
        assert!(first_in.try_recv().is_err() && second_in.try_recv().is_ok());
        assert_eq!(
            sessions.last_heard(&worker, life),
            Some(Duration::from_secs(1))
        );
        assert_eq!(sessions.send(&worker, Incarnation(8), ack(2)), None);
    }

    #[test]
    fn a_worker_that_does_not_read_is_cut_off_but_not_forgotten() {
        let sessions = Sessions::default();
        let (worker, life) = (id("w"), Incarnation(7));
        let (outbox, _inbox) = mpsc::channel(2);
        let (_, closed) = sessions.open(&worker, life, outbox, Duration::ZERO);
        assert!(sessions.send(&worker, life, ack(1)).is_some());
        assert!(sessions.send(&worker, life, ack(2)).is_some());
        assert_eq!(sessions.send(&worker, life, ack(3)), None);
        assert!(closed.is_cancelled());
        assert!(!sessions.is_open(&worker, life));
        assert!(sessions.last_heard(&worker, life).is_some());
    }
}
