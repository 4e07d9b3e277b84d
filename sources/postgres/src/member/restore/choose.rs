//! What a restore takes of the databases and tables of its layers, and where it puts them.

use holdfast_source::LoggedRestore;
use holdfast_types::{DatabaseName, ErrorCode, Fault, TableName, Target};
use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Into, LayerCatalog};
use crate::layout::{DefinitionReason, Handling, Layout, Oid};
use crate::member::catalog::RelationEntry;
use crate::restore::StagedTable;

/// A database, the name that it gets, and what goes there.
pub(super) type Chosen = Vec<(Oid, String, Into)>;

/// The databases of a restore, each with the name that it gets and where it goes.
pub(super) fn choose(
    restore: &LoggedRestore,
    chains: &BTreeMap<Oid, Vec<LayerCatalog>>,
) -> Result<Chosen, Fault> {
    let all: Vec<(Oid, &LayerCatalog)> = chains
        .iter()
        .filter_map(|(oid, chain)| Some((*oid, chain.last()?)))
        .collect();
    let named = |name: &DatabaseName| {
        let is_it = |(_, layer): &&(Oid, &LayerCatalog)| layer.catalog.facts.name == name.as_str();
        all.iter().find(is_it).copied().ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!(
                    "the backup has no database {}",
                    name.as_str().escape_debug()
                ),
            )
            .hint("see what it has with `holdfast backups show`")
        })
    };
    let databases = match &restore.target {
        Target::Source => all.clone(),
        Target::Databases(names) => {
            let names: BTreeSet<&DatabaseName> = names.iter().collect();
            names.into_iter().map(named).collect::<Result<_, _>>()?
        }
        Target::Tables(names) => return choose_tables(restore, names, named),
    };
    let mut chosen = Chosen::new();
    for (oid, layer) in databases {
        let old = DatabaseName::from(layer.catalog.facts.name.clone());
        let name = restore.databases.get(&old).unwrap_or(&old);
        let into = match restore.into_existing {
            false => Into::New(None),
            true => {
                let tables = layer.catalog.relations.iter();
                let tables = tables.filter(|entry| is_table(entry));
                Into::Existing(tables.map(|entry| staged(&entry.layout, None)).collect())
            }
        };
        chosen.push((oid, name.as_str().to_owned(), into));
    }
    Ok(chosen)
}

fn choose_tables<'a>(
    restore: &LoggedRestore,
    names: &[TableName],
    named: impl Fn(&DatabaseName) -> Result<(Oid, &'a LayerCatalog), Fault>,
) -> Result<Chosen, Fault> {
    let mut groups: BTreeMap<(Oid, String), Vec<StagedTable>> = BTreeMap::new();
    let mut taken: BTreeSet<(Oid, Oid)> = BTreeSet::new();
    let names: BTreeSet<&TableName> = names.iter().collect();
    for wanted in names {
        let (oid, layer) = named(&wanted.database)?;
        let is_it = |entry: &&RelationEntry| match wanted.is_pattern() {
            true => is_table(entry) && wanted.covers(&name_of(&wanted.database, entry)),
            false => entry.layout.display_name() == wanted.table,
        };
        let found: Vec<_> = layer.catalog.relations.iter().filter(is_it).collect();
        if found.is_empty() {
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!(
                    "the backup has no table {}",
                    wanted.to_string().escape_debug()
                ),
            )
            .hint(
                "name tables as database.schema.table, or database.schema.* for all of a schema",
            ));
        }
        for entry in found {
            // A pattern may stand for a table that is named too.
            if taken.insert((oid, entry.layout.oid)) {
                let (database, staged) = place_table(restore, &wanted.database, entry)?;
                groups.entry((oid, database)).or_default().push(staged);
            }
        }
    }
    Ok(groups
        .into_iter()
        .map(|((oid, database), tables)| {
            let into = match restore.into_existing {
                true => Into::Existing(tables),
                false => Into::New(Some(tables.iter().map(|table| table.oid).collect())),
            };
            (oid, database, into)
        })
        .collect())
}

fn name_of(database: &DatabaseName, entry: &RelationEntry) -> TableName {
    TableName {
        database: database.clone(),
        table: entry.layout.display_name(),
    }
}

/// Whether a relation is restored as a table, where no single one is named.
fn is_table(entry: &RelationEntry) -> bool {
    entry.layout.handling.has_rows()
        || entry.layout.handling == Handling::Definition(DefinitionReason::Partitioned)
}

/// The database that a table goes to, and its names there.
fn place_table(
    restore: &LoggedRestore,
    database: &DatabaseName,
    entry: &RelationEntry,
) -> Result<(String, StagedTable), Fault> {
    let name = name_of(database, entry);
    let new = renamed(restore, &name, entry)?;
    let database = match &new {
        Some(new) => &new.database,
        None => restore.databases.get(database).unwrap_or(database),
    };
    let staged = staged(&entry.layout, new.as_ref().map(|new| new.table.as_str()));
    let is_renamed = (&staged.schema, &staged.name) != (&staged.to_schema, &staged.to_name);
    if is_renamed && !restore.into_existing {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "table {} cannot get another name in a database that is made for it",
                name.to_string().escape_debug()
            ),
        )
        .hint("restore it into a database that exists, or under its own name"));
    }
    Ok((database.clone(), staged))
}

/// The new name of a table: its own one, or by a pattern that stands for another, which gives the schema or the database.
fn renamed(
    restore: &LoggedRestore,
    name: &TableName,
    entry: &RelationEntry,
) -> Result<Option<TableName>, Fault> {
    if let Some(new) = restore.tables.get(name) {
        return Ok(Some(new.clone()));
    }
    let mut patterns = restore.tables.iter().filter(|(old, _)| old.is_pattern());
    let Some((old, new)) = patterns.find(|(old, _)| old.covers(name)) else {
        return Ok(None);
    };
    let own = &entry.layout.name;
    let table = match new.table.strip_suffix('*') {
        Some("") => Some(name.table.clone()),
        // The schema changes, and the table's name does not.
        Some(schema) if schema.ends_with('.') && old.table != "*" => Some(format!("{schema}{own}")),
        Some(_) | None => None,
    };
    let table = table.ok_or_else(|| {
        let message = format!("{old} cannot become {new}");
        Fault::new(ErrorCode::InvalidArgument, message).hint(
            "give all tables of a schema another schema, or all of a database another database",
        )
    })?;
    Ok(Some(TableName {
        database: new.database.clone(),
        table,
    }))
}

/// A table under its own name, or under `schema.table`; a name without a dot keeps the schema.
fn staged(layout: &Layout, to: Option<&str>) -> StagedTable {
    let (to_schema, to_name) = match to {
        None => (layout.schema.as_str(), layout.name.as_str()),
        Some(to) => match to.strip_prefix(&format!("{}.", layout.schema)) {
            // The own schema's name may have a dot in it.
            Some(name) => (layout.schema.as_str(), name),
            None => to.split_once('.').unwrap_or((&layout.schema, to)),
        },
    };
    StagedTable {
        oid: layout.oid,
        schema: layout.schema.clone(),
        name: layout.name.clone(),
        to_schema: to_schema.to_owned(),
        to_name: to_name.to_owned(),
    }
}
