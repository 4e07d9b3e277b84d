//! How a run ends.

use std::fmt;
use std::process::ExitCode;

/// Why a run is a failure. The kinds are told apart by the process's exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something panicked. Exit code 2.
    Crash(String),
    /// An invariant was broken. Exit code 3.
    Safety {
        /// Its id.
        id: &'static str,
        /// What it says.
        holds: &'static str,
        /// What was seen instead.
        seen: String,
    },
    /// What should have come to an end did not. Exit code 4.
    Liveness(String),
    /// The simulator itself is at fault, or was asked for something it cannot do. Exit code 5.
    Harness(String),
}

impl Failure {
    /// A broken invariant.
    pub(crate) fn safety(id: &'static str, holds: &'static str, seen: impl Into<String>) -> Self {
        Self::Safety {
            id,
            holds,
            seen: seen.into(),
        }
    }

    /// The simulator is at fault.
    pub(crate) fn harness(what: impl fmt::Display) -> Self {
        Self::Harness(what.to_string())
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Crash(_) => 2,
            Self::Safety { .. } => 3,
            Self::Liveness(_) => 4,
            Self::Harness(_) => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(what) => write!(f, "crash: {what}"),
            Self::Safety { id, holds, seen } => write!(
                f,
                "safety: {id} is broken\n  {id} says: {holds}\n  seen: {seen}"
            ),
            Self::Liveness(what) => write!(f, "liveness: {what}"),
            Self::Harness(what) => write!(f, "harness: {what}"),
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.exit_code())
    }
}
