//! Who may depend on whom. The table is the architecture; a new edge is a decision, and is made here and in `docs/ARCHITECTURE.md`.

use super::Finding;
use crate::Result;
use crate::tree::Tree;
use cargo_metadata::DependencyKind;
use std::collections::{BTreeMap, BTreeSet};

/// What each crate may depend on, directly, outside of tests. `*`: everything (nothing depends on it).
const MAY: [(&str, &[&str]); 23] = [
    ("types", &[]),
    ("ledger", &["types"]),
    ("format", &["types"]),
    ("env", &["types"]),
    ("source", &["types"]),
    ("node", &["env", "types"]),
    ("proto", &["env", "types"]),
    ("collection", &["env", "format", "types"]),
    ("keys", &["env", "format", "types"]),
    ("mvcc", &["env", "proto", "source", "types"]),
    ("postgres", &["env", "source", "types"]),
    ("postgres-testing", &[]),
    ("store-testing", &[]),
    ("keys-testing", &[]),
    ("raft", &["env", "ledger", "proto", "types"]),
    ("client", &["env", "proto", "types"]),
    (
        "worker",
        &[
            "collection",
            "env",
            "format",
            "mvcc",
            "node",
            "proto",
            "source",
            "types",
        ],
    ),
    (
        "coordinator",
        &[
            "client",
            "collection",
            "env",
            "format",
            "keys",
            "ledger",
            "node",
            "proto",
            "raft",
            "types",
        ],
    ),
    (
        "cli",
        &[
            "client",
            "collection",
            "coordinator",
            "env",
            "format",
            "mvcc",
            "node",
            "postgres",
            "proto",
            "source",
            "sql",
            "types",
            "worker",
        ],
    ),
    ("sim", &["*"]),
    ("tests", &["*"]),
    ("sql", &["client", "env", "proto", "types"]),
    ("console", &["client", "types"]),
];

/// Edges that must not exist, however long the way.
const NEVER: [(&str, &[&str]); 7] = [
    ("worker", &["ledger", "raft", "coordinator"]),
    // Workers have the data key from their lease, and speak with no key management service.
    ("worker", &["keys"]),
    ("sql", &["coordinator", "raft", "ledger"]),
    ("console", &["coordinator", "raft", "ledger"]),
    ("client", &["coordinator", "raft", "ledger"]),
    ("coordinator", &["worker", "mvcc", "postgres"]),
    ("collection", &["ledger", "raft", "proto"]),
];

/// Outside crates that the pure crates' closure must not hold.
const IMPURE: [&str; 9] = [
    "tokio",
    "actix",
    "openraft",
    "tonic",
    "object_store",
    "rand",
    "chrono",
    "mio",
    "async-std",
];
const PURE: [&str; 3] = ["types", "ledger", "format"];

type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = check_edges(&own_edges(tree));
    findings.extend(check_purity(&resolved_edges(tree)));
    Ok(findings)
}

/// The workspace's normal and build dependencies on its own crates, by short name.
fn own_edges(tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    for package in tree.metadata.workspace_packages() {
        let Some(name) = package.name.strip_prefix("holdfast-") else {
            continue;
        };
        let targets = edges.entry(name.to_owned()).or_default();
        for dependency in &package.dependencies {
            if dependency.kind != DependencyKind::Development
                && let Some(target) = dependency.name.strip_prefix("holdfast-")
            {
                targets.insert(target.to_owned());
            }
        }
    }
    edges
}

/// All normal dependencies as resolved, by package name.
fn resolved_edges(tree: &Tree) -> Edges {
    let names: BTreeMap<_, _> = tree
        .metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.to_string()))
        .collect();
    let mut edges = Edges::new();
    for node in tree
        .metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
    {
        let Some(name) = names.get(&node.id) else {
            continue;
        };
        let targets = edges.entry(name.clone()).or_default();
        for dependency in &node.deps {
            let normal = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if normal && let Some(target) = names.get(&dependency.pkg) {
                targets.insert(target.clone());
            }
        }
    }
    edges
}

fn check_edges(edges: &Edges) -> Vec<Finding> {
    let may: BTreeMap<_, _> = MAY.into_iter().collect();
    let mut findings = Vec::new();
    for (from, targets) in edges {
        let Some(allowed) = may.get(from.as_str()) else {
            findings.push(Finding::file(
                from,
                "is not in the table of crates (xtask/src/tidy/crates.rs)",
            ));
            continue;
        };
        for target in targets {
            if !allowed.contains(&"*") && !allowed.contains(&target.as_str()) {
                findings.push(Finding::file(from, format!("may not depend on {target}")));
            }
            if may.get(target.as_str()).is_some_and(|of| of.contains(&"*")) {
                findings.push(Finding::file(
                    from,
                    format!("nothing may depend on {target}"),
                ));
            }
        }
    }
    for (from, targets) in NEVER {
        let reached = closure(edges, from);
        for target in targets.iter().filter(|target| reached.contains(**target)) {
            findings.push(Finding::file(
                from,
                format!("must never reach {target}, and does"),
            ));
        }
    }
    findings
}

fn check_purity(edges: &Edges) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pure in PURE {
        let reached = closure(edges, &format!("holdfast-{pure}"));
        for bad in IMPURE.iter().filter(|bad| reached.contains(**bad)) {
            findings.push(Finding::file(pure, format!("is pure, and reaches {bad}")));
        }
    }
    findings
}

fn closure(edges: &Edges, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(name) = next.pop() {
        for target in edges.get(&name).into_iter().flatten() {
            if reached.insert(target.clone()) {
                next.push(target.clone());
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> Edges {
        list.iter()
            .map(|(from, to)| {
                (
                    (*from).to_owned(),
                    to.iter().map(|t| (*t).to_owned()).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn edges_outside_the_table_are_found() {
        assert!(check_edges(&edges(&[("worker", &["proto"]), ("proto", &["types"])])).is_empty());
        let found = check_edges(&edges(&[
            ("ledger", &["env"]),
            ("novel", &[]),
            ("env", &["sim"]),
        ]));
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(
            text.contains(&"ledger: may not depend on env".to_owned()),
            "{text:?}"
        );
        assert!(
            text.iter()
                .any(|line| line.starts_with("novel: is not in the table"))
        );
        assert!(text.contains(&"env: nothing may depend on sim".to_owned()));
    }

    #[test]
    fn forbidden_edges_are_found_however_long() {
        let found = check_edges(&edges(&[("worker", &["proto"]), ("proto", &["ledger"])]));
        assert!(
            found
                .iter()
                .any(|finding| finding.message == "must never reach ledger, and does")
        );
    }

    #[test]
    fn impurity_is_found_through_others() {
        let found = check_purity(&edges(&[
            ("holdfast-ledger", &["harmless"]),
            ("harmless", &["tokio"]),
        ]));
        assert_eq!(found.len(), 1);
    }
}
