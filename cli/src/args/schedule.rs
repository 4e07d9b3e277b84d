//! Schedules on the command line.

use clap::{Args, Subcommand};
use holdfast_types::{Locality, OnFailure, OnPrevious};

use super::{KeyArgs, NewKeyArgs, TargetArgs};

/// What can be asked of schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Back up a source again and again
    Create(Box<CreateScheduleArgs>),
    /// All schedules: the newest first, of a pair the incrementals first
    List,
    /// One schedule
    Show {
        /// The schedule
        schedule: u64,
    },
    /// Change a schedule, and what it shares with its pair
    Alter(Box<AlterScheduleArgs>),
    /// Run no more until it is resumed; of a pair, this half only
    Pause {
        /// The schedule
        schedule: u64,
    },
    /// Run again, first at the next regular time
    Resume {
        /// The schedule
        schedule: u64,
    },
    /// Run now, and then as usual
    Run {
        /// The schedule
        schedule: u64,
    },
    /// Forget a schedule, and with that of the fulls also its incrementals; jobs go on, and backups stay
    Drop {
        /// The schedule
        schedule: u64,
    },
}

/// A schedule to make.
#[derive(Debug, Args)]
pub(crate) struct CreateScheduleArgs {
    /// The registered source, and the collection unless --into says it
    #[arg(value_name = "SOURCE [INTO URI]", num_args = 0..=3)]
    pub(crate) words: Vec<String>,
    /// The collection's URI: file:///backups/bank; repeated for stores of localities
    #[arg(long, value_name = "URI")]
    pub(crate) into: Vec<String>,
    /// When, in UTC: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "CRON")]
    pub(crate) recurring: String,
    /// When full backups are taken, or ALWAYS; if left out daily, weekly or every time, as fits --recurring
    #[arg(long, value_name = "CRON|ALWAYS")]
    pub(crate) full_backup: Option<String>,
    /// When the first full is taken: a time, or now
    #[arg(long, value_name = "TIME|now")]
    pub(crate) first_run: Option<String>,
    /// What people call it
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Do nothing if there is a schedule of that label
    #[arg(long, requires = "label")]
    pub(crate) if_not_exists: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Keep every version of every row between the backups
    #[arg(long)]
    pub(crate) revision_history: bool,
    /// Only workers in this locality take part
    #[arg(long, value_name = "LOCALITY")]
    pub(crate) execution_locality: Option<Locality>,
    /// After a failure: retry (soon), reschedule (at the next regular time), or pause
    #[arg(long, value_name = "WHAT", default_value_t)]
    pub(crate) on_execution_failure: OnFailure,
    /// A full is due while another is under way: start it too, skip it, or let it wait; incrementals always wait
    #[arg(long, value_name = "WHAT", default_value_t)]
    pub(crate) on_previous_running: OnPrevious,
    /// Go on in a collection that has backups already
    #[arg(long)]
    pub(crate) ignore_existing_backups: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Encryption: how a key follows from the passphrase
    #[arg(long, value_name = "KDF", value_parser = ["argon2id", "pbkdf2-sha256"])]
    pub(crate) kdf: Option<String>,
}

/// Changes to a schedule. New keys are not read from the environment: a passphrase that happens to be there would change them unasked.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true)
    .args(["new_passphrase_file", "new_kms", "new_kms_file"]))]
pub(crate) struct AlterScheduleArgs {
    /// The schedule; either of a pair
    pub(crate) schedule: u64,
    /// What people call it
    #[arg(long, group = "changes")]
    pub(crate) label: Option<String>,
    /// When; of a pair the incrementals' cadence
    #[arg(long, value_name = "CRON", group = "changes")]
    pub(crate) recurring: Option<String>,
    /// When full backups are taken, or ALWAYS, which drops the incrementals' schedule
    #[arg(long, value_name = "CRON|ALWAYS", group = "changes")]
    pub(crate) full_backup: Option<String>,
    /// The collection; repeated for stores of localities; incrementals wait for a full there
    #[arg(long, value_name = "URI", group = "changes")]
    pub(crate) into: Vec<String>,
    /// Whether every version of every row is kept between the backups
    #[arg(long, value_name = "true|false", group = "changes")]
    pub(crate) revision_history: Option<bool>,
    /// After a failure: retry, reschedule or pause
    #[arg(long, value_name = "WHAT", group = "changes")]
    pub(crate) on_execution_failure: Option<OnFailure>,
    /// A full is due while another is under way: start, skip or wait
    #[arg(long, value_name = "WHAT", group = "changes")]
    pub(crate) on_previous_running: Option<OnPrevious>,
    // All keys of the chains that begin from now on; incrementals go on with the chain that there is.
    #[command(flatten)]
    pub(crate) keys: NewKeyArgs,
}
