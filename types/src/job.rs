//! Job states, and the one function that moves between them.
//!
//! The names and the PAUSE / RESUME / CANCEL matrix are the model system's (CockroachDB's jobs, read in its source).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobKind {
    /// Writes a layer.
    Backup,
    /// Writes a layer's rows back into a source.
    Restore,
    /// Reads every object of a layer or chain and compares digests.
    Verify,
    /// Removes chains that are no longer to be kept.
    Expire,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "BACKUP",
            Self::Restore => "RESTORE",
            Self::Verify => "VERIFY",
            Self::Expire => "EXPIRE",
        })
    }
}

/// Where a job stands. All states are durable: each is set by a replicated command and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// Set at submission: no worker has been asked for anything yet.
    Pending,
    /// Set by the leader when it takes the job up.
    Running,
    /// Set by an operator: workers still hold leases and are being told to stop.
    PauseRequested,
    /// Set when the last lease is gone: no worker reads or writes for this job. It keeps its holds.
    Paused,
    /// Set by an operator: workers still hold leases and are being told to stop.
    CancelRequested,
    /// Set when a failed or cancelled job's last lease is gone: what it made is being undone.
    Reverting,
    /// Terminal: the work is done and durable.
    Succeeded,
    /// Terminal: a permanent error, and what it made is undone.
    Failed,
    /// Terminal: an operator's wish, and what it made is undone.
    Canceled,
    /// Terminal: undoing met a permanent error; needs manual care.
    RevertFailed,
}

/// What a running job is busy with. Shown as its running status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Members place holds, describe what is there, and cut it into spans.
    Planning,
    /// Spans are read and written.
    Transferring,
    /// A backup's manifest is written; a restore's tables are checked and published.
    Finishing,
}

/// What an operator may ask of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ControlVerb {
    /// Stop, and keep what is done.
    Pause,
    /// Go on where it stopped.
    Resume,
    /// Stop, and undo.
    Cancel,
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobEvent {
    /// The leader takes the job up.
    Start,
    /// An operator's wish.
    Control(ControlVerb),
    /// The last lease of the job is gone.
    Quiesced,
    /// All work is done and durable.
    Complete,
    /// A permanent error.
    Fail,
    /// Everything is undone, after a failure or (`canceled`) after an operator's wish.
    Reverted {
        /// Whether an operator had cancelled the job.
        canceled: bool,
    },
    /// Undoing met a permanent error.
    RevertFail,
}

/// What a legal event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The job moves to this state.
    Move(JobState),
    /// The event asks for what already is: success without change.
    NoOp,
}

/// An event that a state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct IllegalTransition {
    /// The state.
    pub state: JobState,
    /// The event.
    pub event: JobEvent,
}

impl IllegalTransition {
    fn text(&self) -> String {
        let state = self.state;
        match self.event {
            JobEvent::Control(ControlVerb::Pause) => {
                format!("job with status {state} cannot be requested to be paused")
            }
            JobEvent::Control(ControlVerb::Resume) => {
                format!("job with status {state} cannot be resumed")
            }
            JobEvent::Control(ControlVerb::Cancel) => {
                format!("job with status {state} cannot be requested to be canceled")
            }
            event => format!("job with status {state} does not allow {event:?}"),
        }
    }
}

impl JobState {
    /// Every state, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Running,
        Self::PauseRequested,
        Self::Paused,
        Self::CancelRequested,
        Self::Reverting,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::RevertFailed,
    ];

    /// Whether nothing can happen to the job any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::RevertFailed
        )
    }

    /// Whether workers may hold or be given leases for the job's forward work.
    #[must_use]
    pub fn may_dispatch(self) -> bool {
        matches!(self, Self::Running | Self::Reverting)
    }

    /// The one transition function. `doomed` says that the job already has a final error or was cancelled, so that
    /// what follows a pause is undoing and not going on.
    ///
    /// A pause of a reverting job suspends the undoing; its resume goes on with it.
    ///
    /// # Errors
    /// [`IllegalTransition`], worded as the model system words it for PAUSE, RESUME and CANCEL.
    pub fn next(self, event: JobEvent, doomed: bool) -> Result<Verdict, IllegalTransition> {
        use ControlVerb::{Cancel, Pause, Resume};
        use JobEvent::{Complete, Control, Fail, Quiesced, RevertFail, Reverted, Start};
        let verdict = match (self, event) {
            (Self::Pending, Start) => Verdict::Move(Self::Running),

            (Self::Pending | Self::Running | Self::Reverting, Control(Pause)) => {
                Verdict::Move(Self::PauseRequested)
            }
            (Self::Paused | Self::PauseRequested, Control(Pause)) => Verdict::NoOp,

            (Self::Paused, Control(Resume)) if doomed => Verdict::Move(Self::Reverting),
            (Self::Paused, Control(Resume)) => Verdict::Move(Self::Running),
            (Self::Running | Self::Reverting, Control(Resume)) => Verdict::NoOp,

            (Self::Pending | Self::Running, Control(Cancel)) => {
                Verdict::Move(Self::CancelRequested)
            }
            (Self::Paused, Control(Cancel)) if !doomed => Verdict::Move(Self::CancelRequested),
            (Self::Canceled | Self::CancelRequested, Control(Cancel)) => Verdict::NoOp,

            (Self::PauseRequested, Quiesced) => Verdict::Move(Self::Paused),
            (Self::CancelRequested, Quiesced) => Verdict::Move(Self::Reverting),

            (Self::Running, Complete) => Verdict::Move(Self::Succeeded),
            // The manifest was on its way when the pause was asked for.
            (Self::PauseRequested | Self::Paused, Complete) if !doomed => {
                Verdict::Move(Self::Succeeded)
            }
            // The leases of a failing job are revoked by the same command, so it reverts at once.
            (Self::Pending | Self::Running | Self::PauseRequested, Fail) if !doomed => {
                Verdict::Move(Self::Reverting)
            }
            (Self::Reverting, Reverted { canceled: false }) => Verdict::Move(Self::Failed),
            (Self::Reverting, Reverted { canceled: true }) => Verdict::Move(Self::Canceled),
            (Self::Reverting, RevertFail) => Verdict::Move(Self::RevertFailed),
            (state, event) => return Err(IllegalTransition { state, event }),
        };
        Ok(verdict)
    }

    /// The model system's spelling: `pause-requested`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::PauseRequested => "pause-requested",
            Self::Paused => "paused",
            Self::CancelRequested => "cancel-requested",
            Self::Reverting => "reverting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::RevertFailed => "revert-failed",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planning => "planning",
            Self::Transferring => "transferring",
            Self::Finishing => "finishing",
        })
    }
}
