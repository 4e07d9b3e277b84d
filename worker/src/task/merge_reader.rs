//! The first stage of a restore: merges the layers into parts of final rows.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use holdfast_collection::CollectionStore;
use holdfast_env::Env;
use holdfast_format::{Change, Entry, ManifestEntry, MergeStep, Merger, SpanFileReader};
use holdfast_source::{Change as RowChange, Row};
use holdfast_types::{ErrorCode, Fault, KeyRange, LayerPath, Position};
use std::collections::VecDeque;
use std::sync::Arc;

use super::activity::Activity;
use super::part::{Part, PartBuilder};
use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;

/// Blocks that are decoded at once, about a megabyte of rows.
const BLOCKS: usize = 16;

/// What is merged.
pub(crate) struct MergeRequest {
    /// Objects per layer, newest first, in the order of their keys.
    pub(crate) layers: Vec<(LayerPath, Vec<ManifestEntry>)>,
    /// The keys wanted.
    pub(crate) range: KeyRange,
    /// The position that is restored.
    pub(crate) as_of: Position,
    /// Stored bytes that may be held of open objects. Objects that fit are read whole, with their full digest compared; larger ones are read
    /// block by block, each compared with an index whose digest and totals were.
    pub(crate) memory: u64,
}

/// Gives the rows of a range as of a position, part by part, from all layers: of every key the newest version, deletions left out. Of each
/// layer one object is open at a time.
pub(crate) struct MergeReader {
    store: CollectionStore,
    env: Env,
    merger: Merger,
    layers: Vec<LayerCursor>,
    range: KeyRange,
    whole_limit: u64,
    /// The first row of the next part.
    held: Option<Row>,
    gate: Gate,
    activity: Activity,
}

struct LayerCursor {
    path: LayerPath,
    entries: VecDeque<ManifestEntry>,
    open: Option<OpenObject>,
}

enum OpenObject {
    Whole {
        reader: Arc<SpanFileReader<Bytes>>,
        file: Bytes,
        blocks: std::ops::Range<usize>,
        name: String,
    },
    Streamed(BoxStream<'static, Result<Vec<Entry>, Fault>>),
}

impl MergeReader {
    pub(crate) fn new(ticket: &Ticket, store: CollectionStore, request: MergeRequest) -> Self {
        let count = request.layers.len();
        let range = request.range;
        let layers = request.layers.into_iter().map(|(path, mut entries)| {
            entries.retain(|entry| entry.range.overlaps(&range));
            LayerCursor {
                path,
                entries: entries.into(),
                open: None,
            }
        });
        Self {
            layers: layers.collect(),
            store,
            env: ticket.shared.env.clone(),
            merger: Merger::new(count, Some(request.as_of)),
            whole_limit: request.memory / (count.max(1) as u64),
            range,
            held: None,
            gate: ticket.shared.gate.clone(),
            activity: ticket.activity.clone(),
        }
    }

