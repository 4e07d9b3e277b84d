//! Blocking and CPU-heavy work.

use std::fmt::Debug;

/// Runs work that must not run on the event loop: compression, digests, fsync. The simulator runs it inline, so that the
/// order of completion is the order of submission.
pub trait Compute: Debug + Send + Sync {
    /// Starts the work. It runs to its end, whoever waits for it.
    fn run(&self, work: Box<dyn FnOnce() + Send>);
}
