//! What a restore says while it works.

use std::fmt::Debug;

/// Hears of every finished step.
pub trait Progress: Debug + Send + Sync {
    /// Of `total` steps of a phase, `done` are done; the last one was `name`.
    fn step(&self, phase: &'static str, done: usize, total: usize, name: &str);

    /// Something did not come out as at the source, and the restore goes on.
    fn warning(&self, text: &str);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _phase: &'static str, _done: usize, _total: usize, _name: &str) {}

    fn warning(&self, _text: &str) {}
}
