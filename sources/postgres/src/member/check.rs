//! What a member's server says of how it would be backed up, in the words that all sources share.

use holdfast_source::{CheckFinding, CheckLevel, HoldStanding, MemberCheck};
use holdfast_types::{ErrorCode, Fault};

use super::{PostgresMember, look, share};
use crate::hold::{self, PREFIX};
use crate::layout::{Handling, WholeReason};
use crate::preflight::{self, Mode, Report, Request, Severity};
use crate::schema::DumpTool;
use crate::session::{Purpose, Session};

/// Relations of a database that are named though there is nothing to say of them; the others are counted.
const FINE_NAMED: usize = 1000;

/// See [`holdfast_source::LoggedSource::check`].
pub(super) async fn check(member: &PostgresMember) -> Result<MemberCheck, Fault> {
    let request = Request {
        connections: share::most_sessions(&member.limits),
        ..Request::default()
    };
    let report = preflight::check(&member.env, &member.dsn, &request).await?;
    let (major, minor) = (report.version / 10_000, report.version % 10_000);
    let (word, mode) = mode(&report);
    let mut findings = vec![tool(member, major).await?];
    findings.extend(report.findings.iter().map(finding));
    for database in &report.databases {
        findings.extend(of_database(database));
    }
    let session = Session::connect(&member.env, &member.dsn, Purpose::Control).await?;
    Ok(MemberCheck {
        server: format!(
            "PostgreSQL {major}.{minor} at {}, role {}, {word}",
            member.dsn.address(),
            report.role
        ),
        mode,
        findings,
        holds: holds(member, &session).await?,
    })
}

fn mode(report: &Report) -> (&'static str, String) {
    match report.mode {
        Mode::Log => (
            "log mode",
            "full backups without a long snapshot, incrementals and history: the server's log can be decoded".to_owned(),
        ),
        Mode::Snapshot => (
            "snapshot mode",
            format!(
                "full backups only, each under one snapshot from beginning to end: {}",
                report.reasons.join("; ")
            ),
        ),
    }
}

/// Looks for pg_dump on this worker.
async fn tool(member: &PostgresMember, major: u32) -> Result<CheckFinding, Fault> {
    let preferred = member.limits.tools.as_deref();
    let (level, what, remedy) = match DumpTool::find(&member.env, major, preferred).await {
        Ok(tool) => (
            CheckLevel::Fine,
            format!("version {} at {} reads the schema", tool.major, tool.path),
            None,
        ),
        Err(fault) if fault.code == ErrorCode::Unsupported => {
            (CheckLevel::Blocks, fault.message, fault.hint)
        }
        Err(fault) => return Err(fault),
    };
    Ok(CheckFinding {
        object: "pg_dump".to_owned(),
        level,
        what,
        remedy,
    })
}

fn finding(finding: &preflight::Finding) -> CheckFinding {
    CheckFinding {
        object: finding.about.clone(),
        level: match finding.severity {
            Severity::Note | Severity::Warning | Severity::NoLog => CheckLevel::Handled,
            Severity::Blocks => CheckLevel::Blocks,
        },
        what: finding.message.clone(),
        remedy: finding.mend.clone(),
    }
}

fn of_database(database: &preflight::DatabaseReport) -> Vec<CheckFinding> {
    let mut findings: Vec<CheckFinding> = database.findings.iter().map(finding).collect();
    for found in &mut findings {
        if !found.object.contains(&database.name) {
            found.object = format!("database {}: {}", database.name, found.object);
        }
    }
    let mut unnamed = 0_usize;
    let mut named = 0_usize;
    for relation in &database.relations {
        let object = format!("{}.{}", database.name, relation.layout.display_name());
        let own = relation.findings.iter().map(finding);
        findings.extend(own.map(|own| CheckFinding {
            object: object.clone(),
            ..own
        }));
        if !relation.findings.is_empty() {
            continue;
        }
        if named == FINE_NAMED {
            unnamed += 1;
            continue;
        }
        named += 1;
        findings.push(CheckFinding {
            object,
            level: match relation.layout.handling {
                Handling::Keyed | Handling::Whole(WholeReason::SnapshotMode) => CheckLevel::Fine,
                _ => CheckLevel::Handled,
            },
            what: format!("{}, {} MiB", relation.layout.handling, relation.bytes >> 20),
            remedy: None,
        });
    }
    if unnamed > 0 {
        findings.push(CheckFinding {
            object: format!("database {}", database.name),
            level: CheckLevel::Fine,
            what: format!("{unnamed} more relations of which there is nothing to say"),
            remedy: None,
        });
    }
    findings
}

/// The slots of this cluster of Holdfast on the server.
async fn holds(member: &PostgresMember, session: &Session) -> Result<Vec<HoldStanding>, Fault> {
    let prefix = format!("{PREFIX}{}_", member.tag);
    let rows = session
        .query(
            "SELECT s.slot_name::text FROM pg_catalog.pg_replication_slots s
             WHERE pg_catalog.starts_with(s.slot_name::text, $1) ORDER BY 1",
            &[&prefix],
        )
        .await?;
    let mut holds = Vec::new();
    for row in rows {
        let name: String = row.get(0);
        let Some(state) = hold::state(session, &name).await? else {
            continue;
        };
        holds.push(look::standing(member, session, name, state).await?);
    }
    Ok(holds)
}
