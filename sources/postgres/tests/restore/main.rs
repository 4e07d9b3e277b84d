//! Restores of real databases: every object kind, killed at every step, single tables, into newer servers.

mod encodings;
mod globals;
mod newer;
mod parts;
mod preflight;
mod support;
mod tables;
mod whole;
