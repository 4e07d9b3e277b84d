//! `cargo xtask ledger-fuzz`: random commands against the ledger, all invariants after every step, for as long as is asked for.

use clap::Args;
use std::path::Path;
use std::process::{Child, Command};

use crate::Result;

/// How much is tried.
#[derive(Debug, Args)]
pub(crate) struct LedgerFuzzArguments {
    /// Steps, over all processes
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes at once
    #[arg(long, default_value_t = 1)]
    jobs: u64,
}

/// What CI plays: about a minute on two cores.
const CI_STEPS: u64 = 1_500_000;

/// The test, with its assertions, as fast as a release.
const FAST: &str =
    "test --quiet --locked --profile sim --package holdfast-ledger --test ledger marathon";
/// The same as the gate has built it already, with everything else.
const AS_BUILT: &str =
    "test --quiet --locked --workspace --features holdfast-keys/pkcs11 --test ledger marathon";

/// Seeds between those of two processes: more than any of them plays.
const APART: u64 = 1_000_000_000;

fn command(root: &Path, test: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(test.split(' ')).current_dir(root);
    command
}

/// Builds the test for speed, and runs it in as many processes as are wanted.
pub(crate) fn run(arguments: &LedgerFuzzArguments) -> Result<()> {
    play(FAST, arguments)
}

/// What CI plays.
pub(crate) fn run_for_ci(jobs: u64) -> Result<()> {
    let arguments = LedgerFuzzArguments {
        steps: CI_STEPS,
        seed: 1,
        jobs,
    };
    play(AS_BUILT, &arguments)
}

fn play(test: &str, arguments: &LedgerFuzzArguments) -> Result<()> {
    let root = crate::tree::root();
    if !command(&root, test).arg("--no-run").status()?.success() {
        return Err("the ledger's tests cannot be built".into());
    }
    let jobs = arguments.jobs.max(1);
    let mut running = Vec::new();
    for job in 0..jobs {
        let seed = arguments.seed.saturating_add(job * APART);
        let child = command(&root, test)
            .args(["--", "--nocapture"])
            .env(
                "HOLDFAST_FUZZ_STEPS",
                arguments.steps.div_ceil(jobs).to_string(),
            )
            .env("HOLDFAST_FUZZ_SEED", seed.to_string())
            .spawn()?;
        running.push(child);
    }
    // All are waited for, whatever became of the first.
    let ends: Vec<_> = running.iter_mut().map(Child::wait).collect();
    for end in ends {
        if !end?.success() {
            return Err("the ledger broke an invariant: see above".into());
        }
    }
    Ok(())
}
