//! The replicated state of a Holdfast cluster as a pure state machine.
//!
//! # Purpose
//! `apply(position, command) -> (outcome, effects)`: synchronous, no I/O, no clock, no randomness. Every node applies the same
//! commands in the same order; only the leader performs the effects.
//!
//! # Invariants
//! The same commands in the same order give the same state, the same outcomes and the same [`Ledger::digest`] on every node.
//! What else always holds has an id in [`InvariantId`] and one definition in [`invariants`].
//!
//! # Concurrency
//! None inside. A clone is cheap, however large the jobs are (their task lists are shared until changed), so a snapshot is
//! written from a clone while commands go on being applied.
//!
//! # Crash consistency
//! The state is a function of the log. Effects may be lost at any time: those still owed are computed again by
//! [`Ledger::pending_effects`], and performing one twice changes nothing.

#![warn(missing_debug_implementations)]

mod apply;
mod catalogue;
mod chain_use;
mod codec;
mod command;
mod effect;
mod file_list;
mod hold;
pub mod invariants;
mod job;
mod ledger;
mod outcome;
mod pending;
mod progress;
mod queries;
mod schedule;
mod settings;
mod snapshot;
mod tasks;
mod worker;

pub use catalogue::{Catalogue, LayerRecord};
pub use chain_use::ChainUse;
pub use codec::{
    COMMAND_VERSION, OUTCOME_VERSION, decode_command, decode_outcome, encode_command,
    encode_outcome,
};
pub use command::{Action, Checkpoint, Command, Grant, PartRef, Report, ReportBody};
pub use effect::Effect;
pub use file_list::ManifestEntry;
pub use hold::{ChainHold, HoldRecord};
pub use invariants::{InvariantId, Violation};
pub use job::{
    Counters, Doom, ExpiredChain, FinishResult, Job, JobError, JobNote, Swept, Transition,
};
pub use ledger::{Ledger, LogPosition};
pub use outcome::{Outcome, ReportOutcome};
pub use progress::{JobProgress, MemberProgress, RunningTask, Starved};
pub use schedule::{LastRun, ScheduleRecord};
pub use settings::{MAX_BACKOFF, Setting, Settings};
pub use snapshot::SNAPSHOT_VERSION;
pub use tasks::{Lease, ReadyTask, TaskKind, TaskView};
pub use worker::WorkerRecord;
