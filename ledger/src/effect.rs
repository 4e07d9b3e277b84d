//! What the leader must make happen in the world. Effects are idempotent, and every one that is still owed can be computed from
//! the state alone ([`crate::Ledger::pending_effects`]): a new leader starts from that, and nothing is lost with the old one.

use holdfast_types::{
    Epoch, HoldId, Incarnation, JobId, LayerPath, MemberName, Position, SourceName, TaskId,
    WorkerId,
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Propose `StartJob` for a pending job.
    StartJob {
        /// Which.
        job: JobId,
    },
    /// The job has ready tasks: lease them to workers with free slots. A task that has failed should rest first
    /// ([`crate::ReadyTask::rests_until`]); the leader keeps that time, for the state has no clock.
    Dispatch {
        /// Which.
        job: JobId,
    },
    /// Tell a worker to stop a task and give its lease back with `Released`. A worker that does not know the task (the grant was lost on its
    /// way) must answer `Released` all the same. It is also owed for leases that were revoked because their job failed: their epoch is
    /// no longer current, yet undoing, the sweep and the release of holds wait until their worker has said `Released` or has expired, so
    /// that nothing is written behind their backs.
    StopTask {
        /// The task.
        task: TaskId,
        /// The lease.
        epoch: Epoch,
        /// Who holds it.
        worker: WorkerId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// Write a sealed part of the file list, then propose `PartWritten`.
    WritePart {
        /// Which job.
        job: JobId,
        /// Which part.
        part: u32,
    },
    /// Write the manifest (and, for a full, the LATEST pointer), then propose `LayerCommitted`.
    CommitLayer {
        /// Which job.
        job: JobId,
    },
    /// Have a worker near the member end a hold, then propose `HoldReleased`.
    ReleaseHold {
        /// The hold.
        hold: HoldId,
        /// The source.
        source: SourceName,
        /// The member.
        member: MemberName,
    },
    /// Have a worker near the member tell it that a layer of the hold's chain is durable, then propose `HoldAdvanced`.
    AdvanceHold {
        /// The chain's hold.
        hold: HoldId,
        /// The source.
        source: SourceName,
        /// The member.
        member: MemberName,
        /// The chain's newest layer.
        layer: LayerPath,
        /// Where it ends on the member: history up to here may go.
        to: Position,
    },
    /// Remove a chain of an expiry, then propose `ChainExpired`; before anything is removed propose `BeginExpiry`, and do nothing if that is refused.
    ExpireChain {
        /// Which job.
        job: JobId,
        /// The chain, by the directory of its full.
        chain: String,
    },
    /// Remove the objects of a terminal job that no manifest names, then propose `JobSwept`. If the job's manifest turns out to exist (it was
    /// being written when the job was cancelled), propose `LayerCommitted` first: the layer is taken into the catalogue, and
    /// everything that it names stays. Not before an own `CommitLayer` of the same job has ended.
    SweepJob {
        /// Which.
        job: JobId,
    },
}
