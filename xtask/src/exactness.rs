//! `cargo xtask exactness`: many seeds of the random workloads that PostgreSQL backups must reproduce byte by byte. CI runs a few.

use clap::Args;
use std::process::{Command, ExitCode};

/// How much is tried.
#[derive(Debug, Args)]
pub(crate) struct ExactnessArguments {
    /// Seeds, from 1
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The server's major version: 14 to 18
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(14..=18))]
    version: u32,
}

/// The test that runs them.
const TEST: &str = "random::full_incremental_and_history_are_exact_while_writers_run";

/// Runs the test with that many seeds; most of its time is the server's, so it is built as `ci` builds it. It prints each seed before it runs it, and fails at the first difference.
pub(crate) fn run(arguments: &ExactnessArguments) -> ExitCode {
    let line = [
        "test",
        "--package",
        "holdfast-postgres",
        "--test",
        "exactness",
        "--",
        "--exact",
        "--nocapture",
        TEST,
    ];
    let mut command = Command::new(env!("CARGO"));
    command
        .args(line)
        .current_dir(crate::tree::root())
        .env("HOLDFAST_EXACTNESS_SEEDS", arguments.seeds.to_string());
    // Debian's server needs no download.
    if arguments.version != 15 {
        command.env("HOLDFAST_EXACTNESS_VERSION", arguments.version.to_string());
    }
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
