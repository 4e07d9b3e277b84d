//! A collection in memory, and what drives a source as jobs do.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use holdfast_postgres::member::PostgresMember;
use holdfast_postgres::member::restore::Restorer;
use holdfast_source::{
    Inlet, LoadProgress, LoggedBackup, LoggedRelation, LoggedRestore, LoggedSource, Outlet, Row,
    RowBatch, TupleBlock, TupleOutlet,
};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, HoldId, JobId, KeyRange, RelationId, RowCount, RowSum, Target,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::PART;

#[derive(Clone)]
enum Object {
    Tuples(Bytes),
    Rows(RowBatch),
    Blob(Bytes),
}

/// One layer of one member.
#[derive(Default, Clone)]
pub(crate) struct Layer {
    pub(crate) catalogs: Vec<Bytes>,
    objects: BTreeMap<String, Object>,
    by_relation: BTreeMap<RelationId, Vec<String>>,
}

/// A chain.
#[derive(Default, Clone)]
pub(crate) struct Store(pub(crate) Vec<Layer>);

/// What was written and does not count yet.
type Pending = Arc<Mutex<Vec<(String, Object)>>>;

/// Writes objects of rows, beside others.
struct Lane {
    /// Objects of the layer before.
    before: usize,
    pending: Pending,
    tuples: BytesMut,
}

impl Lane {
    fn pending(&self) -> MutexGuard<'_, Vec<(String, Object)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: &str, object: Object) -> String {
        let mut pending = self.pending();
        let number = self.before + pending.len();
        let name = format!("{number:06}.{kind}");
        pending.push((name.clone(), object));
        name
    }
}

#[async_trait]
impl TupleOutlet for Lane {
    async fn begin_tuples(&mut self, _columns: u16) -> Result<(), Fault> {
        assert!(self.tuples.is_empty());
        Ok(())
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.tuples.extend_from_slice(&rows);
        Ok(())
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        if self.tuples.is_empty() {
            return Ok(None);
        }
        let bytes = self.tuples.split().freeze();
        Ok(Some(self.put("hft", Object::Tuples(bytes))))
    }
}

/// Where a span writes to.
struct Span<'a> {
    layer: &'a mut Layer,
    relation: RelationId,
    lane: Lane,
    rows: RowBatch,
    last_blob: Option<Bytes>,
}

impl<'a> Span<'a> {
    fn new(layer: &'a mut Layer, relation: RelationId) -> Self {
        let lane = Lane {
            before: layer.objects.len(),
            pending: Pending::default(),
            tuples: BytesMut::new(),
        };
        Self {
            layer,
            relation,
            lane,
            rows: Vec::new(),
            last_blob: None,
        }
    }
}

#[async_trait]
impl TupleOutlet for Span<'_> {
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
impl Outlet for Span<'_> {
    fn lane(&mut self) -> Result<Box<dyn TupleOutlet>, Fault> {
        Ok(Box::new(Lane {
            before: self.lane.before,
            pending: Arc::clone(&self.lane.pending),
            tuples: BytesMut::new(),
        }))
    }

    async fn rows(&mut self, rows: RowBatch) -> Result<(), Fault> {
        self.rows.extend(rows);
        Ok(())
    }

    async fn end_rows(&mut self) -> Result<Option<String>, Fault> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let sorted = |pair: &[Row]| {
            (&pair[0].key, std::cmp::Reverse(pair[0].position))
                < (&pair[1].key, std::cmp::Reverse(pair[1].position))
        };
        assert!(self.rows.windows(2).all(sorted), "rows are out of order");
        let rows = std::mem::take(&mut self.rows);
        Ok(Some(self.lane.put("hfs", Object::Rows(rows))))
    }

    async fn catalog(&mut self, bytes: Bytes) -> Result<String, Fault> {
        self.last_blob = Some(bytes.clone());
        Ok(self.lane.put("hfc", Object::Blob(bytes)))
    }

    async fn advance(&mut self, _upto: Option<Bytes>, _read: ByteCount) -> Result<(), Fault> {
        let pending: Vec<_> = self.lane.pending().drain(..).collect();
        self.lane.before += pending.len();
        for (name, object) in pending {
            let names = self.layer.by_relation.entry(self.relation).or_default();
            names.push(name.clone());
            self.layer.objects.insert(name, object);
        }
        Ok(())
    }
}

/// Cuts tuples into rows.
fn cut(bytes: &Bytes) -> Vec<Range<usize>> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        let columns = i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        at += 2;
        for _ in 0..columns {
            let length = i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        rows.push(start..at);
    }
    rows
}

fn missing(name: &str) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("no object {name}"))
}

#[async_trait]
impl Inlet for Store {
    fn layers(&self) -> usize {
        self.0.len()
    }

    async fn catalogs(&self, layer: usize) -> Result<Vec<Bytes>, Fault> {
        Ok(self.0[layer].catalogs.clone())
    }

    async fn blob(&self, layer: usize, name: &str) -> Result<Bytes, Fault> {
        match self.0[layer].objects.get(name) {
            Some(Object::Blob(bytes)) => Ok(bytes.clone()),
            _ => Err(missing(name)),
        }
    }

    async fn objects(&self, layer: usize, relation: RelationId) -> Result<Vec<String>, Fault> {
        let names = self.0[layer].by_relation.get(&relation);
        Ok(names.cloned().unwrap_or_default())
    }

