//! Garbage collection: discarding versions that no readable position sees.
//!
//! It goes in steps, each a transaction of bounded size, so that writers wait for one step at most. The threshold is made durable together
//! with the first removal, and every read checks it in its own snapshot: a read either sees all that it needs or fails with `HistoryGone`.
//! What is to be removed is found through the runs of the change index that lie wholly at or before the threshold, so the cost follows the changes.

use holdfast_types::{Fault, Hlc, JobId, Millis, RelationId};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::directory::Directory;
use crate::engine::corrupted;
use crate::layout::{self, CHANGES, ROWS, RUNS, Raw, Run};
use crate::store::MvccStore;
use crate::writer::{Outcome, Step, Writer};

/// Versions and index entries that one step removes or looks at.
const STEP_LENGTH: usize = 8192;

/// What one step of garbage collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcStep {
    /// Reads start here at the earliest.
    pub threshold: Hlc,
    /// Versions removed.
    pub removed: u64,
    /// There is more to do.
    pub more: bool,
}

impl MvccStore {
    /// Does one step of garbage collection, with the time to live of the setting or another one.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn gc_step(&self, ttl: Option<Millis>) -> Result<GcStep, Fault> {
        self.exclusive(move |writer| gc_step(writer, ttl)).await
    }

    /// Discards all that is older than the time to live and not held, and tells how many versions those were.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn collect_garbage(&self, ttl: Option<Millis>) -> Result<GcStep, Fault> {
        let mut removed = 0;
        loop {
            let step = self.gc_step(ttl).await?;
            removed += step.removed;
            if !step.more {
                return Ok(GcStep { removed, ..step });
            }
        }
    }

    /// Does one step of undoing an unpublished restore; `true` if there is more to do.
    pub(crate) async fn discard_step(&self, job: JobId) -> Result<bool, Fault> {
        self.exclusive(move |writer| {
            let old = writer.shared.directory();
            let mut new = Directory::clone(&old);
            let dead = new.catalogue.discard(job);
            if dead.is_empty() && new.catalogue == old.catalogue {
                return Ok(false);
            }
            writer.run(|_, transaction| {
                let mut sweep = Sweep::new(transaction, new.threshold)?;
                let finished = sweep.remove_tables(&dead)?;
                drop(sweep.rows);
                drop(sweep.changes);
                drop(sweep.runs);
                for relation in &finished {
                    new.catalogue.forget_table(*relation);
                }
                let mut outcome = sweep.outcome;
                new.save(&old, transaction)?;
                outcome.directory = Some(new);
                Ok((finished.len() < dead.len(), outcome))
            })
        })
        .await
    }
}

fn gc_step(writer: &mut Writer, ttl: Option<Millis>) -> Result<GcStep, Fault> {
    let old = writer.shared.directory();
    let mut new = Directory::clone(&old);
    let oldest_wanted = Hlc::at(writer.now().minus(ttl.unwrap_or(old.ttl)));
    let held = old.holds.values().min().copied();
    let threshold = oldest_wanted
        .min(held.unwrap_or(oldest_wanted))
        // What is present can always be read.
        .min(writer.last());
    new.threshold = old.threshold.max(threshold);
    let dead = new.catalogue.dead_tables(new.threshold);
    let relations: Vec<_> = new.catalogue.relations.keys().copied().collect();
    writer.run(|_, transaction| {
        let mut sweep = Sweep::new(transaction, new.threshold)?;
        let finished = sweep.remove_tables(&dead)?;
        for relation in relations {
            if !dead.contains(&relation) {
                sweep.collapse_table(relation)?;
            }
        }
        let step = GcStep {
            threshold: new.threshold,
            removed: sweep.removed,
            more: sweep.budget == 0,
        };
        drop(sweep.rows);
        drop(sweep.changes);
        drop(sweep.runs);
        for relation in finished {
            new.catalogue.forget_table(relation);
        }
        new.catalogue.forget_databases(new.threshold);
        new.save(&old, transaction)?;
        let mut outcome = sweep.outcome;
        outcome.directory = Some(new);
        Ok((step, outcome))
    })
}

/// One step of removal.
struct Sweep<'t> {
    threshold: Hlc,
    rows: Table<'t, Raw, Raw>,
    changes: Table<'t, Raw, u64>,
    runs: Table<'t, Raw, Raw>,
    /// What this step may still do.
    budget: usize,
    /// Versions removed.
    removed: u64,
    outcome: Outcome,
}

