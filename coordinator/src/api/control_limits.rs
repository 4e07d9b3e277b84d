//! How much the control service takes on.

use std::time::Duration;

/// See the module.
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
