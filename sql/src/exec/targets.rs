//! What a backup or restore covers, in the words of the cluster.
//!
//! In the model system a table has three names, of which the schema may be left out and is then `public`. Sources of kind `mvcc` have no schemas, so there
//! `public` is left out; PostgreSQL has, so there it is put in.

use holdfast_client::v1;

use crate::error::{SqlError, state};
use crate::syntax::ast::{TablePattern, Targets};

const PUBLIC: &str = "public";

/// What a kind of source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `database.table`
    Database,
    /// `database.schema.table`
    Schema,
}

impl Naming {
    pub(super) fn of_kind(kind: &str) -> Self {
        match kind {
            "postgres" => Self::Schema,
            _ => Self::Database,
        }
    }
}

/// The target, as the cluster has it.
///
/// # Errors
/// A name lacks its database.
pub(super) fn wire_target(targets: &Targets, naming: Naming) -> Result<v1::Target, SqlError> {
    match targets {
        Targets::All => Ok(v1::Target::default()),
        Targets::SystemUsers => Err(SqlError::unsupported(
            "RESTORE SYSTEM USERS: a restore of databases brings the roles' grants along",
        )),
        Targets::Databases(names) => Ok(v1::Target {
            databases: names.clone(),
            tables: Vec::new(),
        }),
        Targets::Tables(patterns) => {
            // `db.*` covers what DATABASE covers, and is a pattern only where there are patterns.
            let whole = |pattern: &TablePattern| match pattern.parts.as_slice() {
                [database] if pattern.is_all => Some(database.clone()),
                _ => None,
            };
            if naming == Naming::Database
                && let Some(databases) = patterns.iter().map(whole).collect::<Option<Vec<_>>>()
            {
                return Ok(v1::Target {
                    databases,
                    tables: Vec::new(),
                });
            }
            let tables = patterns.iter().map(|pattern| table(pattern, naming));
            Ok(v1::Target {
                databases: Vec::new(),
                tables: tables.collect::<Result<_, _>>()?,
            })
        }
    }
}

fn table(pattern: &TablePattern, naming: Naming) -> Result<String, SqlError> {
    let parts: Vec<&str> = pattern.parts.iter().map(String::as_str).collect();
    if pattern.is_all {
        return match parts.as_slice() {
            [] => Err(SqlError::new(
                state::INVALID_NAME,
                "* stands for the tables of a database, and none is named",
            )
            .hint("write database.*, or leave the target out for the whole source")),
            [database] => Ok(format!("{database}.*")),
            [database, schema, ..] => Ok(format!("{database}.{schema}.*")),
        };
    }
    match (naming, parts.as_slice()) {
        (_, [] | [_]) => Err(SqlError::new(
            state::INVALID_NAME,
            format!(
                "the table \"{}\" is named without its database",
                parts.join(".")
            ),
        )
        .hint("write database.table: a connection is to a source, which has many databases")),
        (Naming::Database, [database, table]) => Ok(format!("{database}.{table}")),
        (Naming::Database, [database, PUBLIC, table]) => Ok(format!("{database}.{table}")),
        (Naming::Schema, [database, table]) => Ok(format!("{database}.{PUBLIC}.{table}")),
        (_, parts) => Ok(parts.join(".")),
    }
}

/// The new name of the only table that is restored, if it has one.
///
/// # Errors
/// Several tables are restored, and one of them under a new name.
pub(super) fn new_table_name(targets: &Targets) -> Result<String, SqlError> {
    let Targets::Tables(patterns) = targets else {
        return Ok(String::new());
    };
    let renamed = patterns.iter().find_map(|pattern| pattern.rename.clone());
    match (renamed, patterns.len()) {
        (None, _) => Ok(String::new()),
        (Some(name), 1) => Ok(name),
        (Some(_), _) => Err(SqlError::unsupported(
            "a new name for one of several tables: restore it by a statement of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::ast::Statement;

    fn targets(text: &str) -> Targets {
        let sql = format!("RESTORE {text} FROM LATEST IN 'x'");
        match crate::syntax::parse(&sql).expect(&sql).remove(0) {
            Statement::Restore(restore) => restore.targets,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_get_what_their_source_has() {
        for (text, mvcc, postgres) in [
            ("TABLE app.t", "app.t", "app.public.t"),
            ("TABLE app.public.t", "app.t", "app.public.t"),
            ("TABLE app.s.t", "app.s.t", "app.s.t"),
            ("TABLE app.s.*", "app.s.*", "app.s.*"),
        ] {
            let targets = targets(text);
            for (naming, expected) in [(Naming::Database, mvcc), (Naming::Schema, postgres)] {
                let wire = wire_target(&targets, naming).expect(text);
                assert_eq!(wire.tables, [expected], "{text}");
            }
        }
        let wire = wire_target(&targets("a.*, b.*"), Naming::Database).expect("databases");
        assert_eq!(wire.databases, ["a", "b"]);
        let wire = wire_target(&targets("DATABASE a, b"), Naming::Schema).expect("databases");
        assert_eq!(wire.databases, ["a", "b"]);
        let wire = wire_target(&targets("a.*, b.t"), Naming::Schema).expect("tables");
        assert_eq!(wire.tables, ["a.*", "b.public.t"]);
        for text in ["t", "*"] {
            let error = wire_target(&targets(text), Naming::Database).expect_err(text);
            assert_eq!(error.state, "42602");
        }
    }

    #[test]
    fn one_table_can_get_another_name() {
        assert_eq!(
            new_table_name(&targets("TABLE a.t AS u")).as_deref(),
            Ok("u")
        );
        assert_eq!(
            new_table_name(&targets("TABLE a.t, a.v")).as_deref(),
            Ok("")
        );
        let error = new_table_name(&targets("TABLE a.t AS u, a.v")).expect_err("two");
        assert_eq!(error.state, "0A000");
    }
}
