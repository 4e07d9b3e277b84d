//! What the log store knows without looking at the disk: its marks, and the last entries.

use std::collections::VecDeque;

use crate::log_engine::Loaded;
use crate::type_config::{Entry, LogId, Vote};

/// How many bytes of entries stay in memory after they are on disk. Replication and applying read an entry shortly after
/// it was appended, so most reads end here.
const TAIL_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
struct Recent {
    entry: Entry,
    size: usize,
    /// Number of the write that brings it to disk.
    sequence: u64,
}

/// Invariants: the entries in memory are the last ones of the log, without a gap; every entry that is not on disk yet is
/// among them; so what is older than the first of them is on disk as it shall be.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    /// Index of the first entry, if there is any.
    first: u64,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// Bytes of entries that came since the last snapshot.
    pub(crate) bytes_since_snapshot: u64,
}

/// What a read has to fetch from disk, and what follows it from memory.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub(crate) start: u64,
    pub(crate) from_disk: u64,
    pub(crate) from_memory: Vec<Entry>,
}

impl Tail {
    /// What a file held when it was opened; all of it is on disk.
    pub(crate) fn resume(loaded: &Loaded) -> Self {
        Self {
            vote: loaded.vote,
            committed: loaded.committed,
            purged: loaded.purged,
            last: loaded.last,
            first: loaded.purged.map_or(0, |id| id.index + 1),
            bytes_since_snapshot: loaded.entry_bytes,
            ..Self::default()
        }
    }

    /// Adds an entry that write `sequence` brings to disk.
    pub(crate) fn push(&mut self, entry: Entry, size: usize, sequence: u64) {
        if self.last == self.purged {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.recent_bytes += size;
        self.bytes_since_snapshot += size as u64;
        self.recent.push_back(Recent {
            entry,
            size,
            sequence,
        });
    }

    /// Drops everything after `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) {
        let next = last.map_or(0, |id| id.index + 1);
        while let Some(recent) = self
            .recent
            .pop_back_if(|recent| recent.entry.log_id.index >= next)
        {
            self.recent_bytes -= recent.size;
        }
        self.last = self.last.min(last.max(self.purged));
    }

    /// Drops everything up to `upto`.
    pub(crate) fn purge(&mut self, upto: LogId) {
        while let Some(recent) = self
            .recent
            .pop_front_if(|recent| recent.entry.log_id.index <= upto.index)
        {
            self.recent_bytes -= recent.size;
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
        self.first = self.first.max(upto.index + 1);
    }

    /// All writes up to `sequence` are on disk: memory that is not needed any more is given back.
    pub(crate) fn flushed(&mut self, sequence: u64) {
        while self.recent_bytes > TAIL_BYTES
            && let Some(recent) = self
                .recent
                .pop_front_if(|recent| recent.sequence <= sequence)
        {
            self.recent_bytes -= recent.size;
        }
    }

    /// How to read `[start, end)`, cut to what the log has, with at most `limit` bytes after the first entry from memory.
    pub(crate) fn plan(&self, start: u64, end: u64, limit: usize) -> ReadPlan {
        let start = start.max(self.first);
        let end = end.min(self.last.map_or(0, |id| id.index + 1)).max(start);
        let first = self
            .recent
            .front()
            .map_or(end, |recent| recent.entry.log_id.index);
        let from_disk = end.min(first).saturating_sub(start);
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let from_memory = self
            .recent
            .iter()
            .skip(skip)
            .take_while(|recent| recent.entry.log_id.index < end)
            .enumerate()
            .take_while(|(nth, recent)| {
                bytes += recent.size;
                *nth == 0 || bytes <= limit
            })
            .map(|(_, recent)| recent.entry.clone())
            .collect();
        ReadPlan {
            start,
            from_disk,
            from_memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Blank,
        }
    }

    fn tail(indexes: std::ops::Range<u64>, size: usize) -> Tail {
        let mut tail = Tail::default();
        for index in indexes {
            tail.push(entry(index), size, index);
        }
        tail
    }

    #[test]
    fn only_what_is_on_disk_leaves_memory() {
        let mut tail = tail(0..8, 1024 * 1024);
        tail.flushed(2);
        assert_eq!(tail.plan(0, 8, usize::MAX).from_disk, 3);
        tail.flushed(7);
        let plan = tail.plan(0, 8, usize::MAX);
        assert_eq!((plan.from_disk, plan.from_memory.len()), (4, 4));
    }

    #[test]
    fn a_truncated_index_that_comes_again_is_never_read_from_disk() {
        let mut tail = tail(0..8, 1024 * 1024);
        tail.truncate_after(Some(LogId::new_term_index(1, 3)));
        for index in 4..9 {
            tail.push(entry(index), 1024 * 1024, index + 10);
        }
        // The first writes are on disk, the ones after the truncation are not.
        tail.flushed(9);
        let plan = tail.plan(3, 9, usize::MAX);
        assert_eq!((plan.from_disk, plan.from_memory.len()), (1, 5));
    }

    #[test]
    fn a_plan_is_cut_to_the_log_and_to_the_limit() {
        let mut tail = tail(0..8, 100);
        tail.purge(LogId::new_term_index(1, 1));
        let plan = tail.plan(0, 100, 250);
        assert_eq!(
            (plan.start, plan.from_disk, plan.from_memory.len()),
            (2, 0, 2)
        );
        assert!(tail.plan(8, 9, 250).from_memory.is_empty());
        assert_eq!(tail.plan(2, 3, 1).from_memory.len(), 1);
    }
}
