//! A source in memory that shows what was asked of it, and stumbles where a test wants it to.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use holdfast_source::{
    Capabilities, Change, Fingerprint, LoggedSource, ReadRequest, RestoreTable, Row, RowBatch,
    RowStream, Source, SourceFactory,
};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Hlc, HoldId, JobId, KeyRange, MemberRecord, Position, Relation,
    RelationId, RowSum, SourceKind, TableName, Target, Window,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{FakeLog, row_key};

/// Rows in a batch.
const BATCH: usize = 10;

type Versions = BTreeMap<Bytes, BTreeMap<Position, Option<Bytes>>>;

#[derive(Debug, Default)]
struct State {
    relations: BTreeMap<RelationId, (Relation, Versions)>,
    reads: Vec<ReadRequest>,
    batches: u64,
    loads: u64,
    holds: BTreeMap<HoldId, Position>,
    prepared: BTreeMap<TableName, BTreeMap<Bytes, Bytes>>,
    published: bool,
    panics: BTreeSet<RelationId>,
}

#[derive(Debug)]
pub(crate) struct FakeSource {
    state: Mutex<State>,
    /// One permit is used up by each batch.
    pub(crate) permits: Semaphore,
}

impl Default for FakeSource {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FakeFactory {
    pub(crate) source: Arc<FakeSource>,
    pub(crate) log: Arc<FakeLog>,
}

#[derive(Debug)]
struct Client(Arc<FakeSource>);

impl SourceFactory for FakeFactory {
    fn member(&self, _: SourceKind, _: &MemberRecord) -> Result<Arc<dyn Source>, Fault> {
        Ok(Arc::new(Client(Arc::clone(&self.source))))
    }

    fn logged(&self, _: SourceKind, _: &MemberRecord) -> Result<Arc<dyn LoggedSource>, Fault> {
        let log: Arc<dyn LoggedSource> = Arc::<FakeLog>::clone(&self.log);
        Ok(log)
    }
}

impl FakeSource {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the lock")
    }

    pub(crate) fn create(&self, relation: Relation) {
        let state = &mut self.state().relations;
        state.insert(relation.id, (relation, Versions::new()));
    }

    fn write(&self, id: RelationId, number: u32, at: Hlc, value: Option<Bytes>) {
        let mut state = self.state();
        let (_, rows) = state.relations.get_mut(&id).expect("a relation");
        let versions = rows.entry(row_key(number)).or_default();
        versions.insert(at.into(), value);
    }

    /// Writes a row of about 100 bytes.
    pub(crate) fn put(&self, id: RelationId, number: u32, at: Hlc, salt: u8) {
        let mut value = vec![salt; 92];
        value.extend(number.to_be_bytes());
        self.write(id, number, at, Some(value.into()));
    }

    pub(crate) fn delete(&self, id: RelationId, number: u32, at: Hlc) {
        self.write(id, number, at, None);
    }

    /// From now on a read of this relation panics.
    pub(crate) fn panic_on(&self, id: RelationId) {
        self.state().panics.insert(id);
    }

    /// Batches read and written.
    pub(crate) fn activity(&self) -> (u64, u64) {
        let state = self.state();
        (state.batches, state.loads)
    }

    pub(crate) fn reads(&self) -> Vec<ReadRequest> {
        self.state().reads.clone()
    }

    pub(crate) fn holds(&self) -> BTreeMap<HoldId, Position> {
        self.state().holds.clone()
    }

    /// What restores made, and whether it was published.
    pub(crate) fn restored(&self) -> (BTreeMap<TableName, BTreeMap<Bytes, Bytes>>, bool) {
        let state = self.state();
        (state.prepared.clone(), state.published)
    }

    /// The rows of a relation that are visible at a position.
    pub(crate) fn visible(&self, id: RelationId, at: Hlc) -> BTreeMap<Bytes, Bytes> {
        let window = Window {
            after: None,
            upto: at.into(),
            history: false,
        };
        self.rows(id, &KeyRange::all(), window)
            .into_iter()
            .filter_map(|row| match row.change {
                Change::Put(value) => Some((row.key, value)),
                Change::Delete => None,
            })
            .collect()
    }

    fn rows(&self, id: RelationId, range: &KeyRange, window: Window) -> Vec<Row> {
        let state = self.state();
        let (_, rows) = state.relations.get(&id).expect("a relation");
        let mut found = Vec::new();
        for (key, versions) in rows.iter().filter(|(key, _)| range.contains(key)) {
            let mut wanted: Vec<(&Position, &Option<Bytes>)> = versions
                .iter()
                .rev()
                .filter(|(at, _)| {
                    **at <= window.upto && window.after.is_none_or(|after| after < **at)
                })
                .collect();
            if !window.history {
                wanted.truncate(1);
            }
            if window.after.is_none() {
                wanted.retain(|(_, value)| value.is_some());
            }
            found.extend(wanted.into_iter().map(|(at, value)| Row {
                key: key.clone(),
                position: *at,
                change: value.clone().map_or(Change::Delete, Change::Put),
            }));
        }
        found
    }
}

