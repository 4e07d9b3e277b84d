//! Databases and tables, with the history of their coming and going: pure data, changed by methods that know the rules.
//!
//! A record stays after its thing was dropped, until garbage collection has passed that position: so the catalogue can be described as of
//! any position that can be read.

mod databases;

use holdfast_types::{
    DatabaseName, ErrorCode, Fault, Hlc, JobId, Position, Relation, RelationId, TableName, Target,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest name of a database or table, in bytes.
const MAX_NAME_LENGTH: usize = 128;

/// The longest definition of a table, in bytes: definitions travel in plans and manifests.
const MAX_DEFINITION_LENGTH: usize = 1024 * 1024;

/// Whether a thing is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Visibility {
    /// From its creation on.
    Online,
    /// Not yet: a restore is filling it.
    Restoring(JobId),
    /// Never: its restore was undone; what is left of it goes to garbage collection.
    Discarded,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseRecord {
    pub(crate) name: DatabaseName,
    pub(crate) created_at: Hlc,
    pub(crate) dropped_at: Option<Hlc>,
    pub(crate) visibility: Visibility,
    pub(crate) restored_by: Option<JobId>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelationRecord {
    pub(crate) name: TableName,
    /// Zero while a restore fills it.
    pub(crate) created_at: Hlc,
    pub(crate) dropped_at: Option<Hlc>,
    pub(crate) visibility: Visibility,
    pub(crate) restored_by: Option<JobId>,
    pub(crate) definition: Vec<u8>,
}

impl DatabaseRecord {
    fn is_visible(&self, at: Hlc) -> bool {
        is_visible(self.visibility, self.created_at, self.dropped_at, at)
    }

    fn is_live(&self) -> bool {
        self.dropped_at.is_none() && self.visibility != Visibility::Discarded
    }
}

impl RelationRecord {
    /// Whether an application sees it at a position.
    pub(crate) fn is_visible(&self, at: Hlc) -> bool {
        is_visible(self.visibility, self.created_at, self.dropped_at, at)
    }

    fn is_live(&self) -> bool {
        self.dropped_at.is_none() && self.visibility != Visibility::Discarded
    }

    fn describe(&self, id: RelationId, dropped_at: Option<Hlc>) -> Relation {
        Relation {
            id,
            name: self.name.clone(),
            created_at: Position::Hlc(self.created_at),
            dropped_at: dropped_at.map(Position::Hlc),
            definition: self.definition.clone(),
        }
    }
}

fn is_visible(
    visibility: Visibility,
    created_at: Hlc,
    dropped_at: Option<Hlc>,
    position: Hlc,
) -> bool {
    visibility == Visibility::Online
        && created_at <= position
        && dropped_at.is_none_or(|dropped| position < dropped)
}

/// All databases and tables of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Catalogue {
    pub(crate) databases: BTreeMap<u64, DatabaseRecord>,
    pub(crate) relations: BTreeMap<RelationId, RelationRecord>,
    /// The next id to give; ids are never given twice.
    pub(crate) next_id: u64,
    live_databases: BTreeMap<DatabaseName, u64>,
    live_tables: BTreeMap<TableName, RelationId>,
}

impl Catalogue {
    /// The catalogue with these records.
    pub(crate) fn new(
        databases: BTreeMap<u64, DatabaseRecord>,
        relations: BTreeMap<RelationId, RelationRecord>,
        next_id: u64,
    ) -> Self {
        let mut catalogue = Self {
            databases,
            relations,
            next_id: next_id.max(1),
            ..Self::default()
        };
        catalogue.index();
        catalogue
    }

    /// The table that has a name now, visible or being restored.
    pub(crate) fn live_table(&self, name: &TableName) -> Option<(RelationId, &RelationRecord)> {
        let id = self.live_tables.get(name)?;
        Some((*id, self.relations.get(id)?))
    }

    /// The table that an application means by a name at a position.
    pub(crate) fn table_at(
        &self,
        name: &TableName,
        at: Hlc,
    ) -> Result<(RelationId, &RelationRecord), Fault> {
        // The usual case first: the present table of that name.
        self.live_table(name)
            .filter(|(_, record)| record.is_visible(at))
            .or_else(|| {
                self.relations
                    .iter()
                    .find(|(_, record)| record.name == *name && record.is_visible(at))
                    .map(|(id, record)| (*id, record))
            })
            .ok_or_else(|| no_table(name))
    }

    /// The table that an application may write now.
    pub(crate) fn writable_table(&self, name: &TableName) -> Result<RelationId, Fault> {
        match self.live_table(name) {
            Some((id, record)) if record.visibility == Visibility::Online => Ok(id),
            Some((_, record)) => Err(no_table(name).hint(match record.visibility {
                Visibility::Restoring(job) => format!("job {job} is restoring it"),
                Visibility::Online | Visibility::Discarded => "it is gone".to_owned(),
            })),
            None => Err(no_table(name)),
        }
    }

    /// The table that a restore fills.
    pub(crate) fn loadable_table(&self, job: JobId, name: &TableName) -> Result<RelationId, Fault> {
        match self.live_table(name) {
            Some((id, record)) if record.visibility == Visibility::Restoring(job) => Ok(id),
            Some((_, record)) if record.restored_by == Some(job) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("table \"{name}\" has been published by job {job} already"),
            )),
            _ => Err(Fault::new(
                ErrorCode::NotFound,
                format!("job {job} has prepared no table \"{name}\""),
            )
            .hint("prepare the restore first; a restore that was undone cannot go on")),
        }
    }

    /// Makes a database.
    pub(crate) fn create_database(&mut self, name: &str, at: Hlc) -> Result<(), Fault> {
        check_database_name(name)?;
        if self.live_databases.contains_key(name) {
            return Err(database_exists(name));
        }
        self.insert_database(DatabaseRecord {
            name: name.to_owned(),
            created_at: at,
            dropped_at: None,
            visibility: Visibility::Online,
            restored_by: None,
        });
        self.index();
        Ok(())
    }

    /// Makes a table in a database that exists.
    pub(crate) fn create_table(
        &mut self,
        name: &TableName,
        definition: Vec<u8>,
        at: Hlc,
    ) -> Result<Relation, Fault> {
        check_table_name(name)?;
        check_definition(name, &definition)?;
        self.online_database(&name.database)?;
        if self.live_tables.contains_key(name) {
            return Err(table_exists(name));
        }
        let record = RelationRecord {
            name: name.clone(),
            created_at: at,
            dropped_at: None,
            visibility: Visibility::Online,
            restored_by: None,
            definition,
        };
        let id = RelationId(self.take_id());
        let relation = record.describe(id, None);
        self.relations.insert(id, record);
        self.index();
        Ok(relation)
    }

    /// Drops a table.
    pub(crate) fn drop_table(&mut self, name: &TableName, at: Hlc) -> Result<(), Fault> {
        let id = self.writable_table(name)?;
        if let Some(record) = self.relations.get_mut(&id) {
            record.dropped_at = Some(at);
        }
        self.index();
        Ok(())
    }

    /// Drops a database with all its tables.
    pub(crate) fn drop_database(&mut self, name: &str, at: Hlc) -> Result<(), Fault> {
        let id = self.online_database(name)?;
        let restoring = self
            .relations
            .values()
            .filter(|record| record.is_live() && record.name.database == name)
            .find_map(|record| match record.visibility {
                Visibility::Restoring(job) => Some(job),
                Visibility::Online | Visibility::Discarded => None,
            });
        if let Some(job) = restoring {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {job} is restoring tables into database \"{name}\""),
            )
            .hint("wait for the job, or cancel it"));
        }
        for record in self.relations.values_mut() {
            if record.is_live() && record.name.database == name {
                record.dropped_at = Some(at);
            }
        }
        if let Some(record) = self.databases.get_mut(&id) {
            record.dropped_at = Some(at);
        }
        self.index();
        Ok(())
    }

    /// The names of the databases at a position, sorted.
    pub(crate) fn databases_at(&self, at: Hlc) -> Vec<DatabaseName> {
        let mut names: Vec<_> = self
            .databases
            .values()
            .filter(|record| record.is_visible(at))
            .map(|record| record.name.clone())
            .collect();
        names.sort();
        names
    }

    /// The relations of a target at a position, sorted by id. Names that do not exist are an error.
    pub(crate) fn describe(&self, target: &Target, at: Hlc) -> Result<Vec<Relation>, Fault> {
        match target {
            Target::Source => {}
            Target::Databases(names) => {
                let present = self.databases_at(at);
                if let Some(name) = names.iter().find(|name| !present.contains(name)) {
                    return Err(Fault::new(
                        ErrorCode::NotFound,
                        format!(
                            "database \"{}\" does not exist at {at}",
                            name.escape_debug()
                        ),
                    )
                    .hint(LIST));
                }
            }
            Target::Tables(names) => {
                for name in names {
                    self.table_at(name, at)?;
                }
            }
        }
        Ok(self
            .relations
            .iter()
            .filter(|(_, record)| record.is_visible(at) && target.covers(&record.name))
            .map(|(id, record)| record.describe(*id, None))
            .collect())
    }

    /// The relations of a target that were dropped in `(after, upto]`, sorted by id.
    pub(crate) fn dropped(&self, target: &Target, after: Hlc, upto: Hlc) -> Vec<Relation> {
        self.relations
            .iter()
            .filter(|(_, record)| {
                record.visibility == Visibility::Online
                    && target.covers(&record.name)
                    && record
                        .dropped_at
                        .is_some_and(|dropped| after < dropped && dropped <= upto)
            })
            .map(|(id, record)| record.describe(*id, record.dropped_at))
            .collect()
    }

    /// Makes the tables of a restore, and without `into_existing` their databases. Repeating it changes nothing.
    pub(crate) fn prepare(
        &mut self,
        job: JobId,
        tables: &[(TableName, Vec<u8>)],
        into_existing: bool,
    ) -> Result<(), Fault> {
        for (name, definition) in tables {
            if name.is_database() {
                check_database_name(&name.database)?;
                self.prepare_database(job, name, into_existing)?;
                continue;
            }
            check_table_name(name)?;
            check_definition(name, definition)?;
            self.prepare_database(job, name, into_existing)?;
            match self.live_tables.get(name) {
                None => {
                    let id = RelationId(self.take_id());
                    let record = RelationRecord {
                        name: name.clone(),
                        created_at: Hlc::ZERO,
                        dropped_at: None,
                        visibility: Visibility::Restoring(job),
                        restored_by: Some(job),
                        definition: definition.clone(),
                    };
                    self.relations.insert(id, record);
                    self.live_tables.insert(name.clone(), id);
                }
                Some(id) => {
                    let made_by = self.relations.get(id).and_then(|record| record.restored_by);
                    if made_by != Some(job) {
                        return Err(table_exists(name));
                    }
                }
            }
        }
        Ok(())
    }

    fn prepare_database(
        &mut self,
        job: JobId,
        table: &TableName,
        into_existing: bool,
    ) -> Result<(), Fault> {
        let name = &table.database;
        let record = self
            .live_databases
            .get(name)
            .and_then(|id| self.databases.get(id));
        match record {
            Some(record) if into_existing && record.visibility == Visibility::Online => Ok(()),
            Some(record) if record.restored_by == Some(job) => Ok(()),
            _ if into_existing => Err(Fault::new(
                ErrorCode::NotFound,
                format!(
                    "a database named \"{}\" needs to exist to restore table \"{}\"",
                    name.escape_debug(),
                    table.table.escape_debug()
                ),
            )
            .hint("create the database, or restore into another one")),
            Some(_) => Err(database_exists(name).hint("restore it under another name, or drop it")),
            None => {
                let id = self.insert_database(DatabaseRecord {
                    name: name.clone(),
                    created_at: Hlc::ZERO,
                    dropped_at: None,
                    visibility: Visibility::Restoring(job),
                    restored_by: Some(job),
                });
                self.live_databases.insert(name.clone(), id);
                Ok(())
            }
        }
    }

    /// Makes everything that a restore prepared visible from a position on; `false` if there was nothing.
    pub(crate) fn publish(&mut self, job: JobId, at: Hlc) -> bool {
        let mut any = false;
        for record in self.relations.values_mut() {
            if record.visibility == Visibility::Restoring(job) {
                (record.visibility, record.created_at) = (Visibility::Online, at);
                any = true;
            }
        }
        for record in self.databases.values_mut() {
            if record.visibility == Visibility::Restoring(job) {
                (record.visibility, record.created_at) = (Visibility::Online, at);
                any = true;
            }
        }
        any
    }

    /// Undoes what a restore prepared and did not publish: names are free at once, rows go to garbage collection. Gives the tables
    /// whose rows are still to be removed.
    pub(crate) fn discard(&mut self, job: JobId) -> Vec<RelationId> {
        for record in self.relations.values_mut() {
            if record.visibility == Visibility::Restoring(job) {
                record.visibility = Visibility::Discarded;
            }
        }
        self.databases
            .retain(|_, record| record.visibility != Visibility::Restoring(job));
        self.index();
        self.relations
            .iter()
            .filter(|(_, record)| {
                record.visibility == Visibility::Discarded && record.restored_by == Some(job)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// The tables of which nothing can be read any more once garbage is collected up to a threshold.
    pub(crate) fn dead_tables(&self, threshold: Hlc) -> Vec<RelationId> {
        self.relations
            .iter()
            .filter(|(_, record)| {
                record.visibility == Visibility::Discarded
                    || record
                        .dropped_at
                        .is_some_and(|dropped| dropped <= threshold)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Forgets a table whose rows are gone.
    pub(crate) fn forget_table(&mut self, id: RelationId) {
        self.relations.remove(&id);
        self.index();
    }

    /// Forgets databases that no readable position sees.
    pub(crate) fn forget_databases(&mut self, threshold: Hlc) {
        self.databases
            .retain(|_, record| record.dropped_at.is_none_or(|dropped| dropped > threshold));
        self.index();
    }

    fn online_database(&self, name: &str) -> Result<u64, Fault> {
        self.live_databases
            .get(name)
            .filter(|id| {
                self.databases
                    .get(*id)
                    .is_some_and(|record| record.visibility == Visibility::Online)
            })
            .copied()
            .ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("database \"{}\" does not exist", name.escape_debug()),
                )
                .hint(LIST)
            })
    }

    fn insert_database(&mut self, record: DatabaseRecord) -> u64 {
        let id = self.take_id();
        self.databases.insert(id, record);
        id
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn index(&mut self) {
        self.live_databases = self
            .databases
            .iter()
            .filter(|(_, record)| record.is_live())
            .map(|(id, record)| (record.name.clone(), *id))
            .collect();
        self.live_tables = self
            .relations
            .iter()
            .filter(|(_, record)| record.is_live())
            .map(|(id, record)| (record.name.clone(), *id))
            .collect();
    }
}

/// The way out when a name is not there.
const LIST: &str = "list what a member holds with `holdfast mvcc status --member HOST:PORT`";

fn no_table(name: &TableName) -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        format!(
            "table \"{}\" does not exist",
            name.to_string().escape_debug()
        ),
    )
    .hint(LIST)
}

fn table_exists(name: &TableName) -> Fault {
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("relation \"{name}\" already exists"),
    )
}

