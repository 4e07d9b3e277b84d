//! Loads rows by `COPY … (FORMAT binary)`, each part exactly once.

use super::marks::Marks;
use crate::answer::{ask, run};
use crate::copy::CopyWriter;
use crate::globals::DatabaseFacts;
use crate::identifier::{Spelling, literal, qualified, quote};
use crate::layout::{Column, Layout};
use crate::session::Session;
use crate::session::fault as session_fault;
use crate::tuple::Tuple;
use bytes::Bytes;
use futures::{SinkExt, Stream, TryStreamExt};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;

/// Bytes of one message: large enough that its frame costs nothing, and small enough that the server parses it while the next one is on
/// its way, and for its limit on messages, which a row may exceed.
const MESSAGE_BYTES: usize = 256 * 1024;

/// The temporary table for rows with columns in text form.
const HALFWAY: &str = "holdfast_halfway";

/// A table that rows go into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadTarget {
    /// Its schema at present.
    pub schema: String,
    /// Its name at present.
    pub table: String,
    /// The columns of the rows, in their order.
    pub columns: Vec<Column>,
    /// The encoding of texts in the rows: that of the database that was backed up.
    pub encoding: String,
}

impl LoadTarget {
    /// The table of a layout, under its own name.
    #[must_use]
    pub fn of(layout: &Layout, facts: &DatabaseFacts) -> Self {
        Self {
            schema: layout.schema.clone(),
            table: layout.name.clone(),
            columns: layout.columns.clone(),
            encoding: facts.locale.encoding.clone(),
        }
    }
}

/// Rows that go in together: whole ones, one after another, as `COPY … BINARY` has them, each checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowBlock {
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
}

/// How loading a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The rows were loaded and are durable.
    Loaded {
        /// How many.
        rows: u64,
    },
    /// They had been loaded before; nothing was read.
    AlreadyLoaded,
}

/// Loads one part of a table, in a transaction of its own with its mark. Loading it again, at the same time or later, changes nothing.
/// Dropping the future leaves nothing of it, once the session is closed or used again.
///
/// # Errors
/// What the server says, never with a value; or what `rows` gives.
pub async fn load(
    session: &Session,
    marks: &Marks,
    target: &LoadTarget,
    part: &str,
    rows: impl Stream<Item = Result<Tuple, Fault>> + Send,
) -> Result<LoadOutcome, Fault> {
    let rows = rows.and_then(|row| std::future::ready(block_of(&row)));
    load_noted(session, marks, target, part, rows, || None).await
}

fn block_of(row: &Tuple) -> Result<RowBlock, Fault> {
    match row.is_whole() {
        true => Ok(RowBlock {
            bytes: row.bytes().clone(),
            rows: 1,
        }),
        false => Err(Fault::new(
            ErrorCode::Internal,
            "a row with values that are not known cannot be loaded",
        )),
    }
}

/// As [`load`], of blocks of rows, and keeps a note on the part, asked for when all rows have passed, until the restore ends ([`Marks::part_notes`]).
///
/// # Errors
/// As [`load`].
pub(crate) async fn load_noted(
    session: &Session,
    marks: &Marks,
    target: &LoadTarget,
    part: &str,
    rows: impl Stream<Item = Result<RowBlock, Fault>> + Send,
    note: impl FnOnce() -> Option<String> + Send,
) -> Result<LoadOutcome, Fault> {
    let mark = format!("part/{part}");
    let begun = if is_unlogged(session, target).await? {
        marks.begin_fleeting(session, &mark).await?
    } else {
        marks.begin(session, &mark).await?
    };
    if !begun {
        return Ok(LoadOutcome::AlreadyLoaded);
    }
    let context = format!("cannot load {}.{}", target.schema, target.table);
    let loaded = copy(session, target, rows, &context).await;
    match loaded {
        Ok(rows) => {
            // Whoever is told of a loaded part must not find it gone after a crash of the server.
            let noted = note().map_or(String::new(), |note| marks.note_statement(part, &note));
            let end = format!("{noted} SET LOCAL synchronous_commit = on; COMMIT");
            run(session, &context, &end).await?;
            Ok(LoadOutcome::Loaded { rows })
        }
        Err(fault) => {
            let _ = run(session, &context, "ROLLBACK").await;
            Err(fault)
        }
    }
}

