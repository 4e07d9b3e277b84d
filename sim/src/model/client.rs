//! What a worker has of a server: the contract for databases whose history is a log.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_env::Env;
use holdfast_mvcc::MvccFactory;
use holdfast_postgres::layout::{Layout, Oid};
use holdfast_source::{
    Inlet, LoadProgress, LoggedBackup, LoggedRelation, LoggedRestore, LoggedSource, Outlet, Source,
    SourceFactory,
};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, HoldId, JobId, KeyRange, MemberRecord, Position, Relation,
    RowCount, RowSum, SettledDatabase, SourceKind, TableName,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Catalog, DatabasePlan, decode, encode, relation};
use super::merge::{Chain, load};
use super::server::ModelServer;
use super::settle::settle;
use crate::bank::DATABASE;
use crate::mutant::Mutant;

/// Pages of a part.
const PART_PAGES: u32 = 3;
/// Parts of a span.
const SPAN_PARTS: u32 = 3;
/// How long a hold waits for transactions that are not seen yet.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Makes clients of members of both kinds.
#[derive(Debug)]
pub(crate) struct ModelFactory {
    mvcc: MvccFactory,
    env: Env,
    servers: BTreeMap<String, ModelServer>,
    mutant: Option<Mutant>,
}

impl ModelFactory {
    /// For one life of a worker; servers are known by their addresses.
    pub(crate) fn new(
        env: Env,
        servers: BTreeMap<String, ModelServer>,
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            mvcc: MvccFactory::new(Arc::clone(&env.net)),
            env,
            servers,
            mutant,
        }
    }
}

impl SourceFactory for ModelFactory {
    fn member(&self, kind: SourceKind, member: &MemberRecord) -> Result<Arc<dyn Source>, Fault> {
        self.mvcc.member(kind, member)
    }