fn database_exists(name: &str) -> Fault {
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("database \"{}\" already exists", name.escape_debug()),
    )
}

fn check_definition(name: &TableName, definition: &[u8]) -> Result<(), Fault> {
    if definition.len() <= MAX_DEFINITION_LENGTH {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::InvalidArgument,
        format!("the definition of table \"{name}\" is longer than {MAX_DEFINITION_LENGTH} bytes"),
    ))
}

fn check_name(what: &str, name: &str, more: &str) -> Result<(), Fault> {
    let legal = (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c));
    if legal {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME_LENGTH).collect();
    Err(Fault::new(
        ErrorCode::InvalidArgument,
        format!("{what} \"{}\" is not a legal name", shown.escape_debug()),
    )
    .hint(format!(
        "use 1 to {MAX_NAME_LENGTH} letters, digits or '_{more}'"
    )))
}

fn check_database_name(name: &str) -> Result<(), Fault> {
    check_name("database", name, "-")
}

fn check_table_name(name: &TableName) -> Result<(), Fault> {
    check_database_name(&name.database)?;
    // A table may hold dots: a name is split at the first one.
    check_name("table", &name.table, "-.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::Timestamp;

    fn at(micros: u64) -> Hlc {
        Hlc::at(Timestamp::from_micros(micros))
    }

    fn table(text: &str) -> TableName {
        text.parse().expect("a table name")
    }

    fn names(relations: &[Relation]) -> Vec<String> {
        relations.iter().map(|r| r.name.to_string()).collect()
    }

    #[test]
    fn the_catalogue_is_described_as_of_any_position() {
        let mut catalogue = Catalogue::default();
        catalogue.create_database("app", at(10)).expect("database");
        let first = catalogue
            .create_table(&table("app.t"), vec![], at(20))
            .expect("table");
        catalogue.drop_table(&table("app.t"), at(30)).expect("drop");
        let second = catalogue
            .create_table(&table("app.t"), vec![], at(40))
            .expect("again");
        assert_ne!(first.id, second.id);
        let seen = |position| {
            catalogue
                .describe(&Target::Source, at(position))
                .expect("describe")
                .iter()
                .map(|relation| relation.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(19), []);
        assert_eq!(seen(20), [first.id]);
        assert_eq!(seen(29), [first.id]);
        assert_eq!(seen(30), []);
        assert_eq!(seen(40), [second.id]);
        assert_eq!(catalogue.databases_at(at(9)), Vec::<String>::new());
        let target = Target::Tables(vec![table("app.t")]);
        assert!(catalogue.describe(&target, at(35)).is_err());
        let dropped = catalogue.dropped(&target, at(20), at(30));
        assert_eq!(names(&dropped), ["app.t"]);
        assert_eq!(dropped[0].dropped_at, Some(Position::Hlc(at(30))));
        assert!(catalogue.dropped(&target, at(30), at(99)).is_empty());
    }

    #[test]
    fn a_restore_is_invisible_until_published_and_leaves_nothing_when_discarded() {
        let mut catalogue = Catalogue::default();
        let tables = [(table("app.a"), vec![1]), (table("app.b"), vec![2])];
        let (job, other) = (JobId(7), JobId(8));
        catalogue.prepare(job, &tables, false).expect("prepare");
        let again = catalogue.clone();
        catalogue
            .prepare(job, &tables, false)
            .expect("prepare again");
        assert_eq!(catalogue.relations, again.relations);
        let taken = catalogue
            .prepare(other, &tables, false)
            .expect_err("taken by job 7");
        assert_eq!(taken.code, ErrorCode::AlreadyExists);
        assert!(catalogue.create_database("app", at(5)).is_err());
        assert_eq!(
            catalogue.describe(&Target::Source, at(99)).expect("none"),
            []
        );

        let mut undone = catalogue.clone();
        assert_eq!(undone.discard(job).len(), 2);
        undone
            .create_database("app", at(6))
            .expect("the name is free");
        assert!(!undone.publish(job, at(50)), "what was undone stays undone");

        assert!(catalogue.publish(job, at(50)));
        assert!(!catalogue.publish(job, at(60)), "once");
        assert_eq!(catalogue.discard(job), [], "published is published");
        let seen = catalogue.describe(&Target::Source, at(50)).expect("both");
        assert_eq!(names(&seen), ["app.a", "app.b"]);
        assert_eq!(
            catalogue.describe(&Target::Source, at(49)).expect("none"),
            []
        );
    }

    #[test]
    fn restoring_tables_needs_their_database_and_restoring_databases_its_absence() {
        let mut catalogue = Catalogue::default();
        let tables = [(table("app.a"), vec![])];
        let error = catalogue
            .prepare(JobId(1), &tables, true)
            .expect_err("missing");
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.message.contains("needs to exist"));
        catalogue.create_database("app", at(1)).expect("database");
        let error = catalogue
            .prepare(JobId(1), &tables, false)
            .expect_err("there");
        assert_eq!(error.code, ErrorCode::AlreadyExists);
        catalogue.prepare(JobId(1), &tables, true).expect("prepare");
        let error = catalogue.drop_database("app", at(2)).expect_err("in use");
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
    }

    #[test]
    fn illegal_names_are_refused() {
        let mut catalogue = Catalogue::default();
        for name in ["", "a.b", "a/b", "ä", &"x".repeat(129)] {
            let error = catalogue.create_database(name, at(1)).expect_err(name);
            assert_eq!(error.code, ErrorCode::InvalidArgument);
        }
    }
}
