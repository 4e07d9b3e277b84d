//! The state machine from outside: commands in, outcomes and effects out, invariants after every step.

mod bounds;
mod chains;
mod compat;
mod fuzz;
mod jobs;
mod leader;
mod reports;
mod snapshots;
mod specs;
mod transitions;
mod world;
