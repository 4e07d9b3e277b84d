//! Checks that everything can be restored, makes what the rows go into, and cuts the work.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_source::{Inlet, LoggedRelation, LoggedRestore, Notes};
use holdfast_types::{ByteCount, Fault, KeyRange, Position, Relation, TableName, Target};
use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Base, DatabasePlan, Into, RelationPlan};
use super::{Destination, Restorer, Told};
use crate::answer::run;
use crate::globals::Globals;
use crate::layout::Oid;
use crate::restore::{
    Finding, TargetFacts, Verdict, limit_rights, spare_missing_roles, tablespaces,
};
use crate::schema::{Archive, DumpTool, Entry, EntryId, Kind, OWN_PUBLICATIONS, Plan, PlanOptions};
use crate::session::Session;

/// Base objects of one span at least: several, so that a span is worth a lease.
const LEAST_OBJECTS: usize = 2;

/// The same at most: not all, so that workers share a table.
const MOST_OBJECTS: usize = 8;

/// Spans that a database is cut into if it is small, so that no stream has nothing to do for long while the last ones are loaded.
const LEAST_SPANS: usize = 16;

/// What a base object is taken for where its bytes are not known.
const OBJECT_BYTES: u64 = 64 << 20;

/// Databases that every server has: without anything in them they are not restored with a whole source.
pub(super) const OWN_DATABASES: [&str; 2] = ["postgres", "template1"];

/// The bound before a base object, or before a part of the rows that changed.
pub(super) fn bound(kind: u8, number: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5);
    bytes.put_u8(kind);
    bytes.put_u32(number);
    bytes.freeze()
}

/// A database's definitions.
pub(super) struct Definitions {
    /// All of them, as they were.
    pub(super) archive: Archive,
    /// Those that are made, as they are made.
    pub(super) subset: Archive,
    pub(super) options: PlanOptions,
    /// Roles that are there, or are made before.
    pub(super) roles: BTreeSet<String>,
    /// Roles that are not there, and get nothing.
    pub(super) missing_roles: BTreeSet<String>,
    /// What the options make of objects.
    pub(super) differences: Vec<Finding>,
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
        let survey = self.survey(restore, &plan, &maintenance, inlet).await?;
        survey.refuse()?;
        survey.note(restore);
        if let Some(globals) = &survey.globals {
            make_globals(&maintenance, globals, &survey.offers, &restore.notes).await?;
        }
        let tablespaces = tablespaces(&maintenance).await?;
        drop(maintenance);
        let mut relations = Vec::new();
        for (database, mut definitions) in survey.made {
            definitions.options.tablespaces.clone_from(&tablespaces);
            let told = Told::of(restore, &database.name);
            match self.destination(restore, database)? {
                Destination::New(new) => {
                    new.create().await?;
                    new.before(&definitions.plan(), &told).await?;
                }
                Destination::Existing(tables) => {
                    let tool = self.tool(survey.offers.major).await?;
                    tables.prepare(&definitions.subset, &tool, &told).await?;
                }
            }
            if restore.options.reads_rows() {
                relations.extend(cut_all(database, restore.part_size, inlet).await?);
            }
        }
        Ok(relations)
    }

    /// The pg_dump that writes down tables under their new names.
    pub(super) async fn tool(&self, major: u32) -> Result<DumpTool, Fault> {
        DumpTool::find(self.env(), major, self.tools.as_deref()).await
    }

    /// Reads a database's definitions, and leaves out what the options leave out.
    pub(super) async fn definitions(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        offers: &TargetFacts,
        globals: Option<&Globals>,
        inlet: &dyn Inlet,
    ) -> Result<Definitions, Fault> {
        let newest = database.newest()?;
        let options = &restore.options;
        let bytes = inlet.blob(newest.layer, &newest.catalog.schema).await?;
        let archive = Archive::parse(&bytes)?;
        let chosen = database.chosen();
        let mut made = archive.clone();
        let mut differences = Vec::new();
        if let (Into::New(Some(chosen)), true) = (&database.into, options.skip_missing_foreign_keys)
        {
            differences.extend(skip_foreign_keys(&mut made, chosen));
        }
        if let Some(chosen) = &chosen {
            made = made.subset(chosen)?;
            if options.skip_missing_sequence_owners {
                differences.extend(free_sequences(&mut made, chosen));
                made = made.subset(chosen)?;
            }
        }
        if let (Some(chosen), Into::Existing(_)) = (&chosen, &database.into) {
            // Tables that are only there for a moment belong to nobody in particular.
            let own = made.own(chosen);
            let others = made.entries.iter_mut().filter(|it| !own.contains(&it.id));
            others.for_each(|entry| entry.owner = None);
        }
        let mut roles = offers.roles.clone();
        let brought = globals.iter().flat_map(|globals| &globals.roles);
        roles.extend(brought.map(|role| role.name.clone()));
        let exists = |role: &str| roles.contains(role);
        let missing_roles = limit_rights(&mut made, options.grants, exists);
        if options.skip_missing_roles {
            let spared = spare_missing_roles(&mut made, options.owners, exists);
            differences.extend(spared);
        }
        Ok(Definitions {
            archive,
            subset: made,
            options: PlanOptions {
                owners: options.owners,
                skip_missing_roles: options.skip_missing_roles,
                tablespaces: offers.tablespaces.clone(),
                publications: chosen.is_none(),
                subscriptions: chosen.is_none(),
                ..PlanOptions::default()
            },
            roles,
            missing_roles,
            differences,
        })
    }
}

