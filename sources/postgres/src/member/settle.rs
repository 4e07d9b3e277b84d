//! The end of a backup, database by database: the exact snapshot F, the changes up to it, and all that only F can tell.
//!
//! If something takes rows away from F, or F is lost, the finish is repeated under a later F; objects that were written for the
//! earlier one are named by no catalog.

mod changes;
mod objects;
mod view;
mod whole;

use futures::try_join;
use holdfast_source::{LoggedBackup, Outlet, SettledDatabase};
use holdfast_types::{ByteCount, ErrorCode, Fault, Position, Relation, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::begin::{parents, table_name};
use super::catalog::{
    Content, DatabaseCatalog, HoldState, RelationEntry, Standing, VERSION, last_before,
    relation_id, split_relation_id,
};
use super::plan::{DatabasePlan, LogPlan, database_plan, relation_plan};
use super::rooms::Room;
use super::{PostgresMember, budget, noted, share};
use crate::changes::wait_until_flushed;
use crate::dsn::Dsn;
use crate::exact::{HeldSnapshot, import, log_end};
use crate::fixup::{AtF, fix_up, replaced};
use crate::fold::{Folded, Keep, Sorter};
use crate::hold::{self, Told, Waiting};
use crate::layout::{DefinitionReason, Handling, Layout, Lsn, Oid, WholeReason};
use crate::replication::{ReplicationSession, SystemIdentity};
use crate::session::Session;
use changes::{Changes, Gathered};
use view::View;

/// How many snapshots F are tried before the application is left alone for a while: something truncates all the time.
const ATTEMPTS: u32 = 4;

/// The pause between two.
const PAUSE: Duration = Duration::from_millis(500);

/// What a relation was at the beginning of the window.
struct Planned {
    layout: Arc<Layout>,
    standing: Standing,
}

/// All that one settling works on.
struct Settling<'a> {
    member: &'a PostgresMember,
    backup: &'a LoggedBackup,
    plan: &'a DatabasePlan,
    dsn: Dsn,
    /// Relations whose changes are in the stream.
    planned: BTreeMap<Oid, Planned>,
    /// Relations that the backup covers whatever their name is now.
    covered: BTreeSet<Oid>,
    room: Room,
    /// For what is asked now and then, outside of all transactions.
    session: Session,
    /// Why the hold was given up, if it was.
    given_up: OnceLock<Fault>,
}

/// See [`holdfast_source::LoggedSource::settle`].
pub(super) async fn settle(
    member: &PostgresMember,
    backup: &LoggedBackup,
    relation: &Relation,
    planned: &[Relation],
    outlet: &mut dyn Outlet,
) -> Result<SettledDatabase, Fault> {
    let plan = database_plan(relation)?;
    let (planned, covered) = window(backup, &plan, planned)?;
    let _permit = member.share.settling().await?;
    let named = |fault: Fault| fault.context(&plan.name);
    let session = member.control(&plan.name).await.map_err(named)?;
    share::leave_room(&session).await?;
    let settling = Settling {
        member,
        backup,
        session,
        dsn: member.dsn.with_database(&plan.name),
        plan: &plan,
        planned,
        covered,
        room: member.rooms.take().await?,
        given_up: OnceLock::new(),
    };
    settling.check().await.map_err(named)?;
    settling.publish().await.map_err(named)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let fault = match Box::pin(settling.attempt(outlet)).await {
            Ok(settled) => {
                backup.steps.clear();
                return Ok(settled);
            }
            Err(fault) => fault,
        };
        if let Some(why) = settling.given_up.get() {
            return Err(named(why.clone()));
        }
        // The hold was seen to be in order: what is gone now is only what this snapshot could see.
        let is_passed = matches!(fault.code, ErrorCode::HistoryGone | ErrorCode::NotFound);
        if !is_passed {
            return Err(named(fault));
        }
        if tries == ATTEMPTS {
            return Err(named(Fault {
                code: ErrorCode::Unavailable,
                ..fault
            }));
        }
        backup.notes.add(format!(
            "database {}: the end was repeated under a later snapshot: {fault}",
            plan.name
        ));
        tokio::time::sleep(PAUSE).await;
        settling.check().await.map_err(named)?;
    }
}

