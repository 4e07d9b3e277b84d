//! Statements.

use super::expression::{Expr, Query, Str};
use super::options::Options;

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    Backup(Backup),
    Restore(Restore),
    Verify(Verify),
    Expire(Expire),
    ShowBackups(ShowBackups),
    ShowBackup(ShowBackup),
    AlterBackup(AlterBackup),
    ShowJobs(ShowJobs),
    ControlJobs(ControlJobs),
    AlterJobOwner {
        job: Expr,
        owner: String,
    },
    CreateSchedule(CreateSchedule),
    AlterSchedule(AlterSchedule),
    ShowSchedules(ShowSchedules),
    /// `SHOW SCHEDULE id`
    ShowSchedule(Expr),
    /// `SHOW CREATE SCHEDULE id`, or of all.
    ShowCreateSchedules(Option<Expr>),
    ControlSchedules {
        verb: ScheduleVerb,
        schedules: Query,
    },
    CreateConnection(CreateConnection),
    AlterConnection(AlterConnection),
    DropConnection(Str),
    /// `SHOW EXTERNAL CONNECTION name`, or all.
    ShowConnections(Option<Str>),
    /// `SHOW CREATE EXTERNAL CONNECTION name`, or of all.
    ShowCreateConnections(Option<Str>),
    CheckConnection {
        name: Str,
        options: Options,
    },
    CreateSource(CreateSource),
    AlterSource(AlterSource),
    DropSource {
        name: String,
        if_exists: bool,
    },
    /// `SHOW SOURCE name`, or all.
    ShowSources(Option<String>),
    ShowCreateSource(String),
    CheckSource {
        name: String,
        members: Vec<String>,
    },
    ShowHolds,
    DropHold(Expr),
    ShowWorkers,
    ShowCluster,
    ShowCoordinators,
    SetClusterSetting {
        name: String,
        value: Expr,
    },
    /// `SHOW CLUSTER SETTING name`, or all.
    ShowClusterSettings(Option<String>),
    CreateUser(User),
    AlterUser(User),
    DropUser {
        name: String,
        if_exists: bool,
    },
    ShowUsers,
    Set {
        variable: String,
        value: String,
    },
    Reset(String),
    ShowVariable(String),
    Begin,
    Commit,
    Rollback,
    Discard,
    /// `DEALLOCATE name`, or all.
    Deallocate(Option<String>),
    Query(Query),
    Explain(Box<Statement>),
}

/// A table, or all of something: `db.t`, `db.schema.t`, `db.*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TablePattern {
    /// Outermost first; empty for `*`.
    pub(crate) parts: Vec<String>,
    /// Whether it ends in `*`.
    pub(crate) is_all: bool,
    /// Restores only: its new name.
    pub(crate) rename: Option<String>,
}

/// What a backup or restore covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Targets {
    /// The whole source.
    All,
    Tables(Vec<TablePattern>),
    Databases(Vec<String>),
    /// Restores only: `SYSTEM USERS`.
    SystemUsers,
}

