//! Modules are named for what they hold.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

const FORBIDDEN: [&str; 8] = [
    "utils", "util", "common", "helpers", "helper", "misc", "shared", "stuff",
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    Ok(tree
        .files
        .iter()
        .filter_map(|file| check_path(&file.path))
        .collect())
}

fn check_path(path: &str) -> Option<Finding> {
    let stem = path.strip_suffix(".rs")?;
    let bad = stem.split('/').find(|part| FORBIDDEN.contains(part))?;
    Some(Finding::file(
        path,
        format!("`{bad}` says nothing about what is in there: name it for the concept"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found() {
        assert!(check_path("a/src/utils.rs").is_some());
        assert!(check_path("a/tests/common/mod.rs").is_some());
        assert!(check_path("a/src/commonwealth.rs").is_none());
        assert!(check_path("docs/helpers.md").is_none());
    }
}
