//! Builds indexes in parallel, the largest tables first, and makes constraints of the unique ones.

use super::progress::Progress;
use super::site::{Site, table_facts};
use crate::answer::{ask, run};
use crate::schema::{IndexStep, Step};
use crate::session::Session;
use holdfast_types::Fault;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Least memory that one index build gets, in MiB: PostgreSQL's own default.
const LEAST_MEMORY: u64 = 64;

/// How many things are built at once, and with how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLanes {
    /// Sessions at work.
    pub lanes: usize,
    /// The server's memory for all of them together, in MiB.
    pub memory: u64,
}

impl IndexLanes {
    fn settings(self) -> String {
        let lanes = u64::try_from(self.lanes.max(1)).unwrap_or(1);
        let memory = (self.memory / lanes).max(LEAST_MEMORY);
        format!("SET maintenance_work_mem = '{memory}MB'")
    }
}

impl Site {
    /// Builds indexes in parallel, then attaches constraints to them in order.
    pub(super) async fn indexes(
        &self,
        steps: &[IndexStep],
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.open().await?;
        let tables: BTreeSet<String> = steps.iter().filter_map(|step| step.table.clone()).collect();
        let facts = table_facts(&session, &tables).await?;
        let of = |step: &IndexStep| step.table.as_ref().and_then(|table| facts.get(table));
        let (mut builds, mut constraints) = (Vec::new(), Vec::new());
        for step in steps {
            let size = of(step).map_or(0, |facts| facts.bytes);
            match &step.split {
                Some(split) if of(step).is_some_and(|facts| facts.is_partitioned) => {
                    // No constraint can be made of an index of a partitioned table; it has no rows of its own, so this is quick.
                    constraints.push(split.whole.clone());
                }
                // A primary key made of an index makes an inherited NOT NULL the table's own (since 18).
                Some(split) if of(step).is_some_and(|facts| facts.is_heir) => {
                    builds.push((size, split.whole.clone()));
                }
                Some(split) => {
                    builds.push((size, step.step.clone()));
                    constraints.push(split.attach.clone());
                }
                None => builds.push((size, step.step.clone())),
            }
        }
        // The archive's order stays among equals.
        builds.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        lanes_over(self, lanes, &builds, "indexes", progress, Refusal::Fails).await?;
        self.in_order(&session, "constraints", &constraints, progress)
            .await
    }
}

/// What it means that the server refuses a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The restore fails.
    Fails,
    /// The restore goes on without it, with a warning.
    Warns,
}

/// Runs steps, each with the size of its table, on several sessions at once, without those that were run before. The first failure drops the
/// other sessions, which stops what they do.
pub(super) async fn lanes_over(
    site: &Site,
    lanes: IndexLanes,
    steps: &[(u64, Step)],
    phase: &'static str,
    progress: &dyn Progress,
    refusal: Refusal,
) -> Result<(), Fault> {
    if steps.is_empty() {
        return Ok(());
    }
    let session = site.open().await?;
    let marks = site.marks.with_prefix(&session, "entry/").await?;
    drop(session);
    let all = steps.iter().map(|(bytes, _)| *bytes).sum();
    progress.phase(phase, steps.len(), all);
    let (done, left): (Vec<_>, Vec<_>) = steps
        .iter()
        .partition(|(_, step)| marks.contains(&step.mark));
    for (bytes, step) in done {
        progress.ended(&step.name, *bytes);
    }
    let count = lanes.lanes.clamp(1, left.len().max(1));
    let queue: Mutex<VecDeque<&(u64, Step)>> = Mutex::new(left.into());
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    let lane = || async {
        let Some(mut sized) = next() else {
            return Ok(());
        };
        let session = site.open_as_application().await?;
        run(&session, "cannot set up a session", &lanes.settings()).await?;
        loop {
            let (bytes, step) = sized;
            progress.started(&step.name);
            let outcome = site.marks.run_once(&session, step).await;
            match refusal {
                Refusal::Fails => outcome?,
                Refusal::Warns => site.or_warn(&session, step, outcome, progress).await?,
            }
            progress.ended(&step.name, *bytes);
            match next() {
                Some(another) => sized = another,
                None => return site.marks.flush(&session, phase).await,
            }
        }
    };
    futures::future::try_join_all((0..count).map(|_| lane())).await?;
    Ok(())
}

/// How far the indexes are that are being built in a database at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProgress {
    /// The table.
    pub table: String,
    /// What the server does at present.
    pub phase: String,
    /// Blocks of the table, or of the sort, that are done.
    pub done: u64,
    /// All of them; zero where the server cannot say.
    pub total: u64,
}

/// Asks the server how far it is with indexes of the session's database.
///
/// # Errors
/// What the server says.
pub async fn index_progress(session: &Session) -> Result<Vec<IndexProgress>, Fault> {
    let rows = ask(
        session,
        "cannot read the progress of indexes",
        "SELECT p.relid::pg_catalog.regclass, p.phase, GREATEST(p.blocks_done, p.tuples_done), GREATEST(p.blocks_total, p.tuples_total) \
         FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.datname = current_database() ORDER BY p.pid",
    )
    .await?;
    let mut list = Vec::new();
    for row in rows {
        list.push(IndexProgress {
            table: row.text(0),
            phase: row.text(1),
            done: row.number(2)?,
            total: row.number(3)?,
        });
    }
    Ok(list)
}
