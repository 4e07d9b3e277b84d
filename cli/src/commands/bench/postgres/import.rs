//! Ways to get the data in again, each into a database of its own that is dropped afterwards.

use holdfast_types::Fault;

use super::data::STREAMS;
use super::export::{backup, file_name};
use super::figures::{Sample, Series, interleave};
use super::program::Program;
use super::{Bench, removed};

/// The database that is restored into.
const TARGET: &str = "target";

/// Measures whole restores: ours of the last backup, and `pg_restore`'s of the last dump of level 1.
pub(super) async fn whole(bench: &Bench<'_>) -> Result<Vec<Series>, Fault> {
    let names = vec![
        format!("holdfast restore --streams {STREAMS}"),
        format!("pg_restore -j{STREAMS} (of -Z1)"),
    ];
    interleave(bench.rounds, names, async |index| match index {
        0 => ours(bench, "backup").await,
        _ => theirs(bench).await,
    })
    .await
}

/// Measures the rows alone: ours of tables without keys and indexes, and `COPY FROM` of as many.
pub(super) async fn rows(bench: &Bench<'_>) -> Result<Vec<Series>, Fault> {
    let statements: Vec<String> = bench
        .tables
        .iter()
        .flat_map(|table| table.without_keys())
        .collect();
    bench.server.ask(Some(&bench.main), &statements).await?;
    backup(bench, &bench.main, "bare", &[]).await?;
    let names = vec![
        "holdfast restore, tables without keys and indexes".to_owned(),
        format!("COPY FROM, binary, {STREAMS} streams, the same tables"),
    ];
    interleave(bench.rounds, names, async |index| match index {
        0 => ours(bench, "bare").await,
        _ => raw(bench).await,
    })
    .await
}

async fn ours(bench: &Bench<'_>, collection: &str) -> Result<Sample, Fault> {
    let target = bench.server.scratch(TARGET);
    let state = bench.directory.join("restore.state");
    removed(&state)?;
    let from = format!("file://{}", bench.directory.join(collection).display());
    let (to, streams) = (bench.server.address(), STREAMS.to_string());
    let program = Program::own()?
        .args([
            "restore",
            "FROM",
            &from,
            "--to",
            to,
            "--json",
            "--streams",
            &streams,
        ])
        .args([
            "--database",
            &bench.main,
            "--new-db-name",
            &target,
            "--state-dir",
        ])
        .args([state]);
    let sample = bench
        .meter
        .measure(vec![bench.server.sealed(program)])
        .await;
    bench.server.drop(&target).await?;
    sample
}

async fn theirs(bench: &Bench<'_>) -> Result<Sample, Fault> {
    let target = bench.server.create(TARGET).await?;
    let dump = bench.directory.join("dump-1");
    let program = Program::new("pg_restore")
        .args([&format!("-j{STREAMS}"), "-d", &bench.server.url(&target)])
        .args([dump]);
    let sample = bench
        .meter
        .measure(vec![bench.server.sealed(program)])
        .await;
    bench.server.drop(&target).await?;
    sample
}

async fn raw(bench: &Bench<'_>) -> Result<Sample, Fault> {
    let target = bench.server.create(TARGET).await?;
    let definitions: Vec<String> = bench
        .tables
        .iter()
        .map(|table| table.definition())
        .collect();
    bench.server.ask(Some(&target), &definitions).await?;
    let streams = (0..STREAMS as usize).map(|stream| {
        let copies = bench.tables.iter().map(|table| {
            let file = bench.directory.join(file_name(&table.name, stream));
            format!(
                "\\copy {} from '{}' (format binary)",
                table.name,
                file.display()
            )
        });
        bench
            .server
            .psql(Some(&target), &copies.collect::<Vec<_>>())
    });
    let sample = bench.meter.measure(streams.collect()).await;
    bench.server.drop(&target).await?;
    sample
}
