//! `holdfast bench copy`: backup and restore of an embedded store to `file://`, against copying a file of the same bytes.
//!
//! Everything runs in one process on one event loop, with the blocking work on other threads: what a `start --single` gives.

use holdfast_client::v1;
use holdfast_mvcc::{Mutation, MvccClient};
use holdfast_types::{ByteCount, ErrorCode, Fault, TableName};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, follow};
use crate::local::LocalCluster;
use crate::roles::{self, MemberRole, RunningMember};

const MIB: u64 = 1024 * 1024;
/// Bytes of a row's value: a middling row of an application.
const VALUE_LENGTH: usize = 1000;
/// Rows that one transaction writes.
const ROWS_AT_ONCE: u64 = 4000;
/// The source that is read, and the one that is written.
const SOURCES: [&str; 2] = ["from", "to"];

#[derive(Serialize)]
struct CopyView {
    data_bytes: u64,
    stored_bytes: u64,
    copy_mb_per_second: f64,
    backup_mb_per_second: f64,
    restore_mb_per_second: f64,
    backup_against_copy: f64,
    restore_against_copy: f64,
}

pub(super) async fn run(
    context: &Context,
    size_mib: u64,
    directory: Option<String>,
) -> Result<Exit, Fault> {
    let broken = |error: std::io::Error| {
        Fault::new(
            ErrorCode::Unavailable,
            format!("cannot use the directory for the data: {error}"),
        )
    };
    let directory = match directory {
        Some(parent) => tempfile::tempdir_in(parent).map_err(broken)?,
        None => tempfile::tempdir().map_err(broken)?,
    };
    let cluster = LocalCluster::start(&context.env).await?;
    let measured = measure(context, &cluster, size_mib * MIB, directory.path()).await;
    cluster.stop().await;
    directory.close().map_err(broken)?;
    let view = measured?;
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

async fn measure(
    context: &Context,
    cluster: &LocalCluster,
    size: u64,
    directory: &Path,
) -> Result<CopyView, Fault> {
    let mut members = Vec::new();
    for name in SOURCES {
        members.push(start_source(context, cluster, name, directory).await?);
    }
    let [from, _] = members.as_slice() else {
        return Err(Fault::new(ErrorCode::Internal, "two members were started"));
    };
    context
        .output
        .note(format!("writing {} of rows", ByteCount(size)));
    let data_bytes = fill(context, from, size).await?;
    let copy = copy_seconds(context, data_bytes, directory).await?;
    let collection = format!("file://{}", directory.join("backups").display());
    let backup = backup_request(&collection);
    let (job, backup) = timed(context, cluster, cluster.api().submit_backup(backup).await?).await?;
    let restore = restore_request(&collection);
    let restore = cluster.api().submit_restore(restore).await?;
    let (_, restore) = timed(context, cluster, restore).await?;
    for member in members {
        member.shutdown().await;
    }
    let megabytes = data_bytes as f64 / 1e6;
    Ok(CopyView {
        data_bytes,
        stored_bytes: job.bytes_written,
        copy_mb_per_second: megabytes / copy,
        backup_mb_per_second: megabytes / backup,
        restore_mb_per_second: megabytes / restore,
        backup_against_copy: backup / copy,
        restore_against_copy: restore / copy,
    })
}

async fn start_source(
    context: &Context,
    cluster: &LocalCluster,
    name: &str,
    directory: &Path,
) -> Result<RunningMember, Fault> {
    let role = MemberRole {
        directory: directory.join(name).to_string_lossy().into_owned(),
        listen: "127.0.0.1:0".to_owned(),
        time_to_live: None,
    };
    let member = roles::start_member(&context.env, role).await?;
    let request = v1::RegisterSourceRequest {
        name: name.to_owned(),
        kind: "mvcc".to_owned(),
        members: vec![v1::Member {
            name: "member".to_owned(),
            locality: String::new(),
            address: member.address(),
        }],
    };
    cluster.api().register_source(request).await?;
    Ok(member)
}

/// Writes rows of about this many bytes in all; gives the exact number.
async fn fill(context: &Context, member: &RunningMember, size: u64) -> Result<u64, Fault> {
    let client = MvccClient::new(Arc::clone(&context.env.net), &member.address())?;
    let table: TableName = "bench.rows".parse()?;
    client.create_database(&table.database).await?;
    client.create_table(&table, "").await?;
    let (mut row, mut bytes) = (0u64, 0u64);
    while bytes < size {
        let batch: Vec<Mutation> = (row..row + ROWS_AT_ONCE)
            .map(|row| Mutation::put(table.clone(), format!("row-{row:012}"), value(row)))
            .collect();
        row += ROWS_AT_ONCE;
        bytes += batch
            .iter()
            .map(|mutation| mutation.logical_len() as u64)
            .sum::<u64>();
        client.write(batch).await?;
    }
    Ok(bytes)
}

/// Random hexadecimal digits: compresses to about a half, as text does.
fn value(row: u64) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut state = row.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..VALUE_LENGTH)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            DIGITS[(state >> 60) as usize]
        })
        .collect()
}

