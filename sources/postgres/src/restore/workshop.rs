//! Renames tables with everything that names them.
//!
//! Definitions hold names in expressions, in texts that are references, in other objects' definitions. Instead of searching for them,
//! the tables are made, without rows, in a database of their own; PostgreSQL renames and moves them there; and pg_dump
//! writes the result down. The database is dropped at the end, or with the restore.

use super::progress::Progress;
use super::staging::StagedTable;
use super::target::Target;
use crate::answer::{ask, run};
use crate::globals::DatabaseFacts;
use crate::identifier::{cut, literal, qualified, quote};
use crate::schema::{Archive, DumpOptions, DumpTool, Plan, PlanOptions, dump};
use crate::session::Session;
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};

const CONTEXT: &str = "cannot prepare the definitions of the tables";

/// Types, functions and free sequences that a restored table may need: kind, schema, and the reference that finds one elsewhere.
/// Those of extensions come with their extension. Functions are first: their references name types, which move after them; the functions
/// that PostgreSQL makes with a range type do not move with it.
const NEEDED: &str = "SELECT o.kind, o.schema, o.reference, o.finder FROM ( \
       SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS kind, n.nspname AS schema, t.oid::pg_catalog.regtype::text AS reference, \
         'to_regtype' AS finder, t.oid AS oid, 'pg_catalog.pg_type'::pg_catalog.regclass AS class \
       FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace \
       WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS \
         (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid AND c.relkind = 'c') \
     UNION ALL SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, n.nspname, \
         p.oid::pg_catalog.regprocedure::text, 'to_regprocedure', p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass \
       FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
     UNION ALL SELECT 'COLLATION', n.nspname, c.oid::pg_catalog.regcollation::text, 'to_regcollation', c.oid, \
         'pg_catalog.pg_collation'::pg_catalog.regclass \
       FROM pg_catalog.pg_collation AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace \
     UNION ALL SELECT 'SEQUENCE', n.nspname, c.oid::pg_catalog.regclass::text, 'to_regclass', c.oid, \
         'pg_catalog.pg_class'::pg_catalog.regclass \
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
       WHERE c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.deptype IN ('a', 'i') \
         AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid \
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)) AS o \
     WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.deptype = 'e' AND e.classid = o.class \
       AND e.objid = o.oid) ORDER BY o.finder <> 'to_regprocedure', o.oid";

/// Columns whose defaults use a sequence: schema, table and column; the sequence, its schema, and schema and table that it belongs to.
const BORROWED: &str = "SELECT n.nspname, c.relname, a.attname, s.oid::pg_catalog.regclass::text, m.nspname, o.nspname, t.relname \
     FROM pg_catalog.pg_attrdef AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.adrelid \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum \
     JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid \
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     JOIN pg_catalog.pg_class AS s ON s.oid = d.refobjid AND s.relkind = 'S' \
     JOIN pg_catalog.pg_namespace AS m ON m.oid = s.relnamespace \
     LEFT JOIN pg_catalog.pg_depend AS w ON w.deptype IN ('a', 'i') AND w.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
       AND w.objid = s.oid AND w.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     LEFT JOIN pg_catalog.pg_class AS t ON t.oid = w.refobjid LEFT JOIN pg_catalog.pg_namespace AS o ON o.oid = t.relnamespace \
     ORDER BY 1, 2, 3";

/// Indexes, owned sequences and statistics objects of a table: their kind, schema and name.
fn followers(table: &str) -> String {
    let table = format!("{}::pg_catalog.regclass", literal(table));
    format!(
        "SELECT 'INDEX', n.nspname, c.relname FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE i.indrelid = {table} \
         UNION ALL SELECT 'SEQUENCE', n.nspname, c.relname FROM pg_catalog.pg_depend AS d \
         JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind = 'S' \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') AND d.refobjid = {table} \
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         UNION ALL SELECT 'STATISTICS', n.nspname, s.stxname FROM pg_catalog.pg_statistic_ext AS s \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = s.stxnamespace WHERE s.stxrelid = {table} ORDER BY 1, 2, 3"
    )
}

