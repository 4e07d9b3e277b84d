//! Restores a member's layers: plans what each relation is made of, makes what the rows go into, loads them exactly once, and makes
//! everything visible at the end.
//!
//! Bounds of a relation's spans: a byte 0 and the number of a base object (u32 BE), then a byte 1 and the number of a part of the rows that
//! changed (u32 BE).
//!
//! # Crash consistency
//! Everything that was made is known from the job's number alone, and every part carries a mark in the same transaction, so that any worker goes
//! on, or throws away, what another one left.

mod begin;
mod beside;
mod choose;
mod compare;
mod discard;
mod finish;
mod large_objects;
mod load;
mod plan;
mod survey;
mod told;
mod touched;

use holdfast_env::Env;
use holdfast_source::{Inlet, LoggedRestore};
use holdfast_types::{ErrorCode, Fault, JobId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::rooms::Rooms;
use crate::dsn::Dsn;
use crate::layout::{Layout, Oid};
use crate::restore::{
    DatabaseRestore, IndexLanes, LoadTarget, Marks, RestoreName, TableRestore, Target,
};
use crate::session::Session;
use plan::{DatabasePlan, Into, RelationPlan, RestorePlan};
use told::Told;
use touched::Changed;

/// Restores whose catalogs are kept in memory.
const KEPT_PLANS: usize = 2;

/// Relations whose changed rows are kept on the disk for their next span.
const KEPT_RELATIONS: usize = 4;

/// Sessions that build indexes, and the server's memory for all of them, in MiB.
const LANES: IndexLanes = IndexLanes {
    lanes: 4,
    memory: 1024,
};

/// A job, the number of a database in it, and a relation.
type Place = (JobId, u32, Oid);

type Kept = Arc<tokio::sync::OnceCell<Arc<Changed>>>;

/// Restores layers onto one server.
#[derive(Debug)]
pub struct Restorer {
    target: Target,
    tools: Option<String>,
    /// Loads whose rows are on their way to the server.
    streams: Semaphore,
    /// The latest last.
    plans: Mutex<Vec<(JobId, Arc<RestorePlan>)>>,
    /// The latest last.
    changed: Mutex<Vec<(Place, Kept)>>,
    rooms: Arc<Rooms>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where one database's contents go.
#[derive(Debug)]
enum Destination {
    New(DatabaseRestore),
    Existing(TableRestore),
}

impl Destination {
    fn marks(&self) -> &Marks {
        match self {
            Self::New(database) => database.marks(),
            Self::Existing(tables) => tables.marks(),
        }
    }

    async fn session(&self) -> Result<Session, Fault> {
        match self {
            Self::New(database) => database.session().await,
            Self::Existing(tables) => tables.session().await,
        }
    }

    fn load_target(&self, plan: &DatabasePlan, layout: &Layout) -> Result<LoadTarget, Fault> {
        match self {
            Self::New(_) => Ok(LoadTarget::of(layout, &plan.newest()?.catalog.facts)),
            Self::Existing(tables) => tables
                .load_target(layout)
                .ok_or_else(|| plan::broken("a table that is not restored")),
        }
    }
}

impl Restorer {
    /// Restores onto the server of a connection string; its database is the one for maintenance. Files go into `rooms`.
    #[must_use]
    pub fn new(env: Env, dsn: Dsn, rooms: Arc<Rooms>) -> Self {
        Self {
            target: Target::new(env, dsn),
            tools: None,
            streams: Semaphore::new(Semaphore::MAX_PERMITS),
            plans: Mutex::default(),
            changed: Mutex::default(),
            rooms,
        }
    }

    /// Looks for PostgreSQL's client programs in this directory first.
    #[must_use]
    pub fn with_tools(mut self, directory: Option<String>) -> Self {
        self.tools = directory;
        self
    }

    /// Sends rows to the server over so many connections at once.
    #[must_use]
    pub fn with_streams(mut self, streams: usize) -> Self {
        self.streams = Semaphore::new(streams.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    fn env(&self) -> &Env {
        self.target.env()
    }

    /// Waits for a stream of rows to the server.
    async fn stream(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let permit = self.streams.acquire().await;
        permit.map_err(|_| Fault::new(ErrorCode::Internal, "the restorer was closed"))
    }

    async fn plan(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Arc<RestorePlan>, Fault> {
        let known = |plans: &Vec<(JobId, Arc<RestorePlan>)>| {
            let found = plans.iter().find(|(job, _)| *job == restore.job);
            found.map(|(_, plan)| Arc::clone(plan))
        };
        if let Some(plan) = known(&lock(&self.plans)) {
            return Ok(plan);
        }
        let plan = Arc::new(RestorePlan::read(restore, inlet).await?);
        let mut plans = lock(&self.plans);
        plans.retain(|(job, _)| *job != restore.job);
        if plans.len() >= KEPT_PLANS {
            plans.remove(0);
        }
        plans.push((restore.job, Arc::clone(&plan)));
        Ok(plan)
    }

    fn destination(
        &self,
        restore: &LoggedRestore,
        plan: &DatabasePlan,
    ) -> Result<Destination, Fault> {
        let hidden = RestoreName::new(restore.job, plan.number);
        let facts = plan.newest()?.catalog.facts.clone();
        let (target, name) = (self.target.clone(), plan.name.as_str());
        Ok(match &plan.into {
            Into::New(_) => Destination::New(DatabaseRestore::new(target, &hidden, facts, name)),
            Into::Existing(tables) => {
                let options = &restore.options;
                let mut tables = TableRestore::new(target, hidden, facts, name, tables.clone())
                    .with_rights(options.owners, options.grants);
                if options.skip_missing_foreign_keys {
                    tables = tables.skip_missing_foreign_keys();
                }
                if options.skip_missing_sequences {
                    tables = tables.skip_missing_sequences();
                }
                Destination::Existing(tables)
            }
        })
    }

    /// The rows of a relation that changed, read once for all of its spans; `None` if nothing can have changed.
    async fn changed(
        &self,
        job: JobId,
        plan: &DatabasePlan,
        relation: &RelationPlan,
        inlet: &dyn Inlet,
    ) -> Result<Option<Arc<Changed>>, Fault> {
        if !plan.has_changes(relation) {
            return Ok(None);
        }
        let key = (job, plan.number, relation.layout.oid);
        let cell = {
            let mut kept = lock(&self.changed);
            let place = kept.iter().position(|(of, _)| *of == key);
            let cell = place.map_or_else(Kept::default, |place| kept.remove(place).1);
            while kept.len() >= KEPT_RELATIONS {
                kept.remove(0);
            }
            kept.push((key, Arc::clone(&cell)));
            cell
        };
        let changed = cell.get_or_try_init(|| async {
            let room = self.rooms.take().await?;
            let changed = Changed::read(&room, plan, relation, inlet).await?;
            Ok::<_, Fault>(Arc::new(changed))
        });
        changed.await.map(|changed| Some(Arc::clone(changed)))
    }

    /// Forgets what is kept of a job.
    fn forget(&self, job: JobId) {
        lock(&self.plans).retain(|(of, _)| *of != job);
        lock(&self.changed).retain(|((of, ..), _)| *of != job);
    }
}

/// Notes of parts by relation: the sums of their rows.
type Sums = BTreeMap<Oid, holdfast_types::RowSum>;