/// As [`load_noted`], but the rows go nowhere: they are read to their end, and the mark and the note say that they were.
///
/// # Errors
/// As [`load`].
pub(crate) async fn verify_noted(
    session: &Session,
    marks: &Marks,
    part: &str,
    rows: impl Stream<Item = Result<RowBlock, Fault>> + Send,
    note: impl FnOnce() -> Option<String> + Send,
) -> Result<LoadOutcome, Fault> {
    let context = "cannot keep what was verified";
    let mark = format!("part/{part}");
    if marks.with_prefix(session, &mark).await?.contains(&mark) {
        return Ok(LoadOutcome::AlreadyLoaded);
    }
    // No transaction is open while the rows are read: the collection may be slow, and nothing is written before the end.
    let mut rows = std::pin::pin!(rows);
    let mut count = 0;
    while let Some(block) = rows.try_next().await? {
        count += block.rows;
    }
    if !marks.begin(session, &mark).await? {
        return Ok(LoadOutcome::AlreadyLoaded);
    }
    let noted = note().map_or(String::new(), |note| marks.note_statement(part, &note));
    let end = format!("{noted} SET LOCAL synchronous_commit = on; COMMIT");
    run(session, context, &end).await?;
    Ok(LoadOutcome::Loaded { rows: count })
}

/// Has long values of the session's rows compressed by LZ4 where the server can and nobody chose otherwise: PGLZ takes several times as long for about the
/// same size. A column with a method of its own keeps it, and what reads a value sees no difference.
///
/// # Errors
/// What the server says.
pub(crate) async fn prefer_fast_compression(session: &Session) -> Result<(), Fault> {
    let sql = "SELECT pg_catalog.set_config(name, 'lz4', false) FROM pg_catalog.pg_settings \
         WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)";
    run(session, "cannot set up a session", sql).await
}

