//! Files stay short: at most [`MOST_LINES`] lines without tests. The exceptions are listed in `xtask/long-files.txt`, and the list
//! may only shrink: a listed file may not grow beyond what is written there, and must leave the list when it is short enough.

use super::Finding;
use crate::Result;
use crate::tree::{TextFile, Tree};
use std::collections::BTreeMap;

const MOST_LINES: usize = 600;
const LIST: &str = "xtask/long-files.txt";

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let list = tree
        .files
        .iter()
        .find(|file| file.path == LIST)
        .map_or("", |file| file.text.as_str());
    Ok(check_files(&tree.files, list))
}

fn check_files(files: &[TextFile], list: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut allowed = BTreeMap::new();
    for (index, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line
            .split_once(' ')
            .map(|(path, lines)| (path, lines.trim().parse::<usize>()))
        {
            Some((path, Ok(lines))) => {
                allowed.insert(path, lines);
            }
            _ => findings.push(Finding::line(LIST, index + 1, "not `path lines`")),
        }
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.product_lines().count();
        match allowed.remove(file.path.as_str()) {
            Some(most) if lines > most => findings.push(Finding::file(
                &file.path,
                format!("{lines} lines without tests; its exception in {LIST} is for {most}"),
            )),
            Some(_) if lines <= MOST_LINES => findings.push(Finding::file(
                &file.path,
                format!("is short enough now: take it off {LIST}"),
            )),
            None if lines > MOST_LINES => findings.push(Finding::file(
                &file.path,
                format!("{lines} lines without tests, at most {MOST_LINES}: split it"),
            )),
            _ => {}
        }
    }
    findings.extend(
        allowed
            .into_keys()
            .map(|path| Finding::file(LIST, format!("{path} is no longer there"))),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize) -> TextFile {
        TextFile {
            path: path.to_owned(),
            text: "x\n".repeat(lines),
        }
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let mut tested = file("c.rs", 10);
        tested.text += "#[cfg(test)]\nmod tests {\n";
        tested.text += &"x\n".repeat(1000);
        let found = check_files(&[file("a.rs", 600), file("b.rs", 601), tested], "");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "b.rs");
    }

    #[test]
    fn the_list_of_exceptions_only_shrinks() {
        let files = [file("a.rs", 650), file("b.rs", 660), file("c.rs", 100)];
        let found = check_files(
            &files,
            "# why\na.rs 650\nb.rs 650\nc.rs 700\nd.rs 700\nnonsense\n",
        );
        let places: Vec<_> = found.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, [LIST, "b.rs", "c.rs", LIST]);
    }
}
