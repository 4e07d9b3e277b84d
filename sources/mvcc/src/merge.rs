//! The keys that changed in a window, in key order and in bounded memory: a merge of the runs of the change index that overlap it.

use bytes::Bytes;
use holdfast_source::successor;
use holdfast_types::{Hlc, KeyRange, RelationId};
use redb::ReadableTable;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::engine::corrupted;
use crate::layout::{self, Raw, Run};
use crate::writer::Step;

/// Keys that are read ahead over all runs together.
const READ_AHEAD: usize = 4096;

/// Keys that are read ahead in one run.
const MAX_RUN_READ_AHEAD: usize = 256;

/// The runs of a relation that may hold changes in `(after, upto]`, oldest first.
pub(crate) fn overlapping_runs(
    runs: &impl ReadableTable<Raw, Raw>,
    relation: RelationId,
    after: Hlc,
    upto: Hlc,
) -> Step<Vec<Run>> {
    let decode = |key: &[u8], value: &[u8]| {
        Run::decode(key, value).ok_or_else(|| corrupted("run of the change index"))
    };
    let mut found = Vec::new();
    // Runs do not overlap each other: of those that start before the window only the last one can reach into it.
    let start = layout::run_key(relation, Hlc::ZERO);
    let middle = layout::run_key(relation, after.next());
    let end = layout::run_key(relation, upto.next());
    let mut before = runs.range::<&[u8]>(start.as_slice()..middle.as_slice())?;
    if let Some(entry) = before.next_back() {
        let (key, value) = entry?;
        let run = decode(key.value(), value.value())?;
        if run.last > after {
            found.push(run);
        }
    }
    if middle < end {
        for entry in runs.range::<&[u8]>(middle.as_slice()..end.as_slice())? {
            let (key, value) = entry?;
            found.push(decode(key.value(), value.value())?);
        }
    }
    Ok(found)
}

/// One run on its way through the merge.
struct RunCursor {
    first: Hlc,
    ahead: VecDeque<(Bytes, u64)>,
    /// Where to read on; `None` at the run's end.
    next: Option<Bytes>,
}

/// See the module.
pub(crate) struct Merge<'t, T> {
    changes: &'t T,
    relation: RelationId,
    end: Bytes,
    read_ahead: usize,
    runs: Vec<RunCursor>,
    /// The first key of every run that has one.
    heads: BinaryHeap<Reverse<(Bytes, usize)>>,
}

impl<'t, T: ReadableTable<Raw, u64>> Merge<'t, T> {
    /// Merges the keys of these runs in a range.
    pub(crate) fn new(
        changes: &'t T,
        relation: RelationId,
        runs: &[Run],
        range: &KeyRange,
    ) -> Step<Self> {
        let mut merge = Self {
            changes,
            relation,
            end: range.end.clone(),
            read_ahead: (READ_AHEAD / runs.len().max(1)).clamp(1, MAX_RUN_READ_AHEAD),
            runs: runs
                .iter()
                .map(|run| RunCursor {
                    first: run.first,
                    ahead: VecDeque::new(),
                    next: Some(range.start.clone()),
                })
                .collect(),
            heads: BinaryHeap::new(),
        };
        for index in 0..merge.runs.len() {
            merge.raise(index)?;
        }
        Ok(merge)
    }

    /// The next changed key, and the bytes that were changed under it.
    pub(crate) fn next(&mut self) -> Step<Option<(Bytes, u64)>> {
        let mut found: Option<(Bytes, u64)> = None;
        while let Some(Reverse((key, _))) = self.heads.peek()
            && found.as_ref().is_none_or(|(first, _)| first == key)
            && let Some(Reverse((key, index))) = self.heads.pop()
        {
            let taken = self
                .runs
                .get_mut(index)
                .and_then(|run| run.ahead.pop_front());
            let bytes = taken.map_or(0, |(_, bytes)| bytes);
            let total = found.map_or(0, |(_, total)| total);
            found = Some((key, total + bytes));
            self.raise(index)?;
        }
        Ok(found)
    }

    /// Puts the first key of a run on the heap, reading on if needed.
    fn raise(&mut self, index: usize) -> Step<()> {
        let Some(run) = self.runs.get_mut(index) else {
            return Ok(());
        };
        if run.ahead.is_empty()
            && let Some(next) = run.next.take()
        {
            let start = layout::change_key(self.relation, run.first, &next);
            let end = layout::changes_end(self.relation, run.first, &self.end);
            if start < end {
                for entry in self
                    .changes
                    .range::<&[u8]>(start.as_slice()..end.as_slice())?
                    .take(self.read_ahead)
                {
                    let (key, bytes) = entry?;
                    let key = layout::changed_key(key.value())
                        .ok_or_else(|| corrupted("entry of the change index"))?;
                    run.ahead
                        .push_back((Bytes::copy_from_slice(key), bytes.value()));
                }
            }
            if run.ahead.len() == self.read_ahead {
                run.next = run.ahead.back().map(|(key, _)| successor(key));
            }
        }
        if let Some((key, _)) = run.ahead.front() {
            self.heads.push(Reverse((key.clone(), index)));
        }
        Ok(())
    }
}
