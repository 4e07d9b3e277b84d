//! Schedules: backups that are submitted again and again.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::access::CollectionAccess;
use crate::error::{ErrorCode, Fault};
use crate::ids::{JobId, SourceName};
use crate::locality::Locality;
use crate::schedule_keys::ScheduleKeys;
use crate::source::Target;
use crate::time::Timestamp;

/// What a schedule backs up, apart from when and as which layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTemplate {
    /// The source.
    pub source: SourceName,
    /// What is covered.
    pub target: Target,
    /// The address of the collection's default store.
    pub collection: String,
    /// How the collection is reached.
    pub access: CollectionAccess,
    /// Whether incrementals keep every version since their parent's end.
    pub history: bool,
    /// Only workers whose locality contains this run the jobs.
    pub execution_locality: Locality,
    /// What chains are encrypted with that begin from now on; `None`: they are not.
    pub keys: Option<ScheduleKeys>,
}

/// Which layers a schedule's backups write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScheduledLayer {
    /// A new full each time.
    Full,
    /// An incremental on the newest full each time.
    Incremental,
}

impl ScheduledLayer {
    /// Its name in views and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// What becomes of a schedule whose backup could not be submitted, failed or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnFailure {
    /// It runs again soon.
    Retry,
    /// It runs again at its next regular time.
    #[default]
    Reschedule,
    /// It is paused.
    Pause,
}

/// What becomes of a schedule's run that is due while the one before is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnPrevious {
    /// Both run.
    Start,
    /// It is left out.
    Skip,
    /// It waits for the end of the one before.
    #[default]
    Wait,
}

macro_rules! words {
    ($type:ident, $option:literal, $($variant:ident => $word:literal),+) => {
        impl $type {
            /// Its name in options, views and on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Fault;

            /// Reads the option's value, in any case.
            fn from_str(text: &str) -> Result<Self, Fault> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        format!("\"{}\" is no value of {}", text.escape_debug(), $option),
                    )
                    .hint(concat!("it takes ", $($word, " "),+))),
                }
            }
        }
    };
}

words!(OnFailure, "on_execution_failure", Retry => "retry", Reschedule => "reschedule", Pause => "pause");
words!(OnPrevious, "on_previous_running", Start => "start", Skip => "skip", Wait => "wait");

/// The run of a schedule that a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScheduledRun {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The time at which the run was due.
    pub due: Timestamp,
}

/// A schedule. Chosen like a [`JobId`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ScheduleId(pub u64);

impl From<JobId> for ScheduleId {
    /// A schedule's id is drawn as one of a job: the two never meet, for each is drawn once.
    fn from(id: JobId) -> Self {
        Self(id.0)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What an operator asks of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleVerb {
    /// It runs no more until it is resumed.
    Pause,
    /// It runs again, first at this time.
    Resume {
        /// The next regular time, as the proposer's clock has it.
        next: Timestamp,
    },
    /// It runs now, and then as usual.
    RunNow,
    /// It is forgotten, and the incrementals' schedule with that of their fulls. Jobs go on.
    Drop,
}

/// A schedule to make: of fulls, and, unless every run is one, of incrementals on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSchedule {
    /// What people call it. Labels need not differ.
    pub label: String,
    /// What is backed up.
    pub template: BackupTemplate,
    /// The id of the fulls' schedule.
    pub full: ScheduleId,
    /// When fulls are taken.
    pub full_cadence: Cadence,
    /// The id of the incrementals' schedule, and when they are taken: regular times only, for they wait for the first full.
    pub incremental: Option<(ScheduleId, String)>,
    /// What becomes of a failure, of either.
    pub on_failure: OnFailure,
    /// What becomes of a full that is due while another is under way. An incremental always waits.
    pub on_previous: OnPrevious,
}

/// What became of a run that was due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunResult {
    /// It is this job.
    Job(JobId),
    /// It is left out, because the one before is still under way.
    Skipped,
    /// It could not be submitted.
    Refused(Fault),
}

/// Changes to a schedule or its pair; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScheduleChange {
    /// The label of both.
    pub label: Option<String>,
    /// When fulls are taken, and their next time.
    pub full: Option<Cadence>,
    /// When incrementals are taken, and their next time.
    pub incremental: Option<Cadence>,
    /// Whether there are incrementals.
    pub pairing: Option<Pairing>,
    /// Where backups go: an address, and how it is reached. Incrementals wait for a full there.
    pub collection: Option<(String, CollectionAccess)>,
    /// Whether incrementals keep every version.
    pub history: Option<bool>,
    /// What becomes of a failure.
    pub on_failure: Option<OnFailure>,
    /// What becomes of a run that is due while another is under way; of fulls only.
    pub on_previous: Option<OnPrevious>,
    /// What the chains that begin from now on are encrypted with.
    pub keys: Option<ScheduleKeys>,
}

/// Whether a schedule of fulls has one of incrementals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pairing {
    /// Every run is a full: the incrementals' schedule goes.
    Single,
    /// If there is none, incrementals get a schedule of their own under this id, with these regular times.
    Pair(ScheduleId, String),
}

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cadence {
    /// Five-field cron, in UTC.
    pub cron: String,
    /// Its next time, as the proposer's clock has it.
    pub next: Timestamp,
}
