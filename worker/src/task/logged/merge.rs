//! Merging objects of row versions: all of them, by key, the newest first.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use holdfast_collection::CollectionStore;
use holdfast_format::{Change, Entry};
use holdfast_source::{Change as RowChange, Row, RowBatch};
use holdfast_types::{ErrorCode, Fault, KeyRange, LayerPath, ObjectRef};
use std::cmp::Ordering;
use std::collections::VecDeque;

use super::listing::Place;
use crate::agent::Gate;
use crate::bounds::{KEYS_AHEAD, MERGE_BATCH, MERGED_LANES};
use crate::task::layers::JobLayers;

/// Objects that do not overlap, in the order of their keys: one of them is open at a time.
struct Lane {
    objects: VecDeque<ObjectRef>,
    open: Option<BoxStream<'static, Result<Vec<Entry>, Fault>>>,
    entries: VecDeque<Entry>,
}

/// See the module.
pub(super) struct Merge {
    store: CollectionStore,
    path: LayerPath,
    range: KeyRange,
    lanes: Vec<Lane>,
    gate: Gate,
}

impl Merge {
    /// Looks at every object's first and last key, and arranges them.
    pub(super) async fn open(
        layers: &JobLayers,
        place: Place,
        path: LayerPath,
        objects: Vec<ObjectRef>,
        range: KeyRange,
        gate: Gate,
    ) -> Result<Self, Fault> {
        let looking = stream::iter(objects).map(|object| {
            let (path, gate) = (&path, &gate);
            async move {
                gate.check()?;
                let keys = layers.keys_of(place, path, &object).await?;
                Ok::<_, Fault>((keys, object))
            }
        });
        let mut looking = looking.buffered(KEYS_AHEAD);
        let mut keyed = Vec::new();
        while let Some((keys, object)) = looking.next().await.transpose()? {
            if let Some((first, last)) = keys {
                let before = !range.end.is_empty() && first >= range.end;
                if !before && last >= range.start {
                    keyed.push((first, last, object));
                }
            }
        }
        drop(looking);
        keyed.sort_by(|left, right| left.0.cmp(&right.0));
        let mut lanes: Vec<(bytes::Bytes, Lane)> = Vec::new();
        for (first, last, object) in keyed {
            match lanes.iter_mut().find(|(end, _)| *end < first) {
                Some((end, lane)) => {
                    *end = last;
                    lane.objects.push_back(object);
                }
                None => lanes.push((
                    last,
                    Lane {
                        objects: VecDeque::from([object]),
                        open: None,
                        entries: VecDeque::new(),
                    },
                )),
            }
        }
        if lanes.len() > MERGED_LANES {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "{} objects of layer {path} overlap, and at most {MERGED_LANES} can be merged",
                    lanes.len()
                ),
            ));
        }
        Ok(Self {
            store: layers.store.of_member(&path, place.member).await?,
            path,
            range,
            lanes: lanes.into_iter().map(|(_, lane)| lane).collect(),
            gate,
        })
    }

    /// All of it. The versions of a key may be in more than one batch: there is no limit to how many a key has.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<RowBatch, Fault>> {
        stream::try_unfold(self, |mut merge| async move {
            let batch = merge.batch().await?;
            Ok((!batch.is_empty()).then_some((batch, merge)))
        })
        .boxed()
    }

    async fn batch(&mut self) -> Result<RowBatch, Fault> {
        let mut rows = RowBatch::new();
        let mut length = 0;
        while length < MERGE_BATCH {
            let Some(entry) = self.next().await? else {
                break;
            };
            let row = into_row(entry);
            length += row.logical_len() as u64;
            rows.push(row);
        }
        Ok(rows)
    }

    /// The first entry of all.
    async fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let mut first: Option<(usize, &Entry)> = None;
        for at in 0..self.lanes.len() {
            let (store, path, range) = (&self.store, &self.path, &self.range);
            if let Some(lane) = self.lanes.get_mut(at) {
                lane.fill(store, path, range, &self.gate).await?;
            }
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            if let Some(entry) = lane.entries.front()
                && first.is_none_or(|(_, least)| entry.file_order(least) == Ordering::Less)
            {
                first = Some((at, entry));
            }
        }
        let at = first.map(|(at, _)| at);
        let lane = at.and_then(|at| self.lanes.get_mut(at));
        Ok(lane.and_then(|lane| lane.entries.pop_front()))
    }
}

impl Lane {
    /// Reads on if nothing is there.
    async fn fill(
        &mut self,
        store: &CollectionStore,
        path: &LayerPath,
        range: &KeyRange,
        gate: &Gate,
    ) -> Result<(), Fault> {
        while self.entries.is_empty() {
            gate.check()?;
            if let Some(open) = &mut self.open {
                match open.next().await.transpose()? {
                    Some(entries) => self.entries = entries.into(),
                    None => self.open = None,
                }
                continue;
            }
            let Some(object) = self.objects.pop_front() else {
                return Ok(());
            };
            let opened = store.open_span(path, &object).await?;
            self.open = Some(opened.read(range.clone()));
        }
        Ok(())
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
