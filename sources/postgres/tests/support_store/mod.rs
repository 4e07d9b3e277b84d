//! Layers in memory: what a job and a collection are to a source.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use holdfast_source::{Inlet, Outlet, Row, RowBatch, TupleBlock, TupleOutlet};
use holdfast_types::{ByteCount, ErrorCode, Fault, KeyRange, RelationId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A layer of one member.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// Tuple objects: columns, blocks.
    pub(crate) tuples: BTreeMap<String, (u16, Vec<Bytes>)>,
    /// Row objects.
    pub(crate) rows: BTreeMap<String, Vec<Row>>,
    /// Objects in the source's own terms.
    pub(crate) blobs: BTreeMap<String, Bytes>,
    /// Objects that count, by relation and the start of their span.
    pub(crate) spans: BTreeMap<(RelationId, Bytes), Vec<String>>,
    /// The last own object of each settling span, when it is done.
    pub(crate) catalogs: BTreeMap<RelationId, Bytes>,
    /// How far each span is; `None` when it is done.
    pub(crate) progress: BTreeMap<(RelationId, Bytes), Option<Bytes>>,
    names: u64,
}

/// A layer that is written and read.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLayer(Arc<Mutex<Layer>>);

impl SharedLayer {
    /// The layer.
    pub(crate) fn get(&self) -> MutexGuard<'_, Layer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a span of it writes to. It fails at the given call of `advance`, counted from one, as a worker that dies does.
    pub(crate) fn span(&self, relation: RelationId, start: Bytes, dies_at: Option<usize>) -> Span {
        let lane = Lane {
            layer: self.clone(),
            pending: Arc::default(),
            tuples: None,
        };
        Span {
            lane,
            relation,
            start,
            rows: Vec::new(),
            last_blob: None,
            advances: 0,
            dies_at,
        }
    }
}

/// Writes objects of rows of a span, beside others.
#[derive(Debug)]
struct Lane {
    layer: SharedLayer,
    pending: Arc<Mutex<Vec<String>>>,
    tuples: Option<(u16, Vec<Bytes>)>,
}

impl Lane {
    fn pending(&self) -> MutexGuard<'_, Vec<String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, suffix: &str) -> String {
        let mut layer = self.layer.get();
        layer.names += 1;
        let name = format!("{:08}{suffix}", layer.names);
        drop(layer);
        self.pending().push(name.clone());
        name
    }
}

/// A span that is being written.
#[derive(Debug)]
pub(crate) struct Span {
    lane: Lane,
    relation: RelationId,
    start: Bytes,
    rows: Vec<Row>,
    last_blob: Option<Bytes>,
    advances: usize,
    dies_at: Option<usize>,
}

impl Span {
    /// The settling span is done.
    pub(crate) fn settled(self) {
        let blob = self.last_blob.expect("a catalog");
        self.lane.layer.get().catalogs.insert(self.relation, blob);
    }
}

#[async_trait]
impl TupleOutlet for Lane {
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault> {
        assert!(self.tuples.is_none(), "the object before has ended");
        self.tuples = Some((columns, Vec::new()));
        Ok(())
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        let (columns, blocks) = self.tuples.as_mut().expect("an object was begun");
        assert!(!whole_rows(&rows, *columns).is_empty());
        blocks.push(rows);
        Ok(())
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        let object = self.tuples.take().expect("an object was begun");
        if object.1.is_empty() {
            return Ok(None);
        }
        let name = self.name(".hft");
        self.layer.get().tuples.insert(name.clone(), object);
        Ok(Some(name))
    }
}

#[async_trait]
impl TupleOutlet for Span {
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault> {
        self.lane.begin_tuples(columns).await
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.lane.tuples(rows).await
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        self.lane.end_tuples().await
    }
}

#[async_trait]
impl Outlet for Span {
    fn lane(&mut self) -> Result<Box<dyn TupleOutlet>, Fault> {
        Ok(Box::new(Lane {
            layer: self.lane.layer.clone(),
            pending: Arc::clone(&self.lane.pending),
            tuples: None,
        }))
    }

