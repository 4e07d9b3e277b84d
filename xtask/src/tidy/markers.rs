//! Nothing is left for later without an issue.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

/// Words, and macros that stand for missing code. Written in halves, so that this file does not find itself.
const MARKERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(marker) = marker_in(line) {
                findings.push(Finding::line(
                    &file.path,
                    index + 1,
                    format!("`{marker}`: do it, or open an issue"),
                ));
            }
        }
    }
    Ok(findings)
}

fn marker_in(line: &str) -> Option<&'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    MARKERS.into_iter().find(|marker| {
        line.match_indices(marker).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + marker.len()..].chars().next();
            !before.is_some_and(is_word) && (marker.ends_with('!') || !after.is_some_and(is_word))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_whole_words() {
        assert!(marker_in(concat!("// TO", "DO: later")).is_some());
        assert!(marker_in(concat!("    to", "do!()")).is_some());
        assert!(marker_in("MASTODON").is_none());
        assert!(marker_in("mktemp /tmp/fileXXXXXX").is_none());
    }
}
