//! Restoring one span: part by part, from the committed frontier.

use holdfast_collection::CollectionStore;
use holdfast_proto::SpanWork;
use holdfast_types::{ByteCount, RestoreSpec, RowCount, TableName};

use super::backup_span::note;
use super::frontier::{Frontier, Progress};
use super::halt::Halt;
use super::loader::Loader;
use super::merge_reader::{MergeReader, MergeRequest};
use super::restore_plan::{restore_member, target_name};
use super::ticket::{Ticket, part_limit};
use crate::bounds::{LOAD_PIECE, MANIFEST_DEADLINE, SOURCE_SCAN_DEADLINE};

/// What a span is restored from, and into.
struct Found {
    store: CollectionStore,
    request: MergeRequest,
    /// Its name in the backup.
    from: TableName,
    /// Its name now.
    into: TableName,
}

/// Restores one span.
pub(super) async fn run(ticket: &Ticket, spec: &RestoreSpec, span: &SpanWork) -> Result<(), Halt> {
    let member = &ticket.member(span.member)?.name;
    let source = ticket.source(spec.kind, span.member)?;
    let found = find(ticket, spec, span).await?;
    let reading = format!("reading the layers of {}", found.from);
    let loading = format!("loading {} on member {member}", found.into);
    let limit = part_limit(spec.part_size);
    let reader = ticket.stage(MergeReader::new(ticket, found.store, found.request));
    let loader = ticket.stage(Loader::new(ticket, source, found.into));
    let reporter = ticket.reporter();
    let mut frontier = Frontier::of(span);
    loop {
        let mut progress = Progress::default();
        // A part goes to the member piece by piece: only a piece of it is ever in memory.
        let (to, last) = loop {
            let room = limit.saturating_sub(progress.written.0).min(LOAD_PIECE);
            let piece = ticket
                .read(&reading, SOURCE_SCAN_DEADLINE, reader.ask(room))
                .await?;
            note(ticket, piece.read, ByteCount(piece.logical));
            progress.read += ByteCount(piece.read);
            progress.written += ByteCount(piece.logical);
            progress.rows += RowCount(piece.rows.len() as u64);
            if !piece.rows.is_empty() {
                let writing = loader.ask(piece.rows);
                ticket
                    .write(&loading, SOURCE_SCAN_DEADLINE, writing)
                    .await?;
            }
            if piece.last || progress.written.0 >= limit {
                break (piece.to, piece.last);
            }
        };
        let to = (!last).then(|| ticket.seal(&to));
        let checkpoint = frontier.checkpoint(to, progress);
        ticket.report(&reporter, checkpoint).await?;
        ticket.activity.committed(0);
        if last {
            return Ok(());
        }
    }
}

/// Looks up which objects of which layers hold the rest of the span.
async fn find(ticket: &Ticket, spec: &RestoreSpec, span: &SpanWork) -> Result<Found, Halt> {
    let restored = restore_member(spec, span.member)?;
    let range = ticket.open_range(&span.frontier, &span.end)?;
    let cache = &ticket.shared.layers;
    let loading = cache.of_job(ticket);
    let layers = ticket
        .read("reading the manifests", MANIFEST_DEADLINE, loading)
        .await?;
    let (plan, relation) = layers.relation(&restored.from, span.relation)?;
    let listing = cache.entries(ticket, &layers, plan.index, relation, &range);
    let entries = ticket
        .read("reading the file lists", MANIFEST_DEADLINE, listing)
        .await?;
    let of_span = entries.iter().map(|(path, entries)| {
        let wanted = entries
            .iter()
            .filter(|entry| entry.range.overlaps(&range))
            .cloned();
        (path.clone(), wanted.collect())
    });
    let name = &relation.relation.name;
    Ok(Found {
        store: layers.store.clone(),
        from: name.clone(),
        into: target_name(spec, name),
        request: MergeRequest {
            layers: of_span.collect(),
            range: range.clone(),
            as_of: plan.position,
            memory: part_limit(spec.part_size),
        },
    })
}
