//! Key management services: one file each.

mod aws;
mod azure;
mod exchange;
mod gcp;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod sts;
mod uri;
mod vault;

pub use uri::KmsUri;

pub(crate) use exchange::Surroundings;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_types::Fault;
use std::fmt::Debug;
use zeroize::Zeroizing;

/// What came of an attempt to unwrap.
pub(crate) enum Unwrapped {
    /// The data key.
    Key(Zeroizing<Vec<u8>>),
    /// It was wrapped by another key, or for another chain, or was changed.
    NotMine,
}

/// One key of a key management service. Calls may be dropped at any await, and repeated.
#[async_trait]
pub(crate) trait Kms: Debug + Send + Sync {
    /// Wraps a data key, bound to `context` where the service can bind at all.
    ///
    /// # Errors
    /// `Unavailable` if the service does not answer, `FailedPrecondition` for what it refuses.
    async fn wrap(&self, context: &str, key: &[u8; 32]) -> Result<Bytes, Fault>;

    /// Unwraps one.
    ///
    /// # Errors
    /// As [`Kms::wrap`]; that the key is not the right one is no error.
    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault>;
}
