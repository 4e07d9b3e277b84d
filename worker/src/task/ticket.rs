//! What every part of one task shares.

use actix::Addr;
use holdfast_collection::CollectionStore;
use holdfast_format::{DataKey, Envelope};
use holdfast_proto::{Grant, Lease, LeaseReportBody};
use holdfast_source::{LoggedSource, Source};
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{ChainKey, ErrorCode, Fault, KeyRange, MemberRecord, Sealed, SourceKind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::Activity;
use super::halt::Halt;
use super::reporter::Reporter;
use super::stage::{Stage, StageHandle};
use crate::agent::{Ack, Agent};
use crate::bounds::{LOGGED_DEADLINE, PART_LEAST, PART_MOST, STOP_DRAIN};
use crate::core::Core;

/// What every part of one task shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) shared: Arc<Core>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) agent: Addr<Agent>,
    /// Cancelled when the task is to end in order.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the task has no lease any more.
    pub(crate) abort: CancellationToken,
    pub(crate) activity: Activity,
    /// Number of the last report.
    pub(crate) sequence: Arc<AtomicU64>,
    /// Counts whatever still exists of the task.
    pub(crate) alive: TaskTracker,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Core>, grant: Grant, agent: Addr<Agent>) -> Self {
        let activity = Activity::new(Arc::clone(&shared.env.clock));
        Self {
            shared,
            grant: Arc::new(grant),
            agent,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            activity,
            sequence: Arc::default(),
            alive: TaskTracker::new(),
        }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.grant.lease
    }

    /// Starts a stage of this task.
    pub(crate) fn stage<S: Stage>(&self, stage: S) -> StageHandle<S> {
        StageHandle::start(stage, &self.alive)
    }

    pub(crate) fn reporter(&self) -> StageHandle<Reporter> {
        self.stage(Reporter::new(self))
    }

    /// Waits for something that changes nothing outside; it is given up as soon as the task is told to stop.
    pub(crate) async fn read<T>(
        &self,
        doing: &str,
        deadline: Duration,
        reading: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Halt> {
        self.begin(doing)?;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Halt::Stopped),
            outcome = tokio::time::timeout(deadline, reading) => in_time(doing, deadline, outcome),
        }
    }

    /// Waits for something that writes. A write in flight is not given up at once when the task is told to stop, for a store may finish
    /// what nobody waits for; but it is given up after [`STOP_DRAIN`].
    pub(crate) async fn write<T>(
        &self,
        doing: &str,
        deadline: Duration,
        writing: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Halt> {
        self.begin(doing)?;
        let drained = async {
            self.stop.cancelled().await;
            if !mutant::is_broken(Promise::WritesAreDrained) {
                tokio::time::sleep(STOP_DRAIN).await;
            }
        };
        tokio::select! {
            biased;
            outcome = tokio::time::timeout(deadline, writing) => in_time(doing, deadline, outcome),
            () = drained => Err(Halt::Stopped),
        }
    }

    /// Waits for a long piece of work that writes now and then, and shares `writing` while it does. When the task is told to stop, no more writes are
    /// begun, and the work is given up when those under way have ended, or after [`STOP_DRAIN`].
    pub(crate) async fn drive<T>(
        &self,
        doing: &str,
        writing: &tokio::sync::RwLock<()>,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Halt> {
        self.begin(doing)?;
        let stopped = async {
            self.stop.cancelled().await;
            if !mutant::is_broken(Promise::WritesAreDrained) {
                let _ = tokio::time::timeout(STOP_DRAIN, writing.write()).await;
            }
        };
        tokio::select! {
            biased;
            outcome = tokio::time::timeout(LOGGED_DEADLINE, work) => in_time(doing, LOGGED_DEADLINE, outcome),
            () = stopped => Err(Halt::Stopped),
        }
    }

    fn begin(&self, doing: &str) -> Result<(), Halt> {
        if self.stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        self.shared.gate.check()?;
        self.activity.doing(doing);
        Ok(())
    }

    /// Sends a report and waits until it counts. There is no deadline but the fence: without an answer nothing may go on.
    pub(crate) async fn report(
        &self,
        reporter: &StageHandle<Reporter>,
        body: LeaseReportBody,
    ) -> Result<(), Halt> {
        self.activity
            .doing("waiting for a checkpoint to be committed");
        match reporter.ask(body).await? {
            Ack::Accepted => Ok(()),
            Ack::Refused(_) => Err(Halt::Dropped),
        }
    }

    /// The member that a piece of work is about.
    pub(crate) fn member(&self, index: u32) -> Result<&MemberRecord, Fault> {
        let members = self.grant.spec.members();
        members.get(index as usize).copied().ok_or_else(|| {
            Fault::new(
                ErrorCode::Internal,
                format!(
                    "task {} is about member {index}, which its job has not",
                    self.lease()
                ),
            )
        })
    }

    /// A client of that member.
    pub(crate) fn source(&self, kind: SourceKind, index: u32) -> Result<Arc<dyn Source>, Fault> {
        let member = self.member(index)?;
        self.shared
            .sources
            .member(kind, member)
            .map_err(|fault| fault.context(format_args!("member {}", member.name)))
    }

    /// A client of that member, whose history is a log.
    pub(crate) fn logged(
        &self,
        kind: SourceKind,
        index: u32,
    ) -> Result<Arc<dyn LoggedSource>, Fault> {
        let member = self.member(index)?;
        self.shared
            .sources
            .logged(kind, member)
            .map_err(|fault| fault.context(format_args!("member {}", member.name)))
    }

    /// The job's collection, which must exist, to read from it.
    pub(crate) async fn collection(&self) -> Result<CollectionStore, Fault> {
        let spec = &self.grant.spec;
        let store = (self.shared).open_existing(spec.collection(), spec.access());
        self.framed(store.await?)
    }

    /// The job's collection, to write data of a member where that belongs.
    pub(crate) async fn collection_for(&self, member: u32) -> Result<CollectionStore, Fault> {
        let spec = &self.grant.spec;
        let place = &self.member(member)?.locality;
        let store = (self.shared).open_collection(spec.collection(), spec.access());
        self.framed(store.await?.for_locality(place)?)
    }

    /// With the key of the job's chain, if that is encrypted.
    fn framed(&self, store: CollectionStore) -> Result<CollectionStore, Fault> {
        let key = self.grant.spec.encryption();
        Ok(store.with_envelope(envelope(&self.shared, key)?))
    }

    pub(crate) fn seal(&self, key: &[u8]) -> Sealed {
        self.shared.config.cluster_key.seal_bound(key)
    }

    /// A range of keys, from its sealed bounds.
    pub(crate) fn open_range(&self, start: &Sealed, end: &Sealed) -> Result<KeyRange, Fault> {
        let key = &self.shared.config.cluster_key;
        Ok(KeyRange {
            start: key.open_bound(start)?.into(),
            end: key.open_bound(end)?.into(),
        })
    }
}

/// How the objects of a job's chain are framed. The key came with the lease, sealed with the cluster key; no other is asked for.
pub(crate) fn envelope(shared: &Core, key: Option<&ChainKey>) -> Result<Envelope, Fault> {
    let Some(key) = key else {
        return Ok(Envelope::Clear);
    };
    let cluster_key = &shared.config.cluster_key;
    let secret = cluster_key.open_data_key(key.id, &key.sealed)?;
    DataKey::from_slice(&secret).map(Envelope::Sealed)
}

/// A part size that this worker can hold.
pub(crate) fn part_limit(asked: u64) -> u64 {
    asked.clamp(PART_LEAST, PART_MOST)
}

fn in_time<T>(
    doing: &str,
    deadline: Duration,
    outcome: Result<Result<T, Fault>, tokio::time::error::Elapsed>,
) -> Result<T, Halt> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(Halt::from(fault.context(doing))),
        Err(_) => Err(Halt::Failed(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("{doing} took longer than {} s", deadline.as_secs()),
        ))),
    }
}
