//! A relation: whether it can be read whole, and how its rows are backed up.

use super::report::{Finding, RelationReport, Severity};
use crate::catalog::RelationFacts;
use crate::identifier::{qualified, quote};
use crate::layout::{DefinitionReason, Handling, WholeReason};
use crate::session::Session;

/// A relation that is copied whole under the exact snapshot holds it for about a minute a few GiB.
const LARGE_BYTES: u64 = 1 << 30;

pub(super) fn look(session: &Session, facts: RelationFacts) -> RelationReport {
    let mut findings = Vec::new();
    let role = &session.info().user;
    findings.extend(rights(&facts, role));
    if facts.layout.handling.has_rows() {
        findings.extend(hidden_rows(&facts, role));
        columns(&facts, &mut findings);
    }
    if facts.layout.handling == Handling::Definition(DefinitionReason::UnloggedOnStandby) {
        findings.push(Finding::new(
            Severity::Warning,
            facts.layout.display_name(),
            "it is unlogged, and its rows are on the primary alone: it comes back empty from a backup of a standby",
        ));
    }
    if let Handling::Whole(reason) = facts.layout.handling {
        findings.push(whole(&facts, reason, &session.info().user));
    }
    if facts.has_children {
        findings.push(note(
            &facts,
            "tables inherit from it; each is copied by itself",
        ));
    }
    RelationReport {
        bytes: facts.total_bytes,
        layout: facts.layout,
        findings,
    }
}

fn note(facts: &RelationFacts, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Note, facts.layout.display_name(), message)
}

/// What the role lacks to read a table, and to take the schema: pg_dump locks each table that it writes down, also a partitioned one, and
/// also those that the backup does not cover.
pub(super) fn rights(facts: &RelationFacts, role: &str) -> Vec<Finding> {
    let is_locked = match facts.layout.handling {
        Handling::Keyed | Handling::Whole(_) => true,
        Handling::Definition(reason) => matches!(
            reason,
            DefinitionReason::Partitioned | DefinitionReason::UnloggedOnStandby
        ),
    };
    let layout = &facts.layout;
    let access = &facts.access;
    match is_locked {
        true => missing(
            ("TABLE", &layout.schema, &layout.name),
            access.schema,
            access.select,
            role,
        ),
        false => Vec::new(),
    }
}

/// What the role lacks to read something that has this schema and name.
pub(super) fn missing(
    (kind, schema, name): (&str, &str, &str),
    may_use: bool,
    may_read: bool,
    role: &str,
) -> Vec<Finding> {
    let about = format!("{schema}.{name}");
    let grantee = quote(role);
    let all = format!("-- or, for all: GRANT pg_read_all_data TO {grantee};");
    let mut findings = Vec::new();
    if !may_use {
        let schema = quote(schema);
        let mend = format!("GRANT USAGE ON SCHEMA {schema} TO {grantee}; {all}");
        let what = "the role may not use its schema";
        findings.push(Finding::new(Severity::Blocks, about.clone(), what).mend(mend));
    }
    if !may_read {
        let name = qualified(schema, name);
        let mend = format!("GRANT SELECT ON {kind} {name} TO {grantee}; {all}");
        let what = "the role may not read it";
        findings.push(Finding::new(Severity::Blocks, about, what).mend(mend));
    }
    findings
}

fn hidden_rows(facts: &RelationFacts, role: &str) -> Option<Finding> {
    let what = "row-level security hides rows from the role, so that a backup would miss them";
    let finding = Finding::new(Severity::Blocks, facts.layout.display_name(), what);
    let mend = format!("ALTER ROLE {} BYPASSRLS;", quote(role));
    facts.access.row_security.then(|| finding.mend(mend))
}

fn columns(facts: &RelationFacts, findings: &mut Vec<Finding>) {
    let layout = &facts.layout;
    let text: Vec<&str> = layout
        .columns
        .iter()
        .filter(|column| column.as_text)
        .map(|column| column.name.as_str())
        .collect();
    if !text.is_empty() {
        findings.push(note(
            facts,
            format!("kept in text form: {}", text.join(", ")),
        ));
    }
    if !layout.generated.is_empty() {
        let names = layout.generated.join(", ");
        findings.push(note(facts, format!("computed again on restore: {names}")));
    }
    if !facts.oid_columns.is_empty() {
        findings.push(Finding::new(
            Severity::Warning,
            layout.display_name(),
            format!(
                "columns of type oid keep their numbers, which may name other objects after a restore: {}",
                facts.oid_columns.join(", ")
            ),
        ));
    }
}

fn whole(facts: &RelationFacts, reason: WholeReason, role: &str) -> Finding {
    let layout = &facts.layout;
    let table = qualified(&layout.schema, &layout.name);
    let price = match facts.total_bytes {
        LARGE_BYTES.. => Severity::Warning,
        _ => Severity::Note,
    };
    let finding = |message: &str| {
        Finding::new(
            price,
            layout.display_name(),
            format!(
                "{message}: every backup copies it whole ({} MiB), and history has no changes of it",
                facts.total_bytes >> 20
            ),
        )
    };
    match reason {
        WholeReason::NoKey => finding("it has no primary key")
            .mend(format!("ALTER TABLE {table} ADD PRIMARY KEY (…);")),
        WholeReason::DeferrableKey => finding(
            "its primary key is deferrable, so that keys can be double for a while",
        )
        .mend(format!(
            "ALTER TABLE {table} DROP CONSTRAINT …, ADD PRIMARY KEY (…) NOT DEFERRABLE;"
        )),
        WholeReason::IdentityFull => finding("its replica identity is FULL")
            .mend(format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;")),
        WholeReason::IdentityIndex => {
            finding("its replica identity is another index than the primary key")
                .mend(format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;"))
        }
        WholeReason::IdentityNothing => finding("its replica identity is NOTHING")
            .mend(format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;")),
        WholeReason::Unlogged => {
            finding("it is unlogged").mend(format!("ALTER TABLE {table} SET LOGGED;"))
        }
        WholeReason::ExtensionConfiguration => finding("it holds the settings of an extension"),
        WholeReason::ColumnForm => finding(&format!(
            "changes of some columns come in another form than their copy ({})",
            match facts.copy_only.is_empty() {
                true => "in its key".to_owned(),
                false => facts.copy_only.join(", "),
            }
        )),
        WholeReason::NotOwner => finding("the role does not own it and cannot publish it")
            .mend(format!("GRANT {} TO {};", quote(&facts.owner), quote(role))),
        WholeReason::AccessMethod => finding("it is not stored in PostgreSQL's heap"),
        WholeReason::SnapshotMode => finding("snapshot mode"),
    }
}
