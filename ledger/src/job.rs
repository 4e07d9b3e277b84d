//! A job: what it is to do, where it stands, and what it has done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_types::{
    BackupSpec, ByteCount, Digest, Epoch, Fault, Hlc, HoldId, JobId, JobKind, JobSpec, JobState,
    MemberName, Phase, Relation, RequestKey, RowCount, ScheduledRun, Settled, TaskId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::command::PartRef;
use crate::file_list::{FileList, ManifestEntry};
use crate::tasks::{Lease, TaskTable};

/// How many errors a job keeps for show: the newest.
pub(crate) const MAX_JOB_ERRORS: usize = 16;
/// How many notes a job keeps for show: the oldest.
pub(crate) const MAX_JOB_NOTES: usize = 100;
/// How long a note is at most, in bytes: what is longer is cut.
pub(crate) const MAX_NOTE: usize = 600;
/// How many state changes a job keeps for show: the newest.
pub(crate) const MAX_TRANSITIONS: usize = 32;

/// Why a job can no longer succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doom {
    /// A permanent error.
    Failed(Fault),
    /// An operator's wish.
    Canceled,
}

/// An error that a job has met, whether or not it went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// When.
    pub at: Timestamp,
    /// In which task, if in one.
    pub task: Option<TaskId>,
    /// What.
    pub fault: Fault,
}

/// Something that did not go as usual, though the job goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNote {
    /// Index of the member that it is about, in the job's specification.
    pub member: Option<u32>,
    /// What, for people.
    pub text: String,
}

/// A change of a job's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// From which state.
    pub from: JobState,
    /// To which.
    pub to: JobState,
}

/// What the sweep after a job's end removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
}

/// What the finish task of a restored member found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishResult {
    /// Index of the member in the job's specification.
    pub member: u32,
    /// Rows counted.
    pub rows: RowCount,
    /// Their digest.
    pub fingerprint: Option<Digest>,
}

/// What became of a chain that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExpiredChain {
    /// Objects that are gone.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// Objects that a store did not let go.
    pub refused: u64,
}

/// What a job has done so far. Every count only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes read from the source (backup) or the collection (restore, verify).
    pub bytes_read: ByteCount,
    /// Bytes written to the collection (backup) or the source (restore).
    pub bytes_written: ByteCount,
    /// Upper bound of what was read twice: after a worker was lost or a task failed, all that the task's next checkpoint read.
    pub bytes_redone: ByteCount,
    /// Rows.
    pub rows: RowCount,
    /// Objects accepted.
    pub objects: u64,
    /// Rows (versions) in them.
    pub object_rows: RowCount,
    /// Their stored bytes.
    pub stored: ByteCount,
    /// Bytes of keys and values in them before compression.
    pub logical: ByteCount,
    /// Estimated bytes of all spans; known once every member is planned.
    pub weight_total: u64,
    /// The part of it that is done.
    pub weight_done: u64,
    /// Spans planned.
    pub spans_total: u32,
    /// Spans finished.
    pub spans_done: u32,
    /// Finish tasks.
    pub finishes_total: u32,
    /// Finish tasks that are done.
    pub finishes_done: u32,
}

