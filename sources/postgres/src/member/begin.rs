//! The beginning of a backup: the hold, and the plan.

use bytes::Bytes;
use holdfast_source::{LoggedBackup, LoggedRelation};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, KeyRange, Position, Relation, TableName, Target,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::{DatabaseCatalog, RelationEntry, relation_id, to_json};
use super::cut::{cut, parts_per_span};
use super::plan::{DatabasePlan, LogPlan};
use super::standing::{self, Standings};
use super::{PostgresMember, budget, noted, partial, share};
use crate::catalog::{self, Database, RelationFacts, databases};
use crate::dsn::Dsn;
use crate::hold::{self, HoldNames, SlotState, Told, Waiting, WalStatus};
use crate::layout::{Layout, Lsn, Oid};
use crate::preflight::{self, Mode, Request};
use crate::replication::{ReplicationSession, SystemIdentity};
use crate::session::{Purpose, Session};

/// See [`holdfast_source::LoggedSource::begin`].
pub(super) async fn begin(
    member: &PostgresMember,
    backup: &LoggedBackup,
) -> Result<Vec<LoggedRelation>, Fault> {
    let session = Session::connect(&member.env, &member.dsn, Purpose::Control).await?;
    share::leave_room(&session).await?;
    let parents = parents(backup)?;
    let chosen = choose(databases(&session).await?, backup, &parents)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let report = look_into(member, backup, &chosen).await?;
    // A chain has the log, or it is over: which, is told by its hold.
    if parents.is_empty() && report.mode != Mode::Log {
        let identity = system(&session).await?;
        return plan_snapshots(backup, &chosen, &report, identity);
    }
    let mut slots = ReplicationSession::connect(&member.env, &member.dsn).await?;
    let identity = slots.identify().await?;
    drop(slots);
    if let Some(parent) = parents.values().next() {
        same_server(parent, &identity)?;
    }
    let mut relations = Vec::new();
    for database in &chosen {
        let started = match parents.get(&database.oid) {
            Some(parent) => go_on(member, backup, database, parent, &identity).await,
            None => start(member, backup, database, &identity).await,
        };
        let started = started.map_err(|fault| fault.context(&database.name));
        relations.extend(started?);
        backup.steps.clear();
    }
    Ok(relations)
}

/// The parent layer's catalogs, by database.
pub(super) fn parents(backup: &LoggedBackup) -> Result<BTreeMap<Oid, DatabaseCatalog>, Fault> {
    let read = |bytes: &Bytes| {
        let catalog = DatabaseCatalog::decode(bytes)?;
        if catalog.hold.is_none() {
            return Err(Fault::new(
                ErrorCode::ChainRule,
                "the parent was made in snapshot mode, after which no incremental can follow",
            )
            .hint("take a full backup"));
        }
        Ok((catalog.database, catalog))
    };
    backup.parent.iter().map(read).collect()
}

fn choose(
    present: Vec<Database>,
    backup: &LoggedBackup,
    parents: &BTreeMap<Oid, DatabaseCatalog>,
) -> Result<Vec<Database>, Fault> {
    let wanted: BTreeSet<&str> = match &backup.target {
        Target::Source => {
            return Ok(present.into_iter().filter(Database::is_ordinary).collect());
        }
        Target::Databases(names) => names.iter().map(String::as_str).collect(),
        Target::Tables(names) => names.iter().map(|name| name.database.as_str()).collect(),
    };
    // One that was there at the parent's end was dropped.
    let known: BTreeSet<&str> = parents
        .values()
        .map(|parent| parent.facts.name.as_str())
        .collect();
    for name in &wanted {
        if !backup.partial
            && !known.contains(name)
            && !present.iter().any(|database| database.name == *name)
        {
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!("there is no database {name}"),
            ));
        }
    }
    Ok(present
        .into_iter()
        .filter(|database| wanted.contains(database.name.as_str()))
        .collect())
}

