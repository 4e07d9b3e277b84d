//! What wraps the data key of an encrypted chain: passphrases and key management services.
//!
//! Purpose: from what a user gives (a passphrase, URIs of KMS keys) to the chain's data key, and back to a key info object. Invariants: a data key
//! leaves the process wrapped, or not at all; a secret is in no error, no log and no `Debug`; what a key info object asks of a reader is bounded.
//! Concurrency: a [`KeyService`] is shared by reference; at most two passphrases are worked on at once, for each takes 64 MiB. Crash
//! consistency: none of its own: nothing is stored here.
//!
//! This crate and `collection` are the two whose outside library does its own network I/O (`object_store`'s HTTP client). It is reached only for
//! KMS URIs, by coordinators, when a job is submitted or the keys of a chain are changed; no worker calls a KMS.

#![warn(missing_debug_implementations)]

mod kms;
mod passphrase;
mod ring;
mod secret;
mod service;

pub use kms::KmsUri;
pub use ring::KeyRing;
pub use secret::Secret;
pub use service::KeyService;
