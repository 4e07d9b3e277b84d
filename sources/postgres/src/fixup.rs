//! The finish at the exact snapshot F: which relations are read whole, and which rows are read again by key.

use futures::{StreamExt, TryStreamExt, pin_mut};
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio_postgres::Statement;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::changes::ChangePosition;
use crate::fold::{Entry, Folded, FoldedRows, Op, Sorter, Truncated, Version};
use crate::identifier::Spelling;
use crate::key::Key;
use crate::layout::{Layout, Lsn, Oid};
use crate::pages::holds_lock;
use crate::session::{STATEMENT_DEADLINE, Session, fault};
use crate::tuple::{Field, Tuple};

/// Keys that one statement reads.
const BATCH_KEYS: usize = 128;

/// Bytes of re-read rows that are handed to the fold at once.
const BATCH_BYTES: usize = 1 << 20;

/// Whether the rows of a planned relation must be read whole under F, because its changes and its page ranges do not make them exact: it was
/// rewritten, or has other columns or another key. `file_node_xid` is the `xmin` of its row in `pg_class` under F.
///
/// A TRUNCATE explains a new file node, and the changes after it are all there is. But only if its transaction was the last to change the row in
/// `pg_class`, and what it truncated was not rewritten into other rows afterwards: `ALTER … TYPE … USING` does that and leaves no trace in the stream.
/// Every such `ALTER` writes rows of the columns anew, so that it `is_altered`, whether they differ from the planned ones' catalog rows. `SET UNLOGGED`,
/// which hides changes from the stream, does not; the server refuses it as long as a table is published, and one that was not throughout is read whole
/// for that. `CLUSTER` writes the same rows.
#[must_use]
pub fn must_be_read_whole(
    planned: &Layout,
    at_f: &Layout,
    file_node_xid: u32,
    truncated: Option<&Truncated>,
    is_altered: bool,
) -> bool {
    let is_explained =
        truncated.is_some_and(|it| it.xid == file_node_xid && (!it.is_followed || !is_altered));
    !planned.same_form(at_f)
        || planned.handling != at_f.handling
        || (planned.file_node != at_f.file_node && !is_explained)
}

/// A relation as the snapshot F shows it.
#[derive(Debug, Clone)]
pub struct AtF {
    /// Its form, names and file.
    pub layout: Arc<Layout>,
    /// The transaction that last changed its row in `pg_class`: see [`file_node_xids`].
    pub file_node_xid: u32,
}

/// The planned relations whose page ranges and changes do not count: those that must be read whole under F, and those that are gone. `changed` are
/// the relations whose columns are not in the form that they were planned in, be it only for a while, or of which a range was found to be something else.
#[must_use]
pub fn replaced(
    planned: &BTreeMap<Oid, Arc<Layout>>,
    at_f: &BTreeMap<Oid, AtF>,
    folded: &Folded,
    changed: &BTreeSet<Oid>,
) -> BTreeSet<Oid> {
    let is_replaced = |(oid, planned): &(&Oid, &Arc<Layout>)| {
        let truncated = folded.truncated().get(oid);
        at_f.get(oid).is_none_or(|now| {
            let is_altered = changed.contains(oid);
            must_be_read_whole(planned, &now.layout, now.file_node_xid, truncated, is_altered)
                || folded.reshaped().contains_key(oid)
                // Without its page ranges, only a truncation leaves nothing to be missed.
                || (is_altered && truncated.is_none())
        })
    };
    planned
        .iter()
        .filter(is_replaced)
        .map(|(oid, _)| *oid)
        .collect()
}

/// For each relation the transaction that last changed its row in `pg_class`, as the session's snapshot shows it.
///
/// # Errors
/// What the server says.
pub async fn file_node_xids(session: &Session) -> Result<BTreeMap<Oid, u32>, Fault> {
    // `xid` has no cast to a number.
    let query = "SELECT oid, xmin::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_class WHERE relkind = 'r'";
    let rows = session.query(query, &[]).await?;
    let xid = |row: &tokio_postgres::Row| {
        let xid = u32::try_from(row.get::<_, i64>(1)).unwrap_or_default();
        (Oid(row.get(0)), xid)
    };
    Ok(rows.iter().map(xid).collect())
}

