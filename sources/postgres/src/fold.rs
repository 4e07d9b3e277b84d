//! Folds changes by key, in bounded memory.
//!
//! Changes go into a sorted table in memory; when that is full it is written to a file, a *run*, and runs are merged. Two things can be
//! kept: the last version of each row, for a full backup and for a folded incremental, or every version, for history. The result is one sorted run:
//! [`Folded`], which takes the re-read rows ([`Folded::overlay`]) and answers whether a key was touched ([`Touched`]), or [`History`], which
//! gives the state at any commit in it.

mod as_of;
mod folded;
mod merge;
mod record;
mod run;
mod sorter;
mod touched;
mod truncations;

pub use as_of::{History, Resolved};
pub use folded::{Folded, FoldedRows};
pub use record::{Entry, Op, Version};
pub use sorter::{DEFAULT_MEMORY, Sorter};
pub use touched::{TOUCHED_FILTER_MEMORY, TOUCHED_INDEX_MEMORY, Touched};
pub use truncations::{MAX_TRUNCATIONS, Truncated};

use holdfast_env::{Disk, Env};
use holdfast_types::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::changes::{ChangePosition, ChangeStream, Event, Transaction};
use crate::layout::Oid;
use truncations::Truncations;

/// Bytes of keys and values that are handed to the fold at once: one hop to another thread carries this much.
const BATCH_BYTES: usize = 1 << 20;

/// Events that are handed to the fold at once.
const BATCH_EVENTS: usize = 8192;

/// Which versions of a row are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The last one.
    Last,
    /// Every one.
    All,
}

/// What a fold has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FoldProgress {
    /// Whole transactions; those of a window that was read twice count twice.
    pub transactions: u64,
    /// Changes of rows.
    pub changes: u64,
    /// The last whole transaction.
    pub last: Option<Transaction>,
}

/// Folds changes by key. Its files are removed with it.
#[derive(Debug)]
pub struct Fold {
    keep: Keep,
    sorter: Sorter,
    truncations: Truncations,
    reshaped: BTreeMap<Oid, ChangePosition>,
    progress: FoldProgress,
}

impl Fold {
    /// A fold with nothing in it. Runs go into `directory`, which must exist and be its own; `memory` bounds the bytes of keys and values held at
    /// once (see [`DEFAULT_MEMORY`]), beyond which one more row may be held.
    #[must_use]
    pub fn new(keep: Keep, disk: Arc<dyn Disk>, directory: &str, memory: usize) -> Self {
        Self {
            keep,
            sorter: Sorter::new(keep, disk, directory, memory),
            truncations: Truncations::new(keep),
            reshaped: BTreeMap::new(),
            progress: FoldProgress::default(),
        }
    }

    /// Takes an event. The same event may come twice, as when a window is read again. Blocking: it may write a run.
    ///
    /// # Errors
    /// A full or failing disk; [`holdfast_types::ErrorCode::ResourceExhausted`] for more than [`MAX_TRUNCATIONS`].
    pub fn push(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::Begin(_) => {}
            Event::Commit(transaction) => {
                self.progress.transactions += 1;
                self.progress.last = Some(transaction);
            }
            Event::Reshaped { relation, position } => {
                let first = self.reshaped.entry(relation).or_insert(position);
                *first = position.min(*first);
            }
            Event::Truncate(truncation) => {
                self.truncations.add(&truncation)?;
                if self.keep == Keep::Last {
                    for relation in &truncation.relations {
                        self.sorter.forget_before(*relation, truncation.position);
                    }
                }
            }
            Event::Row(change) => {
                self.progress.changes += 1;
                self.truncations.note_change(&change);
                let version = |key| Version {
                    relation: change.relation,
                    key,
                    position: change.position,
                };
                if let Some(old) = change.old_key.clone() {
                    self.sorter.push(version(old), Op::Delete)?;
                }
                let op = match change.new {
                    None => Op::Delete,
                    // Where unchanged values come from is only of use to history; a folded layer reads them again.
                    Some(row) if self.keep == Keep::All && !row.is_whole() => Op::Put {
                        row,
                        origin: change.old_key,
                    },
                    Some(row) => Op::Put { row, origin: None },
                };
                self.sorter.push(version(change.key), op)?;
            }
        }
        Ok(())
    }

    /// Takes all events of a stream, writing runs off the event loop.
    ///
    /// # Errors
    /// Those of the stream and of [`Self::push`]. The fold is gone then: make a new one, or resume from what was folded before.
    pub async fn take(mut self, env: &Env, stream: &mut ChangeStream) -> Result<Self, Fault> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let event = stream.next().await?;
            let is_over = event.is_none();
            if let Some(event) = event {
                bytes += event.logical_len();
                batch.push(event);
            }
            if is_over || bytes >= BATCH_BYTES || batch.len() >= BATCH_EVENTS {
                let events = std::mem::take(&mut batch);
                bytes = 0;
                self = env
                    .blocking(move || {
                        for event in events {
                            self.push(event)?;
                        }
                        Ok::<_, Fault>(self)
                    })
                    .await?;
            }
            if is_over {
                return Ok(self);
            }
        }
    }

    /// Takes an entry of a layer that was written before. Layers may come in any order. Blocking: it may write a run.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn put(&mut self, entry: Entry) -> Result<(), Fault> {
        self.sorter.push(entry.version, entry.op)
    }

    /// What was taken in so far.
    #[must_use]
    pub fn progress(&self) -> FoldProgress {
        self.progress
    }

    /// Ends a fold of last versions. Blocking.
    ///
    /// # Errors
    /// A full or failing disk; [`holdfast_types::ErrorCode::Internal`] if this fold keeps every version.
    pub fn finish(self) -> Result<Folded, Fault> {
        if self.keep != Keep::Last {
            return Err(wrong_kind());
        }
        let last = self.truncations.last();
        let run = self.sorter.finish(|entry| {
            let truncated = last.get(&entry.version.relation);
            Ok(truncated.is_none_or(|it| entry.version.position > it.position))
        })?;
        Ok(Folded::new(run, last, self.reshaped))
    }

    /// Ends a fold of every version. Blocking.
    ///
    /// # Errors
    /// A full or failing disk; [`holdfast_types::ErrorCode::Internal`] if this fold keeps last versions only.
    pub fn finish_history(self) -> Result<History, Fault> {
        if self.keep != Keep::All {
            return Err(wrong_kind());
        }
        let run = self.sorter.finish(|_| Ok(true))?;
        Ok(History::new(run, self.truncations, self.reshaped))
    }

    /// Goes on from what was folded before: changes from later windows follow.
    ///
    /// # Errors
    /// A failing disk.
    pub fn resume(folded: Folded, directory: &str, memory: usize) -> Result<Self, Fault> {
        let (run, truncated, reshaped) = folded.into_parts();
        let mut sorter = Sorter::new(Keep::Last, run.disk(), directory, memory);
        sorter.adopt(run)?;
        Ok(Self {
            keep: Keep::Last,
            sorter,
            truncations: Truncations::from_last(truncated),
            reshaped,
            progress: FoldProgress::default(),
        })
    }
}

fn wrong_kind() -> Fault {
    Fault::new(
        holdfast_types::ErrorCode::Internal,
        "a fold was ended in a way that it was not begun for",
    )
}

#[cfg(test)]
mod tests;
