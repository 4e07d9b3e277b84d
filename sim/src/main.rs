//! `holdfast-sim`: production coordinators, workers and members on a simulated network, disk and clock, with faults drawn from a seed,
//! and an audit that restores every acknowledged backup and compares it with history. One process runs one seed; the same seed gives
//! the same run.

mod audit;
mod bank;
mod checks;
mod config;
mod door;
mod faults;
mod latencies;
mod libc_override;
mod log;
mod marks;
mod membership;
mod meta;
mod model;
mod mutant;
mod operator;
mod oracle;
mod outcome;
mod places;
mod scenario;
mod script;
mod seeds;
mod stage;
mod steps;
mod store;
mod summary;
mod timekeeper;
mod trace;
mod variant;
mod world;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

use clap::ValueEnum;
use holdfast_types::mutant::break_promise;
use mutant::Mutant;
use outcome::Failure;
use scenario::Scenario;
use seeds::{Order, SeedRange};
use summary::{Summary, Totals};
use variant::Variant;

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
    /// Run every script
    Scenarios {
        /// The seed of what the scripts leave open
        #[arg(long, default_value_t = 1)]
        seed: u64,
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
    #[arg(long, alias = "full")]
    trace: bool,
    /// Print what a run amounted to as a line of JSON
    #[arg(long, conflicts_with = "trace")]
    json: bool,
    /// Go on after a failure, of a range
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    variant: Variant,
}

/// How what a run amounted to is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Text,
    Json,
    Trace,
}

/// Every seed that ever failed, with why.
const REGRESSIONS: &str = include_str!("../regressions.txt");

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Meta { seed } => match meta::run(seed) {
            Ok(lines) => {
                println!("meta: seed {seed}: two processes, {lines} equal lines");
                ExitCode::SUCCESS
            }
            Err(failure) => fail(&failure),
        },
        Command::Mutants { jobs } => mutants(jobs),
        Command::Regressions { jobs } => match seeds::in_file(REGRESSIONS) {
            Ok(seeds) => {
                let orders = seeds.into_iter().map(Order::plain).collect();
                many(orders, jobs, false, Output::Text)
            }
            Err(failure) => fail(&failure),
        },
        Command::Scenarios { seed, jobs } => scenarios(seed, jobs),
    }
}

fn run(arguments: &RunArguments) -> ExitCode {
    let output = match (arguments.trace, arguments.json) {
        (true, _) => Output::Trace,
        (_, true) => Output::Json,
        _ => Output::Text,
    };
    let variant = arguments.variant;
    match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => one(Order { seed, variant }, output),
        (None, Some(range)) => {
            let orders = (range.first..=range.last).map(|seed| Order { seed, variant });
            many(
                orders.collect(),
                arguments.jobs,
                arguments.keep_going,
                output,
            )
        }
        (None, None) => fail(&Failure::harness("neither a seed nor a range")),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit_code())
}

fn many(orders: Vec<Order>, jobs: usize, keep_going: bool, output: Output) -> ExitCode {
    let failed = play(orders, jobs, keep_going, output);
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some((_, code)) => ExitCode::from(*code),
    }
}

/// Runs seeds, and tells what came of them; gives those that failed.
fn play(orders: Vec<Order>, jobs: usize, keep_going: bool, output: Output) -> Vec<(Order, u8)> {
    let started = std::time::Instant::now();
    let mut totals = Totals::default();
    let failed = seeds::run(orders, jobs, keep_going, &mut |summary| {
        match output {
            Output::Json => println!("{}", summary.json()),
            _ => println!("{summary}"),
        }
        totals.add(summary);
    });
    let took = started.elapsed().as_secs_f64();
    match output {
        Output::Json => println!("{}", totals.json(took)),
        _ => println!("{totals}, {took:.1} s of real time"),
    }
    for (order, code) in &failed {
        eprintln!(
            "seed {} failed with exit code {code}; again: {}",
            order.seed,
            order.reproduction()
        );
    }
    failed
}

/// Seeds within which every script must show what it is for. What it leaves open is drawn, and with some draws the situation does not arise.
const SCRIPT_SEEDS: u64 = 5;

