//! Every dependency has a licence that `deny.toml` allows, by its SPDX expression.

use super::Finding;
use crate::Result;
use crate::tree::Tree;
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let deny: Deny = toml::from_str(&std::fs::read_to_string(tree.root.join("deny.toml"))?)?;
    let allowed = deny.licenses.allow;
    let mut findings = Vec::new();
    for package in &tree.metadata.packages {
        let place = format!("{} {}", package.name, package.version);
        match &package.license {
            None => findings.push(Finding::file(place, "names no licence")),
            Some(expression) => match is_allowed(expression, &allowed) {
                Ok(true) => {}
                Ok(false) => findings.push(Finding::file(
                    place,
                    format!("licence `{expression}` is not covered by deny.toml"),
                )),
                Err(error) => findings.push(Finding::file(
                    place,
                    format!("licence `{expression}`: {error}"),
                )),
            },
        }
    }
    Ok(findings)
}

/// Whether the licences allowed satisfy an expression. `A/B`, the old spelling, means `A OR B`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> std::result::Result<bool, String> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        at: 0,
        allowed,
    };
    let result = parser.alternatives()?;
    if parser.at == words.len() {
        Ok(result)
    } else {
        Err(format!("unexpected `{}`", words[parser.at]))
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    allowed: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn alternatives(&mut self) -> std::result::Result<bool, String> {
        let mut result = self.conjunction()?;
        while self.take("OR") {
            result |= self.conjunction()?;
        }
        Ok(result)
    }

    fn conjunction(&mut self) -> std::result::Result<bool, String> {
        let mut result = self.single()?;
        while self.take("AND") {
            result &= self.single()?;
        }
        Ok(result)
    }

    fn single(&mut self) -> std::result::Result<bool, String> {
        if self.take("(") {
            let result = self.alternatives()?;
            return if self.take(")") {
                Ok(result)
            } else {
                Err("a parenthesis is not closed".to_owned())
            };
        }
        let word = *self.words.get(self.at).ok_or("it ends early")?;
        self.at += 1;
        if self.take("WITH") {
            // An exception only adds permissions.
            self.at += 1;
        }
        Ok(self.allowed.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> std::result::Result<bool, String> {
        is_allowed(
            expression,
            &["MIT", "Apache-2.0", "ISC"].map(String::from).into(),
        )
    }

    #[test]
    fn expressions_are_evaluated() {
        assert_eq!(check("MIT"), Ok(true));
        assert_eq!(check("GPL-3.0-only"), Ok(false));
        assert_eq!(check("GPL-3.0-only OR MIT"), Ok(true));
        assert_eq!(check("GPL-3.0-only AND MIT"), Ok(false));
        assert_eq!(check("Unlicense/MIT"), Ok(true));
        assert_eq!(check("(MIT OR GPL-3.0-only) AND (ISC)"), Ok(true));
        assert_eq!(check("Apache-2.0 WITH LLVM-exception OR Zlib"), Ok(true));
        assert_eq!(check("MIT OR GPL-3.0-only AND GPL-3.0-only"), Ok(true));
        assert!(check("(MIT").is_err());
        assert!(check("MIT MIT").is_err());
        assert!(check("").is_err());
    }
}
