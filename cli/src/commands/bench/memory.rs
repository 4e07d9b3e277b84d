//! `holdfast bench memory`: the peak memory of a worker process that backs a table up, and of one that restores it, for tables of
//! different sizes. It must not grow with them.

use holdfast_client::{ControlApi, v1};
use holdfast_types::{ByteCount, Fault};
use serde::Serialize;

use super::cluster::{BenchCluster, SOURCE};
use super::data::{MIB, fill};
use crate::context::Context;
use crate::exit::Exit;

/// The source that is written.
const TARGET: &str = "to";

#[derive(Serialize)]
struct MemoryView {
    slots: u32,
    part_bytes: u64,
    tables: Vec<TableView>,
}

#[derive(Serialize)]
struct TableView {
    data_bytes: u64,
    idle_bytes: u64,
    backup_peak_bytes: u64,
    restore_peak_bytes: u64,
    /// The larger peak, without what an idle worker uses, against streams × part size.
    peak_against_parts: f64,
}

pub(super) async fn run(
    context: &Context,
    sizes_mib: Vec<u64>,
    slots: u32,
    directory: Option<String>,
) -> Result<Exit, Fault> {
    let mut view = MemoryView {
        slots,
        part_bytes: 0,
        tables: Vec::new(),
    };
    for size in sizes_mib {
        // A cluster for each, so that nothing of the one before is left on disk or in memory.
        let cluster = BenchCluster::start(context, 1, directory.clone()).await?;
        let settings = cluster.api.cluster_status().await?.settings;
        view.part_bytes = settings.get("part_size_bytes").copied().unwrap_or_default();
        let parts = u64::from(slots) * view.part_bytes;
        let table = measure(context, &cluster, size * MIB, slots, parts).await?;
        view.tables.push(table);
    }
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

async fn measure(
    context: &Context,
    cluster: &BenchCluster,
    size: u64,
    slots: u32,
    parts: u64,
) -> Result<TableView, Fault> {
    let from = cluster.start_member("from").await?;
    let to = cluster.start_member("to").await?;
    for (name, process) in [(SOURCE, &from), (TARGET, &to)] {
        let member = ("member".to_owned(), process.address().to_owned());
        cluster.register(name, std::iter::once(member)).await?;
    }
    let data_bytes = fill(context, from.address(), size).await?;
    let collection = cluster.collection("backups");
    let mut worker = cluster.start_worker(context, "reader", slots).await?;
    let idle = worker.usage()?.peak;
    let job = cluster.backup(&collection).await?;
    cluster.succeeded(context, job).await?;
    let backup = worker.usage()?.peak;
    worker.kill().await;
    let worker = cluster.start_worker(context, "writer", slots).await?;
    let request = v1::SubmitRestoreRequest {
        from: collection,
        subdir: "LATEST".to_owned(),
        into_source: TARGET.to_owned(),
        ..v1::SubmitRestoreRequest::default()
    };
    let job = cluster.api.submit_restore(request).await?.job;
    cluster.succeeded(context, job).await?;
    let restore = worker.usage()?.peak;
    let busy = backup.0.max(restore.0).saturating_sub(idle.0);
    Ok(TableView {
        data_bytes,
        idle_bytes: idle.0,
        backup_peak_bytes: backup.0,
        restore_peak_bytes: restore.0,
        peak_against_parts: busy as f64 / parts as f64,
    })
}

impl MemoryView {
    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "{} streams, parts of {}",
                self.slots,
                ByteCount(self.part_bytes)
            ),
            "table        idle         backup       restore      of streams × part".to_owned(),
        ];
        lines.extend(self.tables.iter().map(|table| {
            let size = |bytes| format!("{:<12}", ByteCount(bytes).to_string());
            format!(
                "{} {} {} {} {:.2}",
                size(table.data_bytes),
                size(table.idle_bytes),
                size(table.backup_peak_bytes),
                size(table.restore_peak_bytes),
                table.peak_against_parts
            )
        }));
        lines.join("\n")
    }
}
