//! Exit codes. `docs/OPERATIONS.md` lists them; scripts rely on them.

use holdfast_types::{ErrorCode, Fault};
use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// The job or the command failed.
    Failed = 1,
    /// The arguments are wrong. Also what clap ends with.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// Legal, but not in the present state, or against the rules of chains.
    Precondition = 4,
    /// Nobody could be reached, or the outcome is not known. Worth another try.
    Unavailable = 5,
    /// Stored bytes are damaged.
    Corrupted = 6,
    /// A disk or store is full.
    StorageFull = 7,
    /// Ctrl-C while waiting for a job. The job goes on.
    Interrupted = 130,
}

impl Exit {
    /// The exit code for a fault.
    pub(crate) fn of(fault: &Fault) -> Self {
        match fault.code {
            ErrorCode::InvalidArgument => Self::Usage,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::AlreadyExists
            | ErrorCode::FailedPrecondition
            | ErrorCode::ChainRule
            | ErrorCode::NotCovered
            | ErrorCode::HistoryGone
            | ErrorCode::WrongCluster
            | ErrorCode::StaleEpoch => Self::Precondition,
            ErrorCode::NoLeader
            | ErrorCode::Unknown
            | ErrorCode::Unavailable
            | ErrorCode::ResourceExhausted
            | ErrorCode::DeadlineExceeded => Self::Unavailable,
            ErrorCode::Corrupted => Self::Corrupted,
            ErrorCode::StorageFull => Self::StorageFull,
            _ => Self::Failed,
        }
    }

    /// The exit code for a job that ended with this fault: what tells of the data is passed on, all else is a failed job.
    pub(crate) fn of_job(fault: &Fault) -> Self {
        match Self::of(fault) {
            exit @ (Self::Corrupted | Self::StorageFull) => exit,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_exit() {
        for code in ErrorCode::ALL {
            let exit = Exit::of(&Fault::new(code, "x"));
            assert_ne!(exit, Exit::Ok, "{code:?}");
            assert_eq!(
                matches!(exit, Exit::Unavailable | Exit::StorageFull),
                code.is_retryable(),
                "{code:?}: worth another try, or not"
            );
        }
    }

    #[test]
    fn a_failed_job_tells_of_its_data() {
        let job = |code| Exit::of_job(&Fault::new(code, "x"));
        assert_eq!(job(ErrorCode::Corrupted), Exit::Corrupted);
        assert_eq!(job(ErrorCode::NotFound), Exit::Failed);
    }
}
