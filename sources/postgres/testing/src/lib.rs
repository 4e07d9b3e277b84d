//! Real PostgreSQL servers for tests.
//!
//! A test binary starts one [`Server`] (in a `static`, see [`Server::shared`]) and makes a database for each test. The server runs
//! as an ordinary user, in a directory of its own, with `fsync` off and `wal_level = logical`; it ends, and its directory goes, when
//! the test process ends in whatever way. Versions other than Debian's are fetched on demand ([`Version::binaries`]).
//!
//! A server that cannot be had is a failure that names the command to install it, never a skipped test.

#![warn(missing_debug_implementations)]

mod binaries;
mod guard;
mod options;
mod proxy;
mod server;

pub use binaries::{Version, client_tools_18};
pub use options::Options;
pub use proxy::Proxy;
pub use server::{ColdCopy, Server, connect};
