//! What a member of several has of the tables that a backup names.

use holdfast_source::{LoggedBackup, LoggedRelation};
use holdfast_types::{Position, Relation, TableName, Target};
use std::collections::BTreeMap;

use super::begin::table_name;
use super::catalog::relation_id;
use crate::catalog::Database;
use crate::layout::{Layout, Oid};

/// For each name of the target that a database has tables for, one of those: a relation without spans and definition, which tells that
/// the name is there and nothing else. `None` if the database has nothing of what is named, and is none of the backup's.
pub(super) fn named<'a>(
    backup: &LoggedBackup,
    database: &Database,
    layouts: impl Iterator<Item = &'a Layout>,
) -> Option<Vec<LoggedRelation>> {
    let names = match &backup.target {
        Target::Tables(names) if backup.partial => names,
        _ => return Some(Vec::new()),
    };
    let own = names.iter().filter(|name| name.database == database.name);
    let mut missing: Vec<&TableName> = own.collect();
    // Even an empty database is one.
    let is_whole = missing.iter().any(|name| name.table == "*");
    missing.retain(|name| name.table != "*");
    let mut found: BTreeMap<Oid, TableName> = BTreeMap::new();
    for layout in layouts {
        let table = table_name(&database.name, layout);
        let before = missing.len();
        missing.retain(|name| !name.covers(&table));
        if missing.len() < before {
            found.insert(layout.oid, table);
        }
    }
    let relations = found.into_iter().map(|(oid, name)| LoggedRelation {
        relation: Relation {
            id: relation_id(database.oid, oid),
            name,
            created_at: Position::Lsn(holdfast_types::Lsn::ZERO),
            dropped_at: None,
            definition: Vec::new(),
        },
        spans: Vec::new(),
        settles: false,
    });
    let relations: Vec<LoggedRelation> = relations.collect();
    (is_whole || !relations.is_empty()).then_some(relations)
}
