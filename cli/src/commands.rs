//! One file a command, or a family of commands.

mod about;
mod backup;
mod backups;
mod bench;
mod cluster;
mod connection;
mod hold;
mod job;
mod keys;
mod mvcc;
mod restore;
mod schedule;
mod sim;
mod source;
mod sql;
mod start;
mod user;
mod verify;

use holdfast_client::v1;
use holdfast_collection::Reference;
use holdfast_types::{ErrorCode, Fault, SourceKind};

use crate::args::{Command, MemberAddress, TargetArgs, Unread};
use crate::context::Context;
use crate::exit::Exit;

/// Runs a command to its end.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Fault> {
    match command {
        Command::Start(arguments) => start::run(context, arguments).await,
        Command::Init(arguments) => cluster::init(context, arguments).await,
        Command::Status => cluster::status(context).await,
        Command::Source(command) => source::run(context, command).await,
        Command::Connection(command) => connection::run(context, command).await,
        Command::User(command) => user::run(context, command).await,
        Command::Hold(command) => hold::run(context, command).await,
        Command::Backup(arguments) => backup::run(context, arguments).await,
        Command::Restore(arguments) => restore::run(context, arguments).await,
        Command::Verify(arguments) => verify::run(context, arguments).await,
        Command::Backups(command) => backups::run(context, command).await,
        Command::Schedule(command) => schedule::run(context, command).await,
        Command::Keys(command) => keys::run(context, command).await,
        Command::Job(command) => job::run(context, command).await,
        Command::Sql { execute, source } => sql::run(context, execute, &source).await,
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

/// A collection's URI as it may be shown: without what could be secret in it.
fn place_of(uri: &str) -> String {
    match uri.parse::<Reference>() {
        Ok(Reference::Store(uri)) => uri.to_string(),
        Ok(Reference::External(_)) | Err(_) => {
            let end = uri.find('?').unwrap_or(uri.len());
            uri.get(..end).unwrap_or_default().to_owned()
        }
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

/// Members, as they were written; `password` is that of members which have none of their own.
fn read_members(
    members: &[Unread],
    password: Option<&Unread>,
) -> Result<Vec<MemberAddress>, Fault> {
    let password = password.and_then(Unread::secret);
    let read = |text: &Unread| {
        let mut member = text.member()?;
        if member.server.kind == SourceKind::Postgres && member.server.password.is_none() {
            member.server.password.clone_from(&password);
        }
        Ok(member)
    };
    members.iter().map(read).collect()
}

/// The kind of a source: as it was said, and what its members' addresses are.
fn kind_of(said: Option<&str>, members: &[MemberAddress]) -> Result<SourceKind, Fault> {
    let said = said.map(str::parse::<SourceKind>).transpose()?;
    let first = members.first().map(|member| member.server.kind);
    let kind = said.or(first).unwrap_or(SourceKind::Mvcc);
    match members.iter().find(|member| member.server.kind != kind) {
        None => Ok(kind),
        Some(other) => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "the source is of kind {kind}, and the address of member {} is one of kind {}",
                other.name, other.server.kind
            ),
        )
        .hint("all members of a source are of one kind")),
    }
}
