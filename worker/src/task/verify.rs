//! Verifying layers: every object is read and compared. A span is a range of a layer's file list, and its keys are the places in the list, as
//! eight bytes big endian.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_collection::{CollectionStore, Depth, VerifyReport};
use holdfast_format::{Layer, ManifestEntry};
use holdfast_proto::SpanWork;
use holdfast_types::{
    ByteCount, ErrorCode, Fault, KeyRange, LayerPath, RelationId, RowCount, VerifySpec,
};

use super::activity::Activity;
use super::backup_span::note;
use super::frontier::{Frontier, Progress};
use super::halt::Halt;
use super::plan_batches::PlanBatches;
use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;
use crate::bounds::{
    MANIFEST_DEADLINE, STORE_DEADLINE, VERIFY_GROUP, VERIFY_GROUP_BYTES, VERIFY_SPAN,
};

/// Damaged objects that an error names; it is kept in the ledger with its job.
const DAMAGE_SHOWN: usize = 32;

/// Lists the objects of all layers, which also verifies manifests and file lists.
pub(super) async fn plan(
    ticket: &Ticket,
    spec: &VerifySpec,
    span_size: ByteCount,
) -> Result<(), Halt> {
    let loading = ticket.shared.layers.of_job(ticket);
    let layers = ticket
        .read("reading the manifests", MANIFEST_DEADLINE, loading)
        .await?;
    let mut batches = PlanBatches::new(ticket);
    for (index, layer) in layers.layers.iter().enumerate() {
        let doing = format!("reading the file list of layer {}", layer.manifest.path);
        let cutting = cut(&layers.store, layer, span_size);
        let spans = ticket.read(&doing, MANIFEST_DEADLINE, cutting).await?;
        for (range, weight) in &spans {
            batches
                .span(RelationId(index as u64), range, *weight)
                .await?;
        }
    }
    // The specification names the layers; a plan of nothing is one too.
    debug_assert_eq!(spec.layers.len(), layers.layers.len());
    batches.finish().await
}

/// Groups the places of a file list into spans that tile it.
async fn cut(
    store: &CollectionStore,
    layer: &Layer,
    span_size: ByteCount,
) -> Result<Vec<(KeyRange, ByteCount)>, Fault> {
    let mut spans: Vec<(KeyRange, ByteCount)> = Vec::new();
    let (mut place, mut in_span) = (0u64, 0u64);
    let mut stream = store.entries(layer);
    while let Some(batch) = stream.next().await {
        for entry in batch? {
            match spans.last_mut() {
                Some((_, weight)) if in_span < VERIFY_SPAN && *weight < span_size => {
                    *weight += entry.object.length;
                    in_span += 1;
                }
                Some((range, _)) => {
                    range.end = place_key(place);
                    let range = KeyRange {
                        start: place_key(place),
                        end: Bytes::new(),
                    };
                    spans.push((range, entry.object.length));
                    in_span = 1;
                }
                None => {
                    spans.push((KeyRange::all(), entry.object.length));
                    in_span = 1;
                }
            }
            place += 1;
        }
    }
    Ok(spans)
}

fn place_key(place: u64) -> Bytes {
    Bytes::copy_from_slice(&place.to_be_bytes())
}

