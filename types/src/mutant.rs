//! Deliberate bugs, with which the simulator proves that it would notice them. They are there only in builds with debug assertions, which no release
//! has: there [`is_broken`] is `false`, and everything behind it is gone. Only the simulator calls [`break_promise`].

use std::sync::atomic::{AtomicU8, Ordering};

/// A promise that production code breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Promise {
    /// What a manifest names is never swept.
    NamedIsKept = 1,
    /// A new leader does what the one before it owed.
    OwedIsDone = 2,
    /// Nothing is ever overwritten.
    WrittenOnce = 3,
    /// The stream of a worker whose leases have ended is cut, and the ledger accepts nothing that is reported under a stale epoch.
    StaleIsRefused = 4,
    /// A job is shown as paused when nobody works for it any more.
    PausedIsQuiet = 5,
    /// A worker that was told to stop says that it has when nothing that it wrote is on its way any more.
    WritesAreDrained = 6,
    /// Data of a locality that has a store of its own goes there and nowhere else.
    DataStaysAtHome = 7,
    /// A run of a schedule is told to the ledger, and is submitted under a key of its own: once.
    RunsAreOnce = 8,
}

static BROKEN: AtomicU8 = AtomicU8::new(0);

/// Breaks a promise in this process from now on.
pub fn break_promise(promise: Promise) {
    BROKEN.store(promise as u8, Ordering::Relaxed);
}

/// Whether this process breaks a promise.
#[must_use]
pub fn is_broken(promise: Promise) -> bool {
    cfg!(debug_assertions) && BROKEN.load(Ordering::Relaxed) == promise as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_release_breaks_a_promise() {
        assert!(!is_broken(Promise::WrittenOnce));
        break_promise(Promise::WrittenOnce);
        assert_eq!(is_broken(Promise::WrittenOnce), cfg!(debug_assertions));
        assert!(!is_broken(Promise::NamedIsKept));
    }
}
