//! Checks that everything can be restored, makes what the rows go into, and cuts the work.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_source::{Inlet, LoggedRelation, LoggedRestore, Notes};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, KeyRange, Position, Relation, TableName, Target,
};
use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Base, DatabasePlan, Into, RelationPlan, RestorePlan};
use super::{Destination, Restorer, Told};
use crate::answer::run;
use crate::globals::Globals;
use crate::layout::Oid;
use crate::member::catalog::from_json;
use crate::restore::{Finding, Progress, TargetFacts, Verdict, Wish, limit_rights};
use crate::schema::{Archive, DumpTool, EntryId, Kind, OWN_PUBLICATIONS, Plan, PlanOptions};
use crate::session::Session;

/// Base objects of one span: several, so that a span is worth a lease; not all, so that workers share a table.
const SPAN_OBJECTS: usize = 8;

/// What a base object is taken for where its bytes are not known.
const OBJECT_BYTES: u64 = 64 << 20;

/// Databases that every server has: without anything in them they are not restored with a whole source.
const OWN_DATABASES: [&str; 2] = ["postgres", "template1"];

/// The bound before a base object, or before a part of the rows that changed.
pub(super) fn bound(kind: u8, number: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5);
    bytes.put_u8(kind);
    bytes.put_u32(number);
    bytes.freeze()
}

/// A database's definitions.
pub(super) struct Definitions {
    /// All of them.
    pub(super) archive: Archive,
    /// Those that are made.
    pub(super) subset: Archive,
    pub(super) options: PlanOptions,
    /// Roles that are not there, and get nothing.
    missing_roles: BTreeSet<String>,
}

impl Definitions {
    pub(super) fn plan(&self) -> Plan {
        Plan::of(&self.subset, &self.options)
    }
}

