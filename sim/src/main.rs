//! `holdfast-sim`: production coordinators, workers and members on a simulated network, disk and clock, with faults drawn from a seed,
//! and an audit that restores every acknowledged backup and compares it with history. One process runs one seed; the same seed gives
//! the same run.

mod audit;
mod bank;
mod checks;
mod config;
mod door;
mod faults;
mod libc_override;
mod log;
mod meta;
mod mutant;
mod operator;
mod oracle;
mod outcome;
mod places;
mod script;
mod seeds;
mod stage;
mod store;
mod trace;
mod world;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

use clap::ValueEnum;
use mutant::Mutant;
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
    /// Run worlds that break a promise, to see that the simulator notices
    Mutants {
        /// How many at once
        #[arg(long, default_value_t = 1)]
        jobs: usize,
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
    /// Break a promise of the world: the run must fail
    #[arg(long)]
    mutant: Option<Mutant>,
}

/// Every seed that ever failed, with why.
const REGRESSIONS: &str = include_str!("../regressions.txt");

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(RunArguments {
            seed: Some(seed),
            trace,
            mutant,
            ..
        }) => one(seed, trace, mutant),
        Command::Run(RunArguments {
            seeds,
            jobs,
            mutant,
            ..
        }) => match seeds {
            Some(range) => many(range.first..=range.last, jobs, mutant),
            None => fail(&Failure::harness("neither a seed nor a range")),
        },
        Command::Meta { seed } => match meta::run(seed) {
            Ok(lines) => {
                println!("meta: seed {seed}: two processes, {lines} equal lines");
                ExitCode::SUCCESS
            }
            Err(failure) => fail(&failure),
        },
        Command::Mutants { jobs } => mutants(jobs),
        Command::Regressions { jobs } => match seeds::in_file(REGRESSIONS) {
            Ok(seeds) => many(seeds, jobs, None),
            Err(failure) => fail(&failure),
        },
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit_code())
}

fn many(seeds: impl IntoIterator<Item = u64>, jobs: usize, mutant: Option<Mutant>) -> ExitCode {
    let started = std::time::Instant::now();
    match seeds::run(seeds, jobs, mutant) {
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

/// Seeds within which every mutant must be caught.
const MUTANT_SEEDS: u64 = 40;

fn mutants(jobs: usize) -> ExitCode {
    for mutant in Mutant::value_variants() {
        let name = mutant.name();
        match seeds::run(1..=MUTANT_SEEDS, jobs, Some(*mutant)) {
            Err((seed, code)) if code != Failure::harness("").exit_code() => {
                println!("mutant {name}: caught by seed {seed}, exit code {code}");
            }
            Err((_, code)) => return ExitCode::from(code),
            Ok(count) => {
                return fail(&Failure::Harness(format!(
                    "mutant {name} was not noticed in {count} seeds"
                )));
            }
        }
    }
    ExitCode::SUCCESS
}

/// The command that runs a seed again.
fn reproduction(seed: u64) -> String {
    format!("cargo xtask sim run --seed {seed} --trace")
}

/// Stack of the simulated world's thread: debug builds nest futures deeply.
const STACK_SIZE: usize = 64 * 1024 * 1024;

/// Runs one seed in a fresh thread of this process, whose hash seeds, entropy and clocks are simulated.
fn one(seed: u64, traced: bool, mutant: Option<Mutant>) -> ExitCode {
    let started = std::time::Instant::now();
    let run = std::thread::Builder::new()
        .name("world".to_owned())
        .stack_size(STACK_SIZE)
        .spawn(move || world_thread(seed, traced, mutant));
    let result = match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Crash("the world's thread panicked".to_owned())),
        Err(error) => Err(Failure::harness(error)),
    };
    match result {
        Ok(summary) => {
            if !traced {
                let took = started.elapsed().as_secs_f64();
                println!("{summary}, {took:.1} s of real time");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => ExitCode::from(failure.exit_code()),
    }
}

fn world_thread(seed: u64, traced: bool, mutant: Option<Mutant>) -> Result<String, Failure> {
    libc_override::enter(seed);
    // A second subscriber cannot be set in one process, and there is none.
    let _ = tracing::subscriber::set_global_default(log::TraceLog::new(traced));
    if traced {
        trace::echo();
    }
    let config = config::Config {
        mutant,
        ..config::Config::from_seed(seed)
    };
    trace::event("driver", format_args!("{config}"));
    if !traced {
        println!("{config}");
    }
    // Any panic ends the run, also one that a runtime would swallow: nothing in production code may panic.
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        let failure = Failure::Crash(format!("{panic}"));
        report(seed, &failure);
        eprintln!("{backtrace}");
        std::process::exit(i32::from(failure.exit_code()));
    }));
    let result = world::run(&config);
    let (events, hash) = trace::summary();
    match result {
        Ok(run) => {
            let summary = format!(
                "seed {seed}: ok, {:.1} s simulated, {events} events, trace {hash:016x}, {}",
                run.elapsed.as_secs_f64(),
                run.marks
                    .iter()
                    .map(|(what, count)| format!("{count} {what}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            trace::event("driver", format_args!("{summary}"));
            trace::flush();
            Ok(summary)
        }
        Err(failure) => {
            trace::event("driver", format_args!("{failure}"));
            report(seed, &failure);
            Err(failure)
        }
    }
}

/// Says what failed, what came before, and how to see it again.
fn report(seed: u64, failure: &Failure) {
    trace::flush();
    if !trace::is_echoed() {
        for line in trace::last() {
            eprintln!("{line}");
        }
    }
    eprintln!("\nseed {seed}: {failure}\nagain: {}", reproduction(seed));
}