/// Cuts rows into batches without splitting the versions of a key.
fn batches(rows: Vec<Row>) -> Vec<RowBatch> {
    let mut batches: Vec<RowBatch> = Vec::new();
    for row in rows {
        match batches.last_mut() {
            Some(batch)
                if batch.len() < BATCH || batch.last().is_some_and(|last| last.key == row.key) =>
            {
                batch.push(row);
            }
            _ => batches.push(vec![row]),
        }
    }
    batches
}

#[async_trait]
impl Source for Client {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            time_travel: true,
            changes: true,
            restore: true,
        }
    }

    async fn position(&self, at_least: Position) -> Result<Position, Fault> {
        Ok(at_least)
    }

    async fn hold(&self, hold: HoldId, at: Position) -> Result<(), Fault> {
        self.0.state().holds.insert(hold, at);
        Ok(())
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        self.0.state().holds.remove(&hold);
        Ok(())
    }

    async fn describe(&self, target: &Target, at: Position) -> Result<Vec<Relation>, Fault> {
        let state = self.0.state();
        let relations = state.relations.values().map(|(relation, _)| relation);
        Ok(relations
            .filter(|relation| target.covers(&relation.name) && relation.created_at <= at)
            .cloned()
            .collect())
    }

    async fn databases(&self, _: Position) -> Result<Vec<String>, Fault> {
        Ok(vec!["app".to_owned()])
    }

    async fn plan(
        &self,
        relation: RelationId,
        window: Window,
        target_bytes: ByteCount,
    ) -> Result<Vec<(KeyRange, ByteCount)>, Fault> {
        let rows = self.0.rows(relation, &KeyRange::all(), window);
        let mut ranges = vec![(KeyRange::all(), ByteCount(0))];
        for row in rows {
            let (range, weight) = ranges.last_mut().expect("never empty");
            if *weight >= target_bytes {
                range.end = row.key.clone();
                let range = KeyRange {
                    start: row.key.clone(),
                    end: Bytes::new(),
                };
                ranges.push((range, ByteCount(row.logical_len() as u64)));
            } else {
                *weight += ByteCount(row.logical_len() as u64);
            }
        }
        Ok(ranges)
    }

    async fn read(&self, request: ReadRequest) -> Result<RowStream, Fault> {
        let source = Arc::clone(&self.0);
        let panics = {
            let mut state = source.state();
            state.reads.push(request.clone());
            state.panics.contains(&request.relation)
        };
        let rows = source.rows(request.relation, &request.range, request.window);
        let stream = futures::stream::iter(batches(rows)).then(move |batch| {
            let source = Arc::clone(&source);
            async move {
                assert!(!panics, "as the test wishes");
                let permit = source.permits.acquire().await.expect("never closed");
                permit.forget();
                source.state().batches += 1;
                Ok(batch)
            }
        });
        Ok(stream.boxed())
    }

    async fn prepare_restore(
        &self,
        _: JobId,
        tables: &[RestoreTable],
        _: bool,
    ) -> Result<(), Fault> {
        let mut state = self.0.state();
        for table in tables {
            state.prepared.entry(table.name.clone()).or_default();
        }
        Ok(())
    }

    async fn load(&self, _: JobId, table: &TableName, rows: RowBatch) -> Result<(), Fault> {
        let mut state = self.0.state();
        state.loads += 1;
        let Some(prepared) = state.prepared.get_mut(table) else {
            return Err(Fault::new(ErrorCode::NotFound, "no such table"));
        };
        for row in rows {
            let Change::Put(value) = row.change else {
                panic!("a restore loads a deletion");
            };
            prepared.insert(row.key, value);
        }
        Ok(())
    }

    async fn fingerprint(
        &self,
        _: Option<JobId>,
        table: &TableName,
        _: KeyRange,
        _: Option<Position>,
    ) -> Result<Fingerprint, Fault> {
        let mut sum = RowSum::default();
        for (key, value) in &self.0.state().prepared[table] {
            sum.add(key, value);
        }
        Ok(Fingerprint {
            rows: sum.rows,
            bytes: sum.bytes,
            digest: sum.digest,
        })
    }

    async fn publish(&self, _: JobId) -> Result<(), Fault> {
        self.0.state().published = true;
        Ok(())
    }

    async fn discard_restore(&self, _: JobId) -> Result<(), Fault> {
        let mut state = self.0.state();
        state.prepared.clear();
        state.published = false;
        Ok(())
    }
}