fn scenarios(first: u64, jobs: usize) -> ExitCode {
    let nothing_shown = Failure::harness("").exit_code();
    let mut left = Scenario::value_variants().to_vec();
    for seed in first..first.saturating_add(SCRIPT_SEEDS) {
        let orders = left.iter().map(|scenario| Order {
            seed,
            variant: Variant {
                scenario: Some(*scenario),
                ..Variant::PLAIN
            },
        });
        let failed = play(orders.collect(), jobs, true, Output::Text);
        if let Some((_, code)) = failed.iter().find(|(_, code)| *code != nothing_shown) {
            return ExitCode::from(*code);
        }
        let again = failed
            .iter()
            .filter_map(|(order, _)| order.variant.scenario);
        left = again.collect();
        if left.is_empty() {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::from(nothing_shown)
}

/// Seeds within which every mutant must be caught.
const MUTANT_SEEDS: u64 = 200;

/// The first seeds that fail with a mutant. Those under whose script the situation does not arise say nothing, and are passed over.
fn caught(variant: Variant, jobs: usize) -> Vec<(Order, u8)> {
    let nothing_shown = Failure::harness("").exit_code();
    let mut first = 1;
    loop {
        let orders = (first..=MUTANT_SEEDS).map(|seed| Order { seed, variant });
        let failed = seeds::run(orders.collect(), jobs, false, &mut |_| {});
        match failed.last() {
            Some((order, code)) if *code == nothing_shown && variant.scenario.is_some() => {
                first = order.seed.saturating_add(1);
            }
            _ => return failed,
        }
    }
}

fn mutants(jobs: usize) -> ExitCode {
    if !cfg!(debug_assertions) {
        return fail(&Failure::harness(
            "production code has its mutants only with debug assertions: run `cargo xtask sim mutants`",
        ));
    }
    for mutant in Mutant::value_variants() {
        let name = mutant.name();
        let variant = Variant {
            mutant: Some(*mutant),
            scenario: mutant.scenario(),
            ..Variant::PLAIN
        };
        let failed = caught(variant, jobs);
        match failed.first() {
            Some((order, code)) if *code != Failure::harness("").exit_code() => {
                println!(
                    "mutant {name}: caught by seed {}, exit code {code}",
                    order.seed
                );
            }
            Some((_, code)) => return ExitCode::from(*code),
            None => {
                return fail(&Failure::Harness(format!(
                    "mutant {name} was not noticed in {MUTANT_SEEDS} seeds"
                )));
            }
        }
    }
    ExitCode::SUCCESS
}

/// Stack of the simulated world's thread: debug builds nest futures deeply.
const STACK_SIZE: usize = 64 * 1024 * 1024;

/// Runs one seed in a fresh thread of this process, whose hash seeds, entropy and clocks are simulated.
fn one(order: Order, output: Output) -> ExitCode {
    let run = std::thread::Builder::new()
        .name("world".to_owned())
        .stack_size(STACK_SIZE)
        .spawn(move || world_thread(order, output));
    let result = match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Crash("the world's thread panicked".to_owned())),
        Err(error) => Err(Failure::harness(error)),
    };
    match result {
        Ok(summary) => {
            match output {
                Output::Text => println!("{summary}"),
                Output::Json => println!("{}", summary.json()),
                Output::Trace => {}
            }
            ExitCode::SUCCESS
        }
        Err(failure) => ExitCode::from(failure.exit_code()),
    }
}

fn world_thread(order: Order, output: Output) -> Result<Summary, Failure> {
    let seed = order.seed;
    libc_override::enter(seed);
    let traced = output == Output::Trace;
    // A second subscriber cannot be set in one process, and there is none.
    let _ = tracing::subscriber::set_global_default(log::TraceLog::new(traced));
    if traced {
        trace::echo();
    }
    let config = order.variant.config(seed);
    if let Some(promise) = config.mutant.and_then(Mutant::promise) {
        break_promise(promise);
    }
    trace::event("driver", format_args!("{config}"));
    if output == Output::Text {
        println!("{config}");
    }
    // Any panic ends the run, also one that a runtime would swallow: nothing in production code may panic.
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        let failure = Failure::Crash(format!("{panic}"));
        report(order, &failure);
        eprintln!("{backtrace}");
        std::process::exit(i32::from(failure.exit_code()));
    }));
    let result = world::run(&config);
    let (events, hash) = trace::summary();
    match result {
        Ok(run) => {
            let summary = Summary::new(seed, &run, events, hash);
            // What it took of the real machine is no event: it differs from process to process.
            trace::event("driver", format_args!("{}", summary.simulated()));
            trace::flush();
            Ok(summary)
        }
        Err(failure) => {
            trace::event("driver", format_args!("{failure}"));
            report(order, &failure);
            Err(failure)
        }
    }
}

/// Says what failed, what came before, how everything stood, and how to see it again.
fn report(order: Order, failure: &Failure) {
    trace::flush();
    if !trace::is_echoed() {
        for line in trace::last() {
            eprintln!("{line}");
        }
    }
    eprintln!();
    for line in trace::standing() {
        eprintln!("{line}");
    }
    let config = order.variant.config(order.seed);
    eprintln!(
        "\n{config}\n\nseed {}: {failure}\nagain: {}",
        order.seed,
        order.reproduction()
    );
}
