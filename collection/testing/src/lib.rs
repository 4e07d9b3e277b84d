//! Real object stores for tests, and a way to them that fails.
//!
//! A test binary starts one server of a kind (in a `static`: [`Seaweed::shared`], [`Azurite::shared`]) and makes a bucket for each
//! test. Servers run in directories of their own, on free ports of 127.0.0.1; they end, and their directories go, when the test process ends in
//! whatever way. `cargo xtask servers` installs them, pinned, below `target/servers`.
//!
//! A server that cannot be had is a failure that names the command to install it, never a skipped test.

#![warn(missing_debug_implementations)]

mod azurite;
mod child;
mod proxy;
mod seaweed;
mod signed;

pub use azurite::Azurite;
pub use proxy::{Act, Behaviour, Faults, GoogleManners, Proxy};
pub use seaweed::{Seaweed, SeaweedOptions};

/// A value as it stands in a query.
#[must_use]
pub fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
