//! How much the control service takes on, and what is said of a request that took too long.

use holdfast_proto::CallKind;
use holdfast_types::{ErrorCode, Fault};
use std::time::Duration;

/// How much the service takes on.
#[derive(Debug, Clone, Copy)]
pub struct ControlLimits {
    /// Unary requests in flight.
    pub requests: usize,
    /// Watch streams. They cost little each, but every applied entry wakes them.
    pub watches: usize,
    /// For a request that reads or writes the ledger only.
    pub short: Duration,
    /// For a request that reads a collection or changes the membership.
    pub long: Duration,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            requests: 256,
            watches: 256,
            short: Duration::from_secs(10),
            long: Duration::from_secs(60),
        }
    }
}

/// What a request is answered that was not done within its deadline.
pub(super) fn late(kind: CallKind, deadline: Duration) -> Fault {
    let seconds = deadline.as_secs_f64();
    match kind {
        CallKind::Repeatable => Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("the request was not answered within {seconds} s"),
        ),
        CallKind::Mutation => Fault::new(
            ErrorCode::Unknown,
            format!("the request was not answered within {seconds} s; it may still take effect"),
        )
        .hint("look whether it did, or repeat it with the same request key"),
    }
}
