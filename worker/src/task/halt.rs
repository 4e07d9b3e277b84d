//! Why a flow ends before its work is done.

use holdfast_types::{ErrorCode, Fault};

/// Why a flow ends before its work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It was told to, or the fence closed: the lease is given back.
    Stopped,
    /// There is no lease any more: nobody is to be told.
    Dropped,
    /// An error: the leader is told.
    Failed(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        // Only the fence says this on a worker's side.
        if fault.code == ErrorCode::StaleEpoch {
            Self::Stopped
        } else {
            Self::Failed(fault)
        }
    }
}