impl Restorer {
    /// See [`holdfast_source::LoggedSource::begin_restore`].
    ///
    /// # Errors
    /// One that names every object that cannot be restored; what the server or the inlet says.
    pub async fn begin(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Vec<LoggedRelation>, Fault> {
        let plan = self.plan(restore, inlet).await?;
        let maintenance = self.target.maintenance().await?;
        let offers = TargetFacts::read(&maintenance).await?;
        let globals = globals(restore, &plan, inlet).await?;
        let mut refusals = Vec::new();
        let mut made = Vec::new();
        for database in &plan.databases {
            let own = globals.as_ref();
            let definitions = self.definitions(restore, database, &offers, own, inlet);
            let definitions = definitions.await?;
            if is_bare(restore, database, &definitions.archive) {
                continue;
            }
            let told = Told::of(restore, &database.name);
            refusals.extend(check(
                database,
                &definitions,
                &offers,
                globals.as_ref(),
                &told,
            )?);
            let twin = |(other, _): &(&DatabasePlan, Definitions)| {
                other.name == database.name && matches!(other.into, Into::New(_))
            };
            if made.iter().any(twin) {
                let why = "two databases of the backup would get that name";
                refusals.push((format!("database {}", database.name), why.to_owned(), None));
            }
            made.push((database, definitions));
        }
        refuse(refusals)?;
        if let Some(globals) = &globals {
            make_globals(&maintenance, globals, &offers, &restore.notes).await?;
        }
        drop(maintenance);
        let mut relations = Vec::new();
        for (database, definitions) in &made {
            let told = Told::of(restore, &database.name);
            match self.destination(restore, database)? {
                Destination::New(new) => {
                    new.create().await?;
                    new.before(&definitions.plan(), &told).await?;
                }
                Destination::Existing(tables) => {
                    let tool = DumpTool::find(self.env(), offers.major, self.tools.as_deref());
                    let tool = tool.await?;
                    tables.prepare(&definitions.archive, &tool, &told).await?;
                }
            }
            if !restore.options.schema_only {
                for relation in &database.relations {
                    let cut = cut(database, relation, restore.part_size, inlet).await?;
                    relations.push(cut);
                }
            }
        }
        restore.steps.clear();
        Ok(relations)
    }

    /// Reads a database's definitions.
    pub(super) async fn definitions(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        offers: &TargetFacts,
        globals: Option<&Globals>,
        inlet: &dyn Inlet,
    ) -> Result<Definitions, Fault> {
        let newest = database.newest()?;
        let bytes = inlet.blob(newest.layer, &newest.catalog.schema).await?;
        let mut archive = Archive::parse(&bytes)?;
        let chosen = database.chosen();
        if let (Into::New(Some(chosen)), true) =
            (&database.into, restore.options.skip_missing_foreign_keys)
        {
            let told = Told::of(restore, &database.name);
            skip_foreign_keys(&mut archive, chosen, &told);
        }
        let exists = |role: &str| {
            let mut made = globals.iter().flat_map(|globals| &globals.roles);
            offers.roles.contains(role) || made.any(|other| other.name == role)
        };
        let missing_roles = limit_rights(&mut archive, restore.options.grants, exists);
        let subset = match &chosen {
            None => archive.clone(),
            Some(chosen) => archive.subset(chosen)?,
        };
        Ok(Definitions {
            archive,
            subset,
            options: PlanOptions {
                tablespaces: offers.tablespaces.clone(),
                publications: chosen.is_none(),
                subscriptions: chosen.is_none(),
                ..PlanOptions::default()
            },
            missing_roles,
        })
    }
}

/// Leaves out foreign keys to tables that are not restored.
fn skip_foreign_keys(archive: &mut Archive, chosen: &BTreeSet<Oid>, told: &Told) {
    let others = archive.entries.iter();
    let others: BTreeSet<EntryId> = others
        .filter(|entry| entry.label == "TABLE" && !chosen.contains(&entry.oid))
        .map(|entry| entry.id)
        .collect();
    archive.entries.retain(|entry| {
        let is_skipped =
            entry.kind() == Kind::ForeignKey && entry.needs.iter().any(|id| others.contains(id));
        if is_skipped {
            told.warning(&format!(
                "{} is left out: it points to a table that is not restored",
                entry.display_name()
            ));
        }
        !is_skipped
    });
}

/// Whether a database is one that every server has, and holds nothing.
pub(super) fn is_bare(restore: &LoggedRestore, database: &DatabasePlan, archive: &Archive) -> bool {
    restore.target == Target::Source
        && OWN_DATABASES.contains(&database.name.as_str())
        && database.relations.is_empty()
        && archive.entries.iter().all(|entry| match entry.kind() {
            Kind::Session | Kind::Database | Kind::Rights | Kind::Remark => true,
            // What the backup itself held on to.
            Kind::Publication => entry.name.starts_with(OWN_PUBLICATIONS),
            _ => false,
        })
}

type Refusal = (String, String, Option<String>);

fn check(
    database: &DatabasePlan,
    definitions: &Definitions,
    offers: &TargetFacts,
    globals: Option<&Globals>,
    told: &Told,
) -> Result<Vec<Refusal>, Fault> {
    let wish = Wish {
        facts: &database.newest()?.catalog.facts,
        archive: &definitions.subset,
        globals,
        name: &database.name,
        options: &definitions.options,
    };
    let mut refusals = Vec::new();
    let report = match &database.into {
        Into::New(_) => wish.check(offers),
        Into::Existing(_) => {
            if !offers.databases.contains(&database.name) {
                refusals.push((
                    format!("database {}", database.name.escape_debug()),
                    "it does not exist".to_owned(),
                    Some("create it, or restore the whole database".to_owned()),
                ));
            }
            wish.check_objects(offers)
        }
    };
    for Finding { object, verdict } in report.findings {
        match verdict {
            Verdict::Refused { why, hint } => refusals.push((object, why, Some(hint))),
            Verdict::Changed { how } => told.warning(&format!("{object}: {how}")),
            Verdict::Restored | Verdict::LeftOut { .. } => {}
        }
    }
    if !definitions.missing_roles.is_empty() {
        let roles: Vec<String> = definitions
            .missing_roles
            .iter()
            .map(|role| role.escape_debug().to_string())
            .collect();
        let roles = roles.join(", ");
        told.warning(&format!(
            "rights of roles that do not exist are left out: {roles}"
        ));
    }
    refusals.extend(lone_parents(database, definitions));
    if let Into::New(Some(chosen)) = &database.into {
        let others = definitions
            .subset
            .entries
            .iter()
            .filter(|entry| entry.label == "TABLE" && !chosen.contains(&entry.oid));
        refusals.extend(others.map(|entry| {
            (
                entry.display_name(),
                "a table that is restored needs it".to_owned(),
                Some("restore that table too, or skip foreign keys to it with skip_missing_foreign_keys".to_owned()),
            )
        }));
    }
    Ok(refusals)
}

/// Partitions that are not restored though their parent is: its rows would be missing without a word.
fn lone_parents(database: &DatabasePlan, definitions: &Definitions) -> Vec<Refusal> {
    let Some(chosen) = database.chosen() else {
        return Vec::new();
    };
    let attached = definitions.archive.entries.iter();
    let attached = attached.filter(|entry| entry.label == "TABLE ATTACH");
    let mut refusals = Vec::new();
    for attach in attached {
        let tables: Vec<_> = attach
            .needs
            .iter()
            .filter_map(|id| definitions.archive.entry(*id))
            .filter(|entry| entry.label == "TABLE")
            .collect();
        if tables.iter().any(|table| chosen.contains(&table.oid)) {
            let others = tables.iter().filter(|table| !chosen.contains(&table.oid));
            refusals.extend(others.map(|table| {
                (
                    table.display_name(),
                    "it is the parent, or a partition, of a table that is restored".to_owned(),
                    Some("name a partitioned table together with all of its partitions".to_owned()),
                )
            }));
        }
    }
    refusals
}

/// One error for everything that stands against a restore.
fn refuse(refusals: Vec<Refusal>) -> Result<(), Fault> {
    if refusals.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = refusals
        .iter()
        .map(|(object, why, _)| format!("{object}: {why}"))
        .collect();
    let mut hints: Vec<String> = Vec::new();
    for hint in refusals.into_iter().filter_map(|(.., hint)| hint) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    let fault = Fault::new(
        ErrorCode::FailedPrecondition,
        format!("the backup cannot be restored here: {}", list.join("; ")),
    );
    Err(match hints.is_empty() {
        true => fault,
        false => fault.hint(hints.join("; ")),
    })
}

/// Roles and tablespaces, which come with a whole source.
async fn globals(
    restore: &LoggedRestore,
    plan: &RestorePlan,
    inlet: &dyn Inlet,
) -> Result<Option<Globals>, Fault> {
    match plan.databases.first() {
        Some(database) if restore.target == Target::Source && !restore.into_existing => {
            let newest = database.newest()?;
            let bytes = inlet.blob(newest.layer, &newest.catalog.globals).await?;
            from_json(&bytes).map(Some)
        }
        _ => Ok(None),
    }
}

/// Makes the roles at once, and each tablespace that can be made: its directory may not be there, and then the default one is used.
async fn make_globals(
    session: &Session,
    globals: &Globals,
    offers: &TargetFacts,
    notes: &Notes,
) -> Result<(), Fault> {
    let context = "cannot make roles";
    let statements = globals.statements(&offers.roles, &offers.tablespaces, offers.major);
    let (spaces, roles): (Vec<_>, Vec<_>) = statements
        .into_iter()
        .partition(|statement| statement.name.starts_with("tablespace "));
    if !roles.is_empty() {
        let sql: Vec<String> = roles.into_iter().map(|statement| statement.sql).collect();
        let sql = format!("BEGIN; {}; COMMIT", sql.join(";\n"));
        if let Err(fault) = run(session, context, &sql).await {
            let _ = run(session, context, "ROLLBACK").await;
            return Err(fault);
        }
    }
    let mut failed = BTreeMap::new();
    for statement in spaces {
        if failed.contains_key(&statement.name) {
            continue;
        }
        if let Err(fault) = run(session, &statement.name, &statement.sql).await {
            if fault.is_retryable() {
                return Err(fault);
            }
            notes.add(format!(
                "a tablespace is not made, and the default one is used: {fault}"
            ));
            failed.insert(statement.name, ());
        }
    }
    Ok(())
}

/// Names of the base objects of a relation, and their layer.
pub(super) async fn base_objects(
    database: &DatabasePlan,
    relation: &RelationPlan,
    inlet: &dyn Inlet,
) -> Result<(usize, Vec<String>), Fault> {
    let layer = |place: &usize| {
        let layer = database.layers.get(*place);
        layer.ok_or_else(|| super::plan::broken("a layer is missing"))
    };
    Ok(match &relation.base {
        Base::Nothing => (0, Vec::new()),
        Base::Named(place, names) => (layer(place)?.layer, names.clone()),
        Base::Spans(place) => {
            let layer = layer(place)?;
            let id = layer.catalog.relation_id(relation.layout.oid);
            (layer.layer, inlet.objects(layer.layer, id).await?)
        }
    })
}

async fn cut(
    database: &DatabasePlan,
    relation: &RelationPlan,
    part_size: ByteCount,
    inlet: &dyn Inlet,
) -> Result<LoggedRelation, Fault> {
    let newest = database.newest()?;
    let oid = relation.layout.oid;
    let (_, names) = base_objects(database, relation, inlet).await?;
    let known = newest.relation(oid).and_then(|entry| entry.sum.as_ref());
    let each = match (known, names.len() as u64) {
        (Some(sum), objects @ 1..) => (sum.bytes.0 / objects).max(1),
        _ => OBJECT_BYTES,
    };
    let mut bounds: Vec<(Bytes, u64)> = names
        .chunks(SPAN_OBJECTS)
        .enumerate()
        .map(|(number, chunk)| {
            let first = u32::try_from(number * SPAN_OBJECTS).unwrap_or(u32::MAX);
            (bound(0, first), each * chunk.len() as u64)
        })
        .collect();
    if database.has_changes(relation) {
        bounds.push((bound(1, 0), part_size.0.max(1)));
    }
    let mut spans = Vec::with_capacity(bounds.len());
    for (number, (start, weight)) in bounds.iter().enumerate() {
        let range = KeyRange {
            start: if number == 0 {
                Bytes::new()
            } else {
                start.clone()
            },
            end: bounds
                .get(number + 1)
                .map_or_else(Bytes::new, |(end, _)| end.clone()),
        };
        spans.push((range, ByteCount(*weight)));
    }
    Ok(LoggedRelation {
        relation: Relation {
            id: newest.catalog.relation_id(oid),
            name: TableName {
                database: database.source_name()?.to_owned(),
                table: relation.layout.display_name(),
            },
            created_at: Position::Lsn(holdfast_types::Lsn::ZERO),
            dropped_at: None,
            definition: Vec::new(),
        },
        spans,
        settles: false,
    })
}
