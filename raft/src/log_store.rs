//! The log as openraft sees it.
//!
//! # Purpose
//! Log entries, vote and marks of one node, over [`Engine`] (the file) and [`Tail`] (what is known without looking).
//!
//! # Invariants
//! The log has no gap. What [`Tail`] says is what the file will say when every queued write is done. An entry is never
//! served unless its checksum and its index are right.
//!
//! # Concurrency
//! openraft writes from one task; readers (replication, applying) run beside it. Writes are queued in order and made
//! durable in groups by the [`LogWriter`]'s task.
//!
//! # Crash consistency
//! A vote is durable before `save_vote` returns, an entry before its callback is called. Everything of one group is
//! durable together or not at all. A purge or truncation may be lost in a crash: the older state is as good, because
//! nothing that was queued after it was acknowledged either.

use futures::{Stream, StreamExt, stream};
use holdfast_env::Env;
use holdfast_types::Fault;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::MAX_APPEND_SIZE;
use crate::log_engine::{Engine, Write, encode_entry, missing};
use crate::log_tail::Tail;
use crate::log_writer::LogWriter;
use crate::snapshot::SnapshotPointer;
use crate::type_config::{Entry, LogId, TypeConfig, Vote};

/// The log's file in a node's directory.
const FILE: &str = "raft.redb";

/// How often a read is planned anew when the log changed under it.
const READ_ATTEMPTS: usize = 4;

/// Reads the log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LogReader {
    engine: Arc<Engine>,
    tail: Arc<Mutex<Tail>>,
    env: Env,
}

/// Writes the log.
#[derive(Debug)]
pub(crate) struct LogStore {
    reader: LogReader,
    writer: LogWriter,
    /// Number of the last append, counted from 1.
    sequence: u64,
}

impl LogStore {
    /// Opens the log in a directory, checking every record.
    ///
    /// # Errors
    /// `Corrupted` names what is damaged.
    pub(crate) async fn open(
        env: &Env,
        data_dir: &str,
        cache: usize,
    ) -> Result<(Self, Option<SnapshotPointer>), Fault> {
        let path = format!("{data_dir}/{FILE}");
        let disk = Arc::clone(&env.disk);
        let (engine, loaded) = env
            .blocking(move || Engine::open(disk.as_ref(), &path, cache))
            .await?;
        let pointer = loaded.pointer.clone();
        let tail = Arc::new(Mutex::new(Tail::resume(&loaded)));
        let engine = Arc::new(engine);
        let writer = LogWriter::start(Arc::clone(&engine), Arc::clone(&tail), env.clone());
        let reader = LogReader {
            engine,
            tail,
            env: env.clone(),
        };
        let store = Self {
            reader,
            writer,
            sequence: 0,
        };
        Ok((store, pointer))
    }

    /// The queue of writes, which the snapshot store shares.
    pub(crate) fn writer(&self) -> LogWriter {
        self.writer.clone()
    }

    /// A reader, for what it knows about the log's size.
    pub(crate) fn reader(&self) -> LogReader {
        self.reader.clone()
    }
}

impl LogReader {
    /// Bytes of the entries that came since the last snapshot.
    pub(crate) fn bytes_since_snapshot(&self) -> u64 {
        self.tail().bytes_since_snapshot
    }

    /// A snapshot was made: counts from zero again.
    pub(crate) fn snapshot_made(&self) {
        self.tail().bytes_since_snapshot = 0;
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of `[start, end)` that the log has, at most `limit` bytes after the first.
    async fn read(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let mut lost = start;
        for _ in 0..READ_ATTEMPTS {
            let plan = self.tail().plan(start, end, limit);
            if plan.from_disk == 0 {
                return Ok(plan.from_memory);
            }
            let engine = Arc::clone(&self.engine);
            let (first, count) = (plan.start, plan.from_disk);
            let mut entries = self
                .env
                .blocking(move || engine.read(first, count, limit))
                .await?;
            let complete = entries.len() as u64 == count;
            if complete && limit == usize::MAX {
                entries.extend(plan.from_memory);
            }
            if complete || (limit != usize::MAX && !entries.is_empty()) {
                return Ok(entries);
            }
            // Either the log was cut under this read, and the next plan knows it, or an entry is gone.
            lost = first + entries.len() as u64;
        }
        Err(missing(self.engine.path(), lost))
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces, because what is to be applied after a restart may be as long as the log.
        let (start, end) = bounds(&range);
        let reader = self.clone();
        stream::unfold(Some(start), move |next| {
            let reader = reader.clone();
            async move {
                let start = next.filter(|start| *start < end)?;
                match reader.read(start, end, MAX_APPEND_SIZE).await {
                    Ok(entries) => {
                        let next = entries.last().map(|entry| entry.log_id.index + 1);
                        Some((entries.into_iter().map(Ok).collect::<Vec<_>>(), next))
                    }
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        })
        .flat_map(stream::iter)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, MAX_APPEND_SIZE).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.tail().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let tail = self.reader.tail();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.writer.write(Write::Vote(*vote)).await?;
        self.reader.tail().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.reader.tail().committed = committed;
        self.writer.queue(Write::Committed(committed)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.reader.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.sequence += 1;
        let mut records = Vec::new();
        {
            let mut tail = self.reader.tail();
            for entry in entries {
                let (index, record) = encode_entry(&entry)?;
                tail.push(entry, record.len(), self.sequence);
                records.push((index, record));
            }
        }
        self.writer.append(records, self.sequence, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.reader.tail().truncate_after(last);
        let next = last.map_or(0, |id| id.index + 1);
        self.writer.queue(Write::Truncate(next)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.reader.tail().purge(upto);
        self.writer.queue(Write::Purge(upto)).await
    }
}
