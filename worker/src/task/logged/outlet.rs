//! Where a source puts what it has read.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_collection::CollectionStore;
use holdfast_format::{CatalogFile, SpanFileOptions, SpanFileWriter};
use holdfast_proto::SpanWork;
use holdfast_source::{Change, Notes, Outlet, Row, RowBatch, TupleOutlet};
use holdfast_types::{
    BackupSpec, ByteCount, ErrorCode, Fault, KeyRange, ObjectKind, ObjectRef, Relation, RowCount,
    SettledDatabase,
};
use std::sync::Arc;
use tokio::sync::RwLock;

use super::draft::Draft;
use super::lane::{Lane, Objects};
use super::misused;
use super::progress::Checkpoints;
use crate::bounds::SETTLED_BYTES;
use crate::task::backup_span::note;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

/// The level at which catalogs are compressed: they are small, and mostly text.
const CATALOG_LEVEL: i32 = 3;

/// See the module. One span's.
pub(super) struct SpanOutlet {
    objects: Arc<Objects>,
    checkpoints: Checkpoints,
    /// Whether the span is one step, whose only checkpoint comes after it.
    settles: bool,
    /// Its own lane.
    tuples: Lane,
    rows: Option<Draft<SpanFileWriter>>,
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
        let checkpoints = Checkpoints::of(ticket, span, rest, doing, notes);
        let objects = Objects::new(ticket, store, spec.path.clone(), checkpoints.verdict());
        let objects = Arc::new(objects);
        Self {
            tuples: Lane::new(&objects),
            objects,
            checkpoints,
            settles: span.settles,
            rows: None,
        }
    }

    /// What is held while something is written to the collection.
    pub(super) fn writing(&self) -> Arc<RwLock<()>> {
        self.objects.writing()
    }

    /// The last checkpoint of a settling span.
    pub(super) async fn settle(&mut self, found: SettledDatabase) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.commit_settled(found).await;
        self.checkpoints.leave(outcome)
    }

    async fn commit_settled(&mut self, found: SettledDatabase) -> Result<(), Fault> {
        self.all_ended()?;
        let mut progress = self.objects.pending(std::mem::take);
        let last = progress.objects.last().map(ObjectRef::kind);
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
        progress.settled = Some(settled);
        self.checkpoints.commit(None, progress).await
    }

    /// How the span ended.
    pub(super) fn conclude(self, outcome: Result<(), Halt>) -> Result<(), Halt> {
        self.checkpoints.conclude(outcome)
    }

    fn all_ended(&self) -> Result<(), Fault> {
        match self.objects.are_open() || self.rows.is_some() {
            true => Err(misused("has not ended an object of what it says is done")),
            false => Ok(()),
        }
    }

    async fn add_rows(&mut self, rows: RowBatch) -> Result<(), Fault> {
        let draft = match &mut self.rows {
            Some(draft) => draft,
            none => {
                let writer = SpanFileWriter::new(SpanFileOptions::default())?;
                none.insert(Draft::new(self.objects.env(), writer))
            }
        };
        let length: usize = rows.iter().map(Row::logical_len).sum();
        self.objects.ticket().activity.read(length as u64);
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
        let name = self.objects.name(ObjectKind::Rows)?;
        let (store, path) = self.objects.store();
        let putting = async move { store.put_data(&path, name, chunks, &summary).await };
        self.objects.put(name, putting).await.map(Some)
    }

    async fn put_catalog(&mut self, bytes: Bytes) -> Result<String, Fault> {
        let packing = move || CatalogFile::encode(&bytes, Some(CATALOG_LEVEL));
        let file = self.objects.env().blocking(packing).await?;
        let name = self.objects.name(ObjectKind::Catalog)?;
        let (store, path) = self.objects.store();
        let putting = async move { store.put_catalog(&path, name, file).await };
        self.objects.put(name, putting).await
    }

    async fn commit(&mut self, upto: Option<Bytes>, read: ByteCount) -> Result<(), Fault> {
        note(self.objects.ticket(), read.0, ByteCount(0));
        self.objects.pending(|pending| pending.read += read);
        self.all_ended()?;
        if self.settles {
            return match upto {
                None => Ok(()),
                Some(_) => Err(misused("settles a database in more than one step")),
            };
        }
        let progress = self.objects.pending(std::mem::take);
        self.checkpoints.commit(upto, progress).await
    }
}

#[async_trait]
impl TupleOutlet for SpanOutlet {
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.tuples.begin_tuples(columns).await;
        self.checkpoints.leave(outcome)
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.checkpoints.enter()?;
        let outcome = self.tuples.tuples(rows).await;
        self.checkpoints.leave(outcome)
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        self.checkpoints.enter()?;
        let outcome = self.tuples.end_tuples().await;
        self.checkpoints.leave(outcome)
    }
}

#[async_trait]
impl Outlet for SpanOutlet {
    fn lane(&mut self) -> Result<Box<dyn TupleOutlet>, Fault> {
        self.checkpoints.enter()?;
        let lane = Lane::new(&self.objects);
        self.checkpoints.leave(Ok(Box::new(lane)))
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
