//! Reading a relation: page ranges of keyed ones, each at a snapshot of its own, and whole ones under a given snapshot.
//!
//! # Invariants
//! * Bounds are computed once and kept with the plan; the last range is open, for the relation may grow.
//! * A read sees its relation as it was planned: under a lock that keeps rewrites and changes of columns out, it compares object id, file
//!   node (as the snapshot shows it, and as it is now) and columns before the first row. Anything else is [`Opened::Changed`], never
//!   rows: a `TRUNCATE` or a rewrite makes an older snapshot see the relation empty, without an error.
//!
//! # Concurrency
//! Ranges are read in any order, by any session, before or after a crash. A read holds a snapshot and an `ACCESS SHARE` lock until
//! [`PartRead::finish`]; dropped before, it stops the statement and closes the session.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_types::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

use crate::changes::wait_until_flushed;
use crate::exact::log_end;
use crate::identifier::Spelling;
use crate::layout::{FileNode, Layout, Lsn};
use crate::session::{CopyOut, Session, name_holders};

/// Bytes of a part: how much a lost worker does again, and how long a snapshot is held. 1 to 256 MiB cost the server the same.
pub const PART_BYTES: u64 = 64 << 20;

/// Pages of a relation's heap, half open; the last range of a relation has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PageRange {
    /// The first page.
    pub start: u32,
    /// The page after the last one; `None` takes in what the relation grows by.
    pub end: Option<u32>,
}

impl PageRange {
    /// The whole relation.
    pub const ALL: Self = Self {
        start: 0,
        end: None,
    };

    fn condition(self) -> String {
        let mut condition = format!("ctid >= '({},0)'::pg_catalog.tid", self.start);
        if let Some(end) = self.end {
            // Writing to a string cannot fail.
            let _ = write!(condition, " AND ctid < '({end},0)'::pg_catalog.tid");
        }
        condition
    }
}

/// Cuts a relation into ranges of about [`PART_BYTES`], values stored out of line included.
///
/// `page_bytes` is the server's `block_size`.
#[must_use]
pub fn plan(heap_bytes: u64, total_bytes: u64, page_bytes: u64) -> Vec<PageRange> {
    let pages = heap_bytes / page_bytes.max(1);
    // A page stands for its share of what is stored out of line.
    let page_weight = (total_bytes.max(heap_bytes) / pages.max(1)).max(1);
    let step = (PART_BYTES / page_weight).max(1);
    let mut ranges = Vec::new();
    let mut start = 0;
    while let Some(end) = u32::try_from(start + step)
        .ok()
        .filter(|end| u64::from(*end) < pages)
    {
        ranges.push(PageRange {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: Some(end),
        });
        start += step;
    }
    ranges.push(PageRange {
        start: u32::try_from(start).unwrap_or(u32::MAX),
        end: None,
    });
    ranges
}

/// What opening a read found.
#[derive(Debug)]
pub enum Opened {
    /// The rows come.
    Reading(Box<PartRead>),
    /// The relation is not what it was planned as; the session is as good as before.
    Changed(Box<Session>, Change),
}

/// In which way a relation differs from its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is gone, or another relation has its name.
    Gone,
    /// Its rows are in another file: it was rewritten or truncated.
    Rewritten,
    /// Its columns differ.
    Columns,
}

/// The rows of a range as `COPY … BINARY` sends them: [`PartRead::next`] until `None`, then [`PartRead::finish`].
#[derive(Debug)]
pub struct PartRead {
    // Before the session, so that it is dropped first.
    stream: CopyOut,
    session: Session,
    /// The end of the log after the snapshot of a transaction of its own was taken: all that it sees lies before.
    log_end: Option<Lsn>,
}