impl<'t> Sweep<'t> {
    fn new(transaction: &'t WriteTransaction, threshold: Hlc) -> Step<Self> {
        Ok(Self {
            threshold,
            rows: transaction.open_table(ROWS)?,
            changes: transaction.open_table(CHANGES)?,
            runs: transaction.open_table(RUNS)?,
            budget: STEP_LENGTH,
            removed: 0,
            outcome: Outcome::default(),
        })
    }

    /// Removes everything of these tables; gives those of which nothing is left.
    fn remove_tables(&mut self, dead: &[RelationId]) -> Step<Vec<RelationId>> {
        let mut finished = Vec::new();
        for relation in dead {
            let start = layout::relation_start(*relation);
            let end = layout::relation_end(*relation);
            let before = self.budget;
            remove_range(&mut self.rows, &start, &end, &mut self.budget)?;
            self.removed += (before - self.budget) as u64;
            remove_range(&mut self.changes, &start, &end, &mut self.budget)?;
            remove_range(&mut self.runs, &start, &end, &mut self.budget)?;
            self.outcome.runs.insert(*relation, None);
            if self.budget == 0 {
                break;
            }
            finished.push(*relation);
        }
        Ok(finished)
    }

    /// Removes what the runs at or before the threshold have left behind in one table.
    fn collapse_table(&mut self, relation: RelationId) -> Step<()> {
        let start = layout::run_key(relation, Hlc::ZERO);
        let end = layout::relation_end(relation);
        while self.budget > 0 {
            let oldest = self
                .runs
                .range::<&[u8]>(start.as_slice()..end.as_slice())?
                .next()
                .transpose()?
                .map(|(key, value)| Run::decode(key.value(), value.value()));
            let run = match oldest {
                None => return Ok(()),
                Some(run) => run.ok_or_else(|| corrupted("run of the change index"))?,
            };
            if run.last > self.threshold {
                return Ok(());
            }
            self.collapse_run(relation, &run)?;
        }
        Ok(())
    }

    fn collapse_run(&mut self, relation: RelationId, run: &Run) -> Step<()> {
        let start = layout::change_key(relation, run.first, b"");
        let end = layout::changes_end(relation, run.first, b"");
        let mut entries = Vec::new();
        for entry in self
            .changes
            .range::<&[u8]>(start.as_slice()..end.as_slice())?
            .take(self.budget)
        {
            entries.push(entry?.0.value().to_vec());
        }
        for entry in entries {
            if self.budget == 0 {
                return Ok(());
            }
            self.budget -= 1;
            let key = layout::changed_key(&entry)
                .ok_or_else(|| corrupted("entry of the change index"))?;
            self.collapse_key(relation, key)?;
            self.changes.remove(entry.as_slice())?;
        }
        if self.budget > 0 {
            let key = layout::run_key(relation, run.first);
            self.runs.remove(key.as_slice())?;
            self.outcome.runs.insert(relation, None);
        }
        Ok(())
    }

    /// Keeps of the versions at or before the threshold only the newest, and not even that if it is a deletion.
    fn collapse_key(&mut self, relation: RelationId, key: &[u8]) -> Step<()> {
        let prefix = layout::row_prefix(relation, key);
        let end = layout::after_prefix(&prefix);
        let start = layout::with_position(prefix, self.threshold);
        let mut garbage = Vec::new();
        let versions = self.rows.range::<&[u8]>(start.as_slice()..end.as_slice())?;
        for (index, entry) in versions.enumerate() {
            let (row_key, stored) = entry?;
            let value =
                layout::stored_value(stored.value()).ok_or_else(|| corrupted("row value"))?;
            if index > 0 || value.is_none() {
                garbage.push(row_key.value().to_vec());
            }
        }
        for row_key in garbage {
            self.rows.remove(row_key.as_slice())?;
            self.removed += 1;
            self.budget = self.budget.saturating_sub(1);
        }
        Ok(())
    }
}

/// Removes at most `budget` entries of a range.
fn remove_range<V: redb::Value + 'static>(
    table: &mut Table<'_, Raw, V>,
    start: &[u8],
    end: &[u8],
    budget: &mut usize,
) -> Step<()> {
    let mut keys = Vec::new();
    for entry in table.range::<&[u8]>(start..end)?.take(*budget) {
        keys.push(entry?.0.value().to_vec());
    }
    *budget -= keys.len();
    for key in keys {
        table.remove(key.as_slice())?;
    }
    Ok(())
}
