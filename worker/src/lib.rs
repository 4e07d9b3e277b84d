//! Workers: they find the leader, hold leases, and read, pack and write what the leases are about.
//!
//! A [`Worker`] is one actor that speaks with the leader, and one more for each task it does, which drives a chain of stages: reader, packer, uploader,
//! reporter. A task begins at the frontier that the cluster has committed, makes one part durable at a time, and goes on when that is
//! committed: so any worker can go on where another one stopped, and what is done twice is one part per stream at the most.
//!
//! A worker that does not hear from the leader for as long as a lease lasts stops by itself; whatever it had in flight carries its lease's
//! epoch, and is never referenced.

#![warn(missing_debug_implementations)]

mod agent;
mod bounds;
mod config;
mod core;
mod location;
mod stats;
mod task;
mod worker;

pub use config::WorkerConfig;
pub use stats::WorkerStats;
pub use worker::{Worker, WorkerHandle};
