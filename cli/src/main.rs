//! The `holdfast` binary: every role of a cluster, and everything an operator does with one.

mod args;
mod commands;
mod context;
mod demo;
mod exit;
mod follow;
mod keys;
mod local;
mod one_shot;
mod output;
mod password;
mod roles;
mod rows;
mod views;

use clap::Parser;
use holdfast_env::Env;
use std::process::ExitCode;

use args::Cli;
use context::Context;
use exit::Exit;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.globals.json);
    // One thread and one LocalSet, as actix wants it; blocking work goes to tokio's pool.
    let exit = actix_rt::System::new().block_on(async move {
        let context = Context {
            env: Env::system(),
            output,
            coordinators: cli.globals.coordinator,
        };
        match Box::pin(commands::run(&context, cli.command)).await {
            Ok(exit) => exit,
            Err(fault) => {
                output.error(&fault);
                Exit::of(&fault)
            }
        }
    });
    exit.into()
}
