//! Sorts versions of rows in bounded memory.

use bytes::Bytes;
use holdfast_env::Disk;
use holdfast_types::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Keep;
use super::merge::Merge;
use super::record::{Entry, Op, Version, memory};
use super::run::{Run, RunWriter, disk_fault};
use crate::changes::ChangePosition;
use crate::key::Key;
use crate::layout::{Lsn, Oid};

/// Bytes of keys and values that a fold holds at once, where nothing else is said.
pub const DEFAULT_MEMORY: usize = 64 << 20;

/// Runs of one level that are merged into one of the next. With the default memory, three levels hold 256 GiB, in at most 45 runs: reading them takes
/// 12 MiB more.
const FAN_IN: usize = 16;

/// Sorts versions of rows: a sorted table in memory, runs in files, runs of runs.
#[derive(Debug)]
pub struct Sorter {
    keep: Keep,
    disk: Arc<dyn Disk>,
    directory: String,
    limit: usize,
    pending: BTreeMap<Version, Op>,
    pending_bytes: usize,
    /// Runs by level, oldest first.
    levels: Vec<Vec<Arc<Run>>>,
    next_run: u64,
}

impl Sorter {
    /// A sorter with nothing in it; see [`super::Fold::new`].
    #[must_use]
    pub fn new(keep: Keep, disk: Arc<dyn Disk>, directory: &str, memory: usize) -> Self {
        Self {
            keep,
            disk,
            directory: directory.to_owned(),
            limit: memory,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            levels: Vec::new(),
            next_run: 0,
        }
    }

    /// Adds a version; one that is already there is replaced. Blocking: it may write a run.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn push(&mut self, version: Version, op: Op) -> Result<(), Fault> {
        if self.keep == Keep::Last {
            let first = Version {
                position: ChangePosition::start_of(Lsn::ZERO),
                ..version.clone()
            };
            let earlier = self.pending.range(first..).next();
            if let Some((earlier, _)) = earlier.filter(|(it, _)| it.is_same_row(&version)) {
                if earlier.position > version.position {
                    return Ok(());
                }
                let earlier = earlier.clone();
                self.remove(&earlier);
            }
        }
        self.pending_bytes += memory(&version, &op);
        if let Some(old) = self.pending.insert(version.clone(), op) {
            self.pending_bytes -= memory(&version, &old);
        }
        if self.pending_bytes > self.limit {
            self.spill()?;
        }
        Ok(())
    }

    /// Forgets what is in memory of a relation's versions before a position.
    pub(super) fn forget_before(&mut self, relation: Oid, position: ChangePosition) {
        let first = Version {
            relation,
            key: Key::from_own(Bytes::new()),
            position: ChangePosition::start_of(Lsn::ZERO),
        };
        let gone: Vec<_> = self
            .pending
            .range(first..)
            .map(|(version, _)| version)
            .take_while(|version| version.relation == relation)
            .filter(|version| version.position < position)
            .cloned()
            .collect();
        for version in gone {
            self.remove(&version);
        }
    }

    fn remove(&mut self, version: &Version) {
        if let Some(op) = self.pending.remove(version) {
            self.pending_bytes -= memory(version, &op);
        }
    }

    /// Bytes that are held in memory.
    #[cfg(test)]
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes a run that was sorted before.
    pub(super) fn adopt(&mut self, run: Arc<Run>) -> Result<(), Fault> {
        self.add(0, run)
    }

    /// Ends: one run with the versions that are wanted. Blocking.
    pub(super) fn finish(
        mut self,
        is_wanted: impl FnMut(&Entry) -> Result<bool, Fault>,
    ) -> Result<Arc<Run>, Fault> {
        self.spill()?;
        let runs: Vec<_> = self.levels.iter().rev().flatten().map(Arc::clone).collect();
        self.levels.clear();
        self.merge(&runs, is_wanted)
    }

    fn merge(
        &mut self,
        runs: &[Arc<Run>],
        mut is_wanted: impl FnMut(&Entry) -> Result<bool, Fault>,
    ) -> Result<Arc<Run>, Fault> {
        let mut writer = self.writer()?;
        let mut merge = Merge::new(self.keep, runs)?;
        while let Some(entry) = merge.next()? {
            if is_wanted(&entry)? {
                writer.push(&entry.version, &entry.op)?;
            }
        }
        writer.finish().map(Arc::new)
    }

    fn spill(&mut self) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer()?;
        for (version, op) in std::mem::take(&mut self.pending) {
            writer.push(&version, &op)?;
        }
        self.pending_bytes = 0;
        let run = writer.finish()?;
        self.add(0, Arc::new(run))
    }

    /// Adds a run to a level, and merges full levels.
    fn add(&mut self, level: usize, run: Arc<Run>) -> Result<(), Fault> {
        let (mut level, mut run) = (level, run);
        loop {
            if self.levels.len() <= level {
                self.levels.resize_with(level + 1, Vec::new);
            }
            let Some(runs) = self.levels.get_mut(level) else {
                return Ok(());
            };
            runs.push(run);
            if runs.len() < FAN_IN {
                return Ok(());
            }
            let full = std::mem::take(runs);
            run = self.merge(&full, |_| Ok(true))?;
            level += 1;
        }
    }

    fn writer(&mut self) -> Result<RunWriter, Fault> {
        // Another sorter may have left a run in the directory that is still in use.
        loop {
            let path = format!("{}/run-{}", self.directory, self.next_run);
            self.next_run += 1;
            let is_taken = self
                .disk
                .exists(&path)
                .map_err(|error| disk_fault(&path, &error))?;
            if !is_taken {
                return RunWriter::create(Arc::clone(&self.disk), path);
            }
        }
    }
}
