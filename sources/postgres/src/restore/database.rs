//! Restores a whole database under a hidden name, and gives it its name at the end.

use super::indexes::IndexLanes;
use super::marks::Marks;
use super::matviews::MaterializedView;
use super::name::RestoreName;
use super::progress::Progress;
use super::site::Site;
use super::target::Target;
use crate::answer::{ask, run};
use crate::globals::DatabaseFacts;
use crate::identifier::{literal, quote};
use crate::schema::Plan;
use crate::session::Session;
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a rename is tried while the server still has a session of ours, or autovacuum, in the database.
const RENAME_TRIES: u32 = 20;

/// The pause between tries.
const RENAME_PAUSE: Duration = Duration::from_millis(500);

/// How often is looked whether the hidden database is without sessions before it is renamed all the same.
const LOOKS: u32 = 100;

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// A database that is being restored. Every method can be called again after a failure or a crash, and then goes on.
///
/// The order: [`create`](Self::create), [`before`](Self::before), rows through [`session`](Self::session), large objects and sequences,
/// [`indexes`](Self::indexes), [`after`](Self::after), [`fill`](Self::fill), [`finish`](Self::finish),
/// [`publish`](Self::publish).
#[derive(Debug, Clone)]
pub struct DatabaseRestore {
    site: Site,
    facts: DatabaseFacts,
    name: String,
}

impl DatabaseRestore {
    /// A restore of the database that `facts` describe, to be called `name`.
    #[must_use]
    pub fn new(
        target: Target,
        hidden: &RestoreName,
        facts: DatabaseFacts,
        name: impl Into<String>,
    ) -> Self {
        Self {
            site: Site {
                target,
                database: hidden.database().to_owned(),
                marks: Marks::of(hidden),
                is_hidden: true,
                stages: Vec::new(),
                search_path: Some(facts.search_path.clone()),
            },
            facts,
            name: name.into(),
        }
    }

