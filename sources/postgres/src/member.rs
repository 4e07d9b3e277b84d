//! A PostgreSQL server as a member of a source: backups of its databases, and restores.
//!
//! # Invariants
//! * A definition that [`begin`](holdfast_source::LoggedSource::begin) gives, and the catalogs, are all that later steps know: they run on
//!   any worker.
//! * A relation whose changes or page ranges may not be all there are is read whole under F. What shows it: its file, its columns, the numbers of
//!   the transactions that wrote their catalog rows, and its row in the publication.
//!
//! # Crash consistency
//! A slot that is found under the hold's name is gone on with; nothing but [`release`](holdfast_source::LoggedSource::release) drops one that
//! can be used. Files are in the working directory, which whoever runs the process empties at its start.

mod begin;
pub mod catalog;
mod holds;
mod plan;
mod read;
pub mod restore;
pub mod rows;
mod settle;
mod source;
mod standing;

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, HoldId};
use std::sync::Arc;
use std::time::Duration;

use crate::dsn::Dsn;
use crate::hold::HoldNames;
use crate::layout::Oid;
use crate::session::{Purpose, Session};
use restore::Restorer;

/// The longest tag: names of slots have room for it and the numbers of hold and database.
const LONGEST_TAG: usize = 16;

/// Bounds of what a member's client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a hold, or the end of a backup, waits for transactions that write.
    pub hold_deadline: Duration,
    /// Bytes of changes that a fold holds in memory, beyond which it writes files.
    pub fold_memory: usize,
    /// A directory with `pg_dump` and `pg_restore`, before those of `PATH`.
    pub tools: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_deadline: Duration::from_secs(3600),
            fold_memory: crate::fold::DEFAULT_MEMORY,
            tools: None,
        }
    }
}

/// A client of one PostgreSQL server. Connections are made as they are needed.
#[derive(Debug, Clone)]
pub struct PostgresMember {
    env: Env,
    dsn: Dsn,
    tag: String,
    directory: String,
    limits: Limits,
    restorer: Arc<Restorer>,
}

impl PostgresMember {
    /// A client. The database of `dsn` is where the server is asked for its databases. Names of slots and publications begin with `holdfast_` and
    /// the `tag`, which tells clusters of Holdfast apart. What does not fit into memory goes to files in `directory`.
    ///
    /// # Errors
    /// `InvalidArgument` for a tag that is not of 1 to 16 lower-case letters, digits and underscores.
    pub fn new(
        env: Env,
        dsn: Dsn,
        tag: impl Into<String>,
        directory: impl Into<String>,
        limits: Limits,
    ) -> Result<Self, Fault> {
        let tag = tag.into();
        if tag.len() > LONGEST_TAG {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("a member's tag has at most {LONGEST_TAG} letters"),
            ));
        }
        HoldNames::new(&tag, Oid(0))?;
        let directory = directory.into();
        let restorer = Restorer::new(env.clone(), dsn.clone(), directory.as_str())
            .with_tools(limits.tools.clone());
        Ok(Self {
            env,
            dsn,
            tag,
            directory,
            limits,
            restorer: Arc::new(restorer),
        })
    }

    /// The names of a hold in a database.
    fn hold_names(&self, hold: HoldId, database: Oid) -> Result<HoldNames, Fault> {
        HoldNames::new(&format!("{}_{hold}", self.tag), database)
    }

    /// A session for catalogs and commands in a database.
    async fn control(&self, database: &str) -> Result<Session, Fault> {
        let dsn = self.dsn.with_database(database);
        Session::connect(&self.env, &dsn, Purpose::Control).await
    }
}
