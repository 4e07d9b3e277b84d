//! The server that a restore writes.

use crate::answer::{ask, run};
use crate::dsn::Dsn;
use crate::identifier::literal;
use crate::session::{Purpose, Session};
use holdfast_env::Env;
use holdfast_types::Fault;

/// Settings of every session that makes objects, beyond those of all sessions: what pg_restore sets too; and a lost second of work is
/// only repeated, since marks are lost with it.
const SETTINGS: &str = "SET check_function_bodies = off; SET synchronous_commit = off; \
     SET default_tablespace = ''; RESET max_parallel_workers_per_gather;";

/// The server that a restore writes.
#[derive(Debug, Clone)]
pub struct Target {
    env: Env,
    dsn: Dsn,
}

impl Target {
    /// The server that a connection string names; its database is the one for maintenance.
    #[must_use]
    pub fn new(env: Env, dsn: Dsn) -> Self {
        Self { env, dsn }
    }

    /// The outside world.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// How the server is reached.
    #[must_use]
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// A session in the database for maintenance: it makes, renames and drops databases.
    ///
    /// # Errors
    /// What opening a session gives.
    pub async fn maintenance(&self) -> Result<Session, Fault> {
        let session = Session::connect(&self.env, &self.dsn, Purpose::Control).await?;
        run(&session, "cannot set up a session", SETTINGS).await?;
        Ok(session)
    }

    /// A session in a database that makes objects and loads rows. It waits for locks as long as all sessions do: an application may
    /// be at work beside it.
    ///
    /// # Errors
    /// What opening a session gives.
    pub async fn session(&self, database: &str) -> Result<Session, Fault> {
        let dsn = self.dsn.with_database(database);
        let session = Session::connect(&self.env, &dsn, Purpose::Control).await?;
        run(&session, "cannot set up a session", SETTINGS).await?;
        Ok(session)
    }

    /// A session in a hidden database, where nobody else is: it waits for its own neighbours as long as they need, and functions
    /// find what they found at the source.
    ///
    /// # Errors
    /// What opening a session gives.
    pub async fn hidden_session(
        &self,
        database: &str,
        search_path: Option<&str>,
    ) -> Result<Session, Fault> {
        let session = self.session(database).await?;
        run(&session, "cannot set up a session", "SET lock_timeout = 0").await?;
        Self::find_as(&session, search_path).await?;
        Ok(session)
    }

    /// Lets functions find what they found at the source.
    pub(super) async fn find_as(session: &Session, search_path: Option<&str>) -> Result<(), Fault> {
        let Some(path) = search_path else {
            return Ok(());
        };
        // The value comes as the catalog has it, a list already quoted: set as one text it is read as such.
        let sql = format!(
            "SELECT pg_catalog.set_config('search_path', {}, false)",
            literal(path)
        );
        run(session, "cannot set up a session", &sql).await
    }

    /// Whether a database exists.
    ///
    /// # Errors
    /// What the server says.
    pub async fn has_database(&self, session: &Session, name: &str) -> Result<bool, Fault> {
        let sql = format!(
            "SELECT FROM pg_catalog.pg_database WHERE datname = {}",
            literal(name)
        );
        Ok(!ask(session, "cannot list databases", &sql)
            .await?
            .is_empty())
    }
}
