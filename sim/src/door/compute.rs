//! Blocking work: done at once, in the order of submission and in no simulated time, unless the driver has made the host slow.

use holdfast_env::Compute;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a host's disk takes for everything. Clones share it; it survives the host's crashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lag(Arc<AtomicU64>);

impl Lag {
    /// From now on everything that touches the disk waits for so long first.
    pub(crate) fn set(&self, lag: Duration) {
        let millis = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs work where it is submitted, or, on a slow host, later.
#[derive(Debug)]
pub(crate) struct SimCompute {
    lag: Lag,
}

impl SimCompute {
    /// As slow as is said from time to time.
    pub(crate) fn new(lag: Lag) -> Self {
        Self { lag }
    }
}

impl Compute for SimCompute {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        // What is dropped with a crashed host has no runtime any more, and no disk either.
        match (self.lag.millis(), tokio::runtime::Handle::try_current()) {
            (0, _) | (_, Err(_)) => work(),
            (lag, Ok(runtime)) => drop(runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(lag)).await;
                work();
            })),
        }
    }
}
