//! `holdfast bench`: what this machine gives. Figures are ratios against the plainest way to do the same.

mod copy;

use holdfast_types::Fault;

use crate::args::BenchCommand;
use crate::context::Context;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, command: BenchCommand) -> Result<Exit, Fault> {
    match command {
        BenchCommand::Copy {
            size_mib,
            directory,
        } => copy::run(context, size_mib, directory).await,
    }
}