/// A crash of the server empties an unlogged table, with whatever was loaded.
async fn is_unlogged(session: &Session, target: &LoadTarget) -> Result<bool, Fault> {
    // A session whose last load was given up may still be in that transaction.
    let sql = format!(
        "ROLLBACK; SELECT relpersistence = 'u' FROM pg_catalog.pg_class WHERE oid = {}::pg_catalog.regclass",
        literal(&qualified(&target.schema, &target.table))
    );
    let rows = ask(session, "cannot find the table to load", &sql).await?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

async fn copy(
    session: &Session,
    target: &LoadTarget,
    rows: impl Stream<Item = Result<RowBlock, Fault>> + Send,
    context: &str,
) -> Result<u64, Fault> {
    let table = qualified(&target.schema, &target.table);
    if target.columns.iter().any(|column| column.as_text) {
        run(session, context, &halfway_statement(target, &table)).await?;
        let halfway = format!("pg_temp.{}", quote(HALFWAY));
        let count = copy_into(session, &halfway, target, rows, context).await?;
        let sql = onward_statement(session, target, &table, context).await?;
        // Casts from text name the value that does not fit.
        run(session, context, &sql).await.map_err(without_values)?;
        return Ok(count);
    }
    copy_into(session, &table, target, rows, context).await
}

async fn copy_into(
    session: &Session,
    table: &str,
    target: &LoadTarget,
    rows: impl Stream<Item = Result<RowBlock, Fault>> + Send,
    context: &str,
) -> Result<u64, Fault> {
    let fault =
        |error: tokio_postgres::Error| without_values(session_fault(&error).context(context));
    if target.columns.is_empty() {
        return insert_empty(session, table, rows, context).await;
    }
    // From here to the end of the rows statements are read in the rows' encoding too.
    let spelling = Spelling::of(&target.encoding);
    let names: Vec<String> = target
        .columns
        .iter()
        .map(|column| spelling.identifier(&column.name))
        .collect();
    let place = if table.starts_with("pg_temp.") {
        table.to_owned()
    } else {
        spelling.qualified(&target.schema, &target.table)
    };
    let encoding = format!("SET LOCAL client_encoding = {}", literal(&target.encoding));
    run(session, context, &encoding).await?;
    let sql = format!(
        "COPY {place} ({}) FROM STDIN (FORMAT binary)",
        names.join(", ")
    );
    let sink = session.client().copy_in::<_, Bytes>(&sql);
    let sink = sink.await.map_err(fault)?;
    let mut sink = std::pin::pin!(sink);
    let mut rows = std::pin::pin!(rows);
    let mut writer = CopyWriter::new();
    sink.as_mut().feed(writer.take()).await.map_err(fault)?;
    while let Some(RowBlock { mut bytes, .. }) = rows.try_next().await? {
        while !bytes.is_empty() {
            let message = bytes.split_to(bytes.len().min(MESSAGE_BYTES));
            sink.as_mut().feed(message).await.map_err(fault)?;
        }
    }
    sink.as_mut().feed(writer.finish()).await.map_err(fault)?;
    let count = sink.as_mut().finish().await.map_err(fault)?;
    run(session, context, "SET LOCAL client_encoding = 'UTF8'").await?;
    Ok(count)
}

/// Rows without columns: `COPY` cannot name none.
async fn insert_empty(
    session: &Session,
    table: &str,
    rows: impl Stream<Item = Result<RowBlock, Fault>> + Send,
    context: &str,
) -> Result<u64, Fault> {
    let mut rows = std::pin::pin!(rows);
    let mut count = 0u64;
    while let Some(block) = rows.try_next().await? {
        count += block.rows;
    }
    let sql = format!("INSERT INTO {table} SELECT FROM pg_catalog.generate_series(1, {count})");
    run(session, context, &sql).await?;
    Ok(count)
}

fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    names.join(", ")
}

/// A temporary table like the target, in which columns in text form are texts.
fn halfway_statement(target: &LoadTarget, table: &str) -> String {
    let columns: Vec<String> = target
        .columns
        .iter()
        .map(|column| {
            let name = quote(&column.name);
            if column.as_text {
                format!("{name}::text AS {name}")
            } else {
                name
            }
        })
        .collect();
    format!(
        "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM ONLY {table} WITH NO DATA",
        quote(HALFWAY),
        columns.join(", ")
    )
}

/// Moves the rows on, casting texts through the input functions of the target's types.
async fn onward_statement(
    session: &Session,
    target: &LoadTarget,
    table: &str,
    context: &str,
) -> Result<String, Fault> {
    let sql = format!(
        "SELECT attname, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute \
         WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped",
        literal(table)
    );
    let rows = ask(session, context, &sql).await?;
    let types: BTreeMap<String, String> = rows
        .into_iter()
        .map(|row| (row.text(0), row.text(1)))
        .collect();
    let values: Vec<String> = target
        .columns
        .iter()
        .map(|column| {
            let name = quote(&column.name);
            match types.get(&column.name) {
                Some(own) if column.as_text => format!("{name}::{own}"),
                _ => name,
            }
        })
        .collect();
    Ok(format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM pg_temp.{}",
        names(&target.columns),
        values.join(", "),
        quote(HALFWAY)
    ))
}

/// A cast from text to a reference names what it does not find.
fn without_values(fault: Fault) -> Fault {
    if fault.code != ErrorCode::NotFound {
        return fault;
    }
    let place = fault.message.split(':').next().unwrap_or_default();
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("{place}: a value refers to an object that does not exist there"),
    )
}