/// Reads every changed row that is not whole again, in a session for data whose transaction has the snapshot F. Relations in `replaced` are read whole
/// elsewhere, or gone: their rows leave the fold.
///
/// `layouts` are those at F, for names may have moved since the plan. `fixes` is an empty sorter for the rows,
/// [`crate::fold::Keep::Last`]. `f` is the position of F.
///
/// # Errors
/// [`ErrorCode::HistoryGone`] if a relation was truncated, rewritten, renamed or dropped after F, so that F no longer sees its rows: take a newer F. The fold
/// is lost then, and its window must be read again. Otherwise what the server says.
pub async fn fix_up(
    env: &Env,
    session: &Session,
    layouts: &BTreeMap<Oid, Arc<Layout>>,
    folded: Folded,
    replaced: &BTreeSet<Oid>,
    mut fixes: Sorter,
    f: Lsn,
) -> Result<Folded, Fault> {
    let mut unresolved = folded.rows();
    let mut prepared: Option<Prepared> = None;
    let mut read = BTreeSet::new();
    loop {
        let (rows, batch) = next_batch(env, unresolved, replaced.clone()).await?;
        unresolved = rows;
        let Some(relation) = batch.first().map(|entry| entry.version.relation) else {
            break;
        };
        let layout = layouts.get(&relation).ok_or_else(|| {
            Fault::new(
                ErrorCode::Internal,
                format!("relation {relation} was not planned"),
            )
        })?;
        let keys: Vec<_> = batch.into_iter().map(|entry| entry.version.key).collect();
        if read.insert(relation) {
            lock(session, layout).await?;
        }
        let statement = match prepared.take() {
            Some(ready) if ready.is_for(relation, keys.len()) => ready,
            _ => prepare(session, layout, keys.len()).await?,
        };
        fixes = reread(env, session, layout, &statement, keys, fixes, f)
            .await
            .map_err(|fault| fault.context(layout.display_name()))?;
        prepared = Some(statement);
    }
    let replaced = replaced.clone();
    env.blocking(move || folded.overlay(fixes, &replaced)).await
}

/// Errs if the relation, which this transaction has read or locked, is not the one that its snapshot sees: `TRUNCATE` and most `ALTER TABLE` take rows
/// away from older snapshots too, and a name may mean another relation by now. What this holds for when the lock is there holds to the
/// end of the transaction, and did when the lock was granted.
///
/// # Errors
/// [`ErrorCode::HistoryGone`] if it is so; otherwise what the server says.
pub async fn check_file_node(session: &Session, layout: &Layout) -> Result<(), Fault> {
    let query = format!(
        "SELECT relfilenode = pg_catalog.pg_relation_filenode(oid) FROM pg_catalog.pg_class WHERE oid = {}",
        layout.oid
    );
    let answer = session.query(&query, &[]).await?;
    let is_same = answer.first().and_then(|row| row.get::<_, Option<bool>>(0));
    if is_same == Some(true) && holds_lock(session, layout).await? {
        return Ok(());
    }
    Err(moved(layout))
}

/// Locks a relation against what takes rows away from a snapshot, and sees that nothing did.
async fn lock(session: &Session, layout: &Layout) -> Result<(), Fault> {
    let name = session.spelling().qualified(&layout.schema, &layout.name);
    let locked = session
        .execute(&format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE"))
        .await;
    match locked {
        Err(fault) if fault.code == ErrorCode::NotFound => Err(moved(layout)),
        Err(fault) => Err(fault.context(layout.display_name())),
        Ok(()) => check_file_node(session, layout).await,
    }
}

fn moved(layout: &Layout) -> Fault {
    Fault::new(
        ErrorCode::HistoryGone,
        format!(
            "{} was truncated, rewritten, renamed or dropped after the snapshot that it was to be read under",
            layout.display_name()
        ),
    )
    .hint("the finish is repeated under a newer snapshot")
}

/// The next rows to read again, all of one relation.
async fn next_batch(
    env: &Env,
    mut rows: FoldedRows,
    replaced: BTreeSet<Oid>,
) -> Result<(FoldedRows, Vec<Entry>), Fault> {
    env.blocking(move || {
        let mut batch: Vec<Entry> = Vec::new();
        while batch.len() < BATCH_KEYS {
            let relation = batch.first().map(|entry| entry.version.relation);
            match rows.next_unresolved(&replaced, relation)? {
                Some(entry) => batch.push(entry),
                None => break,
            }
        }
        Ok((rows, batch))
    })
    .await
}

/// The statement that reads a number of keys of a relation.
struct Prepared {
    relation: Oid,
    keys: usize,
    statement: Statement,
}

impl Prepared {
    fn is_for(&self, relation: Oid, keys: usize) -> bool {
        self.relation == relation && self.keys == keys
    }
}

/// Reads the rows with these keys, each of which must be there.
async fn reread(
    env: &Env,
    session: &Session,
    layout: &Layout,
    prepared: &Prepared,
    keys: Vec<Key>,
    mut fixes: Sorter,
    f: Lsn,
) -> Result<Sorter, Fault> {
    let parts: Vec<_> = keys.iter().flat_map(Key::parts).map(Part).collect();
    let query = session.client().query_raw(&prepared.statement, parts);
    let rows = session.within(STATEMENT_DEADLINE, query).await?;
    let rows = rows.map_err(|error| fault(&error));
    pin_mut!(rows);
    let mut wanted: BTreeSet<_> = keys.iter().collect();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let row = rows.next().await.transpose()?;
        let is_over = row.is_none();
        if let Some(row) = row {
            let row = values(&row, layout)?;
            let key = Key::of(&row, &layout.key)?;
            // A row with an equal key of other bytes is another version's business.
            if wanted.remove(&key) {
                bytes += row.bytes().len();
                batch.push((key, row));
            }
        }
        if is_over || bytes >= BATCH_BYTES {
            let (rows, relation) = (std::mem::take(&mut batch), layout.oid);
            bytes = 0;
            fixes = env
                .blocking(move || {
                    store(&mut fixes, relation, rows, f)?;
                    Ok::<_, Fault>(fixes)
                })
                .await?;
        }
        if is_over {
            break;
        }
    }
    if wanted.is_empty() {
        return Ok(fixes);
    }
    let missing = wanted.len();
    Err(Fault::new(
        ErrorCode::Internal,
        format!("{missing} rows that were changed before the snapshot are not in it"),
    ))
}

