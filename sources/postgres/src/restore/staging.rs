//! Restores single tables into a database that lives: in hidden schemas first, moved into their place at once.

use super::database::tablespaces;
use super::indexes::IndexLanes;
use super::load::LoadTarget;
use super::marks::Marks;
use super::name::RestoreName;
use super::progress::Progress;
use super::site::Site;
use super::target::Target;
use super::workshop::{Workshop, names_in};
use crate::answer::{ask, run};
use crate::globals::DatabaseFacts;
use crate::identifier::{literal, qualified, quote};
use crate::layout::{Layout, Oid};
use crate::schema::{Archive, DumpTool, Plan, PlanOptions};
use crate::sequences::SequenceValue;
use crate::session::Session;
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;

/// The mark whose note is the archive of the renamed tables, in hex: a resumed restore must see the same numbers.
const ARCHIVE: &str = "archive";

/// A table to be restored into an existing database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedTable {
    /// Its identity at the source.
    pub oid: Oid,
    /// Its schema at the source.
    pub schema: String,
    /// Its name at the source.
    pub name: String,
    /// The schema that it goes to; made if it does not exist.
    pub to_schema: String,
    /// The name that it gets.
    pub to_name: String,
}

impl StagedTable {
    /// What it is and the name that it gets, for messages: as other objects are named.
    #[must_use]
    pub fn new_name(&self) -> String {
        let (schema, name) = (self.to_schema.escape_debug(), self.to_name.escape_debug());
        format!("table {schema}.{name}")
    }
}

/// Tables that are being restored into an existing database. Every method can be called again after a failure or a crash, and then
/// goes on.
///
/// The order: [`prepare`](Self::prepare), rows through [`session`](Self::session) into [`load_target`](Self::load_target),
/// [`sequences`](Self::sequences), [`finish`](Self::finish), [`publish`](Self::publish).
#[derive(Debug, Clone)]
pub struct TableRestore {
    site: Site,
    hidden: RestoreName,
    facts: DatabaseFacts,
    tables: Vec<StagedTable>,
    stages: BTreeMap<String, String>,
    options: PlanOptions,
    skip_missing_foreign_keys: bool,
    skip_missing_sequences: bool,
}

impl TableRestore {
    /// A restore of tables of the database that `facts` describe into `database`.
    #[must_use]
    pub fn new(
        target: Target,
        hidden: RestoreName,
        facts: DatabaseFacts,
        database: impl Into<String>,
        tables: Vec<StagedTable>,
    ) -> Self {
        // What the tables need goes where it was, so both old and new schemas have a stage.
        let schemas: std::collections::BTreeSet<String> = tables
            .iter()
            .flat_map(|table| [table.schema.clone(), table.to_schema.clone()])
            .collect();
        let stages: BTreeMap<String, String> = schemas
            .into_iter()
            .enumerate()
            .map(|(number, schema)| (schema, hidden.stage(number)))
            .collect();
        Self {
            site: Site {
                target,
                database: database.into(),
                marks: Marks::of(&hidden),
                is_hidden: false,
                stages: stages.values().cloned().collect(),
                search_path: Some(facts.search_path.clone()),
            },
            hidden,
            facts,
            tables,
            stages,
            options: PlanOptions {
                publications: false,
                subscriptions: false,
                ..PlanOptions::default()
            },
            skip_missing_foreign_keys: false,
            skip_missing_sequences: false,
        }
    }

    /// Whether objects get their owners and rights; roles must exist then.
    #[must_use]
    pub fn with_rights(mut self, owners: bool, rights: bool) -> Self {
        self.options.owners = owners;
        self.options.rights = rights;
        self
    }

    /// Leaves out foreign keys to tables that neither are restored nor exist.
    #[must_use]
    pub fn skip_missing_foreign_keys(mut self) -> Self {
        self.skip_missing_foreign_keys = true;
        self
    }

    /// Leaves out defaults that use sequences which neither are restored nor exist.
    #[must_use]
    pub fn skip_missing_sequences(mut self) -> Self {
        self.skip_missing_sequences = true;
        self
    }

