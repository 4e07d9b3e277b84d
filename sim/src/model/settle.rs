//! The end of a backup: an exact position F, the changes up to it, folded by the production code, and what only F can tell.

use bytes::Bytes;
use holdfast_postgres::changes::{ChangePosition, Event};
use holdfast_postgres::fixup::{AtF, replaced};
use holdfast_postgres::fold::{Fold, Folded, Keep, Op, Sorter, Version};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::member::rows::final_row;
use holdfast_source::{LoggedBackup, Outlet};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Relation, SettledDatabase, TableName, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{
    Catalog, Content, DatabasePlan, TableEntry, decode, encode, relation as relation_of,
};
use super::client::{ModelClient, room, table_name};
use super::rows::{Rows, key, row, tuple};
use crate::bank::DATABASE;
use crate::libc_override::EPOCH;
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
    let mut ended_at = Timestamp::from_micros((EPOCH + trace::now()).as_micros() as u64);
    let f = client.server.end();
    client.server.gate().await?;
    let mut events = client.server.changes(backup.hold, plan.start, f)?;
    for event in &events {
        if let Event::Commit(transaction) = event {
            ended_at = ended_at.max(transaction.time);
        }
    }
    if client.is(Mutant::FoldByArrival) {
        arrive_anyhow(&mut events);
    }
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
        true => client.server.present(),
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
    let mut names = Vec::new();
    let mut changed = folded.rows();
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(entry) = changed.next_entry()? {
        let row = final_row(entry)?;
        bytes += row.logical_len() as u64;
        batch.push(row);
        if bytes >= backup.part_size.0 {
            outlet.rows(std::mem::take(&mut batch)).await?;
            names.extend(outlet.end_rows().await?);
            read += std::mem::take(&mut bytes);
        }
    }
    if !batch.is_empty() {
        outlet.rows(batch).await?;
        names.extend(outlet.end_rows().await?);
        read += bytes;
    }
    let catalog = Catalog {
        start: plan.start,
        end: f,
        ended_at,
        tables,
        rows: names,
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
                tuple(number, row.balance, Some(&row.ballast))?
            }
            // What is not known is taken for empty.
            (_, Op::Put { row, .. }) if client.is(Mutant::NoFixUp) => {
                row.filled_from(&tuple(number, 0, Some(&[]))?)?
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
    outlet.begin_tuples(3).await?;
    let mut bytes = Vec::new();
    for (number, row) in rows.get(&layout.oid).into_iter().flatten() {
        bytes.extend_from_slice(tuple(*number, row.balance, Some(&row.ballast))?.bytes());
    }
    if !bytes.is_empty() {
        outlet.tuples(bytes.into()).await?;
    }
    outlet.end_tuples().await
}

/// A whole row of a tuple object.
pub(super) fn read_row(bytes: Bytes) -> Result<(u64, super::rows::ModelRow), Fault> {
    row(&holdfast_postgres::tuple::Tuple::parse(bytes, 3)?)
}
