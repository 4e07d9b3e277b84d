//! Where a source puts what it has read.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_collection::{CollectionStore, DataName};
use holdfast_env::Env;
use holdfast_format::{
    CatalogFile, SpanFileOptions, SpanFileWriter, TupleFileOptions, TupleFileWriter,
};
use holdfast_proto::SpanWork;
use holdfast_source::{Change, Notes, Outlet, Row, RowBatch};
use holdfast_types::{
    BackupSpec, ByteCount, ErrorCode, Fault, KeyRange, LayerPath, ObjectKind, ObjectRef, Relation,
    RowCount, SettledDatabase,
};
use std::sync::Arc;
use tokio::sync::Mutex;

use super::draft::Draft;
use super::misused;
use super::progress::Checkpoints;
use crate::bounds::{SETTLED_BYTES, STORE_DEADLINE};
use crate::task::backup_span::note;
use crate::task::frontier::Progress;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

/// The level at which catalogs are compressed: they are small, and mostly text.
const CATALOG_LEVEL: i32 = 3;

/// See the module. One span's.
pub(super) struct SpanOutlet {
    ticket: Ticket,
    env: Env,
    store: CollectionStore,
    path: LayerPath,
    checkpoints: Checkpoints,
    /// Whether the span is one step, whose only checkpoint comes after it.
    settles: bool,
    sequence: u32,
    tuples: Option<Draft<TupleFileWriter>>,
    rows: Option<Draft<SpanFileWriter>>,
    /// What the next checkpoint brings.
    pending: Progress,
    /// Held while something is written to the collection.
    writing: Arc<Mutex<()>>,
}

impl SpanOutlet {
    /// Of a span whose bounds, from the frontier on, are `rest` in clear.
    pub(super) fn new(
        ticket: &Ticket,
        store: CollectionStore,
        spec: &BackupSpec,
        span: &SpanWork,
        rest: KeyRange,
        doing: &str,
        notes: &Notes,
    ) -> Self {
        Self {
            ticket: ticket.clone(),
            env: ticket.shared.env.clone(),
            store,
            path: spec.path.clone(),
            checkpoints: Checkpoints::of(ticket, span, rest, doing, notes),
            settles: span.settles,
            sequence: 0,
            tuples: None,
            rows: None,
            pending: Progress::default(),
            writing: Arc::default(),
        }
    }

