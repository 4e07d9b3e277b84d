//! Every invariant that the code checks by id stands in `docs/INVARIANTS.md`, and every one that stands there is checked somewhere.

use super::Finding;
use super::documents::{code_spans, documents};
use crate::Result;
use crate::tree::Tree;
use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/INVARIANTS.md";
/// The letters that ids begin with: raft, jobs, collections, data, schedules, answers, liveness, bounds, holds, computed state.
const LETTERS: &str = "RJCDSALBHK";
/// Looks like an id, and is something else.
const NOT_IDS: [&str; 1] = ["S3"];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let Some(document) = tree.files.iter().find(|file| file.path == DOCUMENT) else {
        return Ok(vec![Finding::file(DOCUMENT, "is missing")]);
    };
    let mut code = BTreeMap::new();
    for file in tree.files.iter().filter(|file| {
        file.is_rust() && (file.path.starts_with("ledger/src") || file.path.starts_with("sim/src"))
    }) {
        for (line, text) in file.product_lines() {
            for literal in text
                .split('"')
                .skip(1)
                .step_by(2)
                .filter(|text| is_id(text))
            {
                code.entry(literal.to_owned())
                    .or_insert((file.path.clone(), line));
            }
        }
    }
    let defined = defined_ids(&document.text);
    let mut findings = Vec::new();
    for (id, (path, line)) in &code {
        if !defined.contains_key(id) {
            findings.push(Finding::line(
                path,
                *line,
                format!("{id} is not in {DOCUMENT}"),
            ));
        }
    }
    for (id, line) in &defined {
        if !code.contains_key(id) {
            findings.push(Finding::line(
                DOCUMENT,
                *line,
                format!("nothing in ledger/ or sim/ checks {id}"),
            ));
        }
    }
    for file in documents(tree) {
        for (line, text) in code_spans(&file.text) {
            if is_id(&text) && !defined.contains_key(&text) {
                findings.push(Finding::line(
                    &file.path,
                    line,
                    format!("{text} is not in {DOCUMENT}"),
                ));
            }
        }
    }
    Ok(findings)
}

/// `R5`, `J12`.
fn is_id(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|letter| LETTERS.contains(letter))
        && (2..=3).contains(&text.len())
        && chars.all(|c| c.is_ascii_digit())
        && !NOT_IDS.contains(&text)
}

/// The ids that begin a row of a table: `| R5 | …`.
fn defined_ids(text: &str) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let cell = line
            .strip_prefix('|')
            .and_then(|rest| rest.split('|').next());
        if let Some(id) = cell.map(|cell| cell.trim().trim_matches('`'))
            && is_id(id)
        {
            ids.insert(id.to_owned(), index + 1);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_words() {
        assert!(is_id("R5") && is_id("J12"));
        assert!(!is_id("S3") && !is_id("J") && !is_id("X1") && !is_id("J1a") && !is_id("R1234"));
    }

    #[test]
    fn rows_define_ids() {
        let ids =
            defined_ids("| Id | Holds |\n|---|---|\n| R5 | same |\n| `J1` | legal |\ntext R6\n");
        assert_eq!(ids.into_keys().collect::<Vec<_>>(), ["J1", "R5"]);
    }
}
