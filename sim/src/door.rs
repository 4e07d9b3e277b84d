//! The simulated side of [`holdfast_env::Env`]: what a process sees as the outside.

mod clock;
mod compute;
mod entropy;
mod net;

pub(crate) use clock::{SimClock, Skew};
pub(crate) use compute::{Lag, SimCompute};
pub(crate) use entropy::SeededEntropy;
pub(crate) use net::SimNet;

use holdfast_env::{Disk, Env};
use std::sync::Arc;

/// One life of one host: the outside as it sees it from its start to its crash.
pub(crate) fn env(host: &str, seed: u64, skew: &Skew, lag: &Lag, disk: Arc<dyn Disk>) -> Env {
    Env {
        clock: Arc::new(SimClock::new(skew.clone())),
        entropy: Arc::new(SeededEntropy::new(seed)),
        net: Arc::new(SimNet::new(host)),
        disk,
        compute: Arc::new(SimCompute::new(lag.clone())),
    }
}