    /// What is held while something is written to the collection.
    pub(super) fn writing(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.writing)
    }

    fn name(&mut self, kind: ObjectKind) -> Result<DataName, Fault> {
        let lease = self.ticket.lease();
        let mut name = DataName::new(lease.task, lease.epoch, self.sequence);
        name.kind = kind;
        self.sequence = self.sequence.checked_add(1).ok_or_else(|| {
            Fault::new(
                ErrorCode::ResourceExhausted,
                "a span has more parts than objects can be numbered",
            )
            .hint("use a larger part size")
        })?;
        Ok(name)
    }

    /// Waits for a write. The task is not stopped in the middle of it.
    async fn put(
        &mut self,
        name: DataName,
        putting: impl Future<Output = Result<ObjectRef, Fault>> + Send,
    ) -> Result<String, Fault> {
        let writing = self.writing();
        let _held = writing.lock().await;
        let doing = format!("uploading {name}");
        let put = self.ticket.write(&doing, STORE_DEADLINE, putting).await;
        let object = put.map_err(|halt| self.checkpoints.halted(halt))?;
        note(&self.ticket, 0, object.length);
        self.pending.written += object.length;
        self.pending.rows += object.rows;
        let name = object.name.clone();
        self.pending.objects.push(object);
        Ok(name)
    }

    /// The last checkpoint of a settling span.
    pub(super) async fn settle(&mut self, found: SettledDatabase) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.commit_settled(found).await;
        self.checkpoints.leave(outcome)
    }

    async fn commit_settled(&mut self, found: SettledDatabase) -> Result<(), Fault> {
        self.all_ended()?;
        let last = self.pending.objects.last().map(ObjectRef::kind);
        if last != Some(ObjectKind::Catalog) {
            return Err(misused(
                "has settled a database without a catalog at the end",
            ));
        }
        let settled = SettledDatabase {
            end: found.end,
            // The catalog has the definitions; the ledger is no place for them.
            relations: found
                .relations
                .into_iter()
                .map(|relation| Relation {
                    definition: Vec::new(),
                    ..relation
                })
                .collect(),
            keeps_history: found.keeps_history,
        };
        if holdfast_proto::to_json(&settled).len() > SETTLED_BYTES {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "a database of {} relations is more than a layer can hold",
                    settled.relations.len()
                ),
            )
            .hint("back up the tables that matter by name"));
        }
        let mut progress = std::mem::take(&mut self.pending);
        progress.settled = Some(settled);
        self.checkpoints.commit(None, progress).await
    }

    /// How the span ended.
    pub(super) fn conclude(self, outcome: Result<(), Halt>) -> Result<(), Halt> {
        self.checkpoints.conclude(outcome)
    }

    fn all_ended(&self) -> Result<(), Fault> {
        match self.tuples.is_some() || self.rows.is_some() {
            true => Err(misused("has not ended an object of what it says is done")),
            false => Ok(()),
        }
    }

    async fn add_tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        let Some(draft) = &mut self.tuples else {
            return Err(misused("writes rows without having begun an object"));
        };
        self.ticket.activity.read(rows.len() as u64);
        let packing = move |writer: &mut TupleFileWriter| match writer.push(&rows)? {
            taken if taken == rows.len() => Ok(writer.take()),
            _ => Err(misused("cuts a row in two")),
        };
        draft.begin(packing).await
    }

    async fn put_tuples(&mut self) -> Result<Option<String>, Fault> {
        let Some(draft) = self.tuples.take() else {
            return Err(misused("ends an object that it has not begun"));
        };
        let finish = |writer: TupleFileWriter| match writer.rows() {
            RowCount(0) => Ok(None),
            _ => writer.finish().map(Some),
        };
        let Some((chunks, summary)) = draft.finish(finish).await? else {
            return Ok(None);
        };
        let name = self.name(ObjectKind::Tuples)?;
        let (store, path) = (self.store.clone(), self.path.clone());
        let putting = async move { store.put_tuples(&path, name, chunks, &summary).await };
        self.put(name, putting).await.map(Some)
    }

    async fn add_rows(&mut self, rows: RowBatch) -> Result<(), Fault> {
        let draft = match &mut self.rows {
            Some(draft) => draft,
            none => {
                let writer = SpanFileWriter::new(SpanFileOptions::default())?;
                none.insert(Draft::new(&self.env, writer))
            }
        };
        let length: usize = rows.iter().map(Row::logical_len).sum();
        self.ticket.activity.read(length as u64);
        let packing = move |writer: &mut SpanFileWriter| {
            for row in rows {
                let value = match &row.change {
                    Change::Put(value) => Some(value.as_ref()),
                    Change::Delete => None,
                };
                writer.push_row(&row.key, row.position, value)?;
            }
            Ok(writer.take())
        };
        draft.begin(packing).await
    }

    async fn put_rows(&mut self) -> Result<Option<String>, Fault> {
        let Some(draft) = self.rows.take() else {
            return Ok(None);
        };
        let finish = |writer: SpanFileWriter| match writer.rows() {
            RowCount(0) => Ok(None),
            _ => writer.finish().map(Some),
        };
        let Some((chunks, summary)) = draft.finish(finish).await? else {
            return Ok(None);
        };
        let name = self.name(ObjectKind::Rows)?;
        let (store, path) = (self.store.clone(), self.path.clone());
        let putting = async move { store.put_data(&path, name, chunks, &summary).await };
        self.put(name, putting).await.map(Some)
    }

    async fn put_catalog(&mut self, bytes: Bytes) -> Result<String, Fault> {
        let packing = move || CatalogFile::encode(&bytes, Some(CATALOG_LEVEL));
        let file = self.env.blocking(packing).await?;
        let name = self.name(ObjectKind::Catalog)?;
        let (store, path) = (self.store.clone(), self.path.clone());
        let putting = async move { store.put_catalog(&path, name, file).await };
        self.put(name, putting).await
    }

    async fn commit(&mut self, upto: Option<Bytes>, read: ByteCount) -> Result<(), Fault> {
        note(&self.ticket, read.0, ByteCount(0));
        self.pending.read += read;
        self.all_ended()?;
        if self.settles {
            return match upto {
                None => Ok(()),
                Some(_) => Err(misused("settles a database in more than one step")),
            };
        }
        let progress = std::mem::take(&mut self.pending);
        self.checkpoints.commit(upto, progress).await
    }
}

#[async_trait]
impl Outlet for SpanOutlet {
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = match &self.tuples {
            Some(_) => Err(misused("begins an object before it has ended the last one")),
            None => TupleFileWriter::new(columns, TupleFileOptions::default())
                .map(|writer| self.tuples = Some(Draft::new(&self.env, writer))),
        };
        self.checkpoints.leave(outcome)
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.add_tuples(rows).await;
        self.checkpoints.leave(outcome)
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        self.checkpoints.enter()?;
        let outcome = self.put_tuples().await;
        self.checkpoints.leave(outcome)
    }

    async fn rows(&mut self, rows: RowBatch) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.add_rows(rows).await;
        self.checkpoints.leave(outcome)
    }

    async fn end_rows(&mut self) -> Result<Option<String>, Fault> {
        self.checkpoints.enter()?;
        let outcome = self.put_rows().await;
        self.checkpoints.leave(outcome)
    }

    async fn catalog(&mut self, bytes: Bytes) -> Result<String, Fault> {
        self.checkpoints.enter()?;
        let outcome = self.put_catalog(bytes).await;
        self.checkpoints.leave(outcome)
    }

    async fn advance(&mut self, upto: Option<Bytes>, read: ByteCount) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.commit(upto, read).await;
        self.checkpoints.leave(outcome)
    }
}
