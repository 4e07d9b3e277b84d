//! The error every front end shows: a stable code, a sentence that names the thing, and a way out.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What went wrong, as a stable code. `docs/ERRORS.md` has a paragraph on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCode {
    /// An argument is malformed or out of range.
    InvalidArgument,
    /// The named thing (job, source, table, collection, layer) does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request is legal, but not in the present state.
    FailedPrecondition,
    /// The chain rules forbid this backup.
    ChainRule,
    /// The requested time cannot be restored.
    NotCovered,
    /// The source has already discarded history that is needed.
    HistoryGone,
    /// This node is not the leader, and none is known.
    NoLeader,
    /// The request was sent but its outcome is not known: ask again with the same idempotency key.
    Unknown,
    /// The other side cannot be reached at present.
    Unavailable,
    /// A bound was hit: too many requests in flight, or a message too large.
    ResourceExhausted,
    /// A disk or a store is full.
    StorageFull,
    /// Stored bytes do not match their digest, or cannot be decoded.
    Corrupted,
    /// The caller belongs to another cluster.
    WrongCluster,
    /// Work arrived under a lease that is no longer current.
    StaleEpoch,
    /// The operation was cancelled.
    Cancelled,
    /// The deadline passed.
    DeadlineExceeded,
    /// The feature is not offered by this source, store or version.
    Unsupported,
    /// A defect of Holdfast.
    Internal,
}

impl ErrorCode {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::NoLeader
            | Self::Unknown
            | Self::Unavailable
            | Self::ResourceExhausted
            | Self::StorageFull
            | Self::DeadlineExceeded => true,
            Self::InvalidArgument
            | Self::NotFound
            | Self::AlreadyExists
            | Self::FailedPrecondition
            | Self::ChainRule
            | Self::NotCovered
            | Self::HistoryGone
            | Self::Corrupted
            | Self::WrongCluster
            | Self::StaleEpoch
            | Self::Cancelled
            | Self::Unsupported
            | Self::Internal => false,
        }
    }

    /// The stable spelling, as shown to users and carried over the wire: `chain-rule`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid-argument",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::FailedPrecondition => "failed-precondition",
            Self::ChainRule => "chain-rule",
            Self::NotCovered => "not-covered",
            Self::HistoryGone => "history-gone",
            Self::NoLeader => "no-leader",
            Self::Unknown => "unknown-outcome",
            Self::Unavailable => "unavailable",
            Self::ResourceExhausted => "resource-exhausted",
            Self::StorageFull => "storage-full",
            Self::Corrupted => "corrupted",
            Self::WrongCluster => "wrong-cluster",
            Self::StaleEpoch => "stale-epoch",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// Reads the stable spelling back; anything unknown (a newer peer's code) is [`ErrorCode::Internal`].
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .unwrap_or(Self::Internal)
    }

    /// Every code, for tables and tests.
    pub const ALL: [Self; 19] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::FailedPrecondition,
        Self::ChainRule,
        Self::NotCovered,
        Self::HistoryGone,
        Self::NoLeader,
        Self::Unknown,
        Self::Unavailable,
        Self::ResourceExhausted,
        Self::StorageFull,
        Self::Corrupted,
        Self::WrongCluster,
        Self::StaleEpoch,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Unsupported,
        Self::Internal,
    ];
}

/// An error as the operator sees it. It travels unchanged from where it arose, through ledger and wire, to the front end.
///
/// The message is lower-case, names the thing, and never holds row values or credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, to what.
    pub message: String,
    /// What to do about it, when there is something to do.
    pub hint: Option<String>,
}

impl Fault {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Whether the same request may succeed later by itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
