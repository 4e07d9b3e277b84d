//! `holdfast bench postgres`: our backups and restores of a real server against what else there is for it, on the same rows, each in processes
//! of its own, in turns. What the figures are held against is in `docs/BENCHMARKS.md`.

mod data;
mod export;
mod figures;
mod import;
mod incremental;
mod pgbackrest;
mod processor;
mod program;
mod report;
mod server;

use holdfast_types::{ByteCount, ErrorCode, Fault};
use std::path::Path;

use self::data::Table;
use self::export::Export;
use self::pgbackrest::PgBackRest;
use self::program::Meter;
use self::report::{Machine, Measured, PostgresView};
use self::server::Server;
use super::data::MIB;
use super::{broken, scratch};
use crate::args::Unread;
use crate::context::Context;
use crate::exit::Exit;
use crate::roles::interrupted;

/// What is run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) server: Unread,
    pub(super) password: Option<Unread>,
    pub(super) size_mib: u64,
    pub(super) rounds: u32,
    pub(super) directory: Option<String>,
}

/// What every measurement needs.
#[derive(Debug)]
struct Bench<'a> {
    server: Server,
    meter: Meter,
    /// Where files go.
    directory: &'a Path,
    rounds: u32,
    /// The database with the rows.
    main: String,
    tables: Vec<Table>,
}

pub(super) async fn run(context: &Context, plan: Plan) -> Result<Exit, Fault> {
    let directory = scratch(plan.directory.clone())?;
    let server = Server::new(&plan.server, plan.password.as_ref())?;
    let main = server.scratch("main");
    let postmaster = server.postmaster().await?;
    let bench = Bench {
        server,
        meter: Meter {
            env: context.env.clone(),
            postmaster,
        },
        directory: directory.path(),
        rounds: plan.rounds,
        main,
        tables: data::tables(plan.size_mib * MIB),
    };
    let measured = tokio::select! {
        biased;
        () = interrupted() => Err(Fault::new(ErrorCode::Cancelled, "the bench was interrupted")),
        measured = measure(context, &bench, &plan) => measured,
    };
    let cleaned = bench.server.clean().await;
    directory
        .close()
        .map_err(|error| broken("remove the data", &error))?;
    let view = measured?;
    cleaned?;
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

async fn measure(context: &Context, bench: &Bench<'_>, plan: &Plan) -> Result<PostgresView, Fault> {
    let note = |text: &str| context.output.note(text);
    let size = plan.size_mib * MIB;
    let machine = Machine::look(bench).await?;
    note(&format!("writing about {} of rows", ByteCount(size)));
    bench.server.create("main").await?;
    data::fill(&bench.server, &bench.main, &bench.tables).await?;
    let data_bytes = export::files(bench).await?;
    let is_local = bench.meter.postmaster.is_some();
    let peer = PgBackRest::find(&bench.server, is_local, plan.directory.clone()).await?;
    let mut ways = vec![
        Export::Copy,
        Export::Backup,
        Export::Dump(0),
        Export::Dump(1),
    ];
    if let Ok(peer) = &peer {
        ways.push(Export::PgBackRest(peer));
    }
    note("reading: COPY, our backup, pg_dump, in turns");
    let exports = export::run(bench, &ways).await?;
    note("restoring: ours, pg_restore, in turns");
    let imports = import::whole(bench).await?;
    note("incrementals, at two sizes");
    let chains = incremental::run(bench, size).await?;
    note("restoring rows alone: ours, COPY, in turns");
    let loads = import::rows(bench).await?;
    Ok(report::view(Measured {
        machine,
        rounds: plan.rounds,
        data_bytes,
        exports,
        imports,
        loads,
        chains,
        pgbackrest: peer.err(),
    }))
}

/// Removes a directory with all that is in it, if it is there.
fn removed(directory: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(broken("remove what the last round left", &error))
        }
        _ => Ok(()),
    }
}

/// The bytes of a file, or of all files in a directory; 0 if it is not there.
fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_as_large_as_their_files() {
        let directory = scratch(None).expect("a directory");
        let inner = directory.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("a directory");
        std::fs::write(inner.join("x"), [0; 70]).expect("a file");
        std::fs::write(directory.path().join("y"), [0; 7]).expect("a file");
        assert_eq!(size_of(directory.path()), 77);
        removed(&directory.path().join("a")).expect("removed");
        removed(&directory.path().join("a")).expect("not there is fine");
        assert_eq!(size_of(directory.path()), 7);
        assert_eq!(size_of(&inner), 0);
    }
}