/// One member's part of a job (of a verification there is one, of no member).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) relations: Arc<Vec<Relation>>,
    pub(crate) weight_total: u64,
    pub(crate) weight_done: u64,
    pub(crate) spans_total: u32,
    pub(crate) spans_done: u32,
    /// Where the member ended, as its settling spans found.
    pub(crate) settled: Option<Settled>,
    /// By the clock, where the first of its settling spans ended.
    pub(crate) complete_until: Option<Hlc>,
    /// Whether one of its settling spans found that no history is kept from its end on.
    pub(crate) is_loose: bool,
    /// What the layer holds of the member, as its settling spans found; in the order in which they were done.
    pub(crate) settled_relations: Arc<Vec<Relation>>,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) request: Option<RequestKey>,
    /// The run of a schedule that it is.
    pub(crate) scheduled: Option<ScheduledRun>,
    pub(crate) hold: Option<HoldId>,
    pub(crate) state: JobState,
    pub(crate) phase: Phase,
    pub(crate) doom: Option<Doom>,
    pub(crate) reason: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) errors: Vec<JobError>,
    pub(crate) errors_total: u64,
    pub(crate) counters: Counters,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) tasks: TaskTable,
    /// Leases that were revoked when the job failed, until their workers have let go: by task index and epoch.
    pub(crate) lingering: BTreeMap<(u32, Epoch), Lease>,
    pub(crate) list: FileList,
    /// Everything that the manifest names is durable: it may be written, or be there already.
    pub(crate) committing: bool,
    /// The manifest is durable, and the layer is in the catalogue.
    pub(crate) committed: bool,
    pub(crate) finish_results: Vec<FinishResult>,
    pub(crate) swept: Option<Swept>,
    /// Of an expiry: the chain that is being removed.
    pub(crate) expiring: Option<String>,
    /// Of an expiry: the chains that are removed.
    pub(crate) expired: BTreeMap<String, ExpiredChain>,
    /// Of a backup: its layer is in the catalogue no more, for its chain was removed.
    pub(crate) layer_expired: bool,
    pub(crate) notes: Vec<JobNote>,
    /// Whether there was more to note than is kept.
    pub(crate) notes_left_out: bool,
}

impl Job {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What it is to do.
    #[must_use]
    pub fn spec(&self) -> &Arc<JobSpec> {
        &self.spec
    }

    /// Forgets the key of an encrypted chain: nothing is read or written for the job any more.
    pub(crate) fn forget_key(&mut self) {
        if self.spec.encryption().is_some() {
            Arc::make_mut(&mut self.spec).forget_key();
        }
    }

