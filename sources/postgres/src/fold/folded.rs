//! The result of a fold of last versions.

use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Entry, Op};
use super::run::{Run, RunReader};
use super::{Sorter, Touched, Truncated};
use crate::changes::ChangePosition;
use crate::layout::Oid;

/// The last version of every row that was changed, in order of relation and key, in a file that is removed with it.
///
/// Rows of older layers (the base, earlier incrementals) count only if their relation is not in [`Self::truncated`] and their key is not in
/// here ([`Self::touched`]).
#[derive(Debug)]
pub struct Folded {
    run: Arc<Run>,
    truncated: BTreeMap<Oid, Truncated>,
    reshaped: BTreeMap<Oid, ChangePosition>,
}

impl Folded {
    pub(super) fn new(
        run: Arc<Run>,
        truncated: BTreeMap<Oid, Truncated>,
        reshaped: BTreeMap<Oid, ChangePosition>,
    ) -> Self {
        Self {
            run,
            truncated,
            reshaped,
        }
    }

    pub(super) fn into_parts(
        self,
    ) -> (
        Arc<Run>,
        BTreeMap<Oid, Truncated>,
        BTreeMap<Oid, ChangePosition>,
    ) {
        (self.run, self.truncated, self.reshaped)
    }

    /// Relations that were emptied, with their last truncation: all older rows of theirs are gone.
    #[must_use]
    pub fn truncated(&self) -> &BTreeMap<Oid, Truncated> {
        &self.truncated
    }

    /// Relations whose changes came in another form than planned, with where that was noticed first: they must be read whole.
    #[must_use]
    pub fn reshaped(&self) -> &BTreeMap<Oid, ChangePosition> {
        &self.reshaped
    }

    /// Rows in it, deleted ones included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.run.entries()
    }

    /// Bytes of its file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.run.length()
    }

    /// All rows, in order of relation and key.
    #[must_use]
    pub fn rows(&self) -> FoldedRows {
        FoldedRows::new(Arc::clone(&self.run))
    }

    /// What answers whether a key is in here. Blocking: it reads the file once.
    ///
    /// # Errors
    /// A failing disk.
    pub fn touched(&self) -> Result<Touched, Fault> {
        Touched::build(
            Arc::clone(&self.run),
            self.truncated.keys().copied().collect(),
        )
    }

    /// This fold without the relations in `replaced` (they are read whole), and with the rows in `fixes` in the place of its own. Blocking.
    ///
    /// # Errors
    /// A full or failing disk; [`ErrorCode::Internal`] if a row is still not whole.
    pub fn overlay(self, mut fixes: Sorter, replaced: &BTreeSet<Oid>) -> Result<Self, Fault> {
        fixes.adopt(self.run)?;
        let run = fixes.finish(|entry| {
            if replaced.contains(&entry.version.relation) {
                return Ok(false);
            }
            match &entry.op {
                Op::Put { row, .. } if !row.is_whole() => Err(Fault::new(
                    ErrorCode::Internal,
                    format!(
                        "a changed row of relation {} was not read again",
                        entry.version.relation
                    ),
                )),
                Op::Put { .. } | Op::Delete => Ok(true),
            }
        })?;
        Ok(Self {
            run,
            truncated: self.truncated,
            reshaped: self.reshaped,
        })
    }
}

/// Reads entries of a fold in order.
#[derive(Debug)]
pub struct FoldedRows {
    reader: RunReader,
    /// An entry that was read, and not yet given.
    ahead: Option<Entry>,
}

impl FoldedRows {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self {
            reader: RunReader::new(run, 0),
            ahead: None,
        }
    }

    /// The next entry. Blocking.
    ///
    /// # Errors
    /// A failing disk.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        match self.ahead.take() {
            Some(entry) => Ok(Some(entry)),
            None => self.reader.next(),
        }
    }

    /// The next row with values that are not known, in relations that are not in `replaced`. With `only` it stops, without passing over it, at
    /// the first entry of another relation. Blocking.
    ///
    /// # Errors
    /// A failing disk.
    pub fn next_unresolved(
        &mut self,
        replaced: &BTreeSet<Oid>,
        only: Option<Oid>,
    ) -> Result<Option<Entry>, Fault> {
        while let Some(entry) = self.next_entry()? {
            let relation = entry.version.relation;
            if only.is_some_and(|only| only != relation) {
                self.ahead = Some(entry);
                return Ok(None);
            }
            if let Op::Put { row, .. } = &entry.op
                && !row.is_whole()
                && !replaced.contains(&relation)
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
