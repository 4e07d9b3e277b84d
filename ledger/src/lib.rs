//! The replicated state of a Holdfast cluster as a pure state machine.
//!
//! `apply(position, command) -> (outcome, effects)`: synchronous, no I/O, no clock, no randomness. The same commands in the same
//! order give the same state, the same outcomes and the same [`Ledger::digest`] on every node.

mod command;
mod effect;
mod outcome;

pub use command::{Action, Checkpoint, Command, Grant, PartRef, Report, ReportBody};
pub use effect::Effect;
pub use outcome::{Outcome, ReportOutcome};
