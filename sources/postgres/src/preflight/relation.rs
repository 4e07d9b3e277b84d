//! A relation: whether it can be read whole, and how its rows are backed up.

use super::report::{Finding, RelationReport, Severity};
use crate::catalog::RelationFacts;
use crate::identifier::{qualified, quote};
use crate::layout::{Handling, WholeReason};
use crate::session::Session;

/// A relation that is copied whole under the exact snapshot holds it for about a minute a few GiB.
const LARGE_BYTES: u64 = 1 << 30;

pub(super) fn look(session: &Session, facts: RelationFacts) -> RelationReport {
    let mut findings = Vec::new();
    if facts.layout.handling.has_rows() {
        rights(&facts, &session.info().user, &mut findings);
        columns(&facts, &mut findings);
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

fn rights(facts: &RelationFacts, role: &str, findings: &mut Vec<Finding>) {
    let layout = &facts.layout;
    let table = qualified(&layout.schema, &layout.name);
    let name = layout.display_name();
    let grantee = quote(role);
    if !facts.access.schema {
        let schema = quote(&layout.schema);
        findings.push(
            Finding::new(Severity::Blocks, name.clone(), "the role may not use its schema")
                .mend(format!("GRANT USAGE ON SCHEMA {schema} TO {grantee}; -- or, for all: GRANT pg_read_all_data TO {grantee};")),
        );
    }
    if !facts.access.select {
        findings.push(
            Finding::new(Severity::Blocks, name.clone(), "the role may not read it")
                .mend(format!("GRANT SELECT ON TABLE {table} TO {grantee}; -- or, for all: GRANT pg_read_all_data TO {grantee};")),
        );
    }
    if facts.access.row_security {
        findings.push(
            Finding::new(
                Severity::Blocks,
                name,
                "row-level security hides rows from the role, so that a backup would miss them",
            )
            .mend(format!("ALTER ROLE {grantee} BYPASSRLS;")),
        );
    }
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
