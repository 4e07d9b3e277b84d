//! The changes of a window: read from the stream, folded, written.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_env::Env;
use holdfast_source::{Outlet, Row, RowBatch, Steps};
use holdfast_types::{ErrorCode, Fault, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Settling;
use crate::changes::{CHUNK, ChangeStream, Event, Transaction, WindowRequest, wait_until_flushed};
use crate::fold::{Entry, Fold, Folded, FoldedRows, History, Keep};
use crate::hold::HoldNames;
use crate::layout::{Layout, Lsn, Oid};
use crate::member::catalog::{COMMIT_TIME_BYTES, CommitTimes, DatabaseCatalog};
use crate::member::rooms::Room;
use crate::member::rows::{final_row, version_row};
use crate::session::Session;

/// Events, and bytes of them, that are handed to the fold at once.
const BATCH_EVENTS: usize = 8192;
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of rows that are handed on at once.
const BLOCK: usize = 1 << 20;

/// The most readings of a window. Each decodes from the slot's restart position on, and the server keeps what one gives in temporary files.
const READINGS: u64 = 8;

/// Commits whose times are in one object.
const TIMES_PER_OBJECT: usize = 1 << 19;

/// The most bytes of versions of one row: they are turned round in memory, newest first.
const MOST_VERSIONS: usize = 256 << 20;

/// The changes so far.
pub(super) struct Gathered {
    folds: Option<Folds>,
    /// Up to where, exclusive.
    upto: Lsn,
    steps: Steps,
    times: Option<Times>,
    /// The latest time of a commit.
    latest: Timestamp,
}

struct Folds {
    last: Fold,
    all: Option<Fold>,
}

/// Commit times, with history.
#[derive(Default)]
struct Times {
    pending: BytesMut,
    first: Lsn,
    last: Lsn,
    latest: Timestamp,
    written: Vec<CommitTimes>,
}

/// What beside the final rows comes of a window.
pub(super) struct Rest {
    pub(super) history: Option<History>,
    times: Vec<CommitTimes>,
    /// The latest time of a commit.
    pub(super) latest: Timestamp,
}

/// The changes of a window, whole.
pub(super) struct Changes {
    pub(super) folded: Folded,
    pub(super) rest: Rest,
    /// Relations that are read whole, or gone.
    pub(super) replaced: BTreeSet<Oid>,
}

impl Gathered {
    /// Nothing so far, with files in a room.
    pub(super) async fn new(
        room: &Room,
        memory: usize,
        start: Lsn,
        history: bool,
        steps: Steps,
    ) -> Result<Self, Fault> {
        let own = room.clone();
        let folds = move || {
            let fold = |keep, part: &str| {
                let disk = Arc::clone(&own.env().disk);
                Ok::<_, Fault>(Fold::new(keep, disk, &own.part(part)?, memory))
            };
            Ok::<_, Fault>(Folds {
                last: fold(Keep::Last, "changes")?,
                all: history.then(|| fold(Keep::All, "history")).transpose()?,
            })
        };
        Ok(Self {
            folds: Some(room.env().blocking(folds).await?),
            upto: start,
            steps,
            times: history.then(Times::default),
            latest: Timestamp::default(),
        })
    }

    /// Takes in the window up to a position.
    pub(super) async fn take_to(
        &mut self,
        env: &Env,
        session: &Session,
        names: &HoldNames,
        layouts: &[Arc<Layout>],
        upto: Lsn,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        wait_until_flushed(session, upto).await?;
        let bytes = upto.since(self.upto);
        self.steps.begin("reading the log", 0, bytes);
        let step = CHUNK.max(upto.since(self.upto) / READINGS);
        while self.upto < upto {
            let window = self.upto..self.upto.plus(step).min(upto);
            let request = WindowRequest {
                slot: names.slot.clone(),
                publications: vec![names.publication.clone()],
                window: window.clone(),
            };
            let layouts = layouts.iter().map(Arc::clone);
            let mut stream = ChangeStream::open(session, &request, layouts).await?;
            self.take(env, &mut stream, &window, outlet).await?;
            self.upto = window.end;
            self.steps.moved(window.end.since(window.start));
        }
        Ok(())
    }

    async fn take(
        &mut self,
        env: &Env,
        stream: &mut ChangeStream,
        window: &Range<Lsn>,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let event = stream.next().await?;
            let is_over = event.is_none();
            if let Some(event) = event {
                if let Event::Commit(transaction) = &event {
                    debug_assert!(window.contains(&transaction.commit));
                    self.latest = self.latest.max(transaction.time);
                    if let Some(times) = &mut self.times {
                        times.add(transaction);
                        if times.is_full() {
                            times.write(outlet).await?;
                        }
                    }
                }
                bytes += event.logical_len();
                batch.push(event);
            }
            if is_over || bytes >= BATCH_BYTES || batch.len() >= BATCH_EVENTS {
                bytes = 0;
                self.push(env, std::mem::take(&mut batch)).await?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    async fn push(&mut self, env: &Env, events: Vec<Event>) -> Result<(), Fault> {
        let mut folds = self.folds.take().ok_or_else(lost)?;
        let folds = env
            .blocking(move || {
                for event in events {
                    if let Some(all) = &mut folds.all {
                        all.push(event.clone())?;
                    }
                    folds.last.push(event)?;
                }
                Ok::<_, Fault>(folds)
            })
            .await?;
        self.folds = Some(folds);
        Ok(())
    }
}

/// Ends the folds.
pub(super) async fn end(
    env: &Env,
    gathered: Gathered,
    outlet: &mut dyn Outlet,
) -> Result<(Folded, Rest), Fault> {
    let times = match gathered.times {
        Some(mut times) => {
            times.write(outlet).await?;
            times.written
        }
        None => Vec::new(),
    };
    let latest = gathered.latest;
    let folds = gathered.folds.ok_or_else(lost)?;
    let (folded, history) = env
        .blocking(move || {
            let history = folds.all.map(Fold::finish_history).transpose()?;
            Ok::<_, Fault>((folds.last.finish()?, history))
        })
        .await?;
    let rest = Rest {
        history,
        times,
        latest,
    };
    Ok((folded, rest))
}

fn lost() -> Fault {
    Fault::new(ErrorCode::Internal, "a fold is gone after an error")
}

impl Times {
    fn add(&mut self, transaction: &Transaction) {
        if self.pending.is_empty() {
            self.first = transaction.commit;
            self.latest = transaction.time;
        }
        self.last = transaction.commit;
        self.latest = self.latest.max(transaction.time);
        self.pending.put_u64(transaction.commit.0);
        self.pending.put_u64(transaction.time.as_micros());
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= TIMES_PER_OBJECT * COMMIT_TIME_BYTES
    }

    async fn write(&mut self, outlet: &mut dyn Outlet) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes: Bytes = self.pending.split().freeze();
        self.written.push(CommitTimes {
            object: outlet.catalog(bytes).await?,
            first: self.first,
            last: self.last,
            latest: self.latest,
        });
        Ok(())
    }
}

/// Writes the rows of a window; gives their bytes.
pub(super) async fn write(
    settling: &Settling<'_>,
    changes: Changes,
    catalog: &mut DatabaseCatalog,
    outlet: &mut dyn Outlet,
) -> Result<u64, Fault> {
    let Changes {
        folded,
        rest,
        replaced,
    } = changes;
    let replaced = Arc::new(replaced);
    let part_size = settling.backup.part_size.0;
    let env = &settling.member.env;
    // The fix-up has left out what is read whole.
    let finals = Writing::new(folded.rows(), Form::Final, Arc::clone(&replaced));
    let (names, mut bytes) = finals.write(env, part_size, outlet).await?;
    catalog.rows = names;
    catalog.commit_times = rest.times;
    if let Some(history) = rest.history {
        let mut truncations: BTreeMap<_, _> = BTreeMap::new();
        for (relation, position) in history.truncations() {
            if !replaced.contains(&relation) {
                truncations.insert((relation, position), ());
            }
        }
        catalog.truncations = truncations.into_keys().collect();
        let versions = Writing::new(history.versions(), Form::Version, replaced);
        let (names, more) = versions.write(env, part_size, outlet).await?;
        catalog.versions = names;
        bytes += more;
    }
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Final,
    Version,
}

/// Writes entries as rows, from a file, in batches that end between two rows.
struct Writing {
    rows: FoldedRows,
    form: Form,
    replaced: Arc<BTreeSet<Oid>>,
    ahead: Option<Entry>,
}

impl Writing {
    fn new(rows: FoldedRows, form: Form, replaced: Arc<BTreeSet<Oid>>) -> Self {
        Self {
            rows,
            form,
            replaced,
            ahead: None,
        }
    }

    async fn write(
        mut self,
        env: &Env,
        part_size: u64,
        outlet: &mut dyn Outlet,
    ) -> Result<(Vec<String>, u64), Fault> {
        let (mut names, mut total, mut part) = (Vec::new(), 0, 0);
        loop {
            let (back, batch) = env
                .blocking(move || {
                    let batch = self.batch()?;
                    Ok::<_, Fault>((self, batch))
                })
                .await?;
            self = back;
            if batch.is_empty() {
                break;
            }
            part += batch.iter().map(Row::logical_len).sum::<usize>() as u64;
            outlet.rows(batch).await?;
            if part >= part_size {
                names.extend(outlet.end_rows().await?);
                total += part;
                part = 0;
            }
        }
        if part > 0 {
            names.extend(outlet.end_rows().await?);
        }
        Ok((names, total + part))
    }

    /// The next rows, the versions of each newest first; empty at the end.
    fn batch(&mut self) -> Result<RowBatch, Fault> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BLOCK {
            let start = batch.len();
            let before = bytes;
            while let Some(entry) = self.next_of_row(batch.get(start))? {
                let row = match self.form {
                    Form::Final => final_row(entry)?,
                    Form::Version => version_row(entry)?,
                };
                bytes += row.logical_len();
                if bytes - before > MOST_VERSIONS && batch.len() > start {
                    return Err(Fault::new(
                        ErrorCode::ResourceExhausted,
                        format!("one row's versions take more than {MOST_VERSIONS} bytes"),
                    )
                    .hint("back up with history more often"));
                }
                batch.push(row);
            }
            if batch.len() == start {
                break;
            }
            if let Some(versions) = batch.get_mut(start..) {
                versions.reverse();
            }
        }
        Ok(batch)
    }

    /// The next entry of the same row as `row`, or of any if there is none.
    fn next_of_row(&mut self, row: Option<&Row>) -> Result<Option<Entry>, Fault> {
        let entry = loop {
            let entry = match self.ahead.take() {
                Some(entry) => Some(entry),
                None => self.rows.next_entry()?,
            };
            match entry {
                Some(entry) if self.replaced.contains(&entry.version.relation) => {}
                Some(entry) => break entry,
                None => return Ok(None),
            }
        };
        let is_same = row.is_none_or(|row| {
            let (relation, key) = row.key.split_at_checked(4).unwrap_or_default();
            relation == entry.version.relation.0.to_be_bytes() && key == entry.version.key.bytes()
        });
        match is_same {
            true => Ok(Some(entry)),
            false => {
                self.ahead = Some(entry);
                Ok(None)
            }
        }
    }
}
