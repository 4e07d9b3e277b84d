//! Consensus for the coordinators: openraft behind one handle, [`Node`].
//!
//! # Purpose
//! Replicates the commands of a [`StateMachine`] among the coordinators, keeps them on disk, and lets any node propose,
//! read and change the members. openraft's types stay inside.
//!
//! # Invariants
//! A node acknowledges a vote or an entry only when it is durable. It applies only committed entries, in order, once. It
//! serves no byte whose checksum is wrong. It talks only to nodes of its own cluster. A node id is used once.
//!
//! # Concurrency
//! openraft's tasks, the log's writer, a watcher and a disk check run beside the callers on whatever tokio runtime the node
//! was started in. Files are touched only inside `Env::blocking`.
//!
//! # Crash consistency
//! State lives in memory. A start loads the last snapshot and applies the log behind it, as far as it is known to be
//! committed; see `log_store` and `snapshot` for what each write promises.

#![warn(missing_debug_implementations)]

mod config;
#[cfg(test)]
mod conformance;
mod core;
mod identity;
mod key_check;
mod leadership;
mod ledger_machine;
mod log_engine;
mod log_store;
mod log_tail;
mod log_writer;
mod machine;
mod machine_store;
mod members;
mod membership_watch;
mod network;
mod node;
mod peers;
mod record;
mod service;
mod snapshot;
mod start;
mod status;
mod type_config;
mod wire;

pub use config::{MAX_COMMAND_SIZE, RaftConfig};
pub use holdfast_ledger::LogPosition;
pub use key_check::KeyCheck;
pub use leadership::{Leadership, Standing};
pub use machine::{Observer, StateMachine};
pub use members::Member;
pub use node::Node;
pub use service::{RaftServer, RaftService};
pub use status::{MemberStatus, RaftStatus};

/// A coordinator's node: the one whose state machine is the ledger.
pub type RaftNode = Node<holdfast_ledger::Ledger>;
