//! Tasks: what is done under one lease.
//!
//! Each task is an actor ([`TaskHandle`]) that runs one flow, and the flow drives a chain of stage actors of its own: reader → packer →
//! uploader → reporter for a backup, reader → loader → reporter for a restore, checker → reporter for a verification. Of a source whose history is
//! a log the source itself reads and writes ([`logged`]).
//!
//! # Invariants
//! * **At most one uncommitted part per stream.** A part is read, made durable, and reported; the next one is not begun before the report was
//!   acknowledged, that is committed. What a crash can cost is one part per slot.
//! * Nothing is read from a source and nothing is written while the fence is closed.
//! * `Released` is reported when nothing of the task exists any more.
//!
//! # Concurrency
//! Stages of one task work one after the other; tasks run side by side, one per slot. A stage or flow that panics fails its own task and no
//! other. Memory per slot: a part as rows, the same part packed, and one batch read ahead.
//!
//! # Crash consistency
//! Nothing here is durable. A task begins at the committed frontier that its grant names, and every step may be repeated.

mod activity;
mod backup_plan;
mod backup_span;
mod cut;
mod frontier;
mod halt;
mod layers;
mod loader;
mod logged;
mod merge_reader;
mod packer;
mod part;
mod plan_batches;
mod reader;
mod reporter;
mod restore_end;
mod restore_plan;
mod restore_span;
mod stage;
mod task_actor;
mod ticket;
mod uploader;
mod verify;
mod window;

pub(crate) use layers::LayerCache;
pub(crate) use logged::check_restore;
pub(crate) use task_actor::TaskHandle;
pub(crate) use ticket::Ticket;
