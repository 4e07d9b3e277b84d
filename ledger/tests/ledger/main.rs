//! The state machine from outside: commands in, outcomes and effects out, invariants after every step.

mod bounds;
mod chains;
mod compat;
mod connections;
mod expiry;
mod fleets;
mod fuzz;
mod holds;
mod jobs;
mod leader;
mod logged;
mod marathon;
mod reports;
mod schedules;
mod settling;
mod snapshots;
mod specs;
mod targets;
mod transitions;
mod users;
mod world;
