//! A Holdfast coordinator: takes requests, keeps the ledger with the other coordinators, and, while it leads, has workers do what the
//! ledger owes.
//!
//! # Purpose
//! [`Coordinator`] is the [`holdfast_client::ControlApi`] of one node, in process and over gRPC; [`Coordinator::start`] runs a
//! whole node on one port.
//!
//! # Invariants
//! Everything that matters is in the ledger or in a collection. What is kept here besides (sessions, rates, what fails at present) belongs to
//! one term of office and is computed again by the next leader. A worker is answered only while a quorum confirms the leader.
//!
//! # Concurrency
//! Actors on one thread ([`Coordinator::start`] must run in a tokio `LocalSet`); services and sessions on whatever runtime that is.
//! Locks are held for look-ups and never across an await.
//!
//! # Crash consistency
//! Effects are recomputed from the state and idempotent: a leader may die anywhere.

#![warn(missing_debug_implementations)]

mod actors;
mod agenda;
mod api;
mod asking;
mod config;
mod core;
mod encryption;
mod grant;
mod job_ids;
mod link;
mod location;
mod manifest;
mod notes;
mod office;
pub mod plan;
mod questions;
mod replica;
mod retention;
mod schedule;
mod server;
mod sessions;
mod spec_cache;
mod standings;
mod submit;

pub use api::{ControlLimits, ControlService, Coordinator, MAX_CONTROL_MESSAGE, PASSED_ON};
pub use config::{ApplyHook, Bootstrap, CoordinatorConfig, ViolationHook};
pub use holdfast_raft::RaftConfig;
pub use replica::ProposeLatency;
pub use server::CoordinatorHandle;
