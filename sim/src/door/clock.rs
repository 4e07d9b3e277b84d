//! A host's clocks: simulated time, and a wall clock that is wrong by as much as the driver says.

use holdfast_env::Clock;
use holdfast_types::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::libc_override;
use crate::trace;

/// How wrong a host's wall clock is. Clones share it; it survives the host's crashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skew(Arc<AtomicI64>);

impl Skew {
    /// From now on the wall clock is ahead (or behind, if negative) by this many microseconds.
    pub(crate) fn set_micros(&self, micros: i64) {
        self.0.store(micros, Ordering::Relaxed);
    }
}

/// The clocks of one life of a host.
#[derive(Debug)]
pub(crate) struct SimClock {
    skew: Skew,
    started: Duration,
}

impl SimClock {
    /// Clocks whose monotonic reading starts at zero now.
    pub(crate) fn new(skew: Skew) -> Self {
        Self {
            skew,
            started: trace::now(),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let micros =
            u64::try_from(libc_override::wall(trace::now()).as_micros()).unwrap_or(u64::MAX);
        Timestamp::from_micros(micros.saturating_add_signed(self.skew.0.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        trace::now().saturating_sub(self.started)
    }
}
