//! Group commit: transactions and loads that arrive while one is being synced share the next sync.
//!
//! # Concurrency
//! Whoever finds the writer free commits everything that is queued, for all; the others find their answer there. Nothing runs in the
//! background, and the queue is bounded in bytes. A caller that gives up leaves its request behind: it is skipped if the group has not been formed yet,
//! and otherwise commits.

use holdfast_source::{Change, Row};
use holdfast_types::{ErrorCode, Fault, Hlc, JobId, RelationId, TableName};
use redb::{CursorError, ReadableTable, WriteTransaction};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

use crate::catalogue::Catalogue;
use crate::layout::{self, CHANGES, ROWS, RUN_KEYS, RUN_SPAN, Raw, Run};
use crate::mutation::Mutation;
use crate::store::Inner;
use crate::writer::{Outcome, Step, StepError, Writer, open_runs, save_run};

/// Bytes of requests that may wait for the writer, in KiB; more wait outside of the queue.
const QUEUE_KIB: usize = 64 * 1024;

/// Bytes of requests that share one commit, and one sync: half of what redb keeps unwritten in the default cache. A transaction that
/// comes with a restore waits for no more than this.
const MAX_GROUP_LENGTH: usize = 16 * 1024 * 1024;

/// Requests that share one commit.
const MAX_GROUP_REQUESTS: usize = 1024;

/// What is asked of the writer.
pub(crate) enum Request {
    /// A transaction of an application.
    Write {
        mutations: Vec<Mutation>,
        /// Refuse if one of the keys has a version after this.
        unless_changed_since: Option<Hlc>,
    },
    /// Rows of a restore.
    Load {
        job: JobId,
        table: TableName,
        rows: Vec<Row>,
    },
}

struct Pending {
    request: Request,
    length: usize,
    answer: oneshot::Sender<Result<Hlc, Fault>>,
}

/// Requests that wait for the writer.
pub(crate) struct CommitQueue {
    waiting: Mutex<VecDeque<Pending>>,
    room: Semaphore,
}

impl std::fmt::Debug for CommitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitQueue").finish_non_exhaustive()
    }
}

impl Default for CommitQueue {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            room: Semaphore::new(QUEUE_KIB),
        }
    }
}

impl CommitQueue {
    fn push(&self, pending: Pending) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(pending);
    }

    /// The next group, without the requests whose callers are gone.
    fn take_group(&self) -> Vec<Pending> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut length) = (Vec::new(), 0);
        while group.len() < MAX_GROUP_REQUESTS
            && let Some(next) = waiting.front()
            && (group.is_empty() || length + next.length <= MAX_GROUP_LENGTH)
        {
            length += next.length;
            if let Some(pending) = waiting.pop_front()
                && !pending.answer.is_closed()
            {
                group.push(pending);
            }
        }
        group
    }
}

/// Queues a request and waits until it is committed or refused.
pub(crate) async fn submit(
    inner: &Arc<Inner>,
    request: Request,
    length: usize,
) -> Result<Hlc, Fault> {
    let kib = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX);
    let _room = inner
        .queue
        .room
        .acquire_many(kib)
        .await
        .map_err(|_| Fault::new(ErrorCode::Unavailable, "the member is shutting down"))?;
    let (answer, mut result) = oneshot::channel();
    inner.queue.push(Pending {
        request,
        length,
        answer,
    });
    loop {
        let mut writer = tokio::select! {
            biased;
            answer = &mut result => return answer.unwrap_or_else(|_| Err(lost())),
            writer = Arc::clone(&inner.writer).lock_owned() => writer,
        };
        match result.try_recv() {
            Ok(answer) => return answer,
            Err(oneshot::error::TryRecvError::Closed) => return Err(lost()),
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let group = inner.queue.take_group();
        let reserve = inner.options.reserve;
        inner
            .env
            .blocking(move || commit_group(&mut writer, group, reserve.0))
            .await;
    }
}

fn lost() -> Fault {
    Fault::new(
        ErrorCode::Unknown,
        "the member stopped before it answered the transaction",
    )
}

