//! Objects of rows, written beside others of the same span.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_collection::{CollectionStore, DataName};
use holdfast_env::Env;
use holdfast_format::{TupleFileOptions, TupleFileWriter};
use holdfast_source::TupleOutlet;
use holdfast_types::{ErrorCode, Fault, LayerPath, ObjectKind, ObjectRef, RowCount};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::RwLock;

use super::draft::Draft;
use super::misused;
use super::progress::Verdict;
use crate::bounds::STORE_DEADLINE;
use crate::task::backup_span::note;
use crate::task::frontier::Progress;
use crate::task::ticket::Ticket;

/// What all that writes objects of one span shares.
pub(super) struct Objects {
    ticket: Ticket,
    env: Env,
    store: CollectionStore,
    path: LayerPath,
    verdict: Verdict,
    sequence: AtomicU32,
    /// Objects that were begun and not ended.
    open: AtomicUsize,
    /// What the next checkpoint brings.
    pending: Mutex<Progress>,
    /// Held by whoever writes to the collection, and by one alone who waits for all of them.
    writing: Arc<RwLock<()>>,
}

impl Objects {
    pub(super) fn new(
        ticket: &Ticket,
        store: CollectionStore,
        path: LayerPath,
        verdict: Verdict,
    ) -> Self {
        Self {
            ticket: ticket.clone(),
            env: ticket.shared.env.clone(),
            store,
            path,
            verdict,
            sequence: AtomicU32::new(0),
            open: AtomicUsize::new(0),
            pending: Mutex::default(),
            writing: Arc::default(),
        }
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    pub(super) fn store(&self) -> (CollectionStore, LayerPath) {
        (self.store.clone(), self.path.clone())
    }

    /// Whether an object was begun and not ended.
    pub(super) fn are_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    pub(super) fn writing(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.writing)
    }

    /// Changes what the next checkpoint brings.
    pub(super) fn pending<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn name(&self, kind: ObjectKind) -> Result<DataName, Fault> {
        let next = |sequence: u32| sequence.checked_add(1);
        let (all, none) = (Ordering::Relaxed, Ordering::Relaxed);
        let sequence = self.sequence.fetch_update(all, none, next).map_err(|_| {
            Fault::new(
                ErrorCode::ResourceExhausted,
                "a span has more parts than objects can be numbered",
            )
            .hint("use a larger part size")
        })?;
        let lease = self.ticket.lease();
        let mut name = DataName::new(lease.task, lease.epoch, sequence);
        name.kind = kind;
        Ok(name)
    }

    /// Waits for a write. The task is not stopped in the middle of it.
    pub(super) async fn put(
        &self,
        name: DataName,
        putting: impl Future<Output = Result<ObjectRef, Fault>> + Send,
    ) -> Result<String, Fault> {
        let _held = self.writing.read().await;
        let doing = format!("uploading {name}");
        let put = self.ticket.write(&doing, STORE_DEADLINE, putting).await;
        let object = put.map_err(|halt| self.verdict.halted(halt))?;
        note(&self.ticket, 0, object.length);
        let name = object.name.clone();
        self.pending(|pending| {
            pending.written += object.length;
            pending.rows += object.rows;
            pending.objects.push(object);
        });
        Ok(name)
    }
}

/// An object that was begun, until it is in the collection or given up.
struct Open {
    draft: Draft<TupleFileWriter>,
    counted: Counted,
}

struct Counted(Arc<Objects>);

impl Counted {
    fn new(objects: &Arc<Objects>) -> Self {
        objects.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(objects))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// See the module. A call that fails, or is given up, ends the span.
pub(super) struct Lane {
    objects: Arc<Objects>,
    open: Option<Open>,
    is_busy: bool,
}

impl Lane {
    pub(super) fn new(objects: &Arc<Objects>) -> Self {
        Self {
            objects: Arc::clone(objects),
            open: None,
            is_busy: false,
        }
    }

    fn enter(&mut self) -> Result<(), Fault> {
        self.objects
            .verdict
            .enter(self.is_busy, &self.objects.ticket)?;
        self.is_busy = true;
        Ok(())
    }

    fn leave<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        self.is_busy = false;
        let verdict = &self.objects.verdict;
        outcome.map_err(|fault| verdict.halted(fault.into()))
    }

    fn begin(&mut self, columns: u16) -> Result<(), Fault> {
        if self.open.is_some() {
            return Err(misused("begins an object before it has ended the last one"));
        }
        let writer = TupleFileWriter::new(columns, TupleFileOptions::default())?;
        self.open = Some(Open {
            draft: Draft::new(&self.objects.env, writer),
            counted: Counted::new(&self.objects),
        });
        Ok(())
    }

    async fn add(&mut self, rows: Bytes) -> Result<(), Fault> {
        let Some(open) = &mut self.open else {
            return Err(misused("writes rows without having begun an object"));
        };
        self.objects.ticket.activity.read(rows.len() as u64);
        let packing = move |writer: &mut TupleFileWriter| match writer.push(&rows)? {
            taken if taken == rows.len() => Ok(writer.take()),
            _ => Err(misused("cuts a row in two")),
        };
        open.draft.begin(packing).await
    }

    async fn end(&mut self) -> Result<Option<String>, Fault> {
        let Some(Open { draft, counted }) = self.open.take() else {
            return Err(misused("ends an object that it has not begun"));
        };
        let finish = |writer: TupleFileWriter| match writer.rows() {
            RowCount(0) => Ok(None),
            _ => writer.finish().map(Some),
        };
        let Some((chunks, summary)) = draft.finish(finish).await? else {
            return Ok(None);
        };
        let name = self.objects.name(ObjectKind::Tuples)?;
        let (store, path) = self.objects.store();
        let putting = async move { store.put_tuples(&path, name, chunks, &summary).await };
        let put = self.objects.put(name, putting).await;
        drop(counted);
        put.map(Some)
    }
}

#[async_trait]
impl TupleOutlet for Lane {
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault> {
        self.enter()?;
        let outcome = self.begin(columns);
        self.leave(outcome)
    }

    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.enter()?;
        let outcome = self.add(rows).await;
        self.leave(outcome)
    }

    async fn end_tuples(&mut self) -> Result<Option<String>, Fault> {
        self.enter()?;
        let outcome = self.end().await;
        self.leave(outcome)
    }
}