    async fn rows(&mut self, rows: RowBatch) -> Result<(), Fault> {
        for row in rows {
            if let Some(last) = self.rows.last() {
                let is_sorted =
                    last.key < row.key || (last.key == row.key && last.position > row.position);
                assert!(is_sorted, "rows are sorted");
            }
            self.rows.push(row);
        }
        Ok(())
    }

    async fn end_rows(&mut self) -> Result<Option<String>, Fault> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let name = self.lane.name(".hfs");
        self.lane.layer.get().rows.insert(name.clone(), rows);
        Ok(Some(name))
    }

    async fn catalog(&mut self, bytes: Bytes) -> Result<String, Fault> {
        let name = self.lane.name(".hfc");
        self.last_blob = Some(bytes.clone());
        self.lane.layer.get().blobs.insert(name.clone(), bytes);
        Ok(name)
    }

    async fn advance(&mut self, upto: Option<Bytes>, _: ByteCount) -> Result<(), Fault> {
        self.advances += 1;
        if self.dies_at == Some(self.advances) {
            return Err(Fault::new(ErrorCode::Unavailable, "the worker dies here"));
        }
        assert!(
            self.lane.tuples.is_none() && self.rows.is_empty(),
            "all ended"
        );
        let mut layer = self.lane.layer.get();
        let span = (self.relation, self.start.clone());
        let pending = std::mem::take(&mut *self.lane.pending());
        layer.spans.entry(span.clone()).or_default().extend(pending);
        layer.progress.insert(span, upto);
        Ok(())
    }
}

/// Where the rows of a block are.
pub(crate) fn whole_rows(bytes: &[u8], columns: u16) -> Vec<std::ops::Range<usize>> {
    let mut rows = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let count: [u8; 2] = bytes[at..at + 2].try_into().expect("two bytes");
        assert_eq!(u16::from_be_bytes(count), columns);
        at += 2;
        for _ in 0..columns {
            let length: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
            let length = i32::from_be_bytes(length);
            at += 4 + usize::try_from(length.max(0)).expect("not negative");
        }
        assert!(at <= bytes.len(), "whole rows");
        rows.push(start..at);
    }
    rows
}

/// A chain of layers, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain(pub(crate) Vec<SharedLayer>);

#[async_trait]
impl Inlet for Chain {
    fn layers(&self) -> usize {
        self.0.len()
    }

    async fn catalogs(&self, layer: usize) -> Result<Vec<Bytes>, Fault> {
        Ok(self.0[layer].get().catalogs.values().cloned().collect())
    }

    async fn blob(&self, layer: usize, name: &str) -> Result<Bytes, Fault> {
        let blob = self.0[layer].get().blobs.get(name).cloned();
        blob.ok_or_else(|| Fault::new(ErrorCode::NotFound, "there is no such object"))
    }

    async fn objects(&self, layer: usize, relation: RelationId) -> Result<Vec<String>, Fault> {
        let layer = self.0[layer].get();
        let own = layer.spans.range((relation, Bytes::new())..);
        let own = own.take_while(|((of, _), _)| *of == relation);
        Ok(own.flat_map(|(_, names)| names.clone()).collect())
    }

    fn tuples(&self, layer: usize, name: &str) -> BoxStream<'static, Result<TupleBlock, Fault>> {
        let (columns, blocks) = self.0[layer]
            .get()
            .tuples
            .get(name)
            .expect("it is there")
            .clone();
        let blocks = blocks.into_iter().map(move |bytes| {
            Ok(TupleBlock {
                rows: whole_rows(&bytes, columns),
                bytes,
            })
        });
        stream::iter(blocks).boxed()
    }

    fn rows(
        &self,
        layer: usize,
        names: &[String],
        range: KeyRange,
    ) -> BoxStream<'static, Result<RowBatch, Fault>> {
        let layer = self.0[layer].get();
        let mut rows: Vec<Row> = names
            .iter()
            .flat_map(|name| layer.rows.get(name).expect("it is there"))
            .filter(|row| range.contains(&row.key))
            .cloned()
            .collect();
        rows.sort_by(|a, b| (&a.key, b.position).cmp(&(&b.key, a.position)));
        let batches: Vec<_> = rows.chunks(100).map(|batch| Ok(batch.to_vec())).collect();
        stream::iter(batches).boxed()
    }
}