fn commit_group(writer: &mut Writer, group: Vec<Pending>, reserve: u64) {
    let room = writer.engine.available().and_then(|available| {
        if available >= reserve {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::StorageFull,
            format!("the member's disk has {available} bytes left; {reserve} are kept in reserve"),
        )
        .hint("free or add disk space; reads go on meanwhile"))
    });
    if let Err(fault) = room {
        return answer_all(group, &fault);
    }
    let positions: Vec<Hlc> = group.iter().map(|_| writer.tick()).collect();
    let result = writer.run(|writer, transaction| {
        let mut application = Application::new(writer, transaction)?;
        let mut results = Vec::with_capacity(group.len());
        for (pending, position) in group.iter().zip(&positions) {
            results.push(application.apply(&pending.request, *position)?);
        }
        let taken = application.taken.clone();
        Ok(((results, taken), application.finish()?))
    });
    match result {
        Ok((results, taken)) => {
            for (relation, (rows, bytes)) in taken {
                writer.shared.counters.written(relation, rows, bytes);
            }
            let committed = results.iter().filter(|result| result.is_ok()).count();
            writer.shared.counters.committed(committed as u64);
            for (pending, result) in group.into_iter().zip(results) {
                // Who does not wait any more does not want to know.
                let _ = pending.answer.send(result);
            }
        }
        Err(fault) => answer_all(group, &fault),
    }
}

fn answer_all(group: Vec<Pending>, fault: &Fault) {
    for pending in group {
        let _ = pending.answer.send(Err(fault.clone()));
    }
}

/// The requests of one group on their way into one redb transaction.
struct Application<'t> {
    writer: &'t Writer,
    catalogue: Arc<crate::directory::Directory>,
    rows: redb::Table<'t, Raw, Raw>,
    changes: redb::Table<'t, Raw, u64>,
    runs: redb::Table<'t, Raw, Raw>,
    /// Newest runs of the relations touched so far.
    newest: BTreeMap<RelationId, Run>,
    /// Rows and bytes taken, by relation.
    taken: BTreeMap<RelationId, (u64, u64)>,
}

impl<'t> Application<'t> {
    fn new(writer: &'t Writer, transaction: &'t WriteTransaction) -> Step<Self> {
        Ok(Self {
            writer,
            catalogue: writer.shared.directory(),
            rows: transaction.open_table(ROWS)?,
            changes: transaction.open_table(CHANGES)?,
            runs: open_runs(transaction)?,
            newest: BTreeMap::new(),
            taken: BTreeMap::new(),
        })
    }

    /// Applies one request; the inner result is the request's own, the outer one the group's.
    fn apply(&mut self, request: &Request, position: Hlc) -> Step<Result<Hlc, Fault>> {
        match request {
            Request::Write {
                mutations,
                unless_changed_since,
            } => self.write(mutations, *unless_changed_since, position),
            Request::Load { job, table, rows } => self.load(*job, table, rows, position),
        }
    }

