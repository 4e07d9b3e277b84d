//! Merges runs.

use holdfast_types::Fault;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Keep;
use super::record::{Entry, Op, Version};
use super::run::{Run, RunReader};

/// All entries of several runs in order; of entries with the same version, that of the last run.
#[derive(Debug)]
pub(super) struct Merge {
    readers: Vec<RunReader>,
    /// The next version of each reader, and which reader it is.
    heads: BinaryHeap<Reverse<(Version, usize)>>,
    /// What belongs to the heads.
    ops: Vec<Option<Op>>,
    keep: Keep,
}

impl Merge {
    pub(super) fn new(keep: Keep, runs: &[Arc<Run>]) -> Result<Self, Fault> {
        let mut merge = Self {
            readers: runs
                .iter()
                .map(|run| RunReader::new(Arc::clone(run), 0))
                .collect(),
            heads: BinaryHeap::with_capacity(runs.len()),
            ops: runs.iter().map(|_| None).collect(),
            keep,
        };
        for index in 0..runs.len() {
            merge.refill(index)?;
        }
        Ok(merge)
    }

    /// The next entry; with [`Keep::Last`] the last one of its row.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let Some(mut entry) = self.pop()? else {
            return Ok(None);
        };
        while let Some(Reverse((version, _))) = self.heads.peek() {
            let replaces = match self.keep {
                Keep::Last => version.is_same_row(&entry.version),
                Keep::All => *version == entry.version,
            };
            if !replaces {
                break;
            }
            match self.pop()? {
                Some(later) => entry = later,
                None => break,
            }
        }
        Ok(Some(entry))
    }

    fn pop(&mut self) -> Result<Option<Entry>, Fault> {
        let Some(Reverse((version, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let op = self
            .ops
            .get_mut(index)
            .and_then(Option::take)
            .unwrap_or(Op::Delete);
        self.refill(index)?;
        Ok(Some(Entry { version, op }))
    }

    fn refill(&mut self, index: usize) -> Result<(), Fault> {
        let (Some(reader), Some(place)) = (self.readers.get_mut(index), self.ops.get_mut(index))
        else {
            return Ok(());
        };
        if let Some(entry) = reader.next()? {
            *place = Some(entry.op);
            self.heads.push(Reverse((entry.version, index)));
        }
        Ok(())
    }
}
