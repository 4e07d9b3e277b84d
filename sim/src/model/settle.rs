//! The end of a backup: an exact position F, the changes up to it, folded by the production code, and what only F can tell.

use bytes::Bytes;
use holdfast_postgres::changes::{ChangePosition, Event};
use holdfast_postgres::fixup::{AtF, replaced};
use holdfast_postgres::fold::{Fold, Folded, History, Keep, Op, Sorter, Version};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::member::rows::{final_row, version_row};
use holdfast_postgres::tuple::Tuple;
use holdfast_source::{LoggedBackup, Outlet, Row};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Relation, SettledDatabase, TableName, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{
    Catalog, Content, DatabasePlan, TableEntry, Versions, decode, encode, relation as relation_of,
};
use super::client::{ModelClient, columns, room, table_name};
use super::rows::{COLUMNS, Rows, key, row, tuple};
use crate::bank::DATABASE;
use crate::libc_override;
use crate::mutant::Mutant;
use crate::trace;

/// How many positions F are tried.
const ATTEMPTS: u32 = 4;
/// Memory of a fold: little, so that it writes runs.
const MEMORY: usize = 8 * 1024;

/// See [`holdfast_source::LoggedSource::settle`].
pub(super) async fn settle(
    client: &ModelClient,
    backup: &LoggedBackup,
    relation: &Relation,
    planned: &[Relation],
    outlet: &mut dyn Outlet,
) -> Result<SettledDatabase, Fault> {
    let plan: DatabasePlan = decode(&relation.definition)?;
    let layouts: BTreeMap<Oid, Arc<Layout>> = match (plan.continues, backup.parent.first()) {
        (true, Some(parent)) => {
            let tables = Catalog::of(parent)?.tables;
            let layout = |entry: TableEntry| (entry.layout.oid, Arc::new(entry.layout));
            tables.into_values().map(layout).collect()
        }
        _ => {
            let read = |relation: &Relation| {
                let layout: Layout = decode(&relation.definition)?;
                Ok((layout.oid, Arc::new(layout)))
            };
            let tables = planned.iter().filter(|other| other.id != relation.id);
            tables.map(read).collect::<Result<_, Fault>>()?
        }
    };
    for _ in 0..ATTEMPTS {
        client.server.gate().await?;
        client.verify(backup.hold, plan.start)?;
        match attempt(client, backup, &plan, &layouts, outlet).await {
            Err(fault) if fault.code == ErrorCode::NotFound => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
    Err(Fault::new(
        ErrorCode::Unavailable,
        "something truncates the model's tables all the time",
    ))
}

/// F is passed: what it was to show was taken away.
fn passed(layout: &Layout) -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        format!("table {} was truncated or rewritten after F", layout.name),
    )
}

