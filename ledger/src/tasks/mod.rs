//! A job's task list, made so that a million spans cost tens of MiB.
//!
//! Tasks are numbered in the order in which they come to be: one plan per member; then the spans, member by member; then one
//! finish and one revert per member. Steps (plan, finish, revert) are few and stored plainly. Spans are stored in chunks that
//! share the bounds between neighbours; a chunk whose spans are all finished shrinks to its first bound.

mod chunk;
mod draft;
mod segment;
mod step;
mod table;
mod view;
mod work;

pub(crate) use chunk::{Active, Chunk, SlotRef, TaskEntry};
pub(crate) use segment::Segment;
pub(crate) use step::StepRun;
pub(crate) use table::{Place, TaskTable};
pub use view::{ReadyTask, TaskKind, TaskView};
pub use work::Lease;
pub(crate) use work::Work;
