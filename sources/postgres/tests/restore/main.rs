//! Restores of real databases: every object kind, killed at every step, single tables, into newer servers.

mod support;
mod whole;