async fn attempt(
    client: &ModelClient,
    backup: &LoggedBackup,
    plan: &DatabasePlan,
    planned: &BTreeMap<Oid, Arc<Layout>>,
    outlet: &mut dyn Outlet,
) -> Result<SettledDatabase, Fault> {
    // By the clock it is the time before F, or the last commit's if that is later.
    let mut ended_at = Timestamp::from_micros(libc_override::wall(trace::now()).as_micros() as u64);
    let f = client.server.end();
    client.server.gate().await?;
    let mut events = client
        .server
        .changes(backup.hold, (plan.start, f), planned)?;
    for event in &events {
        if let Event::Commit(transaction) = event {
            ended_at = ended_at.max(transaction.time);
        }
    }
    if client.is(Mutant::FoldByArrival) {
        arrive_anyhow(&mut events);
    }
    let history = match backup.history && plan.continues {
        true => Some(keep_all(client, &events)?),
        false => None,
    };
    let directory = room(&client.env)?;
    let mut fold = Fold::new(Keep::Last, Arc::clone(&client.env.disk), &directory, MEMORY);
    for event in events {
        fold.push(event)?;
    }
    let folded = fold.finish()?;
    let at_f: BTreeMap<Oid, AtF> = client
        .server
        .layouts_at(f)
        .into_iter()
        .map(|(oid, (layout, file_node_xid))| {
            let layout = Arc::new(layout);
            (
                oid,
                AtF {
                    layout,
                    file_node_xid,
                },
            )
        })
        .collect();
    let whole = replaced(planned, &at_f, &folded, &BTreeSet::new());
    let rows = match client.is(Mutant::FixUpReadsNow) {
        true => Arc::unwrap_or_clone(client.server.present()),
        false => client.server.at(f),
    };
    let truncated = folded.truncated().clone();
    let folded = fix_up(client, folded, &whole, &at_f, &rows, f)?;
    let mut tables = BTreeMap::new();
    let mut read = 0;
    for (oid, seen) in &at_f {
        if !planned.contains_key(oid) {
            continue;
        }
        let content = if whole.contains(oid) {
            client.server.gate().await?;
            Content::Whole(copy_whole(client, &seen.layout, &rows, f, outlet).await?)
        } else if plan.continues {
            Content::Continued
        } else {
            Content::Base
        };
        let entry = TableEntry {
            layout: Layout::clone(&seen.layout),
            content,
            truncated: truncated
                .get(oid)
                .filter(|_| !client.is(Mutant::ForgottenTruncation))
                .map(|truncated| truncated.position),
        };
        tables.insert(*oid, entry);
    }
    let mut writing = Writing::new(backup.part_size, outlet);
    let mut changed = folded.rows();
    while let Some(entry) = changed.next_entry()? {
        writing.add(vec![final_row(entry)?]).await?;
    }
    let names = writing.end().await?;
    read += names.1;
    let history = match history {
        Some((history, times)) => {
            let (versions, bytes) =
                write_history(&history, &whole, backup.part_size, outlet).await?;
            read += bytes;
            Some(Versions { times, ..versions })
        }
        None => None,
    };
    let catalog = Catalog {
        start: plan.start,
        end: f,
        ended_at,
        tables,
        rows: names.0,
        history,
    };
    outlet.catalog(Bytes::from(encode(&catalog)?)).await?;
    outlet.advance(None, ByteCount(read)).await?;
    if client.is(Mutant::ConfirmsEarly) {
        client.server.confirm(backup.hold, f);
    }
    let database = relation_of(
        Oid(0),
        TableName::of_database(DATABASE),
        plan.start,
        Vec::new(),
    );
    let mut relations = vec![database];
    for entry in catalog.tables.values() {
        let name = table_name(&entry.layout)?;
        relations.push(relation_of(entry.layout.oid, name, plan.start, Vec::new()));
    }
    Ok(SettledDatabase {
        end: catalog.settled(),
        relations,
        keeps_history: true,
    })
}

/// Every change of a window, and when its transactions were committed.
fn keep_all(
    client: &ModelClient,
    events: &[Event],
) -> Result<(History, Vec<(Lsn, Timestamp)>), Fault> {
    let directory = room(&client.env)?;
    let mut fold = Fold::new(Keep::All, Arc::clone(&client.env.disk), &directory, MEMORY);
    let mut times = Vec::new();
    for event in events {
        if let Event::Commit(transaction) = event {
            times.push((transaction.commit, transaction.time));
        }
        fold.push(event.clone())?;
    }
    Ok((fold.finish_history()?, times))
}

/// Writes every version, those of one row newest first; gives what was written, without times, and its bytes.
async fn write_history(
    history: &History,
    whole: &BTreeSet<Oid>,
    part_size: ByteCount,
    outlet: &mut dyn Outlet,
) -> Result<(Versions, u64), Fault> {
    let mut writing = Writing::new(part_size, outlet);
    let mut entries = history.versions();
    let mut of_row: Vec<Row> = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        if whole.contains(&entry.version.relation) {
            continue;
        }
        let row = version_row(entry)?;
        if of_row.first().is_some_and(|first| first.key != row.key) {
            of_row.reverse();
            writing.add(std::mem::take(&mut of_row)).await?;
        }
        of_row.push(row);
    }
    of_row.reverse();
    writing.add(of_row).await?;
    let (objects, bytes) = writing.end().await?;
    let truncations = history.truncations();
    let versions = Versions {
        objects,
        truncations: truncations
            .filter(|(table, _)| !whole.contains(table))
            .collect(),
        times: Vec::new(),
    };
    Ok((versions, bytes))
}

/// Writes objects of rows.
struct Writing<'a> {
    part_size: u64,
    outlet: &'a mut dyn Outlet,
    batch: Vec<Row>,
    part: u64,
    total: u64,
    names: Vec<String>,
}

impl<'a> Writing<'a> {
    fn new(part_size: ByteCount, outlet: &'a mut dyn Outlet) -> Self {
        Self {
            part_size: part_size.0,
            outlet,
            batch: Vec::new(),
            part: 0,
            total: 0,
            names: Vec::new(),
        }
    }