    fn tuples(&self, layer: usize, name: &str) -> BoxStream<'static, Result<TupleBlock, Fault>> {
        let Some(Object::Tuples(bytes)) = self.0[layer].objects.get(name).cloned() else {
            return stream::iter([Err(missing(name))]).boxed();
        };
        let rows = cut(&bytes);
        let blocks: Vec<_> = rows
            .chunks(50)
            .map(|rows| {
                Ok(TupleBlock {
                    bytes: bytes.clone(),
                    rows: rows.to_vec(),
                })
            })
            .collect();
        stream::iter(blocks).boxed()
    }

    fn rows(
        &self,
        layer: usize,
        names: &[String],
        range: KeyRange,
    ) -> BoxStream<'static, Result<RowBatch, Fault>> {
        let mut all = Vec::new();
        for name in names {
            match self.0[layer].objects.get(name) {
                Some(Object::Rows(rows)) => {
                    all.extend(rows.iter().filter(|row| range.contains(&row.key)).cloned());
                }
                _ => return stream::iter([Err(missing(name))]).boxed(),
            }
        }
        all.sort_by(|a, b| (&a.key, b.position).cmp(&(&b.key, a.position)));
        let batches: Vec<_> = all.chunks(40).map(|rows| Ok(rows.to_vec())).collect();
        stream::iter(batches).boxed()
    }
}

impl Store {
    /// Takes a backup onto the chain; `during` runs before each span.
    pub(crate) async fn backup(
        &mut self,
        member: &PostgresMember,
        hold: u64,
        target: Target,
        history: bool,
        mut during: impl FnMut(usize),
    ) {
        let backup = LoggedBackup {
            job: JobId(hold * 100 + self.0.len() as u64),
            hold: HoldId(hold),
            target,
            partial: false,
            parent: self
                .0
                .last()
                .map_or_else(Vec::new, |it| it.catalogs.clone()),
            history,
            part_size: PART,
            notes: holdfast_source::Notes::default(),
            steps: holdfast_source::Steps::default(),
        };
        let mut layer = Layer::default();
        let relations = member.begin(&backup).await.expect("a plan");
        let mut number = 0;
        for planned in relations.iter().filter(|it| !it.settles) {
            for (range, _) in &planned.spans {
                during(number);
                number += 1;
                let mut outlet = Span::new(&mut layer, planned.relation.id);
                member
                    .read(&backup, &planned.relation, range.clone(), &mut outlet)
                    .await
                    .expect("a span is read");
            }
        }
        during(number);
        for settling in relations.iter().filter(|it| it.settles) {
            let planned: Vec<_> = relations
                .iter()
                .filter(|it| {
                    !it.settles && it.relation.name.database == settling.relation.name.database
                })
                .map(|it| it.relation.clone())
                .collect();
            let mut outlet = Span::new(&mut layer, settling.relation.id);
            member
                .settle(&backup, &settling.relation, &planned, &mut outlet)
                .await
                .expect("a database is settled");
            outlet.advance(None, ByteCount(0)).await.expect("in memory");
            let catalog = outlet.last_blob.take().expect("a catalog");
            layer.catalogs.push(catalog);
        }
        self.0.push(layer);
    }

    /// Restores the chain.
    pub(crate) async fn restore(
        &self,
        restorer: &Restorer,
        restore: &LoggedRestore,
    ) -> Result<RowSum, Fault> {
        let mut progress = Counted::default();
        let loaded = self.load(restorer, restore, &mut progress).await?;
        let sum = restorer.finish(restore, self).await?;
        assert_eq!(loaded, sum.rows.0);
        Ok(sum)
    }

    /// Loads all rows, the last spans first; gives how many.
    pub(crate) async fn load(
        &self,
        restorer: &Restorer,
        restore: &LoggedRestore,
        progress: &mut Counted,
    ) -> Result<u64, Fault> {
        let relations: Vec<LoggedRelation> = restorer.begin(restore, self).await?;
        for loaded in relations.iter().rev() {
            let bounds: Vec<_> = loaded.spans.iter().map(|(range, _)| range).collect();
            assert!(bounds.first().is_none_or(|range| range.start.is_empty()));
            assert!(bounds.last().is_none_or(|range| range.end.is_empty()));
            assert!(bounds.windows(2).all(|pair| pair[0].end == pair[1].start));
            for range in bounds.into_iter().rev() {
                progress.is_over = false;
                let range = range.clone();
                restorer
                    .load(restore, &loaded.relation, range, self, progress)
                    .await?;
                assert!(progress.is_over);
            }
        }
        Ok(progress.rows)
    }
}

/// Counts what was loaded, and stops a load at a step.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) rows: u64,
    pub(crate) steps: u64,
    pub(crate) stop_at: Option<u64>,
    pub(crate) is_over: bool,
    pub(crate) last: Option<Bytes>,
}

#[async_trait]
impl LoadProgress for Counted {
    async fn advance(
        &mut self,
        upto: Option<Bytes>,
        _read: ByteCount,
        _written: ByteCount,
        rows: RowCount,
    ) -> Result<(), Fault> {
        self.rows += rows.0;
        self.steps += 1;
        match upto {
            None => {
                self.is_over = true;
                self.last = None;
            }
            Some(upto) => {
                assert!(self.last.as_ref().is_none_or(|last| *last < upto));
                self.last = Some(upto);
            }
        }
        if self.stop_at == Some(self.steps) {
            return Err(Fault::new(ErrorCode::Cancelled, "stopped by the test"));
        }
        Ok(())
    }
}

impl Store {
    /// Loses the last row of each object of a layer's relations, as damage would that no digest tells of.
    pub(crate) fn lose_rows(&mut self, layer: usize) {
        for object in self.0[layer].objects.values_mut() {
            if let Object::Tuples(bytes) = object {
                let last = cut(bytes).last().map_or(0, |row| row.start);
                *bytes = bytes.slice(..last);
            }
        }
    }
}
