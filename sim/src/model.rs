//! A source with PostgreSQL's semantics, for the logged path of coordinators and workers, with the production fold.
//!
//! What is modelled is what makes PostgreSQL hard to back up: pages that are read at moments of their own, rows that move between pages,
//! updates that do not log an unchanged value, keys that change, truncations that are not in a snapshot, rewrites that are not in the
//! log, commits that are in the log before they are seen, and slots whose log is gone once it was confirmed. What is not: SQL and the
//! wire. Workers reach a server directly, through a gate that is slow, and loses connections when it is told to.

mod catalog;
mod client;
mod log;
mod merge;
mod rows;
mod server;
mod settle;
pub(crate) mod shop;

pub(crate) use client::ModelFactory;
pub(crate) use rows::{ModelRow, Rows};
pub(crate) use server::ModelServer;
pub(crate) use shop::Shop;
