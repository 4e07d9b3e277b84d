//! Reads: streams of batches, each from a short transaction of its own.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use holdfast_source::{Row, RowStream, successor};
use holdfast_types::{ErrorCode, Fault, Hlc, KeyRange, Position, RelationId, TableName, Window};
use redb::ReadTransaction;
use std::sync::Arc;
use tokio::sync::oneshot;

use crate::catalogue::Visibility;
use crate::engine::corrupted;
use crate::layout::{self, CHANGES, META, META_THRESHOLD, ROWS, RUNS};
use crate::merge::{Merge, overlapping_runs};
use crate::store::{Inner, MvccStore};
use crate::walk::{BatchSink, Sink, View, walk};
use crate::writer::{Step, StepError};

/// Bytes of rows after which a batch ends, at the next key. A stream holds two batches: one with the consumer, one read ahead.
pub(crate) const BATCH_LENGTH: usize = 1024 * 1024;

/// Changed keys looked at in one go, whether or not anything comes of them.
const MAX_KEYS_LOOKED_UP: usize = 50_000;

/// Refuses to read from before the garbage-collection threshold.
pub(crate) fn history_gone(from: Hlc, threshold: Hlc) -> Result<(), Fault> {
    if from >= threshold {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::HistoryGone,
        format!(
            "history before {threshold} ({}) has been discarded; {from} ({}) cannot be read any more",
            threshold.wall, from.wall
        ),
    )
    .hint("take a full backup, or one that starts later; a hold keeps history from being discarded"))
}

/// The position in a member's history that a [`Position`] means.
pub(crate) fn hlc(position: Position) -> Result<Hlc, Fault> {
    match position {
        Position::Hlc(hlc) => Ok(hlc),
        other => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("position {other} is not one of an mvcc source"),
        )),
    }
}

impl MvccStore {
    /// Streams the rows of a table as of a position or now, in key order.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn scan(
        &self,
        table: &TableName,
        range: KeyRange,
        at: Option<Hlc>,
    ) -> Result<RowStream, Fault> {
        let at = self.settled(at).await?;
        history_gone(at, self.inner.shared.directory().threshold)?;
        let (relation, created_at) = self.table_at(table, at)?;
        let view = View {
            relation,
            created_at,
            after: None,
            upto: at,
            history: false,
        };
        Ok(stream_rows(Arc::clone(&self.inner), view, range))
    }

    /// Streams what a window holds of a relation, in the order of (key ascending, position descending).
    ///
    /// # Errors
    /// There is no such relation, or history is gone.
    pub async fn read(
        &self,
        relation: RelationId,
        range: KeyRange,
        window: Window,
    ) -> Result<RowStream, Fault> {
        let view = self.view(relation, window).await?;
        Ok(stream_rows(Arc::clone(&self.inner), view, range))
    }

    /// What a window means for a relation.
    pub(crate) async fn view(&self, relation: RelationId, window: Window) -> Result<View, Fault> {
        let upto = hlc(window.upto)?;
        let after = window.after.map(hlc).transpose()?;
        if after.is_some_and(|after| after > upto) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("the window ends at {upto}, before it starts"),
            ));
        }
        self.settled(Some(upto)).await?;
        let directory = self.inner.shared.directory();
        history_gone(after.unwrap_or(upto), directory.threshold)?;
        let record = directory
            .catalogue
            .relations
            .get(&relation)
            .filter(|record| match after {
                // What was dropped in a window is still part of its history.
                Some(_) => record.visibility == Visibility::Online && record.created_at <= upto,
                None => record.is_visible(upto),
            })
            .ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("relation {relation} does not exist at {upto}"),
                )
            })?;
        Ok(View {
            relation,
            created_at: record.created_at,
            after,
            upto,
            history: window.history,
        })
    }
}

impl View {
    /// The first position that the view depends on.
    pub(crate) fn from(&self) -> Hlc {
        self.after.unwrap_or(self.upto)
    }

    /// The start of the window, if what changed in it is found through the change index: everything but a table that is new in the
    /// window, of which all is new.
    pub(crate) fn indexed_after(&self) -> Option<Hlc> {
        self.after.filter(|after| *after >= self.created_at)
    }
}

