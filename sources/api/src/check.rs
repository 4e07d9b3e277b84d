//! What a member says of how it would be backed up.

use serde::{Deserialize, Serialize};

/// A member, looked at before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberCheck {
    /// The server, in one line: version, role, mode.
    pub server: String,
    /// What a backup gets, and why.
    pub mode: String,
    /// What was looked at, in the order in which it is shown.
    pub findings: Vec<CheckFinding>,
    /// The holds of this cluster of Holdfast on the member.
    pub holds: Vec<HoldStanding>,
}

impl MemberCheck {
    /// What keeps a backup of everything from being made.
    pub fn blocking(&self) -> impl Iterator<Item = &CheckFinding> {
        let blocks = |finding: &&CheckFinding| finding.level == CheckLevel::Blocks;
        self.findings.iter().filter(blocks)
    }
}

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// It is as it should be.
    Fine,
    /// It is backed up, in a way or at a price that is good to know.
    Handled,
    /// A backup that includes it cannot be made.
    Blocks,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// A setting, a role, a program, a database, a relation (`database.schema.table`).
    pub object: String,
    /// What follows.
    pub level: CheckLevel,
    /// What was found, and what is done about it.
    pub what: String,
    /// The statement or step that mends it.
    pub remedy: Option<String>,
}

/// A hold as the member's server shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStanding {
    /// What the server calls it.
    pub name: String,
    /// The database whose log it keeps.
    pub database: String,
    /// Bytes of log that it keeps on the server's disk.
    pub wal_retained_bytes: u64,
    /// Beyond which it is given up.
    pub wal_budget_bytes: u64,
    /// Whether that log is all there, in the server's words.
    pub wal_status: String,
    /// How many transactions ago the oldest catalog rows are that it keeps from vacuum.
    pub xmin_age: u64,
    /// Whether somebody reads it now.
    pub active: bool,
}
