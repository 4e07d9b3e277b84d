//! The agent: one actor that speaks for the worker. It keeps the stream to the leader, the leases, and the worker's own fence.
//!
//! # Invariants
//! * A task runs only under a lease that the leader granted or confirmed, and no longer than the fence allows ([`fence`]).
//! * Per lease at most one report is unacknowledged; it is sent again over a new stream until it is answered.
//! * No two tries run under one lease ([`crate::core::BegunLeases`]).
//!
//! # Concurrency
//! One thread. Whatever waits is a task of its own that tells the agent by message; no handler waits for the outside.
//!
//! # Crash consistency
//! Nothing here is durable. A restarted agent holds nothing, says so in its Hello, and gives back what the leader then grants again.

mod agent_actor;
mod checks;
mod fence;
mod finder;
mod holds;
mod inbound;
mod link;
mod messages;
mod store_checks;

pub(crate) use agent_actor::Agent;
pub(crate) use fence::Gate;
pub(crate) use messages::{Ack, SubmitReport, TaskGone};
