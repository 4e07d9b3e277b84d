//! The project's own tool: `cargo xtask ci` is the whole gate, the other commands are its parts.

mod ci;
mod exactness;
mod fixtures;
mod ledger_fuzz;
mod servers;
mod sim;
mod step;
mod tidy;
mod tree;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that must hold before a change is accepted, fast checks first
    Ci(ci::CiArguments),
    /// Check the habits of the tree: dependency edges, file length, names, documents, licences
    Tidy(tidy::TidyArguments),
    /// Run the simulator with these arguments
    Sim(sim::SimArguments),
    /// Compare backups of PostgreSQL with the truth under random workloads, for many seeds
    Exactness(exactness::ExactnessArguments),
    /// Random commands against the ledger, all invariants after every step
    LedgerFuzz(ledger_fuzz::LedgerFuzzArguments),
    /// Install the servers that tests start, where they are missing
    Servers,
    /// Write the fixtures of the current format versions into tests/compat, where they are missing
    Fixtures,
}

/// How a task ends when it cannot.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Tidy(arguments) => tidy::run(&arguments),
        Task::Sim(arguments) => return sim::run(&arguments),
        Task::Exactness(arguments) => return exactness::run(&arguments),
        Task::LedgerFuzz(arguments) => ledger_fuzz::run(&arguments),
        Task::Servers => servers::install(&tree::root()),
        Task::Fixtures => fixtures::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
