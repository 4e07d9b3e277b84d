//! `holdfast bench`: what this machine gives. Figures are ratios against the plainest way to do the same, or against a limit.

mod cluster;
mod copy;
mod data;
mod fake_worker;
mod kills;
mod memory;
mod postgres;
mod process;
mod spans;

use holdfast_types::{ErrorCode, Fault};
use std::fmt::Display;
use tempfile::TempDir;

use crate::args::BenchCommand;
use crate::context::Context;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, command: BenchCommand) -> Result<Exit, Fault> {
    match command {
        BenchCommand::Copy {
            size_mib,
            directory,
        } => copy::run(context, size_mib, directory).await,
        BenchCommand::Kills {
            rounds,
            size_mib,
            part_kib,
            directory,
        } => {
            let plan = kills::Plan {
                rounds,
                size_mib,
                part_kib,
            };
            Box::pin(kills::run(context, plan, directory)).await
        }
        BenchCommand::Memory {
            sizes_mib,
            slots,
            directory,
        } => Box::pin(memory::run(context, sizes_mib, slots, directory)).await,
        BenchCommand::Postgres {
            server,
            password,
            size_mib,
            rounds,
            directory,
        } => {
            let plan = postgres::Plan {
                server,
                password,
                size_mib,
                rounds,
                directory,
            };
            Box::pin(postgres::run(context, plan)).await
        }
        BenchCommand::Spans {
            spans,
            coordinators,
            workers,
            slots,
            directory,
        } => {
            let plan = spans::Plan {
                spans,
                coordinators,
                workers,
                slots,
            };
            Box::pin(spans::run(context, plan, directory)).await
        }
    }
}

/// A directory that is removed in the end, in the given one.
fn scratch(parent: Option<String>) -> Result<TempDir, Fault> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("holdfast-bench-");
    match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }
    .map_err(|error| broken("make a directory for the data", &error))
}

/// Something of this machine does not work.
fn broken(what: &str, error: &dyn Display) -> Fault {
    Fault::new(ErrorCode::Unavailable, format!("cannot {what}: {error}"))
}
