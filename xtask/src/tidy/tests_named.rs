//! Proofs that documents name exist: `rules.rs: a_test` is a test function in a file of that name. Nothing that is ignored proves anything.

use super::Finding;
use super::documents::{code_spans, documents};
use crate::Result;
use crate::tree::{TextFile, Tree};

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for document in documents(tree) {
        for (line, span) in code_spans(&document.text) {
            let Some((path, function)) = named(&span) else {
                continue;
            };
            let files = tree.files.iter().filter(|file| is_named(file, path));
            let mut tests = files.map(|file| find(&file.text, function));
            let message = match tests.find(Option::is_some).flatten() {
                Some(Found::Test) => continue,
                Some(Found::Ignored) => format!("`{function}` in {path} is ignored"),
                Some(Found::Function) => format!("`{function}` in {path} is not a test"),
                None => format!("there is no test `{function}` in any {path}"),
            };
            findings.push(Finding::line(&document.path, line, message));
        }
    }
    Ok(findings)
}

/// `rules.rs: a_test`, in its parts.
fn named(span: &str) -> Option<(&str, &str)> {
    let (path, function) = span.split_once(".rs: ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_path = |c: char| is_name(c) || c == '/' || c == '-';
    let is_both = path.chars().all(is_path) && function.chars().all(is_name);
    is_both.then_some((&span[..path.len() + 3], function))
}

fn is_named(file: &TextFile, path: &str) -> bool {
    let before = file.path.strip_suffix(path);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Test,
    Ignored,
    Function,
}

/// The function of a name, and what its attributes make of it.
fn find(text: &str, function: &str) -> Option<Found> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {function}(");
    let is_head = |line: &&str| {
        line.split_once(&head)
            .is_some_and(|(before, _)| matches!(before, "" | "async "))
    };
    let place = lines.iter().position(is_head)?;
    let attributes: Vec<_> = lines[..place]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .collect();
    let has = |what: &str| attributes.iter().any(|line| line.contains(what));
    Some(match (has("#[ignore"), has("test]") || has("::test(")) {
        (true, _) => Found::Ignored,
        (false, true) => Found::Test,
        (false, false) => Found::Function,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_by_file_and_function() {
        assert_eq!(named("rules.rs: a_test"), Some(("rules.rs", "a_test")));
        let path = "coordinator/tests/members.rs";
        assert_eq!(named(&format!("{path}: b")), Some((path, "b")));
        for other in ["rules.rs", "rules.rs: two words", "SELECT 1", "a b.rs: c"] {
            assert_eq!(named(other), None, "{other}");
        }
        let file = |path: &str| TextFile {
            path: path.to_owned(),
            text: String::new(),
        };
        assert!(is_named(&file("x/tests/rules.rs"), "rules.rs"));
        assert!(is_named(&file("x/tests/rules.rs"), "tests/rules.rs"));
        assert!(!is_named(&file("x/tests/other_rules.rs"), "rules.rs"));
    }

    #[test]
    fn only_what_runs_is_a_test() {
        let text = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn one() {\n}\n#[test]\n#[ignore = \"slow\"]\nfn two() {}\n\nfn three() {}\n/// Four.\n#[test]\nfn four() {}\n";
        assert_eq!(find(text, "one"), Some(Found::Test));
        assert_eq!(find(text, "two"), Some(Found::Ignored));
        assert_eq!(find(text, "three"), Some(Found::Function));
        assert_eq!(find(text, "four"), Some(Found::Test));
        assert_eq!(find(text, "fou"), None);
    }
}
