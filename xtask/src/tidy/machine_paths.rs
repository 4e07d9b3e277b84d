//! The tree names no directory of the machine it was written on.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

/// Written in halves, so that this file does not find itself.
const DIRECTORIES: [&str; 4] = [
    concat!("/wo", "rk"),
    concat!("/ro", "ot"),
    concat!("/fa", "rm"),
    concat!("/ho", "me"),
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(directory) = directory_in(line) {
                findings.push(Finding::line(
                    &file.path,
                    index + 1,
                    format!("`{directory}` is a directory of one machine"),
                ));
            }
        }
    }
    Ok(findings)
}

fn directory_in(line: &str) -> Option<&'static str> {
    DIRECTORIES.into_iter().find(|directory| {
        line.match_indices(directory).any(|(at, _)| {
            let inside = |c: char| c.is_alphanumeric() || "._-/}>*$".contains(c);
            let before = line[..at].chars().next_back();
            let after = line[at + directory.len()..].chars().next();
            !before.is_some_and(inside)
                && !after.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_found() {
        assert!(directory_in(concat!("see /wo", "rk/main")).is_some());
        assert!(directory_in(concat!("\"/ro", "ot\"")).is_some());
        assert!(directory_in("coordinator/worker.rs").is_none());
        assert!(directory_in(concat!("https://example.org/ro", "ot")).is_none());
        assert!(directory_in("/workers").is_none());
    }
}
