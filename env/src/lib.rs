//! The single door to the outside: clock, randomness, network, disk and compute, real or simulated.
//!
//! Everything that a coordinator, a worker or a source does to the world goes through one [`Env`] value that is passed to
//! its constructor. The simulator hands out another one; nothing else changes. `tokio::time` may be used for waiting
//! (the simulator drives it), never for state.

#![warn(missing_debug_implementations)]

mod clock;
mod compute;
mod disk;
mod entropy;
mod memory_disk;
mod net;
mod real;
#[cfg(feature = "redb")]
mod redb_backend;

pub use clock::Clock;
pub use compute::Compute;
pub use disk::{BlockFile, Disk};
pub use entropy::Entropy;
pub use memory_disk::MemoryDisk;
pub use net::{Connection, Listener, Net, Socket};
pub use real::{SystemClock, SystemCompute, SystemDisk, SystemEntropy, SystemNet};
#[cfg(feature = "redb")]
pub use redb_backend::RedbFile;

use std::sync::Arc;

/// The outside world of one process.
#[derive(Debug, Clone)]
pub struct Env {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Files of this process's own: raft log, member stores. Not collections.
    pub disk: Arc<dyn Disk>,
    /// Where blocking and CPU-heavy work runs.
    pub compute: Arc<dyn Compute>,
}

impl Env {
    /// The real world. Call it inside a tokio runtime; blocking work goes to that runtime's blocking threads.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            net: Arc::new(SystemNet),
            disk: Arc::new(SystemDisk),
            compute: Arc::new(SystemCompute),
        }
    }

    /// Runs blocking or CPU-heavy work off the event loop (in the simulator: inline), and gives its result.
    ///
    /// Cancel-safe in the sense that dropping the future abandons the result; the work itself runs to its end.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.compute.run(Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // The receiver is gone when the caller was cancelled; nobody misses the result then.
            let _ = sender.send(result);
        }));
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the runtime shut down while work was in flight"),
        }
    }
}