    fn write(
        &mut self,
        mutations: &[Mutation],
        unless_changed_since: Option<Hlc>,
        position: Hlc,
    ) -> Step<Result<Hlc, Fault>> {
        let relations = match resolve(&self.catalogue.catalogue, mutations) {
            Ok(relations) => relations,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Some(since) = unless_changed_since {
            for (mutation, relation) in mutations.iter().zip(&relations) {
                if self.changed_since(*relation, &mutation.key, since)? {
                    let fault = Fault::new(
                        ErrorCode::FailedPrecondition,
                        format!(
                            "a row of table \"{}\" has changed since {since}",
                            mutation.table
                        ),
                    );
                    return Ok(Err(fault.hint("read again, and try again")));
                }
            }
        }
        for (mutation, relation) in mutations.iter().zip(relations) {
            let value = mutation.value().map(AsRef::as_ref);
            self.put_row(relation, &mutation.key, position, value)?;
            self.note_change(relation, &mutation.key, position, mutation.logical_len())?;
        }
        Ok(Ok(position))
    }

    fn load(
        &mut self,
        job: JobId,
        table: &TableName,
        rows: &[Row],
        position: Hlc,
    ) -> Step<Result<Hlc, Fault>> {
        let relation = match self.catalogue.catalogue.loadable_table(job, table) {
            Ok(relation) => relation,
            Err(fault) => return Ok(Err(fault)),
        };
        for row in self.append_rows(relation, rows)? {
            if let Change::Put(value) = &row.change {
                self.put_row(relation, &row.key, Hlc::ZERO, Some(value))?;
            }
        }
        Ok(Ok(position))
    }

    /// Loads rows as long as each lies in the gap after the one before it, and gives those that are left: from the first one on that is out of
    /// order, or that was loaded already. In a gap redb fills one page after another; rows that go in one by one leave each page
    /// half empty, are searched for each, and so cost twice the bytes written and more than that in work.
    fn append_rows<'r>(&mut self, relation: RelationId, rows: &'r [Row]) -> Step<&'r [Row]> {
        let Some(first) = rows.first() else {
            return Ok(rows);
        };
        let start = layout::row_key(relation, &first.key, Hlc::ZERO);
        let mut gap = self
            .rows
            .lower_bound_mut(Bound::Included(start.as_slice()))?;
        let (mut stored, mut left, mut bytes) = (Vec::new(), rows, 0);
        while let Some((row, rest)) = left.split_first() {
            let Change::Put(value) = &row.change else {
                break;
            };
            let row_key = layout::row_key(relation, &row.key, Hlc::ZERO);
            stored.resize(layout::stored_len(Some(value)), 0);
            layout::store_value(Some(value), &mut stored);
            match gap.insert_before(row_key.as_slice(), stored.as_slice()) {
                Ok(()) => {}
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(StepError::Engine(error.into())),
            }
            bytes += (row.key.len() + value.len()) as u64;
            left = rest;
        }
        gap.close()?;
        let taken = self.taken.entry(relation).or_default();
        taken.0 += (rows.len() - left.len()) as u64;
        taken.1 += bytes;
        Ok(left)
    }

    fn changed_since(&self, relation: RelationId, key: &[u8], since: Hlc) -> Step<bool> {
        let prefix = layout::row_prefix(relation, key);
        // The versions after `since` come first; the newest one decides.
        let end = layout::with_position(prefix.clone(), since);
        let mut range = self
            .rows
            .range::<&[u8]>(prefix.as_slice()..end.as_slice())?;
        Ok(range.next().transpose()?.is_some())
    }

    fn put_row(
        &mut self,
        relation: RelationId,
        key: &[u8],
        position: Hlc,
        value: Option<&[u8]>,
    ) -> Step<()> {
        let row_key = layout::row_key(relation, key, position);
        let length = layout::stored_len(value);
        let mut target = self.rows.insert_reserve(row_key.as_slice(), length)?;
        layout::store_value(value, target.as_mut());
        let (rows, bytes) = self.taken.entry(relation).or_default();
        *rows += 1;
        *bytes += (key.len() + length - 1) as u64;
        Ok(())
    }

    /// Notes a changed key in the relation's newest run, or in a fresh one if that is complete.
    fn note_change(
        &mut self,
        relation: RelationId,
        key: &[u8],
        position: Hlc,
        length: usize,
    ) -> Step<()> {
        let newest = match self.newest.get(&relation) {
            Some(run) => Some(*run),
            None => self.writer.newest_run(relation, &self.runs)?,
        };
        let mut run = match newest {
            Some(run) if run.keys < RUN_KEYS && run.first.wall.plus(RUN_SPAN) > position.wall => {
                run
            }
            complete => {
                if let Some(run) = complete.filter(|_| self.newest.contains_key(&relation)) {
                    save_run(&mut self.runs, relation, &run)?;
                }
                Run {
                    first: position,
                    last: position,
                    keys: 0,
                    bytes: 0,
                }
            }
        };
        let change_key = layout::change_key(relation, run.first, key);
        let before = self
            .changes
            .get(change_key.as_slice())?
            .map(|bytes| bytes.value());
        let length = length as u64;
        self.changes
            .insert(change_key.as_slice(), before.unwrap_or(0) + length)?;
        run.keys += u64::from(before.is_none());
        run.bytes += length;
        run.last = position;
        self.newest.insert(relation, run);
        Ok(())
    }

    fn finish(mut self) -> Step<Outcome> {
        for (relation, run) in &self.newest {
            save_run(&mut self.runs, *relation, run)?;
        }
        let runs = self.newest.into_iter();
        Ok(Outcome {
            directory: None,
            runs: runs.map(|(relation, run)| (relation, Some(run))).collect(),
        })
    }
}

fn resolve(catalogue: &Catalogue, mutations: &[Mutation]) -> Result<Vec<RelationId>, Fault> {
    mutations
        .iter()
        .map(|mutation| catalogue.writable_table(&mutation.table))
        .collect()
}