/// How long it takes to copy a file of this length and sync the copy, in seconds.
async fn copy_seconds(context: &Context, length: u64, directory: &Path) -> Result<f64, Fault> {
    let (from, to) = (directory.join("plain"), directory.join("plain-copy"));
    let clock = Arc::clone(&context.env.clock);
    context
        .env
        .blocking(move || {
            let mut row = 0;
            let mut file = std::io::BufWriter::new(std::fs::File::create(&from)?);
            let mut written = 0;
            while written < length {
                let bytes = value(row);
                std::io::Write::write_all(&mut file, &bytes)?;
                written += bytes.len() as u64;
                row += 1;
            }
            file.into_inner()?.sync_all()?;
            let started = clock.monotonic();
            std::fs::copy(&from, &to)?;
            std::fs::File::open(&to)?.sync_all()?;
            let seconds = (clock.monotonic() - started).as_secs_f64();
            std::fs::remove_file(&from)?;
            std::fs::remove_file(&to)?;
            Ok(seconds)
        })
        .await
        .map_err(|error: std::io::Error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot copy a file: {error}"),
            )
        })
}

fn backup_request(collection: &str) -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        source: SOURCES[0].to_owned(),
        into: collection.to_owned(),
        layer: Some(v1::submit_backup_request::Layer::Full(true)),
        ..v1::SubmitBackupRequest::default()
    }
}

fn restore_request(collection: &str) -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        from: collection.to_owned(),
        subdir: "LATEST".to_owned(),
        into_source: SOURCES[1].to_owned(),
        ..v1::SubmitRestoreRequest::default()
    }
}

/// Follows a job that was just submitted; gives it and its seconds.
async fn timed(
    context: &Context,
    cluster: &LocalCluster,
    submitted: v1::SubmitJobResponse,
) -> Result<(v1::Job, f64), Fault> {
    let started: Duration = context.env.clock.monotonic();
    let job = follow(context, cluster.api(), submitted.job, Until::Ended).await?;
    let seconds = (context.env.clock.monotonic() - started).as_secs_f64();
    match job {
        Some(job) if job.state == "succeeded" => Ok((job, seconds)),
        Some(job) => Err(Fault::new(
            ErrorCode::Internal,
            format!(
                "job {} is {}: {}",
                job.id,
                job.state,
                job.error.map(|fault| fault.message).unwrap_or_default()
            ),
        )),
        None => Err(Fault::new(
            ErrorCode::Cancelled,
            "the bench was interrupted",
        )),
    }
}

impl CopyView {
    fn text(&self) -> String {
        format!(
            "{} of rows, {} stored\n\
             copy     {:7.1} MB/s\n\
             backup   {:7.1} MB/s  {:.2} times as long as the copy\n\
             restore  {:7.1} MB/s  {:.2} times as long as the copy",
            ByteCount(self.data_bytes),
            ByteCount(self.stored_bytes),
            self.copy_mb_per_second,
            self.backup_mb_per_second,
            self.backup_against_copy,
            self.restore_mb_per_second,
            self.restore_against_copy
        )
    }
}