    /// Gives the merger a layer's next rows, or says that there are none. The stored bytes that were read for it.
    async fn feed(&mut self, layer: usize) -> Result<u64, Fault> {
        let Some(cursor) = self.layers.get_mut(layer) else {
            self.merger.end(layer);
            return Ok(0);
        };
        let mut read = 0;
        loop {
            self.gate.check()?;
            if let Some(open) = &mut cursor.open {
                match next_rows(&self.env, open, &self.range).await? {
                    Some(rows) => {
                        self.merger.feed(layer, rows);
                        return Ok(read);
                    }
                    None => cursor.open = None,
                }
            }
            let Some(entry) = cursor.entries.pop_front() else {
                self.merger.end(layer);
                return Ok(read);
            };
            let opened = open(
                &self.store,
                &cursor.path,
                &entry,
                &self.range,
                self.whole_limit,
            );
            let (object, bytes) = opened
                .await
                .map_err(|fault| fault.context(format_args!("layer {}", cursor.path)))?;
            cursor.open = Some(object);
            self.activity.read(bytes);
            read += bytes;
        }
    }
}

async fn open(
    store: &CollectionStore,
    path: &LayerPath,
    entry: &ManifestEntry,
    range: &KeyRange,
    whole_limit: u64,
) -> Result<(OpenObject, u64), Fault> {
    let object = &entry.object;
    let store = &store.of_member(path, entry.member).await?;
    if object.length.0 <= whole_limit {
        let file = store.get_verified(path, object).await?;
        let reader = SpanFileReader::open(file.clone())
            .map_err(|fault| fault.context(format_args!("object {}", object.name)))?;
        let blocks = reader.index().blocks_for(range);
        let opened = OpenObject::Whole {
            reader: Arc::new(reader),
            file,
            blocks,
            name: object.name.clone(),
        };
        return Ok((opened, object.length.0));
    }
    let opened = store.open_span(path, object).await?;
    let index = opened.index();
    let blocks = index.blocks().get(index.blocks_for(range));
    let bytes = blocks
        .unwrap_or_default()
        .iter()
        .map(|block| block.bytes.end.saturating_sub(block.bytes.start))
        .sum();
    Ok((OpenObject::Streamed(opened.read(range.clone())), bytes))
}

/// The next rows of an object, in the range; `None` at its end.
async fn next_rows(
    env: &Env,
    open: &mut OpenObject,
    range: &KeyRange,
) -> Result<Option<Vec<Entry>>, Fault> {
    let (reader, file, blocks, name) = match open {
        OpenObject::Streamed(stream) => return stream.next().await.transpose(),
        OpenObject::Whole {
            reader,
            file,
            blocks,
            name,
        } => (reader, file, blocks, name),
    };
    if blocks.start >= blocks.end {
        return Ok(None);
    }
    let run = blocks.start..blocks.end.min(blocks.start + BLOCKS);
    blocks.start = run.end;
    let (reader, file, range) = (Arc::clone(reader), file.clone(), range.clone());
    let decoded = env
        .blocking(move || decode(&reader, &file, run, &range))
        .await;
    decoded
        .map(Some)
        .map_err(|fault| fault.context(format_args!("object {name}")))
}

fn decode(
    reader: &SpanFileReader<Bytes>,
    file: &Bytes,
    run: std::ops::Range<usize>,
    range: &KeyRange,
) -> Result<Vec<Entry>, Fault> {
    let index = reader.index();
    let mut rows = Vec::new();
    for block in index.blocks().get(run).unwrap_or_default() {
        let bounds = usize::try_from(block.bytes.start)
            .ok()
            .zip(usize::try_from(block.bytes.end).ok())
            .filter(|(start, end)| start <= end && *end <= file.len());
        let Some((start, end)) = bounds else {
            return Err(Fault::new(
                ErrorCode::Corrupted,
                "a block ends after its file",
            ));
        };
        let mut entries = index.decode(block, file.slice(start..end))?;
        entries.retain(|entry| range.contains(&entry.key));
        rows.append(&mut entries);
    }
    Ok(rows)
}

impl Stage for MergeReader {
    /// Logical bytes after which the part, or the piece of one, is closed.
    type Input = u64;
    type Output = Part;
    const NAME: &'static str = "reader";

    async fn run(&mut self, limit: u64) -> Result<Part, Fault> {
        let mut builder = PartBuilder::new(limit);
        let mut read = 0;
        if let Some(row) = self.held.take() {
            builder.push(row);
        }
        loop {
            match self.merger.step()? {
                MergeStep::Need(layer) => read += self.feed(layer).await?,
                MergeStep::Done => return Ok(builder.finish(true, read)),
                MergeStep::Row(entry) => {
                    let row = into_row(entry);
                    if builder.is_full_for(&row) {
                        self.held = Some(row);
                        return Ok(builder.finish(false, read));
                    }
                    builder.push(row);
                }
            }
        }
    }
}

fn into_row(entry: Entry) -> Row {
    Row {
        key: entry.key,
        position: entry.position,
        change: match entry.change {
            Change::Put(value) => RowChange::Put(value),
            Change::Delete => RowChange::Delete,
        },
    }
}