fn store(fixes: &mut Sorter, relation: Oid, rows: Vec<(Key, Tuple)>, f: Lsn) -> Result<(), Fault> {
    // After every commit before F, and before every one from F on: a later fold may go on from here.
    let position = ChangePosition {
        commit: Lsn(f.0.saturating_sub(1)),
        ordinal: u64::MAX,
    };
    for (key, row) in rows {
        let version = Version {
            relation,
            key,
            position,
        };
        fixes.push(version, Op::Put { row, origin: None })?;
    }
    Ok(())
}

async fn prepare(session: &Session, layout: &Layout, keys: usize) -> Result<Prepared, Fault> {
    let operators = key_operators(session, layout).await?;
    let sql = statement(layout, &operators, keys, session.spelling());
    let statement = session.client().prepare(&sql);
    let statement = session.within(STATEMENT_DEADLINE, statement).await;
    Ok(Prepared {
        relation: layout.oid,
        keys,
        statement: statement.map_err(|fault| fault.context(layout.display_name()))?,
    })
}

/// `SELECT … FROM (VALUES ($1::type, …), …) JOIN ONLY table ON …`, with the operators of the key's own index: the search path is empty, and
/// a type may have another idea of `=`.
fn statement(layout: &Layout, operators: &[String], keys: usize, spelling: Spelling) -> String {
    let mut sql = String::from("SELECT ");
    for (index, column) in layout.columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let cast = if column.as_text {
            "::pg_catalog.text"
        } else {
            ""
        };
        // Writing to a `String` cannot fail.
        let _ = write!(sql, "{comma}t.{}{cast}", spelling.identifier(&column.name));
    }
    sql.push_str(" FROM (VALUES ");
    let mut parameter = 0;
    for row in 0..keys {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for (index, column) in layout.key_columns().enumerate() {
            parameter += 1;
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(sql, "{comma}${parameter}::{}", column.type_name);
        }
        sql.push(')');
    }
    sql.push_str(") AS k(");
    let names: Vec<_> = (0..layout.key.len())
        .map(|index| format!("k{index}"))
        .collect();
    sql.push_str(&names.join(", "));
    let table = spelling.qualified(&layout.schema, &layout.name);
    let _ = write!(sql, ") JOIN ONLY {table} AS t ON ");
    for (index, (column, operator)) in layout.key_columns().zip(operators).enumerate() {
        let and = if index == 0 { "" } else { " AND " };
        let name = spelling.identifier(&column.name);
        let _ = write!(sql, "{and}t.{name} {operator} k.k{index}");
    }
    sql
}

/// The equality operators of the primary key's index, in key order: `OPERATOR(pg_catalog.=)`.
async fn key_operators(session: &Session, layout: &Layout) -> Result<Vec<String>, Fault> {
    let query = format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || o.oprname \
         FROM pg_catalog.pg_index i \
         CROSS JOIN LATERAL pg_catalog.unnest(i.indclass::pg_catalog.oid[]) WITH ORDINALITY AS c(class, nth) \
         JOIN pg_catalog.pg_opclass oc ON oc.oid = c.class \
         JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 \
          AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
         JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr \
         JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace \
         WHERE i.indrelid = {} AND i.indisprimary ORDER BY c.nth",
        layout.oid
    );
    let rows = session.query(&query, &[]).await?;
    let operator = |row: &tokio_postgres::Row| format!("OPERATOR({})", row.get::<_, String>(0));
    let operators: Vec<String> = rows.iter().map(operator).collect();
    if operators.len() == layout.key.len() {
        return Ok(operators);
    }
    Err(Fault::new(
        ErrorCode::HistoryGone,
        format!("the primary key of {} was changed", layout.display_name()),
    )
    .hint("the finish is repeated under a newer snapshot"))
}

/// A row of an answer in the form that it is kept in.
fn values(row: &tokio_postgres::Row, layout: &Layout) -> Result<Tuple, Fault> {
    let mut fields = Vec::with_capacity(layout.columns.len());
    for index in 0..layout.columns.len() {
        let value: Option<Raw<'_>> = row.try_get(index).map_err(|error| fault(&error))?;
        fields.push(value.map_or(Field::Null, |raw| Field::Value(raw.0)));
    }
    Tuple::build(fields.into_iter())
}

/// A value as the server sent it, of whatever type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value in the binary form of its type, whatever that is.
struct Part<'a>(&'a [u8]);

impl std::fmt::Debug for Part<'_> {
    /// Keys are row data and never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({} bytes)", self.0.len())
    }
}

impl ToSql for Part<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
