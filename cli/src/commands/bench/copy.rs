//! `holdfast bench copy`: backup and restore of an embedded store to `file://`, against copying a file of the same bytes.
//!
//! Everything runs in one process on one event loop, with the blocking work on other threads: what a `start --single` gives.

use holdfast_client::v1;
use holdfast_types::{ByteCount, ErrorCode, Fault};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::succeeded;
use super::data::{MIB, fill, value};
use super::{broken, scratch};
use crate::context::Context;
use crate::exit::Exit;
use crate::local::LocalCluster;
use crate::roles::{self, MemberRole, RunningMember};

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
    let directory = scratch(directory)?;
    let cluster = LocalCluster::start(&context.env).await?;
    let measured = measure(context, &cluster, size_mib * MIB, directory.path()).await;
    cluster.stop().await;
    directory
        .close()
        .map_err(|error| broken("remove the data", &error))?;
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
    let data_bytes = fill(context, &from.address(), size).await?;
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
            ..v1::Member::default()
        }],
    };
    cluster.api().register_source(request).await?;
    Ok(member)
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
        .map_err(|error: std::io::Error| broken("copy a file", &error))
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
    let job = succeeded(context, cluster.api(), submitted.job).await?;
    let seconds = (context.env.clock.monotonic() - started).as_secs_f64();
    Ok((job, seconds))
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
