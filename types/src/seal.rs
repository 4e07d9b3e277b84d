//! Bytes that the ledger may carry but not read.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes sealed with the cluster key: a key value used as a span bound, or a credential.
///
/// The ledger compares sealed bounds for equality only, so sealing is deterministic (AES-256-GCM-SIV). An empty value is
/// the open end of a key space and is not sealed. `Debug` shows the length and never the content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Box<[u8]>);

impl Sealed {
    /// Takes bytes that were sealed already.
    #[must_use]
    pub fn from_sealed(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The open end of a key space.
    #[must_use]
    pub fn open_end() -> Self {
        Self::default()
    }

    /// Whether this is the open end of a key space.
    #[must_use]
    pub fn is_open_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The sealed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
