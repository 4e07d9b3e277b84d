//! Commands that documents show can be typed: `cargo xtask …`, `holdfast …`, `holdfast-sim …` name subcommands and flags that the
//! built binaries know. Their own `--help` is asked.

use super::Finding;
use super::documents::{code_spans, documents};
use crate::Result;
use crate::tree::Tree;
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const BINARIES: [&str; 2] = ["holdfast", "holdfast-sim"];

pub(super) fn check(tree: &Tree, require_binaries: bool) -> Result<Vec<Finding>> {
    let target = PathBuf::from(tree.metadata.target_directory.as_str()).join("debug");
    let mut findings = Vec::new();
    let mut oracles = BTreeMap::new();
    for name in BINARIES {
        let path = target.join(name);
        if path.exists() {
            oracles.insert(name, Oracle::new(path));
        } else if require_binaries {
            findings.push(Finding::file(name, "is not built: cargo build"));
        } else {
            println!("note: {name} is not built, the commands that documents show are not checked");
        }
    }
    for file in documents(tree) {
        for (line, text) in code_spans(&file.text) {
            let Some((program, words)) = command_in(&text) else {
                continue;
            };
            let problem = match program {
                "cargo xtask" => xtask_problem(&words),
                _ => oracles
                    .get_mut(program)
                    .and_then(|oracle| oracle.problem(&words)),
            };
            if let Some(problem) = problem {
                findings.push(Finding::line(
                    &file.path,
                    line,
                    format!("`{program}` {problem}"),
                ));
            }
        }
    }
    Ok(findings)
}

/// The program and its words, if the text is a command line of ours; whatever follows a pipe, `&&`, `#` or `;` is left out.
fn command_in(text: &str) -> Option<(&'static str, Vec<String>)> {
    let text = text.trim().trim_start_matches("$ ");
    let words: Vec<&str> = text
        .split_whitespace()
        .take_while(|word| !["|", "&&", "&", "#", ";", ">", "2>", "\\", "…", "..."].contains(word))
        .collect();
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match words.as_slice() {
        ["cargo", "xtask", rest @ ..] => Some(("cargo xtask", owned(rest))),
        ["cargo", "run", rest @ ..] => {
            let dashes = rest.iter().position(|word| *word == "--")?;
            let named = |name: &str| rest[..dashes].contains(&name);
            if rest[..dashes]
                .iter()
                .any(|word| *word == "-p" || *word == "--package" || *word == "--bin")
            {
                named("holdfast-sim").then(|| ("holdfast-sim", owned(&rest[dashes + 1..])))
            } else {
                Some(("holdfast", owned(&rest[dashes + 1..])))
            }
        }
        [program, rest @ ..] => {
            let name = program.rsplit('/').next()?;
            BINARIES
                .into_iter()
                .find(|known| *known == name)
                .map(|known| (known, owned(rest)))
        }
        [] => None,
    }
}

fn xtask_problem(words: &[String]) -> Option<String> {
    let first = words.first().filter(|word| is_name(word))?;
    let command = crate::Arguments::command();
    let known = command.get_subcommands().any(|sub| sub.get_name() == first);
    (!known).then(|| format!("has no subcommand `{first}`"))
}

/// A word that can be a subcommand: not a flag, not a placeholder, not an argument in quotes.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// A built binary, and what its `--help` said.
struct Oracle {
    path: PathBuf,
    helps: BTreeMap<Vec<String>, Option<String>>,
}

impl Oracle {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            helps: BTreeMap::new(),
        }
    }

    fn problem(&mut self, words: &[String]) -> Option<String> {
        let mut command = Vec::new();
        let mut help = self.help(&[])?;
        for word in words.iter().take_while(|word| is_name(word)) {
            let subcommands = subcommands(&help);
            if subcommands.is_empty() {
                break;
            }
            if !subcommands.contains(word) {
                return Some(format!("{} has no subcommand `{word}`", command.join(" ")));
            }
            command.push(word.clone());
            help = self.help(&command)?;
        }
        words
            .iter()
            .filter_map(|word| word.split('=').next())
            .map(|word| word.trim_matches(|c| c == '[' || c == ']'))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .find(|flag| !has_flag(&help, flag))
            .map(|flag| format!("{} has no flag `{flag}`", command.join(" ")))
    }

    fn help(&mut self, command: &[String]) -> Option<String> {
        let path = &self.path;
        self.helps
            .entry(command.to_vec())
            .or_insert_with(|| ask(path, command))
            .clone()
    }
}

fn ask(path: &Path, command: &[String]) -> Option<String> {
    let output = Command::new(path)
        .args(command)
        .arg("--help")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The names under `Commands:` of a clap help text.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| line.trim() != "Commands:")
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

fn has_flag(help: &str, flag: &str) -> bool {
    help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .any(|word| word == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_recognised() {
        let (program, words) = command_in("$ holdfast job list --json | jq .").expect("a command");
        assert_eq!(
            (program, words.join(" ").as_str()),
            ("holdfast", "job list --json")
        );
        let (program, words) = command_in("cargo run --release -- demo").expect("a command");
        assert_eq!((program, words.join(" ").as_str()), ("holdfast", "demo"));
        let (program, _) = command_in("cargo run -p holdfast-sim -- meta").expect("a command");
        assert_eq!(program, "holdfast-sim");
        assert!(command_in("cargo run -p other -- demo").is_none());
        assert!(command_in("holdfast_ledger").is_none());
    }

    #[test]
    fn subcommands_and_flags_are_read_from_help() {
        let help = "Usage: x\n\nCommands:\n  job   Jobs\n          more\n  list  List\n\nOptions:\n      --json\n";
        assert_eq!(subcommands(help), ["job", "list"]);
        assert!(has_flag(help, "--json") && !has_flag(help, "--js"));
    }

    #[test]
    fn own_subcommands_are_known() {
        assert!(xtask_problem(&["ci".to_owned()]).is_none());
        assert!(xtask_problem(&["no-such".to_owned()]).is_some());
    }
}
