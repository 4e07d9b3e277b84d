//! What a backup notes for whoever asked for it. Texts are the same when a step is done again, so that each is kept once.

use holdfast_source::LoggedBackup;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::begin::table_name;
use crate::layout::{Layout, Oid};
use crate::preflight::{Finding, Mode, Report, Severity};

/// Names in one note, and their bytes together: a note has room for them.
const NAMED: usize = 10;
const NAMED_BYTES: usize = 360;

/// Notes the mode, if it is not log mode, and what the preflight warns of. Several objects of which the same is said share a note.
pub(super) fn preflight(backup: &LoggedBackup, report: &Report) {
    let notes = &backup.notes;
    if report.mode == Mode::Snapshot && backup.parent.is_empty() {
        for reason in &report.reasons {
            notes.add(format!(
                "backed up in snapshot mode, so that no incremental can follow: {reason}"
            ));
        }
    }
    for finding in warnings(&report.findings) {
        notes.add(format!("{}: {}", finding.about, finding.message));
    }
    for database in &report.databases {
        for (message, objects) in by_message(warnings(&database.findings)) {
            let objects = list(&objects);
            notes.add(format!("database {}: {objects}: {message}", database.name));
        }
        let covered = database.relations.iter().filter(|relation| {
            let name = table_name(&database.name, &relation.layout);
            backup.target.covers(&name)
        });
        let findings = covered.flat_map(|relation| warnings(&relation.findings));
        for (message, objects) in by_message(findings) {
            let objects = list(&objects);
            notes.add(format!("database {}: {objects}: {message}", database.name));
        }
    }
}

fn warnings(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    let is_warning = |finding: &&Finding| finding.severity == Severity::Warning;
    findings.iter().filter(is_warning)
}

fn by_message<'a>(findings: impl Iterator<Item = &'a Finding>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut objects: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for finding in findings {
        let of = objects.entry(finding.message.as_str()).or_default();
        of.push(&finding.about);
    }
    objects
}

/// Notes which relations of a database, of those that are there at its end, were copied whole though their page ranges had been read, or the
/// chain had their changes.
pub(super) fn replaced(
    backup: &LoggedBackup,
    database: &str,
    there: &[Arc<Layout>],
    replaced: &BTreeSet<Oid>,
) {
    let is_replaced =
        |layout: &&Arc<Layout>| replaced.contains(&layout.oid) && layout.handling.has_rows();
    let copied = there.iter().filter(is_replaced);
    let mut names: Vec<String> = copied.map(|layout| layout.display_name()).collect();
    if names.is_empty() {
        return;
    }
    names.sort();
    backup.notes.add(format!(
        "database {database}: copied whole, because they were rewritten, altered or published anew since they were planned: {}",
        list(&names)
    ));
}

/// Names the first objects, and counts the others.
pub(super) fn list<T: AsRef<str>>(objects: &[T]) -> String {
    let mut text = String::new();
    let mut named = 0;
    for object in objects.iter().take(NAMED) {
        let object = object.as_ref().escape_debug().to_string();
        if named > 0 && text.len() + object.len() > NAMED_BYTES {
            break;
        }
        if named > 0 {
            text.push_str(", ");
        }
        text.push_str(&object);
        named += 1;
    }
    match objects.len() - named {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bounded() {
        assert_eq!(list(&["a.b"]), "a.b");
        assert_eq!(list(&["a.b", "a\n.c"]), "a.b, a\\n.c");
        let many: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
        assert!(list(&many).ends_with("t8, t9 and 2 more"));
        let long: Vec<String> = (0..12).map(|number| format!("{number:0100}")).collect();
        let text = list(&long);
        assert!(text.ends_with(" and 9 more") && text.len() < 400, "{text}");
    }
}
