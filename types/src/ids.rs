//! Identifiers. Numeric ids are opaque to users and print in decimal; names are chosen by users and validated once.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};
use crate::schedule::ScheduleId;
use crate::time::Timestamp;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

numeric_id! {
    /// A job. Chosen by the proposer from its clock and its node id, so ids grow with time and never repeat.
    JobId(u64)
}
numeric_id! {
    /// A fencing token: the number of times a task has been leased. It only grows; work under an older one is refused.
    Epoch(u64)
}
numeric_id! {
    /// A coordinator. Never reused: a replacement gets a new one.
    NodeId(u64)
}
numeric_id! {
    /// One life of a worker process: drawn at random at its start, so that two processes with one id are told apart.
    Incarnation(u64)
}
numeric_id! {
    /// A hold on a source's history.
    HoldId(u64)
}
numeric_id! {
    /// A relation on one member, as that member numbers it.
    RelationId(u64)
}

impl Epoch {
    /// The epoch of a task that has never been leased.
    pub const ZERO: Self = Self(0);

    /// The epoch of the next lease.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A task: its job and its place in the job's task list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job that the task belongs to.
    pub job: JobId,
    /// Its index in the job's task list.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

/// The identity of a cluster, drawn once by `holdfast init`. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        let invalid = || {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("cluster id \"{text}\" is not 32 hexadecimal digits"),
            )
        };
        if text.len() != 32 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0u8; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

/// The longest name a user may choose, in bytes. It keeps object keys and log lines bounded.
const MAX_NAME_LENGTH: usize = 128;

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name: 1 to 128 bytes of letters, digits, `-`, `_` and `.`, the first a letter or
            /// digit. The characters are those that are safe in an object key on every store.
            ///
            /// # Errors
            /// [`ErrorCode::InvalidArgument`], naming the offending text.
            pub fn new(text: impl Into<String>) -> Result<Self, Fault> {
                let text = text.into();
                let legal = text.len() <= MAX_NAME_LENGTH
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
                if legal {
                    Ok(Self(text))
                } else {
                    Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        format!("{} \"{}\" is not a legal name", $what, text.escape_debug()),
                    )
                    .hint("use 1 to 128 letters, digits, '-', '_' or '.', starting with a letter or digit"))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Fault;
            fn from_str(text: &str) -> Result<Self, Fault> {
                Self::new(text)
            }
        }
    };
}

name_id! {
    /// The name of a registered source.
    SourceName, "source"
}
name_id! {
    /// The name of one member of a source.
    MemberName, "member"
}
name_id! {
    /// The name of a worker process, unique in the cluster.
    WorkerId, "worker"
}
name_id! {
    /// The name of an external connection: a stored URI.
    ConnectionName, "connection"
}
name_id! {
    /// A client's idempotency key: the same key never makes two jobs.
    RequestKey, "request key"
}

/// What the keys of schedules' runs begin with.
const RUN: &str = "schedule-";

impl RequestKey {
    /// The key of a schedule's run that was due then, in microseconds: whoever submits the run again gets the job that there is.
    #[must_use]
    pub fn of_run(schedule: ScheduleId, due: Timestamp) -> Self {
        Self(format!("{RUN}{schedule}-{}", due.as_micros()))
    }

    /// Whether it is of the form that belongs to runs of schedules. No client may choose such a key: it would stand in the way of a run.
    #[must_use]
    pub fn is_of_a_run(&self) -> bool {
        self.0.starts_with(RUN)
    }
}
