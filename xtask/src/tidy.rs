//! `cargo xtask tidy`: the habits of the tree, one file a rule. A rule looks at the tree and names what it finds.

mod commands;
mod crates;
mod dependencies;
mod documents;
mod invariants;
mod length;
mod licences;
mod machine_paths;
mod markers;
mod names;
mod roles;
mod tests_named;
mod unsafe_code;

use crate::Result;
use crate::tree::Tree;
use clap::Args;
use std::fmt;

/// What tidy looks at.
#[derive(Debug, Args, Default)]
pub(crate) struct TidyArguments {
    /// Run only the rule of this name
    #[arg(long, value_name = "RULE")]
    only: Option<String>,
    /// Fail if `target/debug/holdfast` is not there to check the documents' commands against
    #[arg(long)]
    require_binaries: bool,
    /// Leave the documents' commands alone: binaries that are there may be older than the documents
    #[arg(long, conflicts_with = "require_binaries")]
    without_commands: bool,
}

impl TidyArguments {
    /// Only the check of the documents' commands, with the binaries required.
    pub(crate) fn commands_only() -> Self {
        Self {
            only: Some("commands".to_owned()),
            require_binaries: true,
            without_commands: false,
        }
    }

    /// Everything that can be checked before anything is built.
    pub(crate) fn before_building() -> Self {
        Self {
            without_commands: true,
            ..Self::default()
        }
    }
}

/// Something that a rule found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, or the crate.
    pub(crate) place: String,
    /// The line, if it is in one.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl Finding {
    /// Something in a file as a whole.
    pub(crate) fn file(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            line: None,
            message: message.into(),
        }
    }

    /// Something in a line.
    pub(crate) fn line(place: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::file(place, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

type Rule = fn(&Tree) -> Result<Vec<Finding>>;

const RULES: [(&str, Rule); 12] = [
    ("crates", crates::check),
    ("dependencies", dependencies::check),
    ("documents", documents::check),
    ("invariants", invariants::check),
    ("length", length::check),
    ("licences", licences::check),
    ("machine-paths", machine_paths::check),
    ("markers", markers::check),
    ("names", names::check),
    ("roles", roles::check),
    ("tests-named", tests_named::check),
    ("unsafe-code", unsafe_code::check),
];

/// Runs the rules; an error if any of them found something.
pub(crate) fn run(arguments: &TidyArguments) -> Result<()> {
    let tree = Tree::read()?;
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let mut findings = Vec::new();
    let mut rules = 0;
    for (name, rule) in RULES.iter().filter(|(name, _)| wanted(name)) {
        rules += 1;
        findings.extend(rule(&tree)?.into_iter().map(|finding| (*name, finding)));
    }
    if wanted("commands") && !arguments.without_commands {
        rules += 1;
        let found = commands::check(&tree, arguments.require_binaries)?;
        findings.extend(found.into_iter().map(|finding| ("commands", finding)));
    }
    if rules == 0 {
        let names: Vec<_> = RULES.iter().map(|(name, _)| *name).collect();
        return Err(format!("no such rule; there are {}, commands", names.join(", ")).into());
    }
    for (rule, finding) in &findings {
        println!("{finding} [{rule}]");
    }
    if findings.is_empty() {
        println!(
            "tidy: {rules} rules, {} files, nothing found",
            tree.files.len()
        );
        Ok(())
    } else {
        Err(format!("tidy found {} thing(s)", findings.len()).into())
    }
}