    /// The marks of this restore.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.site.marks
    }

    /// Makes the tables in hidden schemas, without indexes and constraints. `tool` must not be older than the target server.
    ///
    /// # Errors
    /// `AlreadyExists` if a name is taken; `FailedPrecondition` for a foreign key that points nowhere; what the server says.
    pub async fn prepare(
        &self,
        archive: &Archive,
        tool: &DumpTool,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.site.open().await?;
        self.site.marks.create(&session).await?;
        if self.stored(&session).await?.is_none() {
            self.refuse_taken(&session).await?;
            let tablespaces = tablespaces(&session).await?;
            let options = PlanOptions {
                tablespaces,
                ..self.options.clone()
            };
            let workshop = Workshop {
                target: &self.site.target,
                database: &self.site.database,
                room: self.hidden.workshop(),
                tool,
                tables: &self.tables,
                stages: &self.stages,
                skip_missing_foreign_keys: self.skip_missing_foreign_keys,
                skip_missing_sequences: self.skip_missing_sequences,
                options: &options,
            };
            let bytes = workshop.work(archive, progress).await?;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let mark = self.site.marks.statement(ARCHIVE, Some(&hex));
            run(&session, "cannot keep the tables' definitions", &mark).await?;
        }
        let plan = self.plan(&session).await?;
        self.site
            .in_order(&session, "definitions", &plan.before, progress)
            .await?;
        self.site.take_checks_away().await
    }

    async fn refuse_taken(&self, session: &Session) -> Result<(), Fault> {
        for schema in self.stages.keys() {
            let names = names_in(session, schema).await?;
            let taken = self
                .tables
                .iter()
                .find(|table| table.to_schema == *schema && names.contains(&table.to_name));
            if let Some(table) = taken {
                return Err(Fault::new(
                    ErrorCode::AlreadyExists,
                    format!(
                        "there is a relation or type {}.{} already",
                        table.to_schema.escape_debug(),
                        table.to_name.escape_debug()
                    ),
                )
                .hint("restore it under another name or into another schema, or rename the one that is there"));
            }
        }
        Ok(())
    }

    async fn stored(&self, session: &Session) -> Result<Option<String>, Fault> {
        let notes = self.site.marks.notes(session, ARCHIVE).await?;
        Ok(notes.into_iter().next().map(|(_, note)| note))
    }

    async fn plan(&self, session: &Session) -> Result<Plan, Fault> {
        let damaged = || Fault::new(ErrorCode::Corrupted, "the tables' definitions are damaged");
        let hex = self.stored(session).await?.ok_or_else(|| {
            Fault::new(
                ErrorCode::FailedPrecondition,
                "the tables' definitions were not prepared",
            )
        })?;
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        for pair in hex.as_bytes().chunks(2) {
            let digits = std::str::from_utf8(pair).map_err(|_| damaged())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| damaged())?);
        }
        let options = PlanOptions {
            tablespaces: tablespaces(session).await?,
            ..self.options.clone()
        };
        Ok(Plan::of(&Archive::parse(&bytes)?, &options))
    }

    /// A session that loads rows.
    ///
    /// # Errors
    /// What opening a session gives.
    pub async fn session(&self) -> Result<Session, Fault> {
        self.site.open_as_application().await
    }

    /// Where rows of a table with this layout go until it is published.
    #[must_use]
    pub fn load_target(&self, layout: &Layout) -> Option<LoadTarget> {
        let table = self.tables.iter().find(|staged| staged.oid == layout.oid)?;
        Some(LoadTarget {
            schema: self.stages.get(&table.to_schema)?.clone(),
            table: table.to_name.clone(),
            ..LoadTarget::of(layout, &self.facts)
        })
    }

    /// Sets the sequences of the tables' columns, and those that came along with the tables.
    ///
    /// # Errors
    /// What the server says.
    pub async fn sequences(&self, values: &[SequenceValue]) -> Result<(), Fault> {
        let session = self.site.open().await?;
        for value in values {
            let Some((schema, table, column)) = &value.owned_by else {
                self.free_sequence(&session, value).await?;
                continue;
            };
            let staged = self
                .tables
                .iter()
                .find(|staged| staged.schema == *schema && staged.name == *table);
            let Some((staged, stage)) =
                staged.and_then(|staged| Some((staged, self.stages.get(&staged.to_schema)?)))
            else {
                self.free_sequence(&session, value).await?;
                continue;
            };
            let sql = format!(
                "SELECT pg_catalog.setval(s::pg_catalog.regclass, {}, {}) \
                 FROM pg_catalog.pg_get_serial_sequence({}, {}) AS s WHERE s IS NOT NULL",
                value.last_value,
                value.is_called,
                literal(&qualified(stage, &staged.to_name)),
                literal(column)
            );
            run(&session, "cannot set sequences", &sql).await?;
        }
        Ok(())
    }

    /// Sets a sequence that belongs to none of the tables, if it came along.
    async fn free_sequence(&self, session: &Session, value: &SequenceValue) -> Result<(), Fault> {
        let Some(stage) = self.stages.get(&value.schema) else {
            return Ok(());
        };
        let sql = format!(
            "SELECT pg_catalog.setval(c.oid::pg_catalog.regclass, {}, {}) FROM pg_catalog.pg_class AS c \
             WHERE c.oid = pg_catalog.to_regclass({}) AND c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
               WHERE d.deptype IN ('a', 'i') AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid \
               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)",
            value.last_value,
            value.is_called,
            literal(&qualified(stage, &value.name))
        );
        run(session, "cannot set sequences", &sql).await
    }

    /// Builds indexes and constraints, foreign keys, triggers, policies, comments and rights.
    ///
    /// # Errors
    /// What the server says, naming the object.
    pub async fn finish(&self, lanes: IndexLanes, progress: &dyn Progress) -> Result<(), Fault> {
        let session = self.site.open().await?;
        let plan = self.plan(&session).await?;
        self.site.indexes(&plan.indexes, lanes, progress).await?;
        self.site.put_checks_back(progress).await?;
        self.site.after(&plan.after, lanes, progress).await?;
        // The hidden schemas themselves have no rights worth keeping.
        self.site
            .in_order(&session, "rights", &plan.rights, progress)
            .await
    }

    /// Moves everything into its place, in one transaction. That it was moved already is no error.
    ///
    /// # Errors
    /// `AlreadyExists` if a name was taken meanwhile; `NotFound` if the restore is gone; what the server says.
    pub async fn publish(&self) -> Result<(), Fault> {
        let session = self.site.open().await?;
        if !self.site.marks.exist(&session).await? {
            return self.must_be_published(&session).await;
        }
        let context = "cannot publish the restored tables";
        let mut sql = "BEGIN; SET LOCAL synchronous_commit = on;\n".to_owned();
        for (schema, stage) in &self.stages {
            let list = ask(&session, context, &staged_objects(stage)).await?;
            if !list.is_empty() {
                sql += &format!("CREATE SCHEMA IF NOT EXISTS {};\n", quote(schema));
            }
            for row in list {
                let (kind, reference) = (row.text(0), row.text(1));
                sql += &format!("ALTER {kind} {reference} SET SCHEMA {};\n", quote(schema));
            }
            sql += &format!("DROP SCHEMA IF EXISTS {};\n", quote(stage));
        }
        sql += &self.site.marks.drop_statement();
        sql += "\nCOMMIT";
        let done = run(&session, context, &sql).await;
        if done.is_err() {
            let _ = run(&session, context, "ROLLBACK").await;
        }
        done
    }

    async fn must_be_published(&self, session: &Session) -> Result<(), Fault> {
        for table in &self.tables {
            let names = names_in(session, &table.to_schema).await?;
            if !names.contains(&table.to_name) {
                return Err(Fault::new(
                    ErrorCode::NotFound,
                    format!(
                        "the restore of table {}.{} is gone",
                        table.to_schema.escape_debug(),
                        table.to_name.escape_debug()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Throws the restore away. That there is nothing to throw away is no error; published tables stay.
    ///
    /// # Errors
    /// What the server says.
    pub async fn discard(&self) -> Result<(), Fault> {
        let context = "cannot throw the restored tables away";
        let maintenance = self.site.target.maintenance().await?;
        let room = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            quote(&self.hidden.workshop())
        );
        run(&maintenance, context, &room).await?;
        let session = self.site.open().await?;
        let mut sql = "BEGIN;\n".to_owned();
        for stage in self.stages.values() {
            sql += &format!("DROP SCHEMA IF EXISTS {} CASCADE;\n", quote(stage));
        }
        sql += &self.site.marks.drop_statement();
        sql += "\nCOMMIT";
        run(&session, context, &sql).await
    }
}

/// What waits in a hidden schema and moves on its own: not what moves with its table. Functions are first: their references name types,
/// which move after them; the functions that PostgreSQL makes with a range type do not move with it.
fn staged_objects(stage: &str) -> String {
    let stage = format!(
        "(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {})",
        literal(stage)
    );
    format!(
        "SELECT x.kind, x.reference FROM ( \
           SELECT 1 AS place, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS kind, \
             t.oid::pg_catalog.regtype::text AS reference \
           FROM pg_catalog.pg_type AS t WHERE t.typnamespace = {stage} AND (t.typtype IN ('e', 'd', 'r', 'm') OR t.typtype = 'c' \
             AND EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid AND c.relkind = 'c')) \
         UNION ALL SELECT 2, 'COLLATION', c.oid::pg_catalog.regcollation::text \
           FROM pg_catalog.pg_collation AS c WHERE c.collnamespace = {stage} \
         UNION ALL SELECT 0, CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, \
             p.oid::pg_catalog.regprocedure::text \
           FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = {stage} \
         UNION ALL SELECT 4, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, \
             c.oid::pg_catalog.regclass::text \
           FROM pg_catalog.pg_class AS c WHERE c.relnamespace = {stage} AND c.relkind IN ('r', 'p', 'f', 'S') \
             AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.deptype IN ('a', 'i') \
               AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid \
               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)) \
         UNION ALL SELECT 5, 'STATISTICS', pg_catalog.format('%I.%I', n.nspname, s.stxname) \
           FROM pg_catalog.pg_statistic_ext AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.stxnamespace \
           WHERE s.stxnamespace = {stage}) AS x ORDER BY x.place, x.reference"
    )
}
