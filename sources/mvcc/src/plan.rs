//! Cutting what a window holds of a relation into ranges.
//!
//! What a full layer holds is measured by walking the table, in steps of bounded size (the cost is O(table), like the backup's own); what an
//! incremental holds is measured on the change index, and costs what changed. A relation whose runs say that it fits one range is not
//! even walked.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_types::{ByteCount, Fault, Hlc, KeyRange, RelationId, Window};
use redb::ReadTransaction;
use std::sync::Arc;

use crate::layout::{CHANGES, ROWS, RUNS};
use crate::merge::{Merge, overlapping_runs};
use crate::store::{Inner, MvccStore};
use crate::walk::{Sink, View, walk};
use crate::writer::Step;

/// Rows, or changed keys, that one step looks at.
const STEP_ROWS: usize = 100_000;

/// Ranges of a relation in order, each with its estimated bytes.
pub type PlanStream = BoxStream<'static, Result<Vec<(KeyRange, ByteCount)>, Fault>>;

/// A plan on its way through a relation.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Start of the range that is being filled.
    start: Bytes,
    /// Bytes in it so far.
    bytes: u64,
    /// Where the next step goes on.
    next: Bytes,
}

/// Cuts ranges while keys pass by.
struct Cutter {
    target: u64,
    start: Bytes,
    bytes: u64,
    last_key: Vec<u8>,
    seen: usize,
    ranges: Vec<(KeyRange, ByteCount)>,
}

impl Cutter {
    fn add(&mut self, key: &[u8], bytes: u64) {
        self.seen += 1;
        if self.bytes >= self.target && key != self.last_key {
            let end = Bytes::copy_from_slice(key);
            let range = KeyRange {
                start: std::mem::replace(&mut self.start, end.clone()),
                end,
            };
            self.ranges.push((range, ByteCount(self.bytes)));
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }
}

impl Sink for Cutter {
    fn take(&mut self, key: &[u8], _position: Hlc, value: Option<&[u8]>) -> Step<()> {
        self.add(key, (key.len() + value.map_or(0, <[u8]>::len)) as u64);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.seen >= STEP_ROWS
    }
}

impl MvccStore {
    /// Cuts what a window holds of a relation into ranges of about `target` bytes that tile the key space, as a stream.
    ///
    /// # Errors
    /// There is no such relation, or history is gone.
    pub async fn plan(
        &self,
        relation: RelationId,
        window: Window,
        target: ByteCount,
    ) -> Result<PlanStream, Fault> {
        let view = self.view(relation, window).await?;
        let inner = Arc::clone(&self.inner);
        let target = target.0.max(1);
        let steps = stream::try_unfold(Some(Progress::default()), move |progress| {
            let inner = Arc::clone(&inner);
            async move {
                let Some(progress) = progress else {
                    return Ok(None);
                };
                let env = inner.env.clone();
                let step = env
                    .blocking(move || plan_step(&inner, &view, target, progress))
                    .await?;
                Ok(Some(step))
            }
        });
        let filled = steps.try_filter(|ranges| std::future::ready(!ranges.is_empty()));
        Ok(filled.boxed())
    }
}

type PlanStep = (Vec<(KeyRange, ByteCount)>, Option<Progress>);

fn plan_step(
    inner: &Inner,
    view: &View,
    target: u64,
    progress: Progress,
) -> Result<PlanStep, Fault> {
    inner.read(view.from(), |transaction| {
        let mut cutter = Cutter {
            target,
            start: progress.start,
            bytes: progress.bytes,
            last_key: Vec::new(),
            seen: 0,
            ranges: Vec::new(),
        };
        let rest = KeyRange {
            start: progress.next,
            end: Bytes::new(),
        };
        let next = match view.indexed_after() {
            None => walk(&transaction.open_table(ROWS)?, view, &rest, &mut cutter)?,
            Some(after) => cut_changes(transaction, view, after, &rest, &mut cutter)?,
        };
        let mut ranges = cutter.ranges;
        let progress = match next {
            Some(next) => Some(Progress {
                start: cutter.start,
                bytes: cutter.bytes,
                next,
            }),
            None => {
                let last = KeyRange {
                    start: cutter.start,
                    end: Bytes::new(),
                };
                ranges.push((last, ByteCount(cutter.bytes)));
                None
            }
        };
        Ok((ranges, progress))
    })
}

fn cut_changes(
    transaction: &ReadTransaction,
    view: &View,
    after: Hlc,
    rest: &KeyRange,
    cutter: &mut Cutter,
) -> Step<Option<Bytes>> {
    let runs = overlapping_runs(
        &transaction.open_table(RUNS)?,
        view.relation,
        after,
        view.upto,
    )?;
    let total: u64 = runs.iter().map(|run| run.bytes).sum();
    if total <= cutter.target && rest.start.is_empty() {
        cutter.bytes = total;
        return Ok(None);
    }
    let changes = transaction.open_table(CHANGES)?;
    let mut merge = Merge::new(&changes, view.relation, &runs, rest)?;
    while let Some((key, bytes)) = merge.next()? {
        if cutter.is_full() {
            return Ok(Some(key));
        }
        cutter.add(&key, bytes);
    }
    Ok(None)
}