/// The room in which names are changed.
pub(super) struct Workshop<'a> {
    pub(super) target: &'a Target,
    /// The database of the restored tables.
    pub(super) database: &'a str,
    /// The room's own database.
    pub(super) room: String,
    pub(super) tool: &'a DumpTool,
    pub(super) tables: &'a [StagedTable],
    /// For each schema of the target, the hidden one in which its things wait.
    pub(super) stages: &'a BTreeMap<String, String>,
    pub(super) skip_missing_foreign_keys: bool,
    pub(super) skip_missing_sequences: bool,
    pub(super) options: &'a PlanOptions,
}

impl Workshop<'_> {
    /// Makes the archive of the tables under their new names in the hidden schemas.
    pub(super) async fn work(
        &self,
        archive: &Archive,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, Fault> {
        let maintenance = self.target.maintenance().await?;
        self.close(&maintenance).await?;
        // With the locale of the database that the tables go to: what cannot be there cannot be here either.
        let outside = self.target.session(self.database).await?;
        let facts = DatabaseFacts::capture(&outside).await?;
        let create = facts.create(&self.room, maintenance.info().major(), None);
        run(&maintenance, CONTEXT, &create).await?;
        let session = self.target.hidden_session(&self.room, None).await?;
        self.build(&session, archive).await?;
        self.extensions(&session, &outside).await?;
        self.foreign_keys(&session, &outside, progress).await?;
        self.defaults(&session, &outside, progress).await?;
        self.rename(&session, &outside).await?;
        drop((session, outside));
        let schemas = self.stages.values().cloned().collect();
        let options = DumpOptions {
            schemas,
            ..DumpOptions::default()
        };
        let dsn = self.target.dsn().with_database(&self.room);
        let bytes = dump(self.tool, &dsn, &options).await?;
        self.close(&maintenance).await?;
        Ok(bytes)
    }

    /// Drops the room.
    async fn close(&self, maintenance: &Session) -> Result<(), Fault> {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(&self.room));
        run(maintenance, CONTEXT, &sql).await
    }

    async fn build(&self, session: &Session, archive: &Archive) -> Result<(), Fault> {
        let relations = self.tables.iter().map(|table| table.oid).collect();
        let plan = Plan::of(&archive.subset(&relations)?, self.options);
        let before = plan.before.iter().chain(plan.indexes.iter().map(|index| {
            index
                .split
                .as_ref()
                .map_or(&index.step, |split| &split.whole)
        }));
        let after = plan.after.iter().map(|ordered| &ordered.step);
        for step in before.chain(after).chain(&plan.rights) {
            let made = run(session, CONTEXT, &format!("BEGIN; {}\nCOMMIT", step.sql)).await;
            if let Err(fault) = made {
                run(session, CONTEXT, "ROLLBACK").await?;
                // A sequence may belong to a table that is not restored, and an index to that of a parent that is not.
                let stays = ["sequence owned by", "index attach"];
                if !stays.iter().any(|label| step.name.starts_with(label)) {
                    return Err(fault.context(&step.name));
                }
            }
        }
        Ok(())
    }

    /// Refuses tables that need an extension which the database has not: an extension is no part of a table.
    async fn extensions(&self, session: &Session, outside: &Session) -> Result<(), Fault> {
        let sql = "SELECT extname FROM pg_catalog.pg_extension ORDER BY 1";
        let there = ask(outside, CONTEXT, sql).await?;
        let there: BTreeSet<String> = there.into_iter().map(|row| row.text(0)).collect();
        let needed = ask(session, CONTEXT, sql).await?;
        let missing = needed
            .into_iter()
            .map(|row| row.text(0))
            .find(|name| !there.contains(name));
        match missing {
            None => Ok(()),
            Some(name) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "the tables need extension {}, which database {} has not",
                    name.escape_debug(),
                    self.database.escape_debug()
                ),
            )
            .hint(format!("run CREATE EXTENSION {} there first", quote(&name)))),
        }
    }

    /// Leaves out, or refuses, foreign keys to tables that neither are restored nor exist.
    async fn foreign_keys(
        &self,
        session: &Session,
        outside: &Session,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let sql = "SELECT k.conrelid::pg_catalog.regclass, quote_ident(k.conname), k.confrelid::pg_catalog.regclass, n.nspname, c.relname \
             FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.confrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE k.contype = 'f' AND k.conparentid = 0";
        for row in ask(session, CONTEXT, sql).await? {
            let (table, key, to) = (row.text(0), row.text(1), row.text(2));
            let (schema, name) = (row.text(3), row.text(4));
            let restored = |table: &StagedTable| table.schema == schema && table.name == name;
            if self.tables.iter().any(restored) || exists(outside, "to_regclass", &to).await? {
                continue;
            }
            if !self.skip_missing_foreign_keys {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("foreign key {key} of {table} points to {to}, which neither is restored nor exists"),
                )
                .hint("restore that table too, or use skip_missing_foreign_keys"));
            }
            let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {key}");
            run(session, CONTEXT, &drop).await?;
            progress.warning(&format!(
                "foreign key {key} of {table} is left out: {to} neither is restored nor exists"
            ));
        }
        Ok(())
    }

    /// Leaves out, or refuses, defaults that use sequences which neither are restored nor exist.
    async fn defaults(
        &self,
        session: &Session,
        outside: &Session,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        for row in ask(session, CONTEXT, BORROWED).await? {
            let (schema, table, column) = (row.text(0), row.text(1), row.text(2));
            let staged = |schema: &str, table: &str| {
                let mut tables = self.tables.iter();
                tables.any(|staged| staged.schema == schema && staged.name == table)
            };
            let (sequence, sequence_schema) = (row.text(3), row.text(4));
            let owner = row.maybe(5).zip(row.maybe(6));
            let comes_along = match owner {
                Some((schema, table)) => staged(schema, table),
                None => self.stages.contains_key(&sequence_schema),
            };
            if !staged(&schema, &table)
                || comes_along
                || exists(outside, "to_regclass", &sequence).await?
            {
                continue;
            }
            let name = qualified(&schema, &table);
            if !self.skip_missing_sequences {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!(
                        "the default of column {} of {name} uses sequence {sequence}, which neither is restored nor exists",
                        column.escape_debug()
                    ),
                )
                .hint("use skip_missing_sequences or skip_missing_sequence_owners"));
            }
            let drop = format!(
                "ALTER TABLE {name} ALTER COLUMN {} DROP DEFAULT",
                quote(&column)
            );
            run(session, CONTEXT, &drop).await?;
            progress.warning(&format!(
                "the default of column {} of {name} is left out: sequence {sequence} neither is restored nor exists",
                column.escape_debug()
            ));
        }
        Ok(())
    }

    async fn rename(&self, session: &Session, outside: &Session) -> Result<(), Fault> {
        for stage in self.stages.values() {
            run(session, CONTEXT, &format!("CREATE SCHEMA {}", quote(stage))).await?;
        }
        // What the tables need and the target lacks waits beside them.
        for row in ask(session, CONTEXT, NEEDED).await? {
            let (kind, schema) = (row.text(0), row.text(1));
            let (reference, finder) = (row.text(2), row.text(3));
            if let Some(stage) = self.stages.get(&schema)
                && !exists(outside, &finder, &reference).await?
            {
                let sql = format!("ALTER {kind} {reference} SET SCHEMA {}", quote(stage));
                run(session, CONTEXT, &sql).await?;
            }
        }
        let mut taken = BTreeMap::new();
        for schema in self.stages.keys() {
            let mut names = names_in(outside, schema).await?;
            let own = self
                .tables
                .iter()
                .filter(|table| table.to_schema == *schema);
            names.extend(own.map(|table| table.to_name.clone()));
            taken.insert(schema.clone(), names);
        }
        // Names in between keep tables that swap names or schemas apart.
        for (number, table) in self.tables.iter().enumerate() {
            let old = qualified(&table.schema, &table.name);
            if let Some(names) = taken.get_mut(&table.to_schema) {
                self.rename_followers(session, table, &old, names).await?;
            }
            let between = between(number);
            let sql = format!("ALTER TABLE {old} RENAME TO {}", quote(&between));
            run(session, CONTEXT, &sql).await?;
        }
        for (number, table) in self.tables.iter().enumerate() {
            let stage = self.stage(&table.to_schema)?;
            let between = between(number);
            let moved = followers(&qualified(&table.schema, &between));
            let followers = ask(session, CONTEXT, &moved).await?;
            let mut sql = format!(
                "ALTER TABLE {} SET SCHEMA {};",
                qualified(&table.schema, &between),
                quote(stage)
            );
            for row in followers.iter().filter(|row| row.text(0) == "STATISTICS") {
                let name = qualified(&row.text(1), &row.text(2));
                sql += &format!("ALTER STATISTICS {name} SET SCHEMA {};", quote(stage));
            }
            sql += &format!(
                "ALTER TABLE {} RENAME TO {};",
                qualified(stage, &between),
                quote(&table.to_name)
            );
            run(session, CONTEXT, &sql).await?;
        }
        Ok(())
    }

    fn stage(&self, schema: &str) -> Result<&str, Fault> {
        self.stages
            .get(schema)
            .map(String::as_str)
            .ok_or_else(|| Fault::new(ErrorCode::Internal, "a schema without a stage"))
    }

    /// Gives indexes, sequences and statistics of a table names that are free where they go.
    async fn rename_followers(
        &self,
        session: &Session,
        table: &StagedTable,
        old: &str,
        taken: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        for row in ask(session, CONTEXT, &followers(old)).await? {
            let (kind, schema, name): (String, String, String) =
                (row.text(0), row.text(1), row.text(2));
            let new = free_name(&name, &table.name, &table.to_name, taken);
            taken.insert(new.clone());
            if new != name {
                let sql = format!(
                    "ALTER {kind} {} RENAME TO {}",
                    qualified(&schema, &name),
                    quote(&new)
                );
                run(session, CONTEXT, &sql).await?;
            }
        }
        Ok(())
    }
}

