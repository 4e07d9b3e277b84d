//! What a source's members say of how they would be backed up, or of what would be restored onto them.

use holdfast_client::v1;
use holdfast_proto::wire_to_fault;
use holdfast_source::{CheckLevel, MemberCheck};
use holdfast_types::{ByteCount, Fault};
use serde::Serialize;

use super::some;
use crate::output::Table;

/// A source that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct CheckView {
    source: String,
    members: Vec<CheckedMemberView>,
}

/// A restore that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct DryRunView {
    /// The restore in words.
    restore: String,
    members: Vec<CheckedMemberView>,
}

/// What the levels of findings are called.
struct Words {
    fine: &'static str,
    handled: &'static str,
    blocks: &'static str,
}

const BACKUP: Words = Words {
    fine: "fine",
    handled: "handled",
    blocks: "BLOCKS",
};

const RESTORE: Words = Words {
    fine: "restored",
    handled: "differs",
    blocks: "REFUSED",
};

#[derive(Debug, Serialize)]
struct CheckedMemberView {
    name: String,
    locality: Option<String>,
    worker: Option<String>,
    /// Why it could not be looked at.
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<MemberCheck>,
}

impl CheckView {
    /// The answer for a source, and why a member could not be looked at, if one could not.
    pub(crate) fn new(source: String, answer: v1::CheckSourceResponse) -> (Self, Option<Fault>) {
        let (members, fault) = read(answer.members);
        (Self { source, members }, fault)
    }

    /// How many things keep a backup from being made.
    pub(crate) fn blocking(&self) -> usize {
        blocking(&self.members)
    }

    pub(crate) fn text(&self) -> String {
        let members = self.members.iter().map(|member| member.text(&BACKUP));
        members.collect::<Vec<_>>().join("\n\n")
    }
}

impl DryRunView {
    /// The answer for a restore, and why a member could not be looked at, if one could not.
    pub(crate) fn new(answer: v1::CheckRestoreResponse) -> (Self, Option<Fault>) {
        let (members, fault) = read(answer.members);
        let restore = answer.description;
        (Self { restore, members }, fault)
    }

    /// How many things keep it from being done.
    pub(crate) fn refused(&self) -> usize {
        blocking(&self.members)
    }

    pub(crate) fn text(&self) -> String {
        let mut parts = vec![self.restore.clone()];
        parts.extend(self.members.iter().map(|member| member.text(&RESTORE)));
        parts.push(match self.refused() {
            0 => "nothing stands in the way; nothing was changed".to_owned(),
            1 => "1 thing stands in the way; nothing was changed".to_owned(),
            things => format!("{things} things stand in the way; nothing was changed"),
        });
        parts.join("\n\n")
    }
}

fn read(members: Vec<v1::CheckedMember>) -> (Vec<CheckedMemberView>, Option<Fault>) {
    let mut first = None;
    let members = members.into_iter().map(|member| {
        let fault = member.fault.map(wire_to_fault);
        let error = fault.as_ref().map(ToString::to_string);
        if let Some(fault) = fault {
            first.get_or_insert(fault.context(format_args!("member {}", member.name)));
        }
        CheckedMemberView {
            name: member.name,
            locality: some(member.locality),
            worker: some(member.worker),
            error,
            check: serde_json::from_str(&member.report).ok(),
        }
    });
    let members = members.collect();
    (members, first)
}

fn blocking(members: &[CheckedMemberView]) -> usize {
    let checks = members.iter().filter_map(|member| member.check.as_ref());
    checks.map(|check| check.blocking().count()).sum()
}

impl CheckedMemberView {
    fn text(&self, words: &Words) -> String {
        let mut lines = vec![match &self.locality {
            Some(locality) => format!("member {} ({locality})", self.name),
            None => format!("member {}", self.name),
        }];
        if let Some(error) = &self.error {
            lines.push(format!("could not be looked at: {error}"));
        }
        let Some(check) = &self.check else {
            return lines.join("\n");
        };
        lines.push(check.server.clone());
        if !check.mode.is_empty() {
            lines.push(check.mode.clone());
        }
        let mut table = Table::new(&["object", "", "what", "remedy"]);
        for finding in &check.findings {
            let level = match finding.level {
                CheckLevel::Fine => words.fine,
                CheckLevel::Handled => words.handled,
                CheckLevel::Blocks => words.blocks,
            };
            table.row([
                finding.object.clone(),
                level.to_owned(),
                finding.what.clone(),
                finding.remedy.clone().unwrap_or_default(),
            ]);
        }
        lines.push(table.to_string());
        if !check.holds.is_empty() {
            let mut table =
                Table::new(&["hold", "database", "log kept", "of", "state", "xmin age"]);
            for hold in &check.holds {
                table.row([
                    hold.name.clone(),
                    hold.database.clone(),
                    ByteCount(hold.wal_retained_bytes).to_string(),
                    ByteCount(hold.wal_budget_bytes).to_string(),
                    hold.wal_status.clone(),
                    hold.xmin_age.to_string(),
                ]);
            }
            lines.push(table.to_string());
        }
        lines.join("\n")
    }
}
