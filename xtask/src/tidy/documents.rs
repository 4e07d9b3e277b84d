//! Documents do not run ahead of the tree: a path of ours that one names in code or links to exists.

use super::Finding;
use crate::Result;
use crate::tree::{TextFile, Tree};
use std::collections::BTreeSet;

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let top: BTreeSet<String> = tree
        .files
        .iter()
        .filter_map(|file| file.path.split_once('/').map(|(first, _)| first.to_owned()))
        .collect();
    let mut findings = Vec::new();
    for file in documents(tree) {
        let directory = file
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        for (line, text) in code_spans(&file.text) {
            for path in text
                .split_whitespace()
                .flat_map(|word| own_paths(word, &top))
            {
                if !tree.exists(&path) && !tree.exists(&format!("{directory}/{path}")) {
                    findings.push(Finding::line(
                        &file.path,
                        line,
                        format!("there is no `{path}`"),
                    ));
                }
            }
        }
        for (line, target) in links(&file.text) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                let path = if directory.is_empty() {
                    target.to_owned()
                } else {
                    format!("{directory}/{target}")
                };
                if !tree.exists(&path) {
                    findings.push(Finding::line(
                        &file.path,
                        line,
                        format!("links to `{target}`, which is not there"),
                    ));
                }
            }
        }
    }
    Ok(findings)
}

/// The documents that are checked.
pub(super) fn documents(tree: &Tree) -> impl Iterator<Item = &TextFile> {
    tree.files.iter().filter(|file| {
        file.path.ends_with(".md") && (!file.path.contains('/') || file.path.starts_with("docs/"))
    })
}

/// What stands between backticks, and in fenced blocks line by line, with line numbers.
pub(super) fn code_spans(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            spans.push((index + 1, line.to_owned()));
        } else {
            let inside = line.split('`').skip(1).step_by(2);
            spans.extend(inside.map(|span| (index + 1, span.to_owned())));
        }
    }
    spans
}

fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

/// The paths of this tree that a word names: `ledger/src/{job,task}.rs` names two, `sim/src/*.rs` its directory.
fn own_paths(word: &str, top: &BTreeSet<String>) -> Vec<String> {
    let word = word
        .trim_matches(|c: char| "\"'(),;:.│├└─".contains(c) && c != '.')
        .trim_end_matches('.');
    let word = word.split(':').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*{},".contains(c);
    let Some((first, rest)) = word.split_once('/') else {
        return Vec::new();
    };
    if !top.contains(first) || rest.is_empty() || !word.chars().all(plain) {
        return Vec::new();
    }
    // `sources/target` may be prose; with an extension, or a directory that looks like ours, it is a path.
    braces(word)
        .into_iter()
        .map(|path| match path.find('*') {
            Some(star) => path[..star]
                .rsplit_once('/')
                .map_or(String::new(), |(d, _)| d.to_owned()),
            None => path,
        })
        .collect()
}

fn braces(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else {
        return vec![word.to_owned()];
    };
    let Some((inside, after)) = rest.split_once('}') else {
        return vec![word.to_owned()];
    };
    inside
        .split(',')
        .flat_map(|choice| braces(&format!("{before}{choice}{after}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_inline_and_fenced() {
        let spans = code_spans("see `a/b.rs` and `c`\n```\nd e\n```\nf\n");
        let expected = [(1, "a/b.rs"), (1, "c"), (3, "d e")];
        assert_eq!(spans, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn only_paths_of_the_tree_are_checked() {
        let top = ["sim", "docs"].map(String::from).into();
        assert_eq!(
            own_paths("sim/src/{main,lib}.rs", &top),
            ["sim/src/main.rs", "sim/src/lib.rs"]
        );
        assert_eq!(own_paths("sim/src/*.rs", &top), ["sim/src"]);
        assert_eq!(own_paths("docs/FORMAT.md,", &top), ["docs/FORMAT.md"]);
        assert!(own_paths("data/one/two", &top).is_empty());
        assert!(own_paths("sim/<seed>/x", &top).is_empty());
        assert!(own_paths("sim", &top).is_empty());
    }

    #[test]
    fn links_are_found() {
        assert_eq!(
            links("[a](b.md) [c](d#e)"),
            [(1, "b.md".to_owned()), (1, "d#e".to_owned())]
        );
    }
}
