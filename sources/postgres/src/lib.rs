//! PostgreSQL as a source: exact backups over ordinary connections, with no access to the server's files.
//!
//! No snapshot is held for long. Page ranges are read at different snapshots, and the changes since the hold was placed make them exact
//! (fuzzy base, exact finish).

#![warn(missing_debug_implementations)]

mod answer;
pub mod catalog;
pub mod changes;
pub mod copy;
pub mod dsn;
pub mod exact;
pub mod factory;
pub mod fingerprint;
pub mod fixup;
pub mod fold;
pub mod globals;
pub mod hold;
pub mod identifier;
pub mod key;
pub mod large_objects;
pub mod layout;
pub mod member;
pub mod pages;
pub mod pgoutput;
pub mod preflight;
pub mod replication;
pub mod restore;
pub mod schema;
pub mod sequences;
pub mod session;
pub mod tuple;
