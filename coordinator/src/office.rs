//! What belongs to one term of office of a leader, and ends with it.
//!
//! Everything here is volatile: a new leader computes it again from the ledger, and from the workers that come to it.

use holdfast_ledger::Ledger;
use holdfast_proto::{CheckReport, HoldAnswer, v1};
use holdfast_types::{HoldId, Incarnation, JobId, Locality, MemberName, Position, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::actors::committer::Committer;
use crate::notes::Notes;
use crate::plan::{Score, may_run};
use crate::questions::Questions;
use crate::sessions::Sessions;
use crate::spec_cache::SpecCache;
use crate::standings::Standings;

/// A worker's answer to a request to end a hold.
pub(crate) type HoldOutcome = Result<(), holdfast_types::Fault>;

/// A worker's answer to how a member would be backed up, or how a hold on it stands.
pub(crate) type CheckOutcome = Result<CheckReport, holdfast_types::Fault>;

/// A worker's answer to how a store serves it.
pub(crate) type StoreCheckOutcome = Result<v1::StoreCheckDone, holdfast_types::Fault>;

/// What a worker was asked to do to a hold: which, on which member, and up to where it was to move it.
type HoldQuestion = (HoldId, MemberName, Option<Position>);

/// One term of office.
#[derive(Debug)]
pub(crate) struct Office {
    /// The raft term.
    pub(crate) term: u64,
    /// When it began, on the monotonic clock: workers that were not heard since are given a whole lease from here.
    pub(crate) began: Duration,
    /// The workers' streams.
    pub(crate) sessions: Sessions,
    /// Rates and troubles.
    pub(crate) notes: Notes,
    /// Encoded job specifications.
    pub(crate) specs: SpecCache,
    /// Cancelled when the office ends.
    pub(crate) over: CancellationToken,
    /// Members that workers look at.
    pub(crate) checks: Questions<CheckOutcome>,
    /// Stores that workers try out.
    pub(crate) store_checks: Questions<StoreCheckOutcome>,
    /// How holds stand.
    pub(crate) standings: Standings,
    holds: Mutex<BTreeMap<HoldQuestion, oneshot::Sender<HoldOutcome>>>,
    committing: Mutex<BTreeSet<JobId>>,
}

impl Office {
    pub(crate) fn new(term: u64, began: Duration) -> Self {
        Self {
            term,
            began,
            sessions: Sessions::default(),
            notes: Notes::default(),
            specs: SpecCache::default(),
            over: CancellationToken::new(),
            checks: Questions::default(),
            store_checks: Questions::default(),
            standings: Standings::default(),
            holds: Mutex::default(),
            committing: Mutex::default(),
        }
    }

    /// The best connected worker for a member.
    pub(crate) fn nearest(
        &self,
        ledger: &Ledger,
        place: &Locality,
    ) -> Option<(WorkerId, Incarnation)> {
        let connected = self.sessions.connected();
        ledger
            .workers()
            .filter(|worker| connected.get(&worker.id) == Some(&worker.incarnation))
            .filter(|worker| may_run(&worker.locality, place, &Locality::default()))
            .min_by_key(|worker| {
                let busy = worker.slots.saturating_sub(worker.free_slots());
                Score::new(&worker.id, &worker.locality, busy, worker.slots, place)
            })
            .map(|worker| (worker.id.clone(), worker.incarnation))
    }

    /// Waits for a worker's word on a hold. A second wait for the same replaces the first.
    pub(crate) fn await_hold(
        &self,
        hold: HoldId,
        member: MemberName,
        advance_to: Option<Position>,
    ) -> oneshot::Receiver<HoldOutcome> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.holds).insert((hold, member, advance_to), sender);
        receiver
    }

    /// A worker's word on a hold has come.
    pub(crate) fn answer_hold(&self, answer: HoldAnswer) {
        let question = (answer.hold, answer.member, answer.advance_to);
        if let Some(waiting) = lock(&self.holds).remove(&question) {
            // Nobody waits any more: the effect is tried again, and to end or move a hold twice changes nothing.
            let _ = waiting.send(answer.outcome);
        }
    }

    /// Marks a layer as being committed by this leader, for as long as the guard lives; `None` if it is already.
    pub(crate) fn commit_guard(self: &Arc<Self>, job: JobId) -> Option<CommitGuard> {
        lock(&self.committing).insert(job).then(|| CommitGuard {
            office: Arc::clone(self),
            job,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, the layer of a job is being committed or swept, but not both.
#[derive(Debug)]
pub(crate) struct CommitGuard {
    office: Arc<Office>,
    job: JobId,
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        lock(&self.office.committing).remove(&self.job);
    }
}

/// The office with the way into its committer, as sessions and views need it.
#[derive(Debug, Clone)]
pub(crate) struct InOffice {
    pub(crate) office: Arc<Office>,
    pub(crate) committer: Committer,
}

/// Where one finds the leader's office while this node leads.
#[derive(Debug, Default)]
pub(crate) struct Desk(RwLock<Option<InOffice>>);

impl Desk {
    /// The present office, if this node leads and has taken it.
    pub(crate) fn present(&self) -> Option<InOffice> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(|present| !present.office.over.is_cancelled())
    }

    pub(crate) fn occupy(&self, present: InOffice) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(present);
    }

    pub(crate) fn vacate(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