    fn logged(
        &self,
        kind: SourceKind,
        member: &MemberRecord,
    ) -> Result<Arc<dyn LoggedSource>, Fault> {
        let server = self.servers.get(&member.address).ok_or_else(|| {
            Fault::new(
                ErrorCode::Unsupported,
                format!("there is no {kind} server at {}", member.address),
            )
        })?;
        Ok(Arc::new(ModelClient {
            server: server.clone(),
            env: self.env.clone(),
            mutant: self.mutant,
        }))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct ModelClient {
    pub(super) server: ModelServer,
    pub(super) env: Env,
    pub(super) mutant: Option<Mutant>,
}

fn bound(page: u32) -> Bytes {
    Bytes::copy_from_slice(&page.to_be_bytes())
}

fn page(bound: &Bytes) -> Option<u32> {
    bound.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The table of the database that has this name there.
pub(super) fn table_name(layout: &Layout) -> Result<TableName, Fault> {
    format!("{DATABASE}.{}.{}", layout.schema, layout.name).parse()
}

/// How many columns a row has.
pub(super) fn columns(layout: &Layout) -> u16 {
    u16::try_from(layout.columns.len()).unwrap_or(u16::MAX)
}

impl ModelClient {
    /// Whether this world breaks that promise.
    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The log from `start` on must be there.
    pub(super) fn verify(
        &self,
        hold: HoldId,
        start: holdfast_postgres::layout::Lsn,
    ) -> Result<(), Fault> {
        match self.server.slot(hold) {
            Some(slot) if slot.confirmed <= start => Ok(()),
            Some(slot) => {
                // Nobody but the coordinators moves a slot, and they do when a layer that ends there is committed.
                let seen = format!(
                    "hold {hold} was moved to {} and is needed from {start}",
                    slot.confirmed
                );
                self.server.violated(seen.clone());
                Err(Fault::new(ErrorCode::HistoryGone, seen))
            }
            None => Err(Fault::new(
                ErrorCode::HistoryGone,
                format!("the slot of hold {hold} is gone"),
            )),
        }
    }

    fn settling(
        &self,
        start: holdfast_postgres::layout::Lsn,
        continues: bool,
    ) -> Result<LoggedRelation, Fault> {
        let definition = encode(&DatabasePlan { start, continues })?;
        let name = TableName::of_database(DATABASE);
        Ok(LoggedRelation {
            relation: relation(Oid(0), name, start, definition),
            spans: vec![(KeyRange::all(), ByteCount(1_000))],
            settles: true,
        })
    }

    /// Cuts a table; the last span is open, as tables grow.
    fn cut(&self, layout: &Layout) -> Vec<(KeyRange, ByteCount)> {
        let pages = self.server.pages(layout.oid);
        let step = (PART_PAGES * SPAN_PARTS) as usize;
        let starts: Vec<u32> = (0..pages.max(1)).step_by(step).collect();
        starts
            .iter()
            .enumerate()
            .map(|(index, start)| {
                let overlap = u32::from(index > 0 && self.is(Mutant::OverlappingSpans));
                let range = KeyRange {
                    start: match start {
                        0 => Bytes::new(),
                        start => bound(start - overlap),
                    },
                    end: starts
                        .get(index + 1)
                        .map_or_else(Bytes::new, |next| bound(*next)),
                };
                (range, ByteCount(10_000))
            })
            .collect()
    }
}

#[async_trait]
impl LoggedSource for ModelClient {
    async fn begin(&self, backup: &LoggedBackup) -> Result<Vec<LoggedRelation>, Fault> {
        self.server.gate().await?;
        if let Some(parent) = backup.parent.first() {
            let parent = Catalog::of(parent)?;
            self.verify(backup.hold, parent.end)?;
            return Ok(vec![self.settling(parent.end, true)?]);
        }
        let (slot, unseen) = self.server.make_slot(backup.hold);
        // What was in the log before the slot, and was not seen yet, would be in neither.
        let mut waited = Duration::ZERO;
        while !self.is(Mutant::HoldDoesNotWait) && !self.server.unseen().is_disjoint(&unseen) {
            if waited > LONGEST_WAIT {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    "a transaction does not end",
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            waited += Duration::from_millis(5);
        }
        let mut relations = Vec::new();
        for layout in self.server.layouts() {
            let name = table_name(&layout)?;
            if backup.target.covers(&name) {
                relations.push(LoggedRelation {
                    relation: relation(layout.oid, name, slot.confirmed, encode(&layout)?),
                    spans: self.cut(&layout),
                    settles: false,
                });
            }
        }
        relations.push(self.settling(slot.confirmed, false)?);
        Ok(relations)
    }

    async fn read(
        &self,
        _: &LoggedBackup,
        relation: &Relation,
        range: KeyRange,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        let layout: Layout = decode(&relation.definition)?;
        let mut start = page(&range.start).unwrap_or(0);
        let last = page(&range.end);
        loop {
            self.server.gate().await?;
            // The last part of an open span is open as well.
            let is_last = match last {
                Some(last) => start + PART_PAGES >= last,
                None => start + PART_PAGES >= self.server.pages(layout.oid),
            };
            let end = if is_last {
                last
            } else {
                Some(start + PART_PAGES)
            };
            let rows = self.server.read_pages(&layout, start, end)?;
            let Some(rows) = rows else {
                // Nothing of it counts: it is read whole when the backup settles, or a truncation explains it.
                return outlet.advance(None, ByteCount(0)).await;
            };
            let mut bytes = Vec::new();
            for row in &rows {
                bytes.extend_from_slice(row.bytes());
            }
            let read = ByteCount(bytes.len() as u64);
            outlet.begin_tuples(columns(&layout)).await?;
            if !bytes.is_empty() {
                outlet.tuples(bytes.into()).await?;
            }
            outlet.end_tuples().await?;
            if is_last {
                return outlet.advance(None, read).await;
            }
            start += PART_PAGES;
            outlet.advance(Some(bound(start)), read).await?;
        }
    }

    async fn settle(
        &self,
        backup: &LoggedBackup,
        relation: &Relation,
        planned: &[Relation],
        outlet: &mut dyn Outlet,
    ) -> Result<SettledDatabase, Fault> {
        settle(self, backup, relation, planned, outlet).await
    }

    async fn advance_hold(&self, hold: HoldId, to: Position) -> Result<(), Fault> {
        self.server.gate().await?;
        if let Position::Lsn(to) = to {
            // The position is the last one of the layer: the window after it begins with the next.
            self.server
                .confirm(hold, holdfast_postgres::layout::Lsn(to.lsn + 1));
        }
        Ok(())
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        self.server.gate().await?;
        self.server.drop_slot(hold);
        Ok(())
    }

    async fn begin_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Vec<LoggedRelation>, Fault> {
        self.server.gate().await?;
        let chain = Chain::read(restore, inlet).await?;
        let name = chain.database();
        let is_taken = self.server.with_database(name, |database| {
            let is_taken = database.job != 0 && database.job != restore.job.0;
            if !is_taken {
                database.job = restore.job.0;
                database.at = chain.end().0;
            }
            is_taken
        });
        if is_taken {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("database {name} exists"),
            ));
        }
        let open = || vec![(KeyRange::all(), ByteCount(10_000))];
        chain
            .tables()
            .map(|layout| {
                Ok(LoggedRelation {
                    relation: relation(
                        layout.oid,
                        table_name(layout)?,
                        chain.end(),
                        encode(layout)?,
                    ),
                    spans: open(),
                    settles: false,
                })
            })
            .collect()
    }

    async fn load(
        &self,
        restore: &LoggedRestore,
        relation: &Relation,
        _: KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        self.server.gate().await?;
        let chain = Chain::read(restore, inlet).await?;
        let layout: Layout = decode(&relation.definition)?;
        let rows = load(self, &chain, &layout, inlet).await?;
        let count = rows.len() as u64;
        self.server.gate().await?;
        self.server.with_database(chain.database(), |database| {
            database.rows.insert(layout.oid, rows);
        });
        progress
            .advance(None, ByteCount(count), ByteCount(count), RowCount(count))
            .await
    }

    async fn finish_restore(
        &self,
        restore: &LoggedRestore,
        _: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        self.server.gate().await?;
        self.server.publish(restore.job);
        Ok(RowSum::default())
    }

    async fn discard_restore(&self, job: JobId) -> Result<(), Fault> {
        self.server.gate().await?;
        self.server.discard(job);
        Ok(())
    }
}

/// A generator whose numbers follow from the process's entropy.
pub(super) fn generator(env: &Env) -> StdRng {
    StdRng::seed_from_u64(env.entropy.next_u64())
}

/// A directory of a fold's own.
pub(super) fn room(env: &Env) -> Result<String, Fault> {
    let path = format!("fold-{:016x}", generator(env).random::<u64>());
    env.disk
        .create_dir_all(&path)
        .map_err(|error| Fault::new(ErrorCode::Unavailable, error.to_string()))?;
    Ok(path)
}
