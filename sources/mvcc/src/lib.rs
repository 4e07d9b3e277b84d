//! An embedded multi-version table store, as a source that Holdfast protects.
//!
//! One [`MvccStore`] is one member: databases, tables of rows (key and value bytes), hybrid logical time, reads as of any position above the
//! garbage-collection threshold, versions between two positions, holds, and restores into tables that become visible at once. It lies in one
//! redb file on [`holdfast_env::Env::disk`] (see the table of contents in `layout.rs`).
//!
//! ```text
//! application ── MvccStore ─────────────┐                     (in process)
//! application ── MvccClient ── gRPC ── service ── MvccStore   (`serve`)
//! worker ─────── RemoteMember ─ gRPC ──┘
//! ```

#![warn(missing_debug_implementations)]

mod catalogue;
mod client;
mod clock;
mod commit;
mod counters;
mod directory;
mod engine;
mod factory;
mod gc;
mod layout;
mod link;
mod local;
mod merge;
mod mutation;
mod plan;
mod read;
mod remote;
mod restore;
mod server;
mod service;
mod store;
mod walk;
mod wire;
mod writer;

pub use client::MvccClient;
pub use clock::MAX_CLOCK_OFFSET;
pub use counters::RelationCount;
pub use directory::DEFAULT_TIME_TO_LIVE;
pub use factory::MvccFactory;
pub use gc::GcStep;
pub use local::LocalMember;
pub use mutation::{MAX_KEY_LENGTH, MAX_ROW_LENGTH, MAX_TRANSACTION_LENGTH, Mutation};
pub use plan::PlanStream;
pub use remote::RemoteMember;
pub use restore::FingerprintStep;
pub use server::{ServeHandle, serve};
pub use service::{MemberService, service};
pub use store::{MemberStatus, MvccStore, RelationStatus, StoreOptions};