impl PartRead {
    /// The next chunk.
    ///
    /// # Errors
    /// What the server says; the read is then over, and nothing of it counts.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        self.stream.next().await
    }

    /// Ends the read, after the last chunk, and gives the session back for the next one. The rows of a range in a transaction of its own count when this
    /// has succeeded: it waits until what they came from is flushed. A transaction with `synchronous_commit = off` is visible before that,
    /// and a crash of the server would undo it and leave no trace in the change stream. Of a snapshot that was given somebody else has
    /// seen to that.
    ///
    /// # Errors
    /// What the server says.
    pub async fn finish(self: Box<Self>) -> Result<Session, Fault> {
        let Self {
            mut stream,
            session,
            log_end,
        } = *self;
        // The caller has seen the end, or does not care for the rest; a stream at its end gives it again.
        if let Some(chunk) = stream.next().await {
            chunk?;
        }
        drop(stream);
        if let Some(log_end) = log_end {
            session.execute("COMMIT").await?;
            wait_until_flushed(&session, log_end).await?;
        }
        Ok(session)
    }
}

/// Opens a range of a keyed relation in a transaction of its own. The session must be for data and outside a transaction.
///
/// # Errors
/// What the server says; `Unavailable` if the relation stays locked. The session is closed then.
pub async fn open_range(
    session: Session,
    layout: &Layout,
    range: PageRange,
) -> Result<Opened, Fault> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.execute(begin).await?;
    open(session, layout, Some(range), true).await
}

/// Opens a relation as a whole under the transaction that the session is in, which has its snapshot already.
///
/// # Errors
/// As [`open_range`].
pub async fn open_whole(session: Session, layout: &Layout) -> Result<Opened, Fault> {
    open(session, layout, None, false).await
}

/// Opens a range under the transaction that the session is in: snapshot mode's way of cutting a relation.
///
/// # Errors
/// As [`open_range`].
pub async fn open_range_within(
    session: Session,
    layout: &Layout,
    range: PageRange,
) -> Result<Opened, Fault> {
    open(session, layout, Some(range), false).await
}

async fn open(
    session: Session,
    layout: &Layout,
    range: Option<PageRange>,
    owns_transaction: bool,
) -> Result<Opened, Fault> {
    let context = |fault: Fault| fault.context(layout.display_name());
    let table = session.spelling().qualified(&layout.schema, &layout.name);
    // The lock comes before the transaction's snapshot: what is committed when it is granted is seen.
    let locked = match lock(&session, &table).await {
        Ok(locked) => locked,
        Err(fault) => {
            // The transaction is over, and the session with it: it can still tell who was in the way.
            session.execute("ROLLBACK").await?;
            let fault = name_holders(&session, &[layout.oid.0], fault).await;
            return Err(context(fault));
        }
    };
    let change = match locked {
        true => compare(&session, layout).await.map_err(context)?,
        false => Some(Change::Gone),
    };
    if let Some(change) = change {
        if owns_transaction {
            session.execute("ROLLBACK").await?;
        }
        return Ok(Opened::Changed(Box::new(session), change));
    }
    let log_end = match owns_transaction {
        true => Some(log_end(&session).await?),
        false => None,
    };
    let sql = copy_statement(layout, range, session.spelling());
    let stream = session.copy_out_blocks(&sql).await.map_err(context)?;
    Ok(Opened::Reading(Box::new(PartRead {
        stream,
        session,
        log_end,
    })))
}

/// Takes the lock; `false` if there is no such relation.
async fn lock(session: &Session, table: &str) -> Result<bool, Fault> {
    // A missing relation must not end a transaction that is the caller's.
    let sql = format!(
        "SAVEPOINT holdfast; LOCK TABLE ONLY {table} IN ACCESS SHARE MODE; RELEASE SAVEPOINT holdfast"
    );
    match session.execute(&sql).await {
        Ok(()) => Ok(true),
        Err(fault) if fault.code == ErrorCode::NotFound => {
            let undo = "ROLLBACK TO SAVEPOINT holdfast; RELEASE SAVEPOINT holdfast";
            session.execute(undo).await.map(|()| false)
        }
        Err(fault) => Err(fault),
    }
}