fn between(number: usize) -> String {
    format!("holdfast between {number}")
}

/// `orders_pkey` becomes `orders_old_pkey` with its table, and is numbered if that is taken.
fn free_name(name: &str, table: &str, to: &str, taken: &BTreeSet<String>) -> String {
    let wanted = match name.strip_prefix(table) {
        Some(rest) if table != to => cut(&format!("{to}{rest}")).into_owned(),
        _ => name.to_owned(),
    };
    let mut candidate = wanted.clone();
    let mut number = 1u32;
    while taken.contains(&candidate) {
        let suffix = format!("_{number}");
        let room = 63usize.saturating_sub(suffix.len());
        let kept = wanted.floor_char_boundary(room.min(wanted.len()));
        candidate = format!("{}{suffix}", wanted.get(..kept).unwrap_or_default());
        number += 1;
    }
    candidate
}

/// Whether a reference leads to something.
pub(crate) async fn exists(
    session: &Session,
    finder: &str,
    reference: &str,
) -> Result<bool, Fault> {
    let sql = format!(
        "SELECT pg_catalog.{finder}({}) IS NOT NULL",
        literal(reference)
    );
    match ask(session, CONTEXT, &sql).await {
        Ok(rows) => Ok(rows.first().is_some_and(|row| row.flag(0))),
        // Before version 16 a function is not looked for if a type of its arguments is missing.
        Err(fault) if fault.code == ErrorCode::NotFound => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Names of relations, types and statistics in a schema, which share one space as far as we care.
pub(crate) async fn names_in(session: &Session, schema: &str) -> Result<BTreeSet<String>, Fault> {
    let schema = literal(schema);
    let sql = format!(
        "SELECT x.name FROM (SELECT relname AS name, relnamespace AS place FROM pg_catalog.pg_class \
         UNION ALL SELECT typname, typnamespace FROM pg_catalog.pg_type \
         UNION ALL SELECT stxname, stxnamespace FROM pg_catalog.pg_statistic_ext) AS x \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = x.place WHERE n.nspname = {schema}"
    );
    let rows = ask(session, CONTEXT, &sql).await?;
    Ok(rows.into_iter().map(|row| row.text(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_table_and_stay_apart() {
        let taken = BTreeSet::from(["new_pkey".to_owned(), "idx".to_owned()]);
        assert_eq!(free_name("old_pkey", "old", "new", &taken), "new_pkey_1");
        assert_eq!(free_name("old_key", "old", "new", &taken), "new_key");
        assert_eq!(free_name("idx", "old", "new", &taken), "idx_1");
        assert_eq!(free_name("old_pkey", "old", "old", &taken), "old_pkey");
        let long = "ä".repeat(31);
        let full = BTreeSet::from([long.clone()]);
        assert_eq!(
            free_name(&long, "t", "t", &full),
            format!("{}_1", "ä".repeat(30))
        );
    }
}