/// Looks whether the member can be backed up, and in which mode. Rights may have been taken away since the layer before.
async fn look_into(
    member: &PostgresMember,
    backup: &LoggedBackup,
    chosen: &[Database],
) -> Result<preflight::Report, Fault> {
    let names = chosen.iter().map(|database| database.name.clone());
    let request = Request {
        databases: Some(names.collect()),
        target: backup.target.clone(),
        ..Request::default()
    };
    let report = preflight::check(&member.env, &member.dsn, &request).await?;
    let mut blocking = report
        .findings
        .iter()
        .chain(report.databases.iter().flat_map(|it| &it.findings))
        .chain(report.databases.iter().flat_map(|database| {
            let is_covered = |layout: &Layout| {
                let name = table_name(&database.name, layout);
                backup.target.covers(&name)
            };
            let relations = database.relations.iter();
            relations
                .filter(move |relation| is_covered(&relation.layout))
                .flat_map(|relation| &relation.findings)
        }))
        .filter(|finding| finding.severity == preflight::Severity::Blocks);
    if let Some(first) = blocking.next() {
        let more = match blocking.count() {
            0 => String::new(),
            more => format!(", and {more} more findings"),
        };
        let fault = Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{}: {}{more}", first.about, first.message),
        );
        return Err(match &first.mend {
            Some(mend) => fault.hint(mend.clone()),
            None => fault,
        });
    }
    if backup.parent.is_empty() {
        present(backup, &report)?;
    }
    noted::preflight(backup, &report);
    Ok(report)
}

/// The plan in snapshot mode: only the end reads.
fn plan_snapshots(
    backup: &LoggedBackup,
    chosen: &[Database],
    report: &preflight::Report,
    identity: (u64, u32),
) -> Result<Vec<LoggedRelation>, Fault> {
    let mut relations = Vec::new();
    for database in chosen {
        let seen = report
            .databases
            .iter()
            .filter(|it| it.name == database.name);
        let seen: Vec<_> = seen.flat_map(|it| &it.relations).collect();
        let layouts = seen.iter().map(|relation| &relation.layout);
        let Some(named) = partial::named(backup, database, layouts) else {
            continue;
        };
        relations.extend(named);
        let is_covered =
            |layout: &Layout| backup.target.covers(&table_name(&database.name, layout));
        let read = seen.iter().filter(|it| is_covered(&it.layout));
        let bytes = read.map(|it| it.bytes).sum();
        relations.push(settling(database_plan(database, identity, None), bytes)?);
    }
    Ok(relations)
}

/// Sees that each table that was named is there, and that a schema is not misspelt. Nothing in a whole database is no error.
fn present(backup: &LoggedBackup, report: &preflight::Report) -> Result<(), Fault> {
    let names = match &backup.target {
        Target::Tables(names) if !backup.partial => names,
        _ => return Ok(()),
    };
    let found: Vec<TableName> = report
        .databases
        .iter()
        .flat_map(|database| {
            let relations = database.relations.iter();
            relations.map(|relation| table_name(&database.name, &relation.layout))
        })
        .collect();
    let missing = names
        .iter()
        .find(|name| name.table != "*" && !found.iter().any(|table| name.covers(table)));
    missing.map_or(Ok(()), |name| {
        Err(Fault::new(
            ErrorCode::NotFound,
            format!("there is no table {}", name.to_string().escape_debug()),
        )
        .hint("name tables as database.schema.table, or database.schema.* for all of a schema"))
    })
}

/// The server, where it does not speak the replication protocol.
async fn system(session: &Session) -> Result<(u64, u32), Fault> {
    let row = session
        .query_one(
            "SELECT s.system_identifier, c.timeline_id FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c",
            &[],
        )
        .await;
    match row {
        Ok(row) => Ok((
            u64::from_ne_bytes(row.get::<_, i64>(0).to_ne_bytes()),
            u32::try_from(row.get::<_, i32>(1)).unwrap_or_default(),
        )),
        // A service may keep it from its users; it is of use to chains only, and there will be none.
        Err(fault) if fault.code == ErrorCode::FailedPrecondition => Ok((0, 0)),
        Err(fault) => Err(fault),
    }
}

