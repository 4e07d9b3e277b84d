//! Restoring one span: part by part, from the committed frontier.

use holdfast_proto::{LeaseReportBody, SpanWork};
use holdfast_types::{ByteCount, RestoreSpec, RowCount};

use super::backup_span::note;
use super::halt::Halt;
use super::loader::Loader;
use super::merge_reader::{MergeReader, MergeRequest};
use super::restore_plan::{restore_member, target_name};
use super::ticket::{Ticket, part_limit};
use crate::bounds::{MANIFEST_DEADLINE, SOURCE_SCAN_DEADLINE};

/// Restores one span.
pub(super) async fn run(ticket: &Ticket, spec: &RestoreSpec, span: &SpanWork) -> Result<(), Halt> {
    let restored = restore_member(spec, span.member)?;
    let source = ticket.source(spec.kind, span.member)?;
    let range = ticket.open_range(&span.frontier, &span.end)?;
    let cache = &ticket.shared.layers;
    let layers = ticket
        .read(
            "reading the manifests",
            MANIFEST_DEADLINE,
            cache.of_job(ticket),
        )
        .await?;
    let (plan, relation) = layers.relation(&restored.from, span.relation)?;
    let listing = cache.entries(ticket, &layers, plan.index, relation, &range);
    let entries = ticket
        .read("reading the file lists", MANIFEST_DEADLINE, listing)
        .await?;
    let table = target_name(spec, &relation.relation.name);
    let reading = format!("reading the layers of {}", relation.relation.name);
    let loading = format!("loading {table} on member {}", restored.member.name);

    let limit = part_limit(spec.part_size);
    let request = MergeRequest {
        layers: entries
            .iter()
            .map(|(path, entries)| {
                let of_span = entries
                    .iter()
                    .filter(|entry| entry.range.overlaps(&range))
                    .cloned();
                (path.clone(), of_span.collect())
            })
            .collect(),
        range: range.clone(),
        as_of: plan.position,
        memory: limit,
    };
    drop(entries);
    let reader = ticket.stage(MergeReader::new(ticket, layers.store.clone(), request));
    let loader = ticket.stage(Loader::new(ticket, source, table));
    let reporter = ticket.reporter();
    let mut from = span.frontier.clone();
    loop {
        let part = ticket
            .read(&reading, SOURCE_SCAN_DEADLINE, reader.ask(limit))
            .await?;
        let (rows, read, written, last) =
            (part.rows.len() as u64, part.read, part.logical, part.last);
        if rows > 0 {
            let writing = loader.ask(part.rows);
            ticket
                .write(&loading, SOURCE_SCAN_DEADLINE, writing)
                .await?;
        }
        note(ticket, read, ByteCount(written));
        let to = if last {
            span.end.clone()
        } else {
            ticket.seal(&part.to)
        };
        let checkpoint = LeaseReportBody::Checkpoint {
            from: std::mem::replace(&mut from, to.clone()),
            to,
            last,
            objects: Vec::new(),
            read: ByteCount(read),
            written: ByteCount(written),
            rows: RowCount(rows),
        };
        ticket.report(&reporter, checkpoint).await?;
        if last {
            return Ok(());
        }
    }
}
