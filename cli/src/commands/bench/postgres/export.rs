//! Ways to get the data out.

use holdfast_types::Fault;
use std::path::PathBuf;

use super::data::{STREAMS, halves};
use super::figures::{Sample, Series, interleave};
use super::pgbackrest::PgBackRest;
use super::program::Program;
use super::{Bench, removed, size_of};

/// See the module.
#[derive(Debug)]
pub(super) enum Export<'a> {
    /// Two streams of `COPY … TO STDOUT`, thrown away.
    Copy,
    /// `holdfast backup`.
    Backup,
    /// `pg_dump -Fd -j2`, at a level of compression.
    Dump(u8),
    /// A full backup of the whole server.
    PgBackRest(&'a PgBackRest),
}

impl Export<'_> {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Copy => format!("COPY TO STDOUT, binary, {STREAMS} streams, thrown away"),
            Self::Backup => format!("holdfast backup --streams {STREAMS}"),
            Self::Dump(level) => format!("pg_dump -Fd -j{STREAMS} -Z{level}"),
            Self::PgBackRest(_) => {
                format!("pgbackrest full, zst level 1, {STREAMS} processes (the whole server)")
            }
        }
    }
}

/// Measures all of them.
pub(super) async fn run(bench: &Bench<'_>, ways: &[Export<'_>]) -> Result<Vec<Series>, Fault> {
    let names = ways.iter().map(Export::name).collect();
    interleave(bench.rounds, names, async |index| match ways.get(index) {
        Some(Export::Copy) => copy(bench).await,
        Some(Export::Backup) => backup(bench, &bench.main, "backup", &[]).await,
        Some(Export::Dump(level)) => dump(bench, *level).await,
        Some(Export::PgBackRest(peer)) => peer.full(bench).await,
        None => Ok(Sample::default()),
    })
    .await
}

async fn copy(bench: &Bench<'_>) -> Result<Sample, Fault> {
    let halves = halves(&bench.server, &bench.main, &bench.tables).await?;
    let stream = |pick: fn(&[String; 2]) -> &String| {
        let statements: Vec<String> = halves.iter().map(|(_, half)| pick(half).clone()).collect();
        bench.server.psql(Some(&bench.main), &statements)
    };
    bench
        .meter
        .measure(vec![
            stream(|[first, _]| first),
            stream(|[_, second]| second),
        ])
        .await
}

/// Writes the rows as binary files: the half of a table each, by stream. Gives their bytes.
pub(super) async fn files(bench: &Bench<'_>) -> Result<u64, Fault> {
    for (table, statements) in halves(&bench.server, &bench.main, &bench.tables).await? {
        for (stream, statement) in statements.into_iter().enumerate() {
            let file = bench.directory.join(file_name(&table, stream));
            let program = bench.server.psql(Some(&bench.main), &[statement]);
            program.output_to(&file)?.run().await?;
        }
    }
    let mut bytes = 0;
    for table in &bench.tables {
        for stream in 0..STREAMS as usize {
            bytes += size_of(&bench.directory.join(file_name(&table.name, stream)));
        }
    }
    Ok(bytes)
}

/// The file with the rows of a table that a stream writes.
pub(super) fn file_name(table: &str, stream: usize) -> String {
    format!("{table}.{stream}.copy")
}

/// Our backup of a database into a collection of this name. A new one, unless something is appended to it.
pub(super) async fn backup(
    bench: &Bench<'_>,
    database: &str,
    collection: &str,
    more: &[&str],
) -> Result<Sample, Fault> {
    let directory = bench.directory.join(collection);
    let is_appended = more.contains(&"--append");
    if !is_appended {
        removed(&directory)?;
    }
    let before = size_of(&directory);
    let (url, into) = (
        bench.server.url(database),
        format!("file://{}", directory.display()),
    );
    let state = state_directory(bench, collection).display().to_string();
    let streams = STREAMS.to_string();
    let program = Program::own()?
        .args(["backup", "--source", &url, "INTO", &into, "--json"])
        .args([
            "--database",
            database,
            "--streams",
            &streams,
            "--state-dir",
            &state,
        ])
        .args(more);
    let sample = bench
        .meter
        .measure(vec![bench.server.sealed(program)])
        .await?;
    Ok(Sample {
        stored: Some(size_of(&directory).saturating_sub(before)),
        ..sample
    })
}

/// Where our commands about a collection keep what they need to go on.
pub(super) fn state_directory(bench: &Bench<'_>, collection: &str) -> PathBuf {
    bench.directory.join(format!("{collection}.state"))
}

async fn dump(bench: &Bench<'_>, level: u8) -> Result<Sample, Fault> {
    let directory = bench.directory.join(format!("dump-{level}"));
    removed(&directory)?;
    let url = bench.server.url(&bench.main);
    let program = Program::new("pg_dump")
        .args(["-Fd", &format!("-j{STREAMS}"), &format!("-Z{level}"), "-f"])
        .args([directory.as_os_str()])
        .args(["-d", &url]);
    let sample = bench
        .meter
        .measure(vec![bench.server.sealed(program)])
        .await?;
    Ok(Sample {
        stored: Some(size_of(&directory)),
        ..sample
    })
}