fn database_plan(
    database: &Database,
    (system_id, timeline): (u64, u32),
    log: Option<LogPlan>,
) -> DatabasePlan {
    DatabasePlan {
        database: database.oid,
        name: database.name.clone(),
        system_id,
        timeline,
        log,
    }
}

fn same_server(parent: &DatabaseCatalog, now: &SystemIdentity) -> Result<(), Fault> {
    if parent.system_id == now.system_id && parent.timeline == now.timeline {
        return Ok(());
    }
    // The slot is not looked at before the server is the right one.
    let then = SystemIdentity {
        system_id: parent.system_id,
        timeline: parent.timeline,
        flushed: Lsn::ZERO,
    };
    hold::verify(None, &parent.facts.name, parent.end, &then, now)
}

/// Continues a chain: the hold must still be there.
async fn go_on(
    member: &PostgresMember,
    backup: &LoggedBackup,
    database: &Database,
    parent: &DatabaseCatalog,
    identity: &SystemIdentity,
) -> Result<Vec<LoggedRelation>, Fault> {
    let Some(held) = &parent.hold else {
        return Ok(Vec::new());
    };
    let names = member.hold_names(backup.hold, database.oid)?;
    if names != held.names {
        return Err(Fault::new(
            ErrorCode::ChainRule,
            "the parent was made under another hold than the one that this backup names",
        ));
    }
    same_server(parent, identity)?;
    let session = member.control(&database.name).await?;
    let state = hold::state(&session, &names.slot).await?;
    hold::verify(
        state.as_ref(),
        &database.name,
        parent.end,
        identity,
        identity,
    )?;
    budget::check(member, &session, backup.hold, &names, Some(&backup.notes)).await?;
    let log = LogPlan {
        names,
        publication: held.publication,
        start: parent.end,
        continues: true,
    };
    let system = (identity.system_id, identity.timeline);
    let is_read_again = |entry: &&RelationEntry| !entry.layout.is_published();
    let read = parent.relations.iter().filter(is_read_again);
    let bytes = read.filter_map(|entry| Some(entry.sum?.bytes.0)).sum();
    let plan = database_plan(database, system, Some(log));
    Ok(vec![settling(plan, bytes)?])
}

/// Places a hold, or finds it in place, and cuts the relations.
async fn start(
    member: &PostgresMember,
    backup: &LoggedBackup,
    database: &Database,
    identity: &SystemIdentity,
) -> Result<Vec<LoggedRelation>, Fault> {
    let names = member.hold_names(backup.hold, database.oid)?;
    let dsn = member.dsn.with_database(&database.name);
    let session = member.control(&database.name).await?;
    let found = hold::state(&session, &names.slot).await?;
    let (facts, standings) = look(&session, backup, &database.name, &names).await?;
    let layouts = facts.iter().map(|facts| &facts.layout);
    let Some(mut relations) = partial::named(backup, database, layouts) else {
        return Ok(Vec::new());
    };
    let found = found.filter(|slot| is_ready(slot, &database.name));
    let (facts, standings, start) = match (found, standings.publication) {
        (Some(slot), Some(_)) => {
            budget::check(member, &session, backup.hold, &names, Some(&backup.notes)).await?;
            // It is not known whether its maker had waited.
            let deadline = member.limits.hold_deadline;
            let told = Told::new(Arc::clone(&member.env.clock), &backup.notes, &backup.steps);
            hold::wait_for_writers(&session, deadline, &|waiting| told.tell(waiting)).await?;
            (facts, standings, slot.confirmed)
        }
        _ => place(member, backup, &session, &dsn, &names, facts).await?,
    };
    let publication = standings.publication.ok_or_else(|| {
        Fault::new(
            ErrorCode::Unavailable,
            "the publication was dropped while the hold was placed",
        )
    })?;
    let log = LogPlan {
        names,
        publication,
        start,
        continues: false,
    };
    let page_bytes = session.info().page_bytes;
    let published = || facts.iter().filter(|facts| facts.layout.is_published());
    let per_span = parts_per_span(published().map(|facts| facts.total_bytes).sum());
    for facts in published() {
        let cut = cut(database, facts, &standings, (page_bytes, per_span), start)?;
        relations.retain(|named| named.relation.id != cut.relation.id);
        relations.push(cut);
    }
    let system = (identity.system_id, identity.timeline);
    let is_read_whole =
        |facts: &&RelationFacts| facts.layout.handling.has_rows() && !facts.layout.is_published();
    let read = facts.iter().filter(is_read_whole);
    let bytes = read.map(|facts| facts.total_bytes).sum();
    let plan = database_plan(database, system, Some(log));
    relations.push(settling(plan, bytes)?);
    Ok(relations)
}

