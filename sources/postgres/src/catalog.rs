//! What is in a database: relations with their layouts and handling, as its catalogs show them.
//!
//! Everything is read by ordinary queries, so that it is what the transaction's snapshot shows, and only what must be current is
//! asked of functions that look past the snapshot.

mod classify;
mod columns;
mod databases;
mod relations;
mod types;

pub use databases::{Database, databases};
pub use relations::{Access, RelationFacts, read, read_one};
