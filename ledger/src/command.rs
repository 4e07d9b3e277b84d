//! Every change to the cluster's state. Commands are the only thing raft replicates; whatever the state machine needs to know
//! of the outside (the time, a new id) was put into the command by its proposer.

use holdfast_types::{
    ByteCount, ClusterId, ConnectionName, ConnectionRecord, ControlVerb, Digest, Epoch, Fault,
    HoldId, Incarnation, JobId, JobSpec, LayerPath, Locality, MemberName, NewSchedule, ObjectRef,
    PlannedSpan, Relation, RequestKey, RowCount, RunResult, ScheduleChange, ScheduleId,
    ScheduleVerb, Sealed, SettledDatabase, SourceName, SourceRecord, TaskId, Timestamp, UserName,
    UserRecord, WorkerId,
};
use serde::{Deserialize, Serialize};

use crate::job::ExpiredChain;

/// A change, with the time at which its proposer made it. Times are for people and for retention, never for safety.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The proposer's wall clock.
    pub at: Timestamp,
    /// What changes.
    pub action: Action,
}

/// What changes. Append variants at the end only: their order is part of the encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Gives the cluster its identity; refused if it has one.
    InitCluster {
        /// The identity.
        cluster: ClusterId,
    },
    /// Several changes in one step, in order. Each has its own outcome; a refused one does not stop the rest. Batches do not nest: one
    /// inside another is refused, and is not even decoded.
    Batch(#[serde(deserialize_with = "crate::codec::flat_batch")] Vec<Action>),

    /// Registers a source, refused if the name is taken.
    RegisterSource {
        /// The source.
        source: SourceRecord,
    },
    /// Replaces the members of a source; refused while a job works on it.
    UpdateSource {
        /// The source, as it shall be.
        source: SourceRecord,
    },
    /// Forgets a source; refused while a job works on it.
    DropSource {
        /// Which.
        source: SourceName,
    },
    /// Changes a setting; unknown names and values out of range are refused.
    SetSetting {
        /// Its name.
        name: String,
        /// Its new value.
        value: u64,
    },

    /// A worker process announces itself. Refused with `AlreadyExists` while another incarnation of the same id is registered.
    RegisterWorker {
        /// Its id.
        worker: WorkerId,
        /// Which life of it.
        incarnation: Incarnation,
        /// Where it is.
        locality: Locality,
        /// How many tasks it takes at once.
        slots: u32,
        /// Its version, for people.
        version: String,
    },
    /// The leader has not heard of a worker for longer than a lease lasts, or the worker said goodbye: all its leases end. Uncommitted work of
    /// a worker that did not say goodbye counts as lost.
    ExpireWorker {
        /// Its id.
        worker: WorkerId,
        /// Which life of it; ignored if a newer one is registered.
        incarnation: Incarnation,
        /// Whether it said goodbye, so that nothing was in flight.
        clean: bool,
    },

    /// Accepts a job. The same request key gives the job that it gave before.
    SubmitJob {
        /// The new job's id.
        job: JobId,
        /// The new job's hold, if it needs one.
        hold: HoldId,
        /// What it is to do.
        spec: Box<JobSpec>,
        /// The client's idempotency key.
        request: Option<RequestKey>,
    },
    /// The leader takes a pending job up.
    StartJob {
        /// Which.
        job: JobId,
    },
    /// An operator's (or the leader's) wish.
    ControlJob {
        /// Which job.
        job: JobId,
        /// What is wished.
        verb: ControlVerb,
        /// Why, shown with the job.
        reason: Option<String>,
    },
    /// A permanent error outside of any task.
    FailJob {
        /// Which job.
        job: JobId,
        /// The error.
        fault: Fault,
    },

    /// Leases tasks. Each is refused by itself if the task is not ready or the worker is gone or full.
    GrantLeases {
        /// The grants.
        grants: Vec<Grant>,
    },
    /// Workers' reports, in the order of their arrival. Each is accepted or refused by itself.
    Reports {
        /// The reports.
        reports: Vec<Report>,
    },

    /// A sealed part of a layer's file list is durable in the collection.
    PartWritten {
        /// Which job.
        job: JobId,
        /// Which part: parts of a job count from 0.
        part: u32,
        /// The object.
        object: PartRef,
    },
    /// The manifest of a backup is durable in the collection: the layer exists, and the job has succeeded.
    LayerCommitted {
        /// Which job.
        job: JobId,
        /// Digest of the manifest.
        manifest: Digest,
        /// Its length.
        length: ByteCount,
    },
    /// A member has let go of a hold.
    HoldReleased {
        /// Which hold.
        hold: HoldId,
        /// On which member.
        member: MemberName,
    },
    /// Objects that no manifest names were removed after a job's end.
    JobSwept {
        /// Which job.
        job: JobId,
        /// How many objects.
        objects: u64,
        /// Their bytes.
        bytes: ByteCount,
    },
    /// Forgets terminal jobs older than the retention setting, with their request keys.
    ForgetJobs {
        /// Which.
        jobs: Vec<JobId>,
    },
    /// A member knows that a chain's layer is durable, and may let go of the history up to its end.
    HoldAdvanced {
        /// The chain's hold.
        hold: HoldId,
        /// Which member.
        member: MemberName,
        /// Which layer.
        layer: LayerPath,
    },
    /// An operator gives a chain's hold up: no incremental can be appended to the chain any more.
    DropHold {
        /// Which.
        hold: HoldId,
    },
    /// Makes a schedule, or a pair.
    CreateSchedule {
        /// What.
        schedule: Box<NewSchedule>,
        /// Nothing is made if there is one of that label.
        if_not_exists: bool,
    },
    /// Changes a schedule, and what it shares with its pair.
    AlterSchedule {
        /// Which; either of a pair.
        schedule: ScheduleId,
        /// What changes.
        change: Box<ScheduleChange>,
    },
    /// An operator's wish.
    ControlSchedule {
        /// Which schedule.
        schedule: ScheduleId,
        /// What is wished.
        verb: ScheduleVerb,
    },
    /// The leader has found a schedule's next regular time.
    PlanSchedule {
        /// Which schedule.
        schedule: ScheduleId,
        /// The time.
        next: Timestamp,
    },
    /// A run that was due has begun, or could not. Refused if none was due then.
    FireSchedule {
        /// Which schedule.
        schedule: ScheduleId,
        /// When it was due.
        due: Timestamp,
        /// The next regular time.
        next: Timestamp,
        /// What became of the run.
        result: Box<RunResult>,
        /// Of incrementals: which of the schedule's keys opened the chain, as [`crate::ScheduleRecord::keys_version`]; `None` if nobody knows.
        opened_by: Option<u32>,
    },
    /// Stores a connection. A new one is refused if the name is taken; an old one is replaced, and to another place only while no job uses it.
    PutConnection {
        /// The connection.
        connection: ConnectionRecord,
        /// Whether there must be one of this name already; otherwise there must be none.
        alter: bool,
    },
    /// Forgets a connection; refused while a job uses it.
    DropConnection {
        /// Which.
        connection: ConnectionName,
    },
    /// Makes a user, or gives one another password. A new one is refused if the name is taken; of an old one the time of making stays.
    PutUser {
        /// The user.
        user: UserRecord,
        /// Whether there must be one of this name already; otherwise there must be none.
        alter: bool,
    },
    /// Forgets a user. Sessions that are open go on.
    DropUser {
        /// Which.
        user: UserName,
    },
    /// The leader is about to remove a chain of an expiry: from now on the job is neither paused nor over before that has ended, however it ends.
    BeginExpiry {
        /// Which job.
        job: JobId,
        /// The chain, by the directory of its full.
        chain: String,
    },
    /// A chain of an expiry is removed, as far as its stores let it go, and nobody takes it for a backup any more.
    ChainExpired {
        /// Which job.
        job: JobId,
        /// The chain, by the directory of its full.
        chain: String,
        /// What became of it.
        removed: ExpiredChain,
        /// Why something stayed, for people.
        note: Option<String>,
    },
}

