//! Backups are exact while writers run: DESIGN's fuzzy base, exact finish and fold, against real servers, byte by byte.
//!
//! `random` runs seeded workloads; `rules` has one deterministic test for each rule without which a backup would be wrong.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod backup;
mod database;
mod keys;
mod random;
mod rules;
mod slot;
mod workload;
