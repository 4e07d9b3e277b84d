//! Prints how fast a member scans and loads: in the process and over loopback, beside a plain copy of the same bytes.
//!
//! `cargo run --release -p holdfast-mvcc --example throughput [-- <MiB>]`

use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::Env;
use holdfast_mvcc::{LocalMember, MvccStore, RemoteMember, StoreOptions, serve};
use holdfast_source::{Change, ReadRequest, RestoreTable, Row, Source};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Hlc, JobId, KeyRange, Position, Relation, RelationId, TableName,
    Target, Window,
};
use std::time::Duration;

const ROW_LENGTH: usize = 200;

fn table(database: &str) -> TableName {
    TableName {
        database: database.to_owned(),
        table: "rows".to_owned(),
    }
}

fn report(what: &str, bytes: u64, took: Duration) {
    let rate = bytes as f64 / 1e6 / took.as_secs_f64();
    println!(
        "{what:<32} {rate:>8.1} MB/s  ({} in {took:.2?})",
        ByteCount(bytes)
    );
}

fn batch(start: u64, rows: u64) -> Vec<Row> {
    (start..start + rows)
        .map(|number| {
            let mut value = Vec::with_capacity(ROW_LENGTH);
            let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            while value.len() < ROW_LENGTH - 8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                value.extend_from_slice(&state.to_le_bytes());
            }
            Row {
                key: Bytes::copy_from_slice(&number.to_be_bytes()),
                position: Position::Hlc(Hlc::ZERO),
                change: Change::Put(value.into()),
            }
        })
        .collect()
}

async fn load(env: &Env, source: &dyn Source, job: JobId, bytes: u64) -> Result<(), Fault> {
    let name = table(&format!("job{job}"));
    let restored = RestoreTable {
        relation: Relation {
            id: RelationId(0),
            name: name.clone(),
            created_at: Position::Hlc(Hlc::ZERO),
            dropped_at: None,
            definition: Vec::new(),
        },
        name: name.clone(),
    };
    source.prepare_restore(job, &[restored], false).await?;
    let rows = 20_000;
    let started = env.clock.monotonic();
    for start in (0..bytes / ROW_LENGTH as u64).step_by(rows) {
        source.load(job, &name, batch(start, rows as u64)).await?;
    }
    let took = env.clock.monotonic() - started;
    source.publish(job).await?;
    report(&format!("load, job {job}"), bytes, took);
    Ok(())
}

async fn scan(env: &Env, source: &dyn Source, job: JobId, what: &str) -> Result<(), Fault> {
    let at = source.position(Position::Hlc(Hlc::ZERO)).await?;
    let target = Target::Tables(vec![table(&format!("job{job}"))]);
    let relations = source.describe(&target, at).await?;
    let relation = relations
        .first()
        .ok_or_else(|| Fault::new(ErrorCode::NotFound, "the table is not there"))?;
    let window = Window {
        after: None,
        upto: at,
        history: false,
    };
    let started = env.clock.monotonic();
    let ranges = source
        .plan(relation.id, window, ByteCount(64 * 1024 * 1024))
        .await?;
    let planned = env.clock.monotonic();
    let mut bytes = 0;
    let mut stream = source
        .read(ReadRequest {
            relation: relation.id,
            range: KeyRange::all(),
            window,
        })
        .await?;
    while let Some(batch) = stream.next().await {
        bytes += batch?
            .iter()
            .map(|row| row.logical_len() as u64)
            .sum::<u64>();
    }
    let ended = env.clock.monotonic();
    println!("{} ranges", ranges.len());
    report(&format!("plan, {what}"), bytes, planned - started);
    report(&format!("scan, {what}"), bytes, ended - planned);
    let started = env.clock.monotonic();
    let name = &relation.name;
    let print = source
        .fingerprint(None, name, KeyRange::all(), Some(at))
        .await?;
    let took = env.clock.monotonic() - started;
    report(&format!("fingerprint, {what}"), print.bytes.0, took);
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Fault> {
    let mebibytes: u64 = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(128);
    let bytes = mebibytes * 1024 * 1024;
    let env = Env::system();
    let directory = tempfile::tempdir()
        .map_err(|error| Fault::new(ErrorCode::Unavailable, format!("no directory: {error}")))?;
    let path = directory.path().display().to_string();
    let store = MvccStore::open(env.clone(), &path, StoreOptions::default()).await?;
    let local = LocalMember::new(store.clone());
    let served = serve(&env, "127.0.0.1:0", store.clone()).await?;
    let remote = RemoteMember::new(env.net.clone(), "m1", served.address())?;

    let data = vec![0x5au8; 1024 * 1024];
    let started = env.clock.monotonic();
    let file = env
        .disk
        .open(&format!("{path}/copy"))
        .map_err(|error| Fault::new(ErrorCode::Unavailable, format!("no file: {error}")))?;
    for index in 0..mebibytes {
        let written = file.write_all_at(index * 1024 * 1024, &data);
        written.map_err(|error| Fault::new(ErrorCode::Unavailable, error.to_string()))?;
    }
    let synced = file.sync();
    synced.map_err(|error| Fault::new(ErrorCode::Unavailable, error.to_string()))?;
    report(
        "plain file, written and synced",
        bytes,
        env.clock.monotonic() - started,
    );

    load(&env, &local, JobId(1), bytes).await?;
    load(&env, &remote, JobId(2), bytes).await?;
    scan(&env, &local, JobId(1), "in the process").await?;
    scan(&env, &remote, JobId(1), "over loopback").await?;
    served.shutdown().await;
    let stored = store.status()?.stored;
    println!(
        "the store takes {stored} for {} of rows",
        ByteCount(2 * bytes)
    );
    Ok(())
}
