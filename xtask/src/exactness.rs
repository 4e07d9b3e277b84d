//! `cargo xtask exactness`: many seeds of the random workloads that PostgreSQL backups must reproduce byte by byte. CI runs a few.

use clap::Args;
use std::path::Path;
use std::process::{Command, ExitCode};

/// How much is tried.
#[derive(Debug, Args)]
pub(crate) struct ExactnessArguments {
    /// Seeds, from the first on
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// The server's major version: 14 to 18
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(14..=18))]
    version: u32,
    /// Back up and restore through a cluster of real processes, which are killed, frozen and cut off meanwhile, from a server of version 15. Even seeds change
    /// the tables themselves too. About a minute a seed
    #[arg(long, conflicts_with = "version")]
    cluster: bool,
}

/// What is run: the test within one process, or the one through a cluster.
const WITHIN: [&str; 8] = [
    "test",
    "--package",
    "holdfast-postgres",
    "--test",
    "exactness",
    "--",
    "--nocapture",
    "random::full_incremental_and_history_are_exact_while_writers_run",
];
const THROUGH: [&str; 8] = [
    "test",
    "--package",
    "holdfast-tests",
    "--test",
    "exactness",
    "--",
    "--nocapture",
    "restored_databases_are_the_truth_whatever_is_killed",
];

/// Runs the test with those seeds; most of its time is the server's, so it is built as `ci` builds it. It prints each seed before it runs it, and fails at the first difference.
pub(crate) fn run(arguments: &ExactnessArguments) -> ExitCode {
    let root = crate::tree::root();
    if !arguments.cluster {
        return cargo(&root, &WITHIN, arguments);
    }
    let build = ["build", "--locked", "--package", "holdfast-cli"];
    match cargo(&root, &build, arguments) {
        ExitCode::SUCCESS => cargo(&root, &THROUGH, arguments),
        failure => failure,
    }
}

fn cargo(root: &Path, line: &[&str], arguments: &ExactnessArguments) -> ExitCode {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(line)
        .current_dir(root)
        .env("HOLDFAST_EXACTNESS_SEEDS", arguments.seeds.to_string())
        .env("HOLDFAST_EXACTNESS_FIRST", arguments.first.to_string());
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