/// Where a backup goes in its collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Into {
    /// A new full.
    Full,
    /// An incremental on the newest full.
    Latest,
    /// An incremental on the full in this directory.
    Subdir(Str),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backup {
    pub(crate) targets: Targets,
    pub(crate) source: Option<String>,
    pub(crate) into: Into,
    pub(crate) collection: Vec<Str>,
    pub(crate) as_of: Option<Expr>,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Restore {
    pub(crate) targets: Targets,
    pub(crate) subdir: Str,
    pub(crate) collection: Vec<Str>,
    pub(crate) as_of: Option<Expr>,
    /// Where to.
    pub(crate) source: Option<String>,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verify {
    pub(crate) subdir: Str,
    pub(crate) collection: Vec<Str>,
    /// Only the layer that ends then.
    pub(crate) layer: Option<Str>,
    pub(crate) options: Options,
}

/// EXPIRE BACKUPS: at least one of the two rules is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expire {
    pub(crate) collection: Vec<Str>,
    /// An age or a time.
    pub(crate) older_than: Option<Str>,
    /// How many fulls stay.
    pub(crate) keep_fulls: Option<Expr>,
    /// Whether nothing is to be removed.
    pub(crate) is_dry_run: bool,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShowBackups {
    pub(crate) collection: Vec<Str>,
    pub(crate) newer_than: Option<Expr>,
    pub(crate) older_than: Option<Expr>,
    pub(crate) has_revision_start: bool,
}

/// What SHOW BACKUP shows of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackupDetail {
    Contents,
    Schemas,
    Files,
    Ranges,
    Validate,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShowBackup {
    pub(crate) detail: BackupDetail,
    pub(crate) subdir: Str,
    pub(crate) collection: Vec<Str>,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlterBackup {
    pub(crate) subdir: Str,
    pub(crate) collection: Option<Str>,
    pub(crate) new_kms: Vec<Str>,
    pub(crate) old_kms: Vec<Str>,
}

/// Which jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JobSet {
    /// Those whose ids a query gives.
    Query(Query),
    /// Those of the schedules whose ids a query gives.
    ForSchedules(Query),
    /// All of a kind.
    All(JobType),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobType {
    Backup,
    Restore,
    Verify,
    Expire,
}

impl JobType {
    pub(crate) const ALL: [Self; 4] = [Self::Backup, Self::Restore, Self::Verify, Self::Expire];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "BACKUP",
            Self::Restore => "RESTORE",
            Self::Verify => "VERIFY",
            Self::Expire => "EXPIRE",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShowJobs {
    pub(crate) is_automatic: bool,
    pub(crate) when_complete: bool,
    /// `None`: the usual list.
    pub(crate) jobs: Option<JobSet>,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobVerb {
    Pause,
    Resume,
    Cancel,
}

impl JobVerb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Cancel => "CANCEL",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ControlJobs {
    pub(crate) verb: JobVerb,
    pub(crate) jobs: JobSet,
    pub(crate) reason: Option<Str>,
}

/// How often a full backup is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FullCadence {
    Always,
    Cron(Str),
}

/// `name` or `name = 'value'`.
pub(crate) type ScheduleOption = (String, Option<Str>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CreateSchedule {
    pub(crate) if_not_exists: bool,
    pub(crate) label: Option<Str>,
    pub(crate) targets: Targets,
    pub(crate) source: Option<String>,
    pub(crate) collection: Vec<Str>,
    pub(crate) options: Options,
    pub(crate) recurring: Str,
    pub(crate) full: Option<FullCadence>,
    pub(crate) schedule_options: Vec<ScheduleOption>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlterSchedule {
    pub(crate) id: String,
    pub(crate) commands: Vec<ScheduleCommand>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScheduleCommand {
    Label(Str),
    Into(Vec<Str>),
    /// Exactly one option.
    With(Options),
    Recurring(Str),
    FullBackup(FullCadence),
    Option(ScheduleOption),
    Execute {
        is_full: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleVerb {
    Pause,
    Resume,
    Drop,
    Execute,
}

impl ScheduleVerb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Drop => "DROP",
            Self::Execute => "EXECUTE",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShowSchedules {
    /// Only running, or only paused ones.
    pub(crate) state: Option<ScheduleState>,
    pub(crate) is_for_backup: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleState {
    Running,
    Paused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreateConnection {
    pub(crate) if_not_exists: bool,
    pub(crate) name: Str,
    pub(crate) uri: Str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlterConnection {
    pub(crate) if_exists: bool,
    pub(crate) name: Str,
    pub(crate) uri: Str,
}

/// A member of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) address: Str,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CreateSource {
    pub(crate) if_not_exists: bool,
    pub(crate) name: String,
    /// What the addresses of its members are, if `None`.
    pub(crate) kind: Option<String>,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlterSource {
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    /// Of CREATE.
    pub(crate) if_not_exists: bool,
    pub(crate) password: Option<Str>,
}