impl Inner {
    /// Runs a read in a transaction of its own, after checking that what it needs is still there.
    pub(crate) fn read<T>(
        &self,
        from: Hlc,
        work: impl FnOnce(&ReadTransaction) -> Step<T>,
    ) -> Result<T, Fault> {
        let transaction = self.engine.read()?;
        check_threshold(&transaction, from)
            .and_then(|()| work(&transaction))
            .map_err(|error| error.into_fault(&self.engine))
    }

    /// Reads one batch; gives the key to go on from, if there is more.
    fn read_batch(
        &self,
        view: &View,
        range: &KeyRange,
    ) -> Result<(Vec<Row>, Option<Bytes>), Fault> {
        self.read(view.from(), |transaction| {
            let mut sink = BatchSink::new(BATCH_LENGTH);
            let next = match view.indexed_after() {
                None => walk(&transaction.open_table(ROWS)?, view, range, &mut sink)?,
                Some(after) => walk_changes(transaction, view, after, range, &mut sink)?,
            };
            Ok((sink.into_rows(), next))
        })
    }
}

fn check_threshold(transaction: &ReadTransaction, from: Hlc) -> Step<()> {
    let meta = transaction.open_table(META)?;
    let Some(value) = meta.get(META_THRESHOLD)? else {
        return Ok(());
    };
    let threshold =
        layout::decode_position(value.value()).ok_or_else(|| corrupted("GC threshold"))?;
    history_gone(from, threshold).map_err(StepError::from)
}

/// Gives the versions in a window to a sink, looking only at keys that changed.
fn walk_changes(
    transaction: &ReadTransaction,
    view: &View,
    after: Hlc,
    range: &KeyRange,
    sink: &mut impl Sink,
) -> Step<Option<Bytes>> {
    let runs = overlapping_runs(
        &transaction.open_table(RUNS)?,
        view.relation,
        after,
        view.upto,
    )?;
    if runs.is_empty() {
        return Ok(None);
    }
    let rows = transaction.open_table(ROWS)?;
    let changes = transaction.open_table(CHANGES)?;
    let mut merge = Merge::new(&changes, view.relation, &runs, range)?;
    let mut looked_up = 0;
    while let Some((key, _)) = merge.next()? {
        if sink.is_full() || looked_up >= MAX_KEYS_LOOKED_UP {
            return Ok(Some(key));
        }
        looked_up += 1;
        let one = KeyRange {
            end: successor(&key),
            start: key,
        };
        walk(&rows, view, &one, sink)?;
    }
    Ok(None)
}

type Batch = Result<(Vec<Row>, Option<Bytes>), Fault>;

/// Starts reading a batch; it is read whether or not anybody waits for it.
fn start_batch(inner: &Arc<Inner>, view: View, range: KeyRange) -> oneshot::Receiver<Batch> {
    let (sender, receiver) = oneshot::channel();
    let reader = Arc::clone(inner);
    inner.env.compute.run(Box::new(move || {
        if !sender.is_closed() {
            // Nobody waits any more: the stream was dropped.
            let _ = sender.send(reader.read_batch(&view, &range));
        }
    }));
    receiver
}

/// The stream of a view's rows in a range. While the consumer works on a batch, the next one is being read.
fn stream_rows(inner: Arc<Inner>, view: View, range: KeyRange) -> RowStream {
    let first = start_batch(&inner, view, range.clone());
    stream::unfold(Some(first), move |pending| {
        let inner = Arc::clone(&inner);
        let end = range.end.clone();
        async move {
            let mut pending = pending?;
            loop {
                let (rows, next) = match pending.await {
                    Ok(Ok(batch)) => batch,
                    Ok(Err(fault)) => return Some((Err(fault), None)),
                    Err(_) => {
                        let fault = Fault::new(ErrorCode::Internal, "reading a batch panicked");
                        return Some((Err(fault), None));
                    }
                };
                let following = next.map(|start| {
                    let rest = KeyRange {
                        start,
                        end: end.clone(),
                    };
                    start_batch(&inner, view, rest)
                });
                if rows.is_empty() {
                    pending = following?;
                    continue;
                }
                let bytes: usize = rows.iter().map(Row::logical_len).sum();
                let counters = &inner.shared.counters;
                counters.read(view.relation, rows.len() as u64, bytes as u64);
                return Some((Ok(rows), following));
            }
        }
    })
    .boxed()
}