/// Whether a slot was made to its end and can be used.
fn is_ready(slot: &SlotState, database: &str) -> bool {
    slot.database.as_deref() == Some(database)
        && slot.plugin.as_deref() == Some("pgoutput")
        && slot.confirmed > Lsn::ZERO
        && slot.invalidated.is_none()
        && slot.wal_status != WalStatus::Lost
}

/// Places a hold anew.
async fn place(
    member: &PostgresMember,
    backup: &LoggedBackup,
    session: &Session,
    dsn: &Dsn,
    names: &HoldNames,
    facts: Vec<RelationFacts>,
) -> Result<(Vec<RelationFacts>, Standings, Lsn), Fault> {
    hold::release(session, names).await?;
    let layouts = |facts: &[RelationFacts]| -> Vec<Layout> {
        facts.iter().map(|facts| facts.layout.clone()).collect()
    };
    hold::publish(session, &names.publication, &layouts(&facts))
        .await
        .map_err(moving)?;
    // After they were published, and before the slot: what is seen now holds from its beginning on.
    let (facts, mut standings) = look(session, backup, &dsn.database, names).await?;
    let deadline = member.limits.hold_deadline;
    let told = Told::new(Arc::clone(&member.env.clock), &backup.notes, &backup.steps);
    let show = |waiting: &Waiting| told.tell(waiting);
    let placed = hold::place(&member.env, dsn, names, &layouts(&facts), deadline, &show)
        .await
        .map_err(moving)?;
    for seen in standings.relations.values_mut() {
        seen.is_recent = false;
    }
    Ok((facts, standings, placed.start))
}

/// A relation was dropped or renamed while it was published.
fn moving(fault: Fault) -> Fault {
    match fault.code {
        ErrorCode::NotFound | ErrorCode::AlreadyExists => Fault {
            code: ErrorCode::Unavailable,
            ..fault
        },
        _ => fault,
    }
}

/// The covered relations and how they stand, at one moment.
async fn look(
    session: &Session,
    backup: &LoggedBackup,
    database: &str,
    names: &HoldNames,
) -> Result<(Vec<RelationFacts>, Standings), Fault> {
    session
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let mut facts = catalog::read(session).await?;
    let standings = standing::read(session, &names.publication, &names.slot).await?;
    session.execute("COMMIT").await?;
    facts.retain(|facts| backup.target.covers(&table_name(database, &facts.layout)));
    Ok((facts, standings))
}

/// The name of a relation in a backup.
pub(super) fn table_name(database: &str, layout: &Layout) -> TableName {
    TableName {
        database: database.to_owned(),
        table: layout.display_name(),
    }
}

/// The settling relation of a database, which reads about so many bytes.
fn settling(plan: DatabasePlan, bytes: u64) -> Result<LoggedRelation, Fault> {
    let start = plan.log.as_ref().map_or(0, |log| log.start.0);
    Ok(LoggedRelation {
        relation: Relation {
            id: relation_id(plan.database, Oid(0)),
            name: TableName::of_database(&plan.name),
            created_at: Position::Lsn(holdfast_types::Lsn::at(start)),
            dropped_at: None,
            definition: to_json(&plan)?.to_vec(),
        },
        spans: vec![(KeyRange::all(), ByteCount(bytes.max(1)))],
        settles: true,
    })
}
