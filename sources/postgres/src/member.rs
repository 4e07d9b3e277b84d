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
mod budget;
pub mod catalog;
mod check;
mod cut;
mod holds;
mod idle;
mod look;
mod noted;
mod partial;
mod plan;
mod read;
pub mod restore;
mod rooms;
pub mod rows;
mod settle;
mod share;
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
pub use budget::DEFAULT_BUDGET;
use budget::Looks;
use idle::IdleSessions;
use restore::Restorer;
pub use rooms::Rooms;
use share::Share;

/// The longest tag: names of slots have room for it and the numbers of hold and database.
const LONGEST_TAG: usize = 16;

/// Streams of parts when nothing else is said: more than a server's disk has use for on most machines.
const STREAMS: usize = 8;

/// Bounds of what a member's client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a hold, or the end of a backup, waits for transactions that write.
    pub hold_deadline: Duration,
    /// Bytes of changes that a fold holds in memory, beyond which it writes files.
    pub fold_memory: usize,
    /// A directory with `pg_dump` and `pg_restore`, before those of `PATH`.
    pub tools: Option<String>,
    /// Parts of relations that are sent at once: a session each, and one more that is ready or at the end of a part. The settling of databases takes up to twelve more.
    pub streams: usize,
    /// Bytes of rows a second, all streams together; `None` for as many as there are. What is read under a snapshot, at the end, counts too.
    pub bytes_per_second: Option<u64>,
    /// Bytes of log that a hold may keep on the server's disk before it is given up. `None`: nine tenths of `max_slot_wal_keep_size`, or
    /// [`DEFAULT_BUDGET`] where the server sets no limit.
    pub wal_budget: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_deadline: Duration::from_secs(3600),
            fold_memory: crate::fold::DEFAULT_MEMORY,
            tools: None,
            streams: STREAMS,
            bytes_per_second: None,
            wal_budget: None,
        }
    }
}

/// A client of one PostgreSQL server. Connections are made as they are needed. Copies share its bounds and what it keeps.
#[derive(Debug, Clone)]
pub struct PostgresMember {
    env: Env,
    dsn: Dsn,
    tag: String,
    limits: Limits,
    rooms: Arc<Rooms>,
    share: Arc<Share>,
    looks: Arc<Looks>,
    idle: Arc<IdleSessions>,
    restorer: Arc<Restorer>,
}

impl PostgresMember {
    /// A client. The database of `dsn` is where the server is asked for its databases. Names of slots and publications begin with `holdfast_` and
    /// the `tag`, which tells clusters of Holdfast apart. What does not fit into memory goes to files in `directory`, which is this client's
    /// own, and is emptied before its first use.
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
        let rooms = Rooms::new(env.clone(), directory);
        Self::in_rooms(env, dsn, tag, rooms, limits)
    }

    /// As [`PostgresMember::new`], with files in rooms that several clients share.
    ///
    /// # Errors
    /// As there.
    pub fn in_rooms(
        env: Env,
        dsn: Dsn,
        tag: impl Into<String>,
        rooms: Arc<Rooms>,
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
        let restorer = Restorer::new(env.clone(), dsn.clone(), Arc::clone(&rooms))
            .with_tools(limits.tools.clone())
            .with_streams(limits.streams);
        Ok(Self {
            share: Arc::new(Share::new(Arc::clone(&env.clock), &limits)),
            looks: Arc::default(),
            idle: Arc::default(),
            restorer: Arc::new(restorer),
            env,
            dsn,
            tag,
            limits,
            rooms,
        })
    }

    /// Whether another client is a copy of this one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.restorer, &other.restorer)
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

    /// A session for rows and changes in a database: one that was given back, or a new one.
    async fn data(&self, database: &str) -> Result<Session, Fault> {
        match self.idle.take(database) {
            Some(session) => Ok(session),
            None => {
                let dsn = self.dsn.with_database(database);
                Session::connect(&self.env, &dsn, Purpose::Data).await
            }
        }
    }
}
