//! `unsafe` stands in one file: the simulator's override of two libc symbols, which no product binary links.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

const ALLOWED: [&str; 1] = ["sim/src/libc_override.rs"];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        if ALLOWED.contains(&file.path.as_str()) {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            if has_unsafe(line) {
                findings.push(Finding::line(
                    &file.path,
                    index + 1,
                    format!("unsafe code is only in {}", ALLOWED.join(", ")),
                ));
            }
        }
    }
    Ok(findings)
}

fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let keyword = concat!("uns", "afe");
    let opener = ["fn", "{", "impl", "trait", "extern", "("];
    code.match_indices(keyword).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let rest = code[at + keyword.len()..].trim_start();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
            && opener.iter().any(|word| rest.starts_with(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_and_prose_is_not() {
        let keyword = concat!("uns", "afe");
        assert!(has_unsafe(&format!("let x = {keyword} {{ f() }};")));
        assert!(has_unsafe(&format!("pub {keyword} extern \"C\" fn f()")));
        assert!(!has_unsafe(&format!("// {keyword} {{")));
        assert!(!has_unsafe(&format!("#[expect({keyword}_code)]")));
        assert!(!has_unsafe(&format!("an {keyword} thing")));
    }
}
