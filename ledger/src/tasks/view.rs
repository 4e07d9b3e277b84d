//! Tasks as the outside sees them.

use holdfast_types::{ByteCount, Epoch, RelationId, Sealed, TaskId, Timestamp};

use super::work::Lease;

/// What a task is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskKind {
    /// Describe a member, place the hold, and cut the member into spans.
    Plan,
    /// Transfer a span.
    Span {
        /// The relation, as the member numbers it.
        relation: RelationId,
        /// First key, sealed.
        start: Sealed,
        /// First key after the span, sealed.
        end: Sealed,
        /// Estimated bytes.
        weight: ByteCount,
        /// Everything before this is done; equal to `start` for a fresh span.
        frontier: Sealed,
        /// Whether it waited for all other spans of the job, and says where its member ended.
        settles: bool,
    },
    /// Check and publish a restored member.
    Finish,
    /// Undo a restore on a member.
    Revert,
}

/// A task with all that is needed to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Which.
    pub id: TaskId,
    /// Index of the member in the job's specification; `None` in a verification.
    pub member: Option<u32>,
    /// What it is to do.
    pub kind: TaskKind,
    /// The current epoch; zero if it was never leased.
    pub epoch: Epoch,
    /// The lease, while there is one.
    pub lease: Option<Lease>,
    /// Failures since it last made progress.
    pub attempts: u32,
    /// When it last made progress; before that, when it was first leased.
    pub moved_at: Timestamp,
}

/// A task that waits for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyTask {
    /// Which.
    pub task: TaskId,
    /// Index of the member in the job's specification; `None` in a verification.
    pub member: Option<u32>,
    /// If it has failed without progress since: before this time it should not be tried again.
    pub rests_until: Option<Timestamp>,
}