/// One lease to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The task.
    pub task: TaskId,
    /// To whom.
    pub worker: WorkerId,
    /// To which life of it.
    pub incarnation: Incarnation,
}

/// What a worker says of a task it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The task.
    pub task: TaskId,
    /// The lease under which it speaks; refused if it is not the current one.
    pub epoch: Epoch,
    /// What it says.
    pub body: ReportBody,
}

/// What a worker says of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportBody {
    /// Part of a plan. Batches count from 0 within a lease; a new lease starts over.
    Plan {
        /// The batch's number.
        sequence: u32,
        /// Relations on the member that this plan speaks of.
        relations: Vec<Relation>,
        /// Spans in order: of each relation, from the open start to the open end.
        spans: Vec<PlannedSpan>,
        /// Whether this was the last batch: the task is done.
        last: bool,
    },
    /// Durable progress.
    Checkpoint(Checkpoint),
    /// A finish or revert task is done.
    Done {
        /// Rows counted by a finish task.
        rows: RowCount,
        /// Digest found by a finish task.
        fingerprint: Option<Digest>,
    },
    /// The worker gives the lease back, as it was told to or because it shuts down. Nothing is in flight any more.
    Released,
    /// The task failed.
    Failed {
        /// Why.
        fault: Fault,
    },
    /// Something that whoever asked for the job should know, though the task goes on under its lease.
    Notes {
        /// What, for people.
        notes: Vec<String>,
    },
}

/// Progress of a span task as a delta: everything in `[from, to)` is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the delta starts: must be the task's present frontier.
    pub from: Sealed,
    /// The new frontier; equal to the span's end when the span is finished.
    pub to: Sealed,
    /// Whether the span is finished.
    pub last: bool,
    /// The objects that prove it (a restore has none).
    pub objects: Vec<ObjectRef>,
    /// Bytes read from the source (backup) or the collection (restore, verify).
    pub read: ByteCount,
    /// Bytes written to the collection (backup) or the source (restore).
    pub written: ByteCount,
    /// Rows.
    pub rows: RowCount,
    /// With the last checkpoint of a settling span: where its database ended, and what the layer holds of it.
    pub settled: Option<SettledDatabase>,
}

/// A durable part of a layer's file list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartRef {
    /// Its name below the layer's directory.
    pub name: String,
    /// Stored length.
    pub length: ByteCount,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Objects that it lists.
    pub entries: u64,
    /// The number of the store that it is in.
    pub store: u16,
}
