//! Group commit: one task takes whatever writes have queued up and makes them durable in one transaction.

use holdfast_env::Env;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{mpsc, oneshot};

use crate::log_engine::{Engine, Write, storage_fault};
use crate::log_tail::Tail;
use crate::type_config::TypeConfig;
use holdfast_types::Fault;

/// How many writes may queue up before appending waits. A write is at most one batch of openraft's.
const QUEUE_LENGTH: usize = 1024;

/// How many bytes one transaction takes, so that a heartbeat's write does not wait behind an endless one.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Who learns that a write is durable.
enum Waiter {
    Nobody,
    Append(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<io::Result<()>>),
}

enum Job {
    Write {
        write: Write,
        sequence: u64,
        waiter: Waiter,
    },
    Close(oneshot::Sender<()>),
}

/// Queues writes. Writes become durable in the order in which they were queued.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter {
    jobs: mpsc::Sender<Job>,
    /// Why writing has ended, once it has.
    failure: Arc<OnceLock<Fault>>,
}

impl LogWriter {
    /// Starts the task. It ends when the last handle is dropped or [`LogWriter::close`] is called.
    pub(crate) fn start(engine: Arc<Engine>, tail: Arc<Mutex<Tail>>, env: Env) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH);
        let failure = Arc::new(OnceLock::new());
        let task = Task {
            engine,
            tail,
            env,
            failure: Arc::clone(&failure),
            unwritten_commit: None,
        };
        drop(tokio::spawn(task.run(queue)));
        Self { jobs, failure }
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn failure(&self) -> Option<&Fault> {
        self.failure.get()
    }

    /// Queues a write that nobody waits for.
    pub(crate) async fn queue(&self, write: Write) -> io::Result<()> {
        self.send(write, 0, Waiter::Nobody).await
    }

    /// Queues entries; `flushed` is called when they are durable.
    pub(crate) async fn append(
        &self,
        entries: Vec<(u64, Vec<u8>)>,
        sequence: u64,
        flushed: IOFlushed<TypeConfig>,
    ) -> io::Result<()> {
        self.send(Write::Append(entries), sequence, Waiter::Append(flushed))
            .await
    }

    /// Writes, and waits until it is durable. Dropping the future abandons the answer, not the write.
    pub(crate) async fn write(&self, write: Write) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.send(write, 0, Waiter::Caller(sender)).await?;
        receiver.await.map_err(|_| closed())?
    }

    /// Makes everything queued durable and lets the file go.
    pub(crate) async fn close(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.jobs.send(Job::Close(sender)).await.is_ok() {
            // The task ends without an answer only when the runtime shuts down, and the file goes with it.
            let _ = receiver.await;
        }
    }

    async fn send(&self, write: Write, sequence: u64, waiter: Waiter) -> io::Result<()> {
        let job = Job::Write {
            write,
            sequence,
            waiter,
        };
        self.jobs.send(job).await.map_err(|_| closed())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the raft log is closed")
}

#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    waiters: Vec<Waiter>,
    sequence: u64,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

struct Task {
    engine: Arc<Engine>,
    tail: Arc<Mutex<Tail>>,
    env: Env,
    failure: Arc<OnceLock<Fault>>,
    /// A committed mark that is only worth a transaction together with something else: without it, a restart applies a few
    /// entries less, until the leader says how far the cluster has committed.
    unwritten_commit: Option<Write>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.recv().await {
            let mut group = Group::default();
            self.add(&mut group, first);
            while group.close.is_none()
                && group.bytes < GROUP_BYTES
                && let Ok(job) = queue.try_recv()
            {
                self.add(&mut group, job);
            }
            let close = group.close.take();
            if (close.is_some() || !group.writes.is_empty())
                && let Some(commit) = self.unwritten_commit.take()
            {
                group.writes.push(commit);
            }
            self.commit(group).await;
            if let Some(closed) = close {
                let engine = Arc::clone(&self.engine);
                self.env.blocking(move || engine.close()).await;
                // Whoever asked may have given up waiting.
                let _ = closed.send(());
                return;
            }
        }
    }

    fn add(&mut self, group: &mut Group, job: Job) {
        match job {
            Job::Close(closed) => group.close = Some(closed),
            Job::Write {
                write: commit @ Write::Committed(_),
                ..
            } => self.unwritten_commit = Some(commit),
            Job::Write {
                write,
                sequence,
                waiter,
            } => {
                group.bytes += write.size();
                group.writes.push(write);
                group.sequence = group.sequence.max(sequence);
                if !matches!(waiter, Waiter::Nobody) {
                    group.waiters.push(waiter);
                }
            }
        }
    }

    async fn commit(&self, group: Group) {
        if group.writes.is_empty() {
            return;
        }
        let result = match self.failure.get() {
            Some(fault) => Err((io::ErrorKind::Other, fault.message.clone())),
            None => {
                let engine = Arc::clone(&self.engine);
                let result = self
                    .env
                    .blocking(move || engine.commit(&group.writes))
                    .await;
                result.map_err(|error| {
                    let fault = storage_fault(self.engine.path(), &error);
                    tracing::error!(code = fault.code.as_str(), "{fault}");
                    let answer = (error.kind(), fault.message.clone());
                    // Only this task sets it, and only once: a later group does not come here.
                    let _ = self.failure.set(fault);
                    answer
                })
            }
        };
        if result.is_ok() && group.sequence > 0 {
            self.tail
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .flushed(group.sequence);
        }
        for waiter in group.waiters {
            let answer = result
                .as_ref()
                .copied()
                .map_err(|(kind, message)| io::Error::new(*kind, message.clone()));
            match waiter {
                Waiter::Nobody => {}
                Waiter::Append(flushed) => flushed.io_completed(answer),
                Waiter::Caller(caller) => {
                    // The caller may have given up waiting.
                    let _ = caller.send(answer);
                }
            }
        }
    }
}