/// The relations whose changes make the layer exact, and all that are covered by number.
fn window(
    backup: &LoggedBackup,
    plan: &DatabasePlan,
    planned: &[Relation],
) -> Result<(BTreeMap<Oid, Planned>, BTreeSet<Oid>), Fault> {
    let mut changes = BTreeMap::new();
    let mut covered = BTreeSet::new();
    let mut add = |layout: Layout, standing: Standing| {
        covered.insert(layout.oid);
        if layout.is_published() && standing.membership.is_some() {
            let layout = Arc::new(layout);
            changes.insert(layout.oid, Planned { layout, standing });
        }
    };
    if plan.log.as_ref().is_some_and(|log| log.continues) {
        let parent = parents(backup)?.remove(&plan.database).ok_or_else(|| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the parent's catalog of database {} is missing", plan.name),
            )
        })?;
        for entry in parent.relations {
            add(entry.layout, entry.standing);
        }
    } else {
        for relation in planned {
            // One without a definition only tells that its name is there.
            let is_told = relation.definition.is_empty();
            if split_relation_id(relation.id).0 == plan.database && !is_told {
                let plan = relation_plan(relation)?;
                add(plan.layout, plan.standing);
            }
        }
    }
    Ok((changes, covered))
}

impl Settling<'_> {
    /// Sees that every change since the start can be had.
    async fn check(&self) -> Result<(), Fault> {
        let Some(log) = &self.plan.log else {
            return Ok(());
        };
        let now = ReplicationSession::connect(&self.member.env, &self.dsn)
            .await?
            .identify()
            .await?;
        let then = SystemIdentity {
            system_id: self.plan.system_id,
            timeline: self.plan.timeline,
            flushed: log.start,
        };
        let state = hold::state(&self.session, &log.names.slot).await?;
        hold::verify(state.as_ref(), &self.plan.name, log.start, &then, &now)?;
        self.see_to_budget().await
    }

    /// Looks at what the hold keeps on the server's disk.
    async fn see_to_budget(&self) -> Result<(), Fault> {
        let Some(log) = &self.plan.log else {
            return Ok(());
        };
        let (member, hold) = (self.member, self.backup.hold);
        let (session, notes) = (&self.session, &self.backup.notes);
        let checked = budget::check_now_and_then(member, session, hold, &log.names, notes).await;
        if let Err(fault) = &checked
            && fault.code == ErrorCode::HistoryGone
        {
            self.given_up.get_or_init(|| fault.clone());
        }
        checked
    }

    /// Publishes relations that came since the hold was placed, so that the next window has their changes, and takes those out that lost their
    /// identity. What is seen under F decides what that was good for, so that a lock in the way does no harm.
    async fn publish(&self) -> Result<(), Fault> {
        let Some(log) = &self.plan.log else {
            return Ok(());
        };
        let facts = crate::catalog::read(&self.session).await?;
        let layouts: Vec<Layout> = facts
            .into_iter()
            .map(|facts| facts.layout)
            .filter(|layout| self.covers(layout))
            .collect();
        match hold::publish(&self.session, &log.names.publication, &layouts).await {
            Err(fault) if matches!(fault.code, ErrorCode::Unavailable | ErrorCode::NotFound) => {
                self.backup.notes.add(format!(
                    "database {}: relations that came meanwhile could not be published, and the next layer may copy them whole: {fault}",
                    self.plan.name
                ));
                Ok(())
            }
            other => other,
        }
    }

    fn covers(&self, layout: &Layout) -> bool {
        self.covered.contains(&layout.oid)
            || self
                .backup
                .target
                .covers(&table_name(&self.plan.name, layout))
    }

    /// Settles under one snapshot.
    async fn attempt(&self, outlet: &mut dyn Outlet) -> Result<SettledDatabase, Fault> {
        let mut gathered = match &self.plan.log {
            Some(log) => Some(self.up_to_now(log, outlet).await?),
            None => None,
        };
        let (env, dsn) = (&self.member.env, &self.dsn);
        let clock = view::clock(&self.session).await?;
        let mut held = match self.plan.log {
            Some(_) => {
                let (notes, steps) = (&self.backup.notes, &self.backup.steps);
                steps.begin("taking the snapshot of the end", 0, 0);
                let told = Told::new(Arc::clone(&env.clock), notes, steps);
                let show = |waiting: &Waiting| told.tell(waiting);
                let deadline = self.member.limits.hold_deadline;
                HeldSnapshot::exact_showing(env, dsn, deadline, &show).await?
            }
            None => HeldSnapshot::plain(env, dsn).await?,
        };
        // All that is seen under it is there after a crash too.
        wait_until_flushed(&self.session, held.lsn()).await?;
        self.backup.steps.begin("the schema", 0, 0);
        let dumping = view::schema(self, &held, self.session.info().major());
        let gathering = async {
            match (&self.plan.log, &mut gathered) {
                (Some(log), Some(gathered)) => {
                    self.gather(log, gathered, held.lsn(), &mut *outlet).await
                }
                _ => Ok(()),
            }
        };
        // Three programs and sessions that have nothing to do with one another, and F is not held for longer than it must.
        let looking = View::take(self, &held);
        let (view, schema, ()) = try_join!(looking, dumping, gathering)?;
        let schema = outlet.catalog(schema).await?;
        let changes = match (&self.plan.log, gathered.take()) {
            (Some(log), Some(gathered)) => {
                let gathered = changes::end(env, gathered, outlet).await?;
                Some(self.resolve(log, gathered, &view, &held).await?)
            }
            _ => None,
        };
        held.keep(env, dsn).await?;
        let mut catalog = self.catalog(&held, &view, schema, changes.as_ref());
        let latest = changes.as_ref().map(|changes| changes.rest.latest);
        catalog.ended_at = latest.map_or(clock, |latest| latest.max(clock));
        let mut read = whole::copy_all(self, &view, &mut held, &mut catalog, outlet).await?;
        objects::globals(&view, &mut catalog, outlet).await?;
        if !matches!(self.backup.target, holdfast_types::Target::Tables(_)) {
            held.keep(env, dsn).await?;
            self.backup.steps.begin("large objects", 0, 0);
            read += objects::large_objects(self, &held, &mut catalog, outlet).await?;
        }
        drop(held);
        if let Some(changes) = changes {
            noted::replaced(
                self.backup,
                &self.plan.name,
                &view.relations,
                &changes.replaced,
            );
            self.backup
                .steps
                .begin("writing the rows that changed", 0, 0);
            read += changes::write(self, changes, &mut catalog, outlet).await?;
        }
        outlet.catalog(catalog.encode()?).await?;
        outlet.advance(None, ByteCount(read)).await?;
        Ok(self.settled(&catalog))
    }

    /// Takes in most of the window before F is taken, so that F need not be held for long.
    async fn up_to_now(&self, log: &LogPlan, outlet: &mut dyn Outlet) -> Result<Gathered, Fault> {
        let history = self.backup.history && log.continues;
        let mut gathered = Gathered::new(
            &self.room,
            self.member.limits.fold_memory,
            log.start,
            history,
            self.backup.steps.clone(),
        )
        .await?;
        let now = log_end(&self.session).await?;
        self.gather(log, &mut gathered, now, outlet).await?;
        Ok(gathered)
    }

    async fn gather(
        &self,
        log: &LogPlan,
        gathered: &mut Gathered,
        upto: Lsn,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        self.see_to_budget().await?;
        let session = self.member.data(&self.plan.name).await?;
        let layouts: Vec<_> = self
            .planned
            .values()
            .map(|planned| Arc::clone(&planned.layout))
            .collect();
        gathered
            .take_to(
                &self.member.env,
                &session,
                &log.names,
                &layouts,
                upto,
                outlet,
            )
            .await?;
        self.member.idle.give_back(session);
        Ok(())
    }

    /// Decides which relations are read whole, and makes the changes of the others whole.
    async fn resolve(
        &self,
        log: &LogPlan,
        (folded, rest): (Folded, changes::Rest),
        view: &View,
        held: &HeldSnapshot,
    ) -> Result<Changes, Fault> {
        let layouts: BTreeMap<Oid, Arc<Layout>> = self
            .planned
            .iter()
            .map(|(oid, planned)| (*oid, Arc::clone(&planned.layout)))
            .collect();
        let at_f: BTreeMap<Oid, AtF> = view
            .relations
            .iter()
            .filter_map(|layout| {
                let seen = view.standings.relations.get(&layout.oid)?;
                let at_f = AtF {
                    layout: Arc::clone(layout),
                    file_node_xid: seen.file_node_xid,
                };
                Some((layout.oid, at_f))
            })
            .collect();
        let is_published = view.standings.publication == Some(log.publication);
        let standing = |oid: &Oid| view.standings.relations.get(oid).map(|seen| &seen.standing);
        // A read may have found other columns than planned, which were there only for a while.
        let changed: BTreeSet<Oid> = self
            .planned
            .iter()
            .filter(|(oid, planned)| {
                standing(oid).is_none_or(|now| !now.has_form_of(&planned.standing))
            })
            .map(|(oid, _)| *oid)
            .collect();
        let mut replaced = replaced(&layouts, &at_f, &folded, &changed);
        replaced.extend(
            self.planned
                .iter()
                .filter(|(oid, planned)| {
                    !is_published
                        || standing(oid)
                            .is_none_or(|now| now.membership != planned.standing.membership)
                })
                .map(|(oid, _)| *oid),
        );
        let now: BTreeMap<Oid, Arc<Layout>> = at_f
            .into_iter()
            .map(|(oid, at_f)| (oid, at_f.layout))
            .collect();
        let env = &self.member.env;
        let session = self.member.data(&self.plan.name).await?;
        import(&session, held.id()?).await?;
        let room = self.room.clone();
        let directory = env.blocking(move || room.part("fixes")).await?;
        self.backup.steps.begin("reading changed rows again", 0, 0);
        let fixes = Sorter::new(
            Keep::Last,
            Arc::clone(&env.disk),
            &directory,
            self.member.limits.fold_memory,
        );
        let folded = fix_up(env, &session, &now, folded, &replaced, fixes, held.lsn()).await?;
        Ok(Changes {
            folded,
            rest,
            replaced,
        })
    }

    /// The catalog as far as it is known before whole relations are copied: those have no objects yet. When it ended is told by others.
    fn catalog(
        &self,
        held: &HeldSnapshot,
        view: &View,
        schema: String,
        changes: Option<&Changes>,
    ) -> DatabaseCatalog {
        let log = self.plan.log.as_ref();
        let entry = |layout: &Arc<Layout>| {
            let mut layout = Layout::clone(layout);
            if log.is_none() && layout.handling == Handling::Keyed {
                layout.handling = Handling::Whole(WholeReason::SnapshotMode);
            }
            let seen = view.standings.relations.get(&layout.oid);
            let is_kept = layout.is_published()
                && self.planned.contains_key(&layout.oid)
                && changes.is_some_and(|changes| !changes.replaced.contains(&layout.oid));
            let truncated = changes.and_then(|changes| changes.folded.truncated().get(&layout.oid));
            RelationEntry {
                content: match (layout.handling.has_rows(), is_kept) {
                    (false, _) => Content::Definition,
                    (true, true) if log.is_some_and(|log| log.continues) => Content::Continued,
                    (true, true) => Content::Base,
                    (true, false) => Content::Whole {
                        objects: Vec::new(),
                    },
                },
                truncated: truncated.filter(|_| is_kept).map(|it| it.position),
                standing: seen.map(|seen| seen.standing.clone()).unwrap_or_default(),
                rows: None,
                sum: None,
                layout,
            }
        };
        DatabaseCatalog {
            version: VERSION,
            system_id: self.plan.system_id,
            timeline: self.plan.timeline,
            server_version: view.server_version,
            database: self.plan.database,
            facts: view.facts.clone(),
            hold: log.map(|log| HoldState {
                names: log.names.clone(),
                publication: view.standings.publication.unwrap_or(log.publication),
            }),
            start: log.map_or(held.lsn(), |log| log.start),
            end: held.lsn(),
            ended_at: holdfast_types::Timestamp::default(),
            continues: log.is_some_and(|log| log.continues),
            history: changes.is_some_and(|changes| changes.rest.history.is_some()),
            relations: view.relations.iter().map(entry).collect(),
            rows: Vec::new(),
            versions: Vec::new(),
            truncations: Vec::new(),
            commit_times: Vec::new(),
            schema,
            globals: String::new(),
            sequences: String::new(),
            matviews: view.matviews.clone(),
            large_objects: super::catalog::LargeObjectParts::default(),
        }
    }

    fn settled(&self, catalog: &DatabaseCatalog) -> SettledDatabase {
        let relation = |oid: Oid, name: TableName| Relation {
            id: relation_id(self.plan.database, oid),
            name,
            created_at: match self.covered.contains(&oid) || oid == Oid(0) {
                true => Position::Lsn(holdfast_types::Lsn::at(catalog.start.0)),
                false => last_before(catalog.end),
            },
            dropped_at: None,
            definition: Vec::new(),
        };
        let database = relation(Oid(0), TableName::of_database(&self.plan.name));
        // A partitioned table has no rows of its own, and is restored by its name all the same.
        let partitioned = Handling::Definition(DefinitionReason::Partitioned);
        let tables = catalog.relations.iter().filter(|entry| {
            entry.content != Content::Definition || entry.layout.handling == partitioned
        });
        let relations = tables
            .map(|entry| relation(entry.layout.oid, table_name(&self.plan.name, &entry.layout)));
        SettledDatabase {
            end: catalog.settled(),
            relations: std::iter::once(database).chain(relations).collect(),
            keeps_history: catalog.hold.is_some(),
        }
    }
}