fn key_place(key: &[u8], open: u64) -> Result<u64, Fault> {
    if key.is_empty() {
        return Ok(open);
    }
    let bytes: [u8; 8] = key.try_into().map_err(|_| {
        Fault::new(
            ErrorCode::Internal,
            "a bound of a verification is not a place in a file list",
        )
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Verifies one span.
pub(super) async fn run(ticket: &Ticket, spec: &VerifySpec, span: &SpanWork) -> Result<(), Halt> {
    let loading = ticket.shared.layers.of_job(ticket);
    let layers = ticket
        .read("reading the manifests", MANIFEST_DEADLINE, loading)
        .await?;
    let index = usize::try_from(span.relation.0).unwrap_or(usize::MAX);
    let Some(layer) = layers.layers.get(index) else {
        return Err(Halt::Failed(Fault::new(
            ErrorCode::Internal,
            format!(
                "the verification has {} layers, and none {index}",
                spec.layers.len()
            ),
        )));
    };
    let path = &layer.manifest.path;
    let range = ticket.open_range(&span.frontier, &span.end)?;
    let mut place = key_place(&range.start, 0)?;
    let end = key_place(&range.end, u64::MAX)?;
    let doing = format!("reading the file list of layer {path}");
    let listing = entries_between(&layers.store, layer, place, end);
    let mut rest = ticket
        .read(&doing, MANIFEST_DEADLINE, listing)
        .await?
        .into_iter()
        .peekable();

    let checker = ticket.stage(Checker::new(ticket, layers.store.clone(), path.clone()));
    let reporter = ticket.reporter();
    let doing = format!("verifying objects of layer {path}");
    let mut frontier = Frontier::of(span);
    let mut damage = Vec::new();
    loop {
        ticket.activity.committed(0);
        let mut group: Vec<ManifestEntry> = Vec::new();
        let mut bytes = 0;
        while let Some(entry) =
            rest.next_if(|_| (group.len() as u64) < VERIFY_GROUP && bytes < VERIFY_GROUP_BYTES)
        {
            bytes += entry.object.length.0;
            group.push(entry);
        }
        place += group.len() as u64;
        let last = rest.peek().is_none();
        let (read, rows, found) = ticket
            .read(&doing, STORE_DEADLINE, checker.ask(group))
            .await?;
        note(ticket, read.0, ByteCount(0));
        damage.extend(found);
        if !damage.is_empty() {
            // The rest is looked at too, but no longer checkpointed: whoever takes the task over finds the damage again.
            if last {
                return Err(Halt::Failed(damaged(path, &damage)));
            }
            continue;
        }
        let progress = Progress {
            read,
            rows,
            ..Progress::default()
        };
        let to = (!last).then(|| ticket.seal(&place_key(place)));
        let checkpoint = frontier.checkpoint(to, progress);
        ticket.report(&reporter, checkpoint).await?;
        if last {
            return Ok(());
        }
    }
}

/// The entries at the places `[start, end)` of a layer's file list. Parts that hold none of them are not read.
async fn entries_between(
    store: &CollectionStore,
    layer: &Layer,
    start: u64,
    end: u64,
) -> Result<Vec<ManifestEntry>, Fault> {
    let mut needed = layer.clone();
    needed.manifest.parts.clear();
    let mut place = 0u64;
    let mut first = None;
    for part in &layer.manifest.parts {
        let after = place.saturating_add(part.entries);
        if after > start && place < end {
            first.get_or_insert(place);
            needed.manifest.parts.push(part.clone());
        }
        place = after;
    }
    let mut place = first.unwrap_or(0);
    let mut found = Vec::new();
    let mut stream = store.entries(&needed);
    while let Some(batch) = stream.next().await {
        for entry in batch? {
            if (start..end).contains(&place) {
                found.push(entry);
            }
            place += 1;
        }
    }
    Ok(found)
}

/// Reads objects and compares them with the manifest: lengths, digests, and rows.
struct Checker {
    store: CollectionStore,
    path: LayerPath,
    gate: Gate,
    activity: Activity,
}

impl Checker {
    fn new(ticket: &Ticket, store: CollectionStore, path: LayerPath) -> Self {
        Self {
            store,
            path,
            gate: ticket.shared.gate.clone(),
            activity: ticket.activity.clone(),
        }
    }
}

impl Stage for Checker {
    type Input = Vec<ManifestEntry>;
    /// Bytes and rows, and what is wrong with each object that is damaged.
    type Output = (ByteCount, RowCount, Vec<String>);
    const NAME: &'static str = "checker";

    async fn run(&mut self, entries: Vec<ManifestEntry>) -> Result<Self::Output, Fault> {
        let (mut read, mut rows, mut damage) = (ByteCount(0), 0, Vec::new());
        for entry in &entries {
            self.gate.check()?;
            let one = std::slice::from_ref(entry);
            // A report of its own: one for all would end at its limit of damage.
            let mut report = VerifyReport::default();
            let _ = self
                .store
                .verify_objects(&self.path, one, Depth::Rows, &mut report)
                .await?;
            self.activity.read(entry.object.length.0);
            read += report.bytes;
            rows += report.rows;
            damage.extend(report.damaged.into_iter().map(|found| found.fault.message));
        }
        Ok((read, RowCount(rows), damage))
    }
}

/// The error for a span of a layer with damaged objects, by name.
fn damaged(path: &LayerPath, damage: &[String]) -> Fault {
    let mut shown = damage
        .iter()
        .take(DAMAGE_SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if let more @ 1.. = damage.len().saturating_sub(DAMAGE_SHOWN) {
        shown.push_str(&format!("; and {more} more objects beside them"));
    }
    let count = match damage.len() {
        1 => String::new(),
        count => format!("{count} damaged objects: "),
    };
    Fault::new(
        ErrorCode::Corrupted,
        format!("layer {path}: {count}{shown}"),
    )
    .hint("the layer cannot be restored whole: bring the objects back from a copy, or take a new full backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_keys_in_the_same_order() {
        for pair in [0, 1, 255, 256, u64::MAX - 1, u64::MAX].windows(2) {
            assert!(place_key(pair[0]) < place_key(pair[1]));
        }
        assert_eq!(key_place(&place_key(77), 0), Ok(77));
        assert_eq!(key_place(&[], 5), Ok(5));
        assert!(key_place(&[1, 2], 0).is_err());
    }
}