/// Leaves out foreign keys to tables that are not restored.
fn skip_foreign_keys(archive: &mut Archive, chosen: &BTreeSet<Oid>) -> Vec<Finding> {
    let others = archive.entries.iter();
    let others: BTreeSet<EntryId> = others
        .filter(|entry| entry.label == "TABLE" && !chosen.contains(&entry.oid))
        .map(|entry| entry.id)
        .collect();
    let tables = archive.entries.iter();
    let tables = tables.filter(|entry| entry.label == "TABLE" && chosen.contains(&entry.oid));
    let tables: BTreeSet<EntryId> = tables.map(|entry| entry.id).collect();
    let skipped = archive.entries.iter();
    let skipped: Vec<&Entry> = skipped
        .filter(|entry| entry.kind() == Kind::ForeignKey)
        .filter(|entry| entry.needs.iter().any(|id| others.contains(id)))
        .collect();
    let told = skipped
        .iter()
        .filter(|entry| entry.needs.iter().any(|id| tables.contains(id)));
    let why = "it points to a table that is not restored";
    let found = told.map(|entry| Finding {
        object: entry.display_name(),
        verdict: Verdict::LeftOut {
            why: why.to_owned(),
        },
    });
    let found = found.collect();
    let ids = skipped.iter().map(|entry| entry.id).collect();
    archive.remove(&ids);
    found
}

/// Takes sequences away from tables that are not restored.
fn free_sequences(archive: &mut Archive, chosen: &BTreeSet<Oid>) -> Vec<Finding> {
    let mut cuts: BTreeMap<EntryId, EntryId> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &archive.entries {
        if let Some(owner) = archive.foreign_owner(entry, chosen) {
            let how = format!(
                "it belongs to no column: {} is not restored",
                owner.display_name()
            );
            found.push(Finding {
                object: entry.display_name(),
                verdict: Verdict::Changed { how },
            });
            cuts.insert(entry.id, owner.id);
        }
    }
    for entry in &mut archive.entries {
        if let Some(owner) = cuts.get(&entry.id) {
            entry.needs.retain(|need| need != owner);
        }
    }
    archive.entries.retain(|entry| {
        let is_cut = entry.needs.iter().any(|need| cuts.contains_key(need));
        !(entry.label == "SEQUENCE OWNED BY" && is_cut)
    });
    found
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

/// Cuts all relations of a database.
async fn cut_all(
    database: &DatabasePlan,
    part_size: ByteCount,
    inlet: &dyn Inlet,
) -> Result<Vec<LoggedRelation>, Fault> {
    let mut objects = Vec::with_capacity(database.relations.len());
    for relation in &database.relations {
        objects.push(base_objects(database, relation, inlet).await?.1.len());
    }
    let per_span = objects_per_span(objects.iter().sum());
    let relations = database.relations.iter().zip(objects);
    let cut = relations
        .map(|(relation, objects)| cut(database, relation, part_size, (objects, per_span)));
    cut.collect()
}

/// Base objects of a span, of so many in all.
fn objects_per_span(objects: usize) -> usize {
    (objects / LEAST_SPANS).clamp(LEAST_OBJECTS, MOST_OBJECTS)
}

/// Cuts a relation with so many base objects, so many of them to a span.
fn cut(
    database: &DatabasePlan,
    relation: &RelationPlan,
    part_size: ByteCount,
    (objects, per_span): (usize, usize),
) -> Result<LoggedRelation, Fault> {
    let newest = database.newest()?;
    let oid = relation.layout.oid;
    let known = newest.relation(oid).and_then(|entry| entry.sum.as_ref());
    let each = match (known, objects as u64) {
        (Some(sum), objects @ 1..) => (sum.bytes.0 / objects).max(1),
        _ => OBJECT_BYTES,
    };
    let mut bounds: Vec<(Bytes, u64)> = (0..objects)
        .step_by(per_span.max(1))
        .map(|first| {
            let count = per_span.min(objects - first);
            let first = u32::try_from(first).unwrap_or(u32::MAX);
            (bound(0, first), each * count as u64)
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