    /// Adds all versions of a row.
    async fn add(&mut self, rows: Vec<Row>) -> Result<(), Fault> {
        self.part += rows.iter().map(Row::logical_len).sum::<usize>() as u64;
        self.batch.extend(rows);
        match self.part >= self.part_size {
            true => self.close().await,
            false => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), Fault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.outlet.rows(std::mem::take(&mut self.batch)).await?;
        self.names.extend(self.outlet.end_rows().await?);
        self.total += std::mem::take(&mut self.part);
        Ok(())
    }

    /// The names of the objects, and the bytes in them.
    async fn end(mut self) -> Result<(Vec<String>, u64), Fault> {
        self.close().await?;
        Ok((self.names, self.total))
    }
}

/// Numbers transactions in another order than that of their commits.
fn arrive_anyhow(events: &mut [Event]) {
    for event in events {
        if let Event::Row(change) = event {
            let commit = change.position.commit.0;
            // Neighbours change places.
            change.position.commit = Lsn(commit ^ 64);
        }
    }
}

/// Reads changed rows that are not whole again, as F shows them.
fn fix_up(
    client: &ModelClient,
    folded: Folded,
    whole: &BTreeSet<Oid>,
    at_f: &BTreeMap<Oid, AtF>,
    rows: &Rows,
    f: Lsn,
) -> Result<Folded, Fault> {
    let directory = room(&client.env)?;
    let disk = Arc::clone(&client.env.disk);
    let mut fixes = Sorter::new(Keep::Last, disk, &directory, MEMORY);
    let mut unresolved = folded.rows();
    while let Some(entry) = unresolved.next_unresolved(whole, None)? {
        let relation = entry.version.relation;
        if let Some(seen) = at_f.get(&relation)
            && client.server.is_emptied_since(relation, f)
        {
            return Err(passed(&seen.layout));
        }
        let number = entry
            .version
            .key
            .parts()
            .next()
            .and_then(|part| part.first_chunk());
        let number = number
            .map(|bytes| u64::from_be_bytes(*bytes))
            .unwrap_or_default();
        let found = rows.get(&relation).and_then(|rows| rows.get(&number));
        let row = match (found, &entry.op) {
            (Some(row), _) if !client.is(Mutant::NoFixUp) => {
                tuple(number, row.balance, Some(&row.ballast), &row.extra)?
            }
            // What is not known is taken for empty.
            (_, Op::Put { row, .. }) if client.is(Mutant::NoFixUp) => {
                let extra = vec![0; row.fields().count().saturating_sub(COLUMNS)];
                row.filled_from(&tuple(number, 0, Some(&[]), &extra)?)?
            }
            _ if client.is(Mutant::FixUpReadsNow) => continue,
            _ => {
                return Err(Fault::new(
                    ErrorCode::Internal,
                    format!("row {number} was changed before F and is not in it"),
                ));
            }
        };
        // After every commit before F, and before every one from F on.
        let position = ChangePosition {
            commit: Lsn(f.0 - 1),
            ordinal: u64::MAX,
        };
        let version = Version {
            relation,
            key: key(number)?,
            position,
        };
        fixes.push(version, Op::Put { row, origin: None })?;
    }
    folded.overlay(fixes, whole)
}

/// Copies a table as F shows it.
async fn copy_whole(
    client: &ModelClient,
    layout: &Layout,
    rows: &Rows,
    f: Lsn,
    outlet: &mut dyn Outlet,
) -> Result<Option<String>, Fault> {
    if client.server.is_emptied_since(layout.oid, f) {
        return Err(passed(layout));
    }
    outlet.begin_tuples(columns(layout)).await?;
    let mut bytes = Vec::new();
    for (number, row) in rows.get(&layout.oid).into_iter().flatten() {
        let row = tuple(*number, row.balance, Some(&row.ballast), &row.extra)?;
        bytes.extend_from_slice(row.bytes());
    }
    if !bytes.is_empty() {
        outlet.tuples(bytes.into()).await?;
    }
    outlet.end_tuples().await
}

/// A whole row of a tuple object.
pub(super) fn read_row(
    bytes: Bytes,
    layout: &Layout,
) -> Result<(u64, super::rows::ModelRow), Fault> {
    row(&parse(bytes, layout)?)
}

/// A whole row of a tuple object, as it is.
pub(super) fn parse(bytes: Bytes, layout: &Layout) -> Result<Tuple, Fault> {
    Tuple::parse(bytes, layout.columns.len())
}