    /// The marks of this restore.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.site.marks
    }

    /// The hidden name.
    #[must_use]
    pub fn hidden(&self) -> &str {
        &self.site.database
    }

    /// Makes the hidden database, empty. Its tablespace is the source's where the target has one of that name.
    ///
    /// # Errors
    /// `AlreadyExists` if the final name is taken; what the server says.
    pub async fn create(&self) -> Result<(), Fault> {
        let session = self.site.target.maintenance().await?;
        if self.site.target.has_database(&session, &self.name).await? {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("there is a database {} already", self.name.escape_debug()),
            )
            .hint("restore it under another name, or drop or rename the one that is there"));
        }
        if !self
            .site
            .target
            .has_database(&session, self.hidden())
            .await?
        {
            let tablespaces = tablespaces(&session).await?;
            let tablespace = Some(self.facts.tablespace.as_str())
                .filter(|name| *name != "pg_default" && tablespaces.contains(*name));
            let major = session.info().major();
            let sql = self.facts.create(self.hidden(), major, tablespace);
            let context = format!("cannot make database {}", self.name.escape_debug());
            run(&session, &context, &sql).await?;
        }
        let closed = format!(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            quote(self.hidden())
        );
        run(&session, "cannot close the hidden database", &closed).await?;
        let inside = self.site.open().await?;
        self.site.marks.create(&inside).await
    }

    /// Makes everything that comes before the rows.
    ///
    /// # Errors
    /// What the server says, naming the object.
    pub async fn before(&self, plan: &Plan, progress: &dyn Progress) -> Result<(), Fault> {
        let session = self.site.open().await?;
        if !self.facts.has_public {
            let step = crate::schema::Step {
                mark: "entry/no public".to_owned(),
                name: "the schemas".to_owned(),
                sql: "DROP SCHEMA IF EXISTS public;".to_owned(),
            };
            self.site.marks.run_once(&session, &step).await?;
        }
        self.site
            .in_order(&session, "definitions", &plan.before, progress)
            .await?;
        self.site.take_checks_away().await
    }

    /// A session that loads rows, large objects and sequences.
    ///
    /// # Errors
    /// What opening a session gives.
    pub async fn session(&self) -> Result<Session, Fault> {
        self.site.open_as_application().await
    }

    /// Builds the indexes, and the constraints that rest on them.
    ///
    /// # Errors
    /// What the server says, naming the index.
    pub async fn indexes(
        &self,
        plan: &Plan,
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        self.site.indexes(&plan.indexes, lanes, progress).await
    }

    /// Makes what comes after rows and indexes: foreign keys, triggers, rules, policies, publications; and puts checks back.
    ///
    /// # Errors
    /// What the server says, naming the object.
    pub async fn after(
        &self,
        plan: &Plan,
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        self.site.put_checks_back(progress).await?;
        self.site.after(&plan.after, lanes, progress).await
    }

    /// Comments and rights, then materialized views (whose queries need the rights), then statistics for the planner.
    ///
    /// # Errors
    /// What the server says, naming the object.
    pub async fn fill(
        &self,
        plan: &Plan,
        views: &[MaterializedView],
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.site.open().await?;
        self.site
            .in_order(&session, "rights", &plan.rights, progress)
            .await?;
        self.site.fill(views, progress).await?;
        let analyzed = self
            .site
            .marks
            .with_prefix(&session, "phase/analyze")
            .await?;
        if analyzed.is_empty() {
            self.site.analyze(lanes, progress).await?;
            self.site.marks.flush(&session, "analyze").await?;
        }
        Ok(())
    }

    /// Makes the event triggers and takes the marks away, at once: from here on the database holds what the source held, and
    /// nothing else.
    ///
    /// # Errors
    /// What the server says.
    pub async fn finish(&self, plan: &Plan) -> Result<(), Fault> {
        let session = self.site.open().await?;
        if !self.site.marks.exist(&session).await? {
            return Ok(());
        }
        let mut sql = format!(
            "BEGIN; SET LOCAL synchronous_commit = on; {}\n",
            self.site.marks.drop_statement()
        );
        for step in &plan.event_triggers {
            sql += &step.sql;
            sql.push('\n');
        }
        sql += "COMMIT";
        run(&session, "cannot finish the database", &sql).await
    }

    /// Gives the database its owner, settings, rights and name. That it has its name already is no error.
    ///
    /// # Errors
    /// `AlreadyExists` if the name was taken meanwhile; `Unavailable` if somebody stays connected; what the server says.
    pub async fn publish(&self, rights: bool, owners: bool) -> Result<(), Fault> {
        let session = self.site.target.maintenance().await?;
        let target = &self.site.target;
        if !target.has_database(&session, self.hidden()).await? {
            if target.has_database(&session, &self.name).await? {
                return Ok(());
            }
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!(
                    "the restore of database {} is gone",
                    self.name.escape_debug()
                ),
            ));
        }
        let context = format!("cannot publish database {}", self.name.escape_debug());
        let roles = roles(&session).await?;
        let settings = self
            .facts
            .settings_statements(self.hidden(), &roles, rights, owners);
        let sql: Vec<String> = settings.into_iter().map(|s| s.sql).collect();
        run(
            &session,
            &context,
            &format!("BEGIN; {}; COMMIT", sql.join("; ")),
        )
        .await?;
        let rename = format!(
            "ALTER DATABASE {} RENAME TO {}",
            quote(self.hidden()),
            quote(&self.name)
        );
        for _ in 1..RENAME_TRIES {
            self.end_sessions(&session).await?;
            match run(&session, &context, &rename).await {
                Err(fault) if fault.is_retryable() => tokio::time::sleep(RENAME_PAUSE).await,
                other => return other,
            }
        }
        run(&session, &context, &rename).await
    }

    /// Ends all sessions in the hidden database: only this restore has any there. Whoever renames a database with a session in it waits for a tenth of a
    /// second before he looks again.
    async fn end_sessions(&self, session: &Session) -> Result<(), Fault> {
        let sql = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE datname = {} AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            literal(self.hidden())
        );
        let context = "cannot end sessions in the hidden database";
        for _ in 0..LOOKS {
            if ask(session, context, &sql).await?.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Throws the restore away. That there is nothing to throw away is no error; a published database stays.
    ///
    /// # Errors
    /// What the server says.
    pub async fn discard(&self) -> Result<(), Fault> {
        let session = self.site.target.maintenance().await?;
        if !self
            .site
            .target
            .has_database(&session, self.hidden())
            .await?
        {
            return Ok(());
        }
        let context = "cannot drop the hidden database";
        let template = format!(
            "ALTER DATABASE {} WITH IS_TEMPLATE false",
            quote(self.hidden())
        );
        run(&session, context, &template).await?;
        let drop = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            quote(self.hidden())
        );
        run(&session, context, &drop).await
    }
}

/// Names of the server's tablespaces.
pub(crate) async fn tablespaces(session: &Session) -> Result<BTreeSet<String>, Fault> {
    let sql = "SELECT spcname FROM pg_catalog.pg_tablespace";
    let rows = ask(session, "cannot list tablespaces", sql).await?;
    Ok(rows.into_iter().map(|row| row.text(0)).collect())
}

/// Names of the server's roles.
pub(super) async fn roles(session: &Session) -> Result<BTreeSet<String>, Fault> {
    let sql = "SELECT rolname FROM pg_catalog.pg_roles";
    let rows = ask(session, "cannot list roles", sql).await?;
    Ok(rows.into_iter().map(|row| row.text(0)).collect())
}
