//! `cargo xtask ci`: the one gate. Fast checks first, then tests, then the simulator and the end-to-end tests. It fails at the first
//! step that fails, and ends with what each step took.

use crate::step::{Steps, execute, succeeds};
use crate::{Result, ledger_fuzz, servers, tidy, tree};
use clap::Args;
use std::path::Path;

/// Which parts of the gate run.
#[derive(Debug, Args)]
pub(crate) struct CiArguments {
    /// Leave out the simulator, the end-to-end tests and the demo
    #[arg(long)]
    quick: bool,
}

/// The seeds of the simulator that a change must survive, beside those of `sim/regressions.txt`: as many as fit into an hour with everything else.
const SEEDS: &str = "41..=46";
/// How many of them run at once: one for each core of a small machine.
const JOBS: u32 = 2;
/// The seed whose run is done twice and compared line by line.
const META_SEED: u32 = 1;

/// Runs the gate.
pub(crate) fn run(arguments: &CiArguments) -> Result<()> {
    let root = tree::root();
    let mut steps = Steps::default();
    let result = checks(&mut steps, &root).and_then(|()| {
        if arguments.quick {
            Ok(())
        } else {
            whole_system(&mut steps, &root)
        }
    });
    println!("\n{}", steps.table());
    result?;
    println!("ci: ok");
    Ok(())
}

fn checks(steps: &mut Steps, root: &Path) -> Result<()> {
    steps.command("format", root, "cargo fmt --all --check")?;
    steps.run(
        "tidy",
        || tidy::run(&tidy::TidyArguments::before_building()),
    )?;
    if succeeds(root, "cargo deny --version") {
        steps.command("deny", root, "cargo deny --locked check")?;
    }
    steps.command(
        "clippy",
        root,
        "cargo clippy --locked --workspace --all-targets --features holdfast-keys/pkcs11 -- -D warnings",
    )?;
    // Everything that the tests need with it, so that nothing is compiled twice with other features.
    steps.command(
        "build",
        root,
        "cargo build --locked --workspace --lib --bins --tests --features holdfast-keys/pkcs11",
    )?;
    steps.run("documents' commands", || {
        tidy::run(&tidy::TidyArguments::commands_only())
    })?;
    steps.run("servers", || servers::install(root))?;
    steps.run("tests", || tests(root))?;
    steps.command(
        "doctests and docs",
        root,
        "cargo test --locked --workspace --features holdfast-keys/pkcs11 --doc --quiet",
    )
}

/// Unit and property tests, and the conformance suites; the end-to-end crate has a step of its own.
fn tests(root: &Path) -> Result<()> {
    if succeeds(root, "cargo nextest --version") {
        execute(
            root,
            "cargo nextest run --locked --workspace --features holdfast-keys/pkcs11 -E !package(holdfast-tests)",
        )
    } else {
        execute(
            root,
            "cargo test --locked --workspace --features holdfast-keys/pkcs11 --exclude holdfast-tests --lib --bins --tests",
        )
    }
}

/// One at a time: each starts a cluster of its own. With nextest over the whole workspace, so that what `tests` compiled is not compiled again
/// with other features.
fn end_to_end(root: &Path) -> Result<()> {
    if succeeds(root, "cargo nextest --version") {
        execute(
            root,
            "cargo nextest run --locked --workspace --features holdfast-keys/pkcs11 --test-threads 1 -E package(holdfast-tests)",
        )
    } else {
        execute(
            root,
            "cargo test --locked -p holdfast-tests -- --test-threads=1",
        )
    }
}

fn whole_system(steps: &mut Steps, root: &Path) -> Result<()> {
    // What the tests ran on: the profile `sim` is faster, and everything would be compiled once more.
    let sim = "target/debug/holdfast-sim";
    steps.run("ledger fuzz", || ledger_fuzz::run_for_ci(u64::from(JOBS)))?;
    // First of all: without determinism no seed means anything.
    steps.command("sim meta", root, &format!("{sim} meta --seed {META_SEED}"))?;
    steps.command(
        "sim regressions",
        root,
        &format!("{sim} regressions --jobs {JOBS}"),
    )?;
    steps.command(
        "sim scenarios",
        root,
        &format!("{sim} scenarios --jobs {JOBS}"),
    )?;
    steps.command("sim mutants", root, &format!("{sim} mutants --jobs {JOBS}"))?;
    steps.command(
        "sim seeds",
        root,
        &format!("{sim} run --seeds {SEEDS} --jobs {JOBS}"),
    )?;
    steps.run("end to end", || end_to_end(root))?;
    steps.command("demo", root, "target/debug/holdfast demo")
}
