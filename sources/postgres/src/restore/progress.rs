//! What a restore says while it works.

use std::fmt::Debug;

/// Hears how far a restore is.
pub trait Progress: Debug + Send + Sync {
    /// A phase of so many steps begins, about tables of so many bytes; zero where sizes do not matter.
    fn phase(&self, phase: &'static str, steps: usize, bytes: u64);

    /// A step begins. Several may be under way.
    fn started(&self, name: &str);

    /// A step is done, or was before; it was about a table of so many bytes.
    fn ended(&self, name: &str, bytes: u64);

    /// A step is not done; it may be begun again.
    fn given_up(&self, name: &str);

    /// Something did not come out as at the source, and the restore goes on.
    fn warning(&self, text: &str);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _phase: &'static str, _steps: usize, _bytes: u64) {}

    fn started(&self, _name: &str) {}

    fn ended(&self, _name: &str, _bytes: u64) {}

    fn given_up(&self, _name: &str) {}

    fn warning(&self, _text: &str) {}
}