    /// The kind of job.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        self.spec.kind()
    }

    /// The client's idempotency key.
    #[must_use]
    pub fn request(&self) -> Option<&RequestKey> {
        self.request.as_ref()
    }

    /// The run of a schedule that it is, if it is one.
    #[must_use]
    pub fn scheduled(&self) -> Option<ScheduledRun> {
        self.scheduled
    }

    /// Its hold, until every member has let go of it.
    #[must_use]
    pub fn hold(&self) -> Option<HoldId> {
        self.hold
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> JobState {
        self.state
    }

    /// What it is busy with while it runs, or was when it stopped.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it can no longer succeed, if so.
    #[must_use]
    pub fn doom(&self) -> Option<&Doom> {
        self.doom.as_ref()
    }

    /// The permanent error that it met, if any.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match &self.doom {
            Some(Doom::Failed(fault)) => Some(fault),
            Some(Doom::Canceled) | None => None,
        }
    }

    /// Why it was paused or cancelled.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When it was accepted.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When the leader first took it up.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// When it became terminal.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.finished_at
    }

    /// Its newest changes of state, oldest first.
    #[must_use]
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// The newest errors that it met, oldest first.
    #[must_use]
    pub fn errors(&self) -> &[JobError] {
        &self.errors
    }

    /// How many errors it met in all.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors_total
    }

    /// What did not go as usual, though it went on; the oldest first.
    #[must_use]
    pub fn notes(&self) -> &[JobNote] {
        &self.notes
    }

    /// Whether there was more to note than is kept.
    #[must_use]
    pub fn notes_left_out(&self) -> bool {
        self.notes_left_out
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What a member's plan described, in its order; known once every member is planned, dropped when the job is terminal.
    #[must_use]
    pub fn relations(&self, member: u32) -> Arc<Vec<Relation>> {
        self.lanes
            .get(member as usize)
            .map(|lane| Arc::clone(&lane.relations))
            .unwrap_or_default()
    }

    /// What the layer of a backup holds of a member: what its settling spans found, or, without such, what its plan described. Known
    /// once all its spans are done, dropped when the job is terminal.
    #[must_use]
    pub fn held_relations(&self, member: u32) -> Arc<Vec<Relation>> {
        match self.lanes.get(member as usize) {
            Some(lane) if lane.settled.is_some() => Arc::clone(&lane.settled_relations),
            Some(lane) => Arc::clone(&lane.relations),
            None => Arc::default(),
        }
    }

    /// The other relations of the database that a settling span stands for, as planned.
    #[must_use]
    pub fn planned_with(&self, task: TaskId) -> Vec<Relation> {
        let Some(settling) = self.relation_of_task(task) else {
            return Vec::new();
        };
        let member = self.tasks.member(task.index).unwrap_or_default();
        let relations = self.relations(member);
        let others = relations.iter().filter(|relation| {
            relation.name.database == settling.name.database && relation.id != settling.id
        });
        others.cloned().collect()
    }

    /// Where a member ended, if only its settling spans could tell; known once all its spans are done.
    #[must_use]
    pub fn settled(&self, member: u32) -> Option<Settled> {
        self.lanes.get(member as usize)?.settled
    }

    /// Up to where, by the clock, the layer has everything of a member that only its settling spans could tell the end of; known once all
    /// its spans are done.
    #[must_use]
    pub fn complete_until(&self, member: u32) -> Option<Hlc> {
        self.lanes.get(member as usize)?.complete_until
    }

    /// Whether an incremental can follow: every member keeps its history, as far as its settling spans could tell.
    #[must_use]
    pub fn keeps_history(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_loose)
    }

    /// Where the layer of a backup ends: as asked for, or, of a source that only knows when it is there, where its members ended.
    #[must_use]
    pub fn end(&self, spec: &BackupSpec) -> Hlc {
        let settled = self.lanes.iter().filter_map(|lane| lane.settled);
        settled.map(|settled| settled.at).fold(spec.end, Ord::max)
    }

    /// The members whose plan was ever leased, for that is what places a hold.
    pub(crate) fn placed_on(&self) -> BTreeSet<MemberName> {
        let members = self.spec.members();
        let plans = self.tasks.plans.steps.iter();
        plans
            .filter(|step| step.work.epoch != Epoch::ZERO)
            .filter_map(|step| members.get(step.member? as usize))
            .map(|member| member.name.clone())
            .collect()
    }

    /// The durable parts of the file list, in order.
    #[must_use]
    pub fn parts(&self) -> &[PartRef] {
        self.list.parts()
    }

    /// The part of the file list that is to be written: its number, and its objects in their order.
    #[must_use]
    pub fn sealed_part(&self) -> Option<(u32, Arc<Vec<ManifestEntry>>)> {
        self.list
            .sealed()
            .map(|(number, entries)| (number, Arc::clone(entries)))
    }

    /// Whether everything that the manifest names is durable, so that the manifest may be written or be there already.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.committing
    }

    /// Of an expiry: the chain that is being removed.
    #[must_use]
    pub fn expiring(&self) -> Option<&str> {
        self.expiring.as_deref()
    }

    /// Of an expiry: the chains that are removed, and what became of each.
    #[must_use]
    pub fn expired(&self) -> &BTreeMap<String, ExpiredChain> {
        &self.expired
    }

    /// Of an expiry: the chain that is next, or being removed.
    #[must_use]
    pub fn next_to_expire(&self) -> Option<&str> {
        let JobSpec::Expire(spec) = self.spec.as_ref() else {
            return None;
        };
        let mut left = (spec.chains.iter()).filter(|chain| !self.expired.contains_key(*chain));
        self.expiring().or_else(|| left.next().map(String::as_str))
    }

    /// Whether its layer was in the catalogue, and was removed from its collection since.
    #[must_use]
    pub fn layer_expired(&self) -> bool {
        self.layer_expired
    }

    /// Whether its layer is, or was, in the catalogue.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// What the finish tasks of a restore found.
    #[must_use]
    pub fn finish_results(&self) -> &[FinishResult] {
        &self.finish_results
    }

    /// What the sweep after its end removed.
    #[must_use]
    pub fn swept(&self) -> Option<Swept> {
        self.swept
    }

    /// Leases that were revoked and not yet given back.
    pub fn lingering(&self) -> impl Iterator<Item = (TaskId, Epoch, &Lease)> {
        self.lingering.iter().map(|(&(index, epoch), lease)| {
            let task = TaskId {
                job: self.id,
                index,
            };
            (task, epoch, lease)
        })
    }

    /// Whether the job can only be undone.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doom.is_some()
    }

    /// Whether nobody may be reading, writing or removing for the job.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tasks.leased().is_empty() && self.lingering.is_empty() && self.expiring.is_none()
    }

    /// Whether the sweep after its end is owed.
    pub(crate) fn needs_sweep(&self) -> bool {
        self.state.is_terminal() && self.kind() == JobKind::Backup && self.swept.is_none()
    }

    /// Whether it is not known whether the manifest exists: it may have become durable without the ledger having been told.
    pub(crate) fn may_have_manifest(&self) -> bool {
        self.committing && !self.committed && self.swept.is_none()
    }

    /// Whether the job may owe an effect or hold a lease.
    pub(crate) fn needs_attention(&self) -> bool {
        !self.state.is_terminal() || self.needs_sweep() || !self.lingering.is_empty()
    }

    /// The indices of the job's members; a single `None` for a verification, nothing for an expiry.
    pub(crate) fn members(&self) -> Vec<Option<u32>> {
        match self.kind() {
            JobKind::Verify => vec![None],
            JobKind::Expire => Vec::new(),
            JobKind::Backup | JobKind::Restore => {
                let count = u32::try_from(self.spec.members().len()).unwrap_or(u32::MAX);
                (0..count).map(Some).collect()
            }
        }
    }

    /// Remembers an error for show.
    pub(crate) fn note_error(&mut self, error: JobError) {
        if self.errors.len() >= MAX_JOB_ERRORS {
            self.errors.remove(0);
        }
        self.errors.push(error);
        self.errors_total += 1;
    }

    /// Remembers something for show, once: a task that is done again says it again.
    pub(crate) fn note(&mut self, member: Option<u32>, text: &str) {
        let kept = text.floor_char_boundary(MAX_NOTE.min(text.len()));
        let note = JobNote {
            member,
            text: text.get(..kept).unwrap_or_default().to_owned(),
        };
        if self.notes.contains(&note) {
            return;
        }
        match self.notes.len() < MAX_JOB_NOTES {
            true => self.notes.push(note),
            false => self.notes_left_out = true,
        }
    }

    /// Moves to a state, and remembers that.
    pub(crate) fn enter(&mut self, to: JobState, at: Timestamp) {
        if self.transitions.len() >= MAX_TRANSITIONS {
            self.transitions.remove(0);
        }
        let from = self.state;
        self.transitions.push(Transition { at, from, to });
        self.state = to;
    }

    /// A task in words: `member eu-1, relation bank.accounts`.
    pub(crate) fn describe_task(&self, index: u32) -> String {
        let members = self.spec.members();
        let member = self
            .tasks
            .member(index)
            .and_then(|member| members.get(member as usize));
        let place = self.tasks.locate(index);
        let relation = place
            .and_then(|place| self.tasks.segment_of(place))
            .and_then(|(segment, slot)| segment.relation(slot));
        match (member, relation) {
            (Some(member), Some(id)) => {
                let lane = self.tasks.member(index).unwrap_or_default() as usize;
                let named = self.lanes.get(lane).and_then(|lane| {
                    lane.relations
                        .iter()
                        .find(|relation| relation.id == id)
                        .map(|relation| relation.name.to_string())
                });
                let relation = named.unwrap_or_else(|| id.to_string());
                format!("member {}, relation {relation}", member.name)
            }
            (Some(member), None) => format!("member {}", member.name),
            (None, Some(layer)) => format!("layer {layer}"),
            (None, None) => format!("task {index}"),
        }
    }
}
