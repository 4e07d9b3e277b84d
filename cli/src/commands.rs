//! One file a command, or a family of commands.

mod about;
mod backup;
mod backups;
mod bench;
mod cluster;
mod job;
mod mvcc;
mod restore;
mod sim;
mod source;
mod start;
mod verify;

use holdfast_client::v1;
use holdfast_types::Fault;

use crate::args::{Command, MemberAddress, TargetArgs};
use crate::context::Context;
use crate::exit::Exit;

/// Runs a command to its end.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Fault> {
    match command {
        Command::Start(arguments) => start::run(context, arguments).await,
        Command::Init(arguments) => cluster::init(context, arguments).await,
        Command::Status => cluster::status(context).await,
        Command::Source(command) => source::run(context, command).await,
        Command::Backup(arguments) => backup::run(context, arguments).await,
        Command::Restore(arguments) => restore::run(context, arguments).await,
        Command::Verify(arguments) => verify::run(context, arguments).await,
        Command::Backups(command) => backups::run(context, command).await,
        Command::Job(command) => job::run(context, command).await,
        Command::Member(command) => cluster::member(context, command).await,
        Command::Setting(command) => cluster::setting(context, command).await,
        Command::Mvcc(command) => mvcc::run(context, command).await,
        Command::Demo(arguments) => crate::demo::run(context, arguments).await,
        Command::Sim { arguments } => sim::run(arguments),
        Command::Bench(command) => bench::run(context, command).await,
        Command::Version => Ok(about::version(context)),
        Command::Completions { shell } => Ok(about::completions(shell)),
    }
}

/// An optional argument as the protocol has it: empty if left out.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn wire_target(target: &TargetArgs) -> v1::Target {
    v1::Target {
        databases: target.database.clone(),
        tables: target.table.iter().map(ToString::to_string).collect(),
    }
}

fn wire_members(members: &[MemberAddress]) -> Vec<v1::Member> {
    members
        .iter()
        .map(|member| v1::Member {
            name: member.name.to_string(),
            locality: member.locality.to_string(),
            address: member.address.clone(),
            ..v1::Member::default()
        })
        .collect()
}
