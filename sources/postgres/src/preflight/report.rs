//! What a preflight found.

use serde::Serialize;
use std::fmt;

use crate::layout::{Handling, Layout, WholeReason};

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is handled; good to know.
    Note,
    /// It works, at a price or a risk.
    Warning,
    /// There is no log mode: no incrementals, no history, no backup without a long snapshot.
    NoLog,
    /// The object, and with it a backup that includes it, cannot be backed up.
    Blocks,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::NoLog => "no log mode",
            Self::Blocks => "blocks",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What follows.
    pub severity: Severity,
    /// The object: a setting, a role, a relation, a column.
    pub about: String,
    /// What was found, and what follows from it.
    pub message: String,
    /// The statement or step that mends it.
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        about: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            about: about.into(),
            message: message.into(),
            mend: None,
        }
    }

    pub(super) fn mend(mut self, statement: impl Into<String>) -> Self {
        self.mend = Some(statement.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}",
            self.severity.as_str(),
            self.about,
            self.message
        )?;
        match &self.mend {
            Some(mend) => write!(f, "\n    mend: {mend}"),
            None => Ok(()),
        }
    }
}

/// How a source is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Page ranges and the change stream: incrementals, history, no long snapshot.
    Log,
    /// One snapshot, held from beginning to end: full backups only.
    Snapshot,
}

/// A relation, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelationReport {
    /// Its layout, with the handling that it will get.
    pub layout: Layout,
    /// Bytes of its rows on the server's disk.
    pub bytes: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// A database, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// What was found of the database itself.
    pub findings: Vec<Finding>,
    /// Its relations.
    pub relations: Vec<RelationReport>,
}

/// A member, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `server_version_num`.
    pub version: u32,
    /// The role that looked.
    pub role: String,
    /// The mode that the member gets.
    pub mode: Mode,
    /// Why it is not log mode; empty if it is.
    pub reasons: Vec<String>,
    /// What was found of the server.
    pub findings: Vec<Finding>,
    /// The databases.
    pub databases: Vec<DatabaseReport>,
}

impl Report {
    /// All findings, the server's first.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        let databases = self.databases.iter().flat_map(|database| {
            let relations = database
                .relations
                .iter()
                .flat_map(|relation| &relation.findings);
            database.findings.iter().chain(relations)
        });
        self.findings.iter().chain(databases)
    }

    /// What keeps the backup from being made at all.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.all_findings()
            .filter(|finding| finding.severity == Severity::Blocks)
    }

    /// Decides on the mode, and on what follows for the relations.
    pub(super) fn settle(&mut self, snapshot_wanted: bool) {
        let against = self
            .all_findings()
            .filter(|finding| finding.severity == Severity::NoLog)
            .map(|finding| format!("{}: {}", finding.about, finding.message));
        let mut reasons: Vec<String> = against.collect();
        if snapshot_wanted {
            reasons.insert(0, "snapshot mode was asked for".to_owned());
        }
        self.reasons = reasons;
        if self.reasons.is_empty() {
            return;
        }
        self.mode = Mode::Snapshot;
        for relation in self
            .databases
            .iter_mut()
            .flat_map(|database| &mut database.relations)
        {
            if relation.layout.handling == Handling::Keyed {
                relation.layout.handling = Handling::Whole(WholeReason::SnapshotMode);
            }
        }
    }
}

impl fmt::Display for Report {
    /// As `holdfast source check` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Log => "log mode",
            Mode::Snapshot => "snapshot mode",
        };
        let (major, minor) = (self.version / 10_000, self.version % 10_000);
        writeln!(f, "PostgreSQL {major}.{minor}, role {}: {mode}", self.role)?;
        for reason in &self.reasons {
            writeln!(f, "  because {reason}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        for database in &self.databases {
            writeln!(f, "database {}", database.name)?;
            for finding in &database.findings {
                writeln!(f, "  {finding}")?;
            }
            for relation in &database.relations {
                writeln!(
                    f,
                    "  {}: {}",
                    relation.layout.display_name(),
                    relation.layout.handling
                )?;
                for finding in &relation.findings {
                    writeln!(f, "    {finding}")?;
                }
            }
        }
        Ok(())
    }
}