/// Compares the relation with its plan. Columns are read from the catalogs as they are now (the lock holds them), for it is now's columns that
/// `COPY` uses, whatever the snapshot shows.
async fn compare(session: &Session, layout: &Layout) -> Result<Option<Change>, Fault> {
    let row = session
        .query_one(
            "SELECT count(*), coalesce(min(c.relfilenode), 0),
                    coalesce(pg_catalog.pg_relation_filenode($1::oid::pg_catalog.regclass), 0)
             FROM pg_catalog.pg_class c WHERE c.oid = $1",
            &[&layout.oid.0],
        )
        .await?;
    let planned = layout.file_node;
    if row.get::<_, i64>(0) != 1 {
        return Ok(Some(Change::Gone));
    }
    let (seen, now) = (FileNode(row.get(1)), FileNode(row.get(2)));
    if seen != planned || now != planned {
        return Ok(Some(Change::Rewritten));
    }
    // As bytes: a parameter that is text would be read in the session's encoding.
    // The name was locked as it is now, and a snapshot may be older: the lock on this very relation proves that the name still means it.
    if !holds_lock(session, layout).await? {
        return Ok(Some(Change::Gone));
    }
    let columns = session
        .query(
            "SELECT a.attnum, a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
            &[&layout.oid.0],
        )
        .await?;
    let same = columns.len() == layout.columns.len()
        && columns.iter().zip(&layout.columns).all(|(row, column)| {
            row.get::<_, i16>(0) == column.attnum
                && row.get::<_, u32>(1) == column.type_oid.0
                && row.get::<_, i32>(2) == column.typmod
        });
    Ok((!same).then_some(Change::Columns))
}

/// Whether this session's transaction has the relation locked for reading, so that nobody renames, truncates, rewrites or drops it.
pub(crate) async fn holds_lock(session: &Session, layout: &Layout) -> Result<bool, Fault> {
    let row = session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation'
             AND relation = $1 AND mode = 'AccessShareLock' AND granted)",
            &[&layout.oid.0],
        )
        .await?;
    Ok(row.get(0))
}

/// The columns of a layout as `COPY (SELECT …)` lists them, text forms cast.
#[must_use]
pub fn select_list(layout: &Layout, spelling: Spelling) -> String {
    let columns: Vec<String> = layout
        .columns
        .iter()
        .map(|column| {
            let name = spelling.identifier(&column.name);
            match column.as_text {
                true => format!("{name}::pg_catalog.text"),
                false => name,
            }
        })
        .collect();
    columns.join(", ")
}

/// The statement that reads a range, or the whole relation.
#[must_use]
pub fn copy_statement(layout: &Layout, range: Option<PageRange>, spelling: Spelling) -> String {
    let columns = select_list(layout, spelling);
    let table = spelling.qualified(&layout.schema, &layout.name);
    // Configuration tables of extensions bring their condition with its WHERE.
    let rows = match (range, &layout.filter) {
        (Some(range), _) => format!("WHERE {}", range.condition()),
        (None, Some(filter)) => filter.clone(),
        (None, None) => String::new(),
    };
    format!("COPY (SELECT {columns} FROM ONLY {table} {rows}) TO STDOUT (FORMAT binary)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_tile_the_relation(heap in 0_u64..1 << 38, beside in 0_u64..1 << 42) {
            let heap = heap >> 10 << 10;
            let ranges = plan(heap, heap + beside, 8192);
            prop_assume!(ranges.len() < 1 << 20);
            prop_assert_eq!(ranges.first().map(|range| range.start), Some(0));
            prop_assert_eq!(ranges.last().map(|range| range.end), Some(None));
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].end, Some(pair[1].start));
                prop_assert!(pair[0].start < pair[1].start);
            }
        }
    }

    #[test]
    fn parts_are_cut_by_all_bytes_not_by_the_heap_alone() {
        assert_eq!(plan(0, 0, 8192), [PageRange::ALL]);
        assert_eq!(plan(64 << 20, 64 << 20, 8192).len(), 1);
        assert_eq!(plan(640 << 20, 640 << 20, 8192).len(), 10);
        let wide = plan(64 << 20, 6400 << 20, 8192).len();
        assert!((100..=103).contains(&wide), "{wide}");
    }
}
