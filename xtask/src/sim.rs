//! `cargo xtask sim …`: the simulator, built for speed.

use clap::Args;
use std::process::{Command, ExitCode};

/// Arguments of the simulator.
#[derive(Debug, Args)]
pub(crate) struct SimArguments {
    /// Passed to `holdfast-sim` as they are: `run --seed 42`, `meta --seed 42`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the simulator in the profile that is made for it; its exit code is passed on.
pub(crate) fn run(arguments: &SimArguments) -> ExitCode {
    let status = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--profile",
            "sim",
            "--package",
            "holdfast-sim",
            "--",
        ])
        .args(&arguments.arguments)
        .current_dir(crate::tree::root())
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("error: cannot run the simulator: {error}");
            ExitCode::FAILURE
        }
    }
}
