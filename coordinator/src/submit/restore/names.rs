//! What restored databases and tables are called.

use holdfast_types::{DatabaseName, ErrorCode, Fault, SourceKind, TableName, Target};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a database, schema or table.
const MAX_NAME: usize = 256;

/// New names, as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NewNames {
    /// Tables: the database they go to.
    pub(super) into_db: Option<DatabaseName>,
    /// Tables: the schema they go to.
    pub(super) into_schema: Option<String>,
    /// One table: its name, without database and schema.
    pub(super) table: Option<String>,
    /// One database: its name.
    pub(super) database: Option<DatabaseName>,
}

/// Names that change: old → new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Renamed {
    /// Of databases.
    pub(super) databases: BTreeMap<DatabaseName, DatabaseName>,
    /// Of tables, where more than the database changes.
    pub(super) tables: BTreeMap<TableName, TableName>,
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, text)
}

impl NewNames {
    /// Checks that they go with the target.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn check(&self, target: &Target) -> Result<(), Fault> {
        let given = [
            &self.into_db,
            &self.into_schema,
            &self.table,
            &self.database,
        ];
        for name in given.into_iter().flatten() {
            if name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(invalid(format!(
                    "\"{}\" is not a legal name",
                    name.escape_debug()
                )));
            }
        }
        let of_tables = [
            ("into_db", &self.into_db),
            ("into_schema", &self.into_schema),
            ("new_table_name", &self.table),
        ];
        let of_tables = of_tables.iter().find(|(_, given)| given.is_some());
        match (target, of_tables, &self.database) {
            (_, Some((option, _)), Some(_)) => Err(invalid(format!(
                "{option} and new_db_name cannot be used together"
            ))),
            (Target::Source | Target::Databases(_), Some((option, _)), None) => {
                Err(invalid(format!(
                    "cannot use \"{option}\" when restoring a database or the whole source: it is for tables"
                )))
            }
            (Target::Databases(names), None, Some(_)) if names.len() == 1 => Ok(()),
            (_, None, Some(_)) => Err(invalid(
                "\"new_db_name\" can only be used when restoring exactly one database",
            )),
            (Target::Tables(names), Some(_), None) => self.check_tables(names),
            (_, None, None) => Ok(()),
        }
    }

    fn check_tables(&self, names: &[TableName]) -> Result<(), Fault> {
        let Some(new) = &self.table else {
            return Ok(());
        };
        let is_one = names.len() == 1 && names.iter().all(|name| !name.is_pattern());
        if !is_one {
            return Err(invalid(
                "\"new_table_name\" can only be used when restoring exactly one table",
            ));
        }
        if new.contains('.') {
            return Err(invalid(format!(
                "new_table_name \"{}\" has a dot in it",
                new.escape_debug()
            ))
            .hint("give the name alone, and database and schema with into_db and into_schema"));
        }
        Ok(())
    }

    /// Checks that a kind of source can do it.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn check_kind(&self, kind: SourceKind) -> Result<(), Fault> {
        let beyond = [
            ("into_schema", &self.into_schema),
            ("new_table_name", &self.table),
        ];
        match beyond.iter().find(|(_, given)| given.is_some()) {
            Some((option, _)) if !kind.is_logged() => Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "cannot use \"{option}\" with a source of kind {kind}: its tables keep their names, and are in no schema"
                ),
            )
            .hint("restore the table into another database with into_db")),
            _ => Ok(()),
        }
    }

    /// The names that change in a target without patterns. Two tables must not get the same one.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn resolve(&self, target: &Target) -> Result<Renamed, Fault> {
        let mut renamed = Renamed::default();
        match (target, &self.database) {
            (Target::Databases(names), Some(new)) => {
                let pairs = names.iter().map(|name| (name.clone(), new.clone()));
                renamed.databases = pairs.collect();
            }
            (Target::Tables(tables), _) => {
                let is_more = self.into_schema.is_some() || self.table.is_some();
                let mut seen = BTreeSet::new();
                for old in tables {
                    let new = self.name_of(old)?;
                    if !seen.insert(new.clone()) {
                        return Err(invalid(format!(
                            "two tables would both be restored as \"{new}\": one of them is \"{old}\""
                        ))
                        .hint("restore them one after another, into different databases"));
                    }
                    if is_more {
                        renamed.tables.insert(old.clone(), new);
                    }
                }
                if let Some(into) = &self.into_db {
                    let pairs = tables.iter();
                    let pairs = pairs.map(|table| (table.database.clone(), into.clone()));
                    renamed.databases = pairs.collect();
                }
            }
            _ => {}
        }
        Ok(renamed)
    }

    fn name_of(&self, old: &TableName) -> Result<TableName, Fault> {
        let database = self.into_db.as_ref().unwrap_or(&old.database).clone();
        if self.into_schema.is_none() && self.table.is_none() {
            let table = old.table.clone();
            return Ok(TableName { database, table });
        }
        let mut parts = old.table.split('.');
        let (Some(schema), Some(table), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid(format!(
                "table \"{old}\" cannot get another name: with that many dots it cannot be told where its schema ends"
            )));
        };
        let schema = self.into_schema.as_deref().unwrap_or(schema);
        let table = self.table.as_deref().unwrap_or(table);
        Ok(TableName {
            database,
            table: format!("{schema}.{table}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> TableName {
        text.parse().expect("a table")
    }

    fn tables(names: &[&str]) -> Target {
        Target::Tables(names.iter().map(|name| table(name)).collect())
    }

    fn databases(names: &[&str]) -> Target {
        Target::Databases(names.iter().map(ToString::to_string).collect())
    }

    /// `into_db/into_schema/new_table_name/new_db_name`, each perhaps empty.
    fn names(text: &str) -> NewNames {
        let mut given = text
            .split('/')
            .map(|name| (!name.is_empty()).then(|| name.to_owned()));
        let mut next = || given.next().flatten();
        NewNames {
            into_db: next(),
            into_schema: next(),
            table: next(),
            database: next(),
        }
    }

    #[test]
    fn options_go_with_their_targets_only() {
        let one = tables(&["a.s.t"]);
        let two = tables(&["a.s.t", "a.s.u"]);
        let pattern = tables(&["a.s.*"]);
        let (database, more) = (databases(&["a"]), databases(&["a", "c"]));
        let cases = [
            ("///", &Target::Source, None),
            ("b///", &one, None),
            ("b/x/y/", &one, None),
            ("b/x//", &pattern, None),
            ("///b", &database, None),
            ("b///", &Target::Source, Some("cannot use \"into_db\"")),
            ("b///", &database, Some("cannot use \"into_db\"")),
            ("/x//", &database, Some("cannot use \"into_schema\"")),
            (
                "//y/",
                &Target::Source,
                Some("cannot use \"new_table_name\""),
            ),
            ("//y/", &two, Some("exactly one table")),
            ("//y/", &pattern, Some("exactly one table")),
            ("//x.y/", &one, Some("has a dot")),
            ("///b", &Target::Source, Some("exactly one database")),
            ("///b", &more, Some("exactly one database")),
            ("///b", &one, Some("exactly one database")),
            ("b///c", &database, Some("together")),
            ("/b//c", &one, Some("together")),
            ("\u{7}///", &one, Some("not a legal name")),
        ];
        for (given, target, expected) in cases {
            match (names(given).check(target), expected) {
                (Ok(()), None) => {}
                (Err(fault), Some(text)) => assert!(fault.message.contains(text), "{fault}"),
                (outcome, _) => panic!("{given} {target}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn what_a_kind_cannot_do_is_refused_and_not_ignored() {
        for given in ["/x//", "//y/"] {
            let fault = names(given).check_kind(SourceKind::Mvcc).expect_err(given);
            assert_eq!(fault.code, ErrorCode::Unsupported);
            assert!(fault.hint.is_some(), "{fault}");
            assert_eq!(names(given).check_kind(SourceKind::Postgres), Ok(()));
        }
        assert_eq!(names("b///").check_kind(SourceKind::Mvcc), Ok(()));
    }

    #[test]
    fn names_change_as_asked_for() {
        let cases = [
            ("///", "a.s.t", "a.s.t"),
            ("b///", "a.s.t", "b.s.t"),
            ("/x//", "a.s.t", "a.x.t"),
            ("//y/", "a.s.t", "a.s.y"),
            ("b/x/y/", "a.s.t", "b.x.y"),
        ];
        for (given, old, new) in cases {
            let found = names(given).name_of(&table(old));
            assert_eq!(found, Ok(table(new)), "{given}");
        }
        let both = names("b/x//")
            .resolve(&tables(&["a.s.t", "a.s.u"]))
            .expect("legal");
        assert_eq!(both.databases, BTreeMap::from([("a".into(), "b".into())]));
        let expected = [("a.s.t", "b.x.t"), ("a.s.u", "b.x.u")];
        let expected = expected.map(|(old, new)| (table(old), table(new)));
        assert_eq!(both.tables, BTreeMap::from(expected));
        let only = names("b///").resolve(&tables(&["a.s.t"])).expect("legal");
        assert!(only.tables.is_empty(), "the database alone changes");
        let one = names("///b").resolve(&databases(&["a"])).expect("legal");
        assert_eq!(one.databases, BTreeMap::from([("a".into(), "b".into())]));
        assert_eq!(
            names("///").resolve(&Target::Source),
            Ok(Renamed::default())
        );
    }

    #[test]
    fn two_tables_of_one_name_do_not_meet() {
        for (given, target, text) in [
            ("c///", tables(&["a.t", "b.t"]), "\"c.t\""),
            ("c///", tables(&["a.s.t", "b.s.t"]), "\"c.s.t\""),
            ("/x//", tables(&["a.s.t", "a.r.t"]), "\"a.x.t\""),
        ] {
            let fault = names(given).resolve(&target).expect_err(given);
            assert!(fault.message.contains(text), "{fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
        let fault = names("/x//")
            .resolve(&tables(&["a.s.t.u"]))
            .expect_err("dots");
        assert!(fault.message.contains("where its schema ends"), "{fault}");
    }
}
