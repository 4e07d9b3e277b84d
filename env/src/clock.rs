//! Time.

use holdfast_types::Timestamp;
use std::fmt::Debug;
use std::time::Duration;

/// Answers what time it is. The two readings answer different questions and are never compared with each other.
pub trait Clock: Debug + Send + Sync {
    /// Wall time, for what users see and for hybrid logical clocks. It may jump, in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed instant in this process. It never goes back: leases and timeouts are measured with it.
    fn monotonic(&self) -> Duration;
}
