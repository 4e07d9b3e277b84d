//! Blocking work, done at once: the order of completion is the order of submission, and it takes no simulated time.

use holdfast_env::Compute;

/// Runs work where it is submitted.
#[derive(Debug)]
pub(crate) struct InlineCompute;

impl Compute for InlineCompute {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
