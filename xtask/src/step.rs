//! One command of the gate, with its time.

use crate::Result;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs commands one after the other, stops at the first that fails, and knows how long each took.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs a step that is a function.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n━━ {name}");
        let started = Instant::now();
        let result = step();
        self.done.push((name.to_owned(), started.elapsed()));
        result.map_err(|error| format!("{name}: {error}").into())
    }

    /// Runs a step that is a command line, split at spaces, in the root of the workspace.
    pub(crate) fn command(&mut self, name: &str, root: &Path, line: &str) -> Result<()> {
        self.run(name, || execute(root, line))
    }

    /// The table of times.
    pub(crate) fn table(&self) -> String {
        let width = self
            .done
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        let mut table = String::new();
        let mut total = Duration::ZERO;
        for (name, took) in &self.done {
            total += *took;
            table += &format!("  {name:width$}  {:>7.1} s\n", took.as_secs_f64());
        }
        table + &format!("  {:width$}  {:>7.1} s", "total", total.as_secs_f64())
    }
}

/// Runs a command line in the root of the workspace, with its output passed on.
pub(crate) fn execute(root: &Path, line: &str) -> Result<()> {
    println!("$ {line}");
    let mut words = line.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    let status = Command::new(program)
        .args(words)
        .current_dir(root)
        .env("CI", "1")
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` ended with {status}").into())
    }
}

/// Whether a command can be run and succeeds, quietly.
pub(crate) fn succeeds(root: &Path, line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(|program| {
        Command::new(program)
            .args(words)
            .current_dir(root)
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named_and_timed() {
        let mut steps = Steps::default();
        steps
            .command("good", Path::new("."), "true")
            .expect("true succeeds");
        let error = steps
            .command("bad", Path::new("."), "false")
            .expect_err("false fails");
        assert!(error.to_string().starts_with("bad: `false`"));
        let table = steps.table();
        assert!(table.contains("good") && table.contains("bad") && table.contains("total"));
    }

    #[test]
    fn a_command_that_does_not_exist_is_no_success() {
        assert!(!succeeds(Path::new("."), "no-such-command-here"));
        assert!(succeeds(Path::new("."), "true"));
    }
}
