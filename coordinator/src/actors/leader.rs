//! The leader: takes office when raft elects this node, hands out what the ledger owes while it lasts, and leaves office when another
//! node leads.
//!
//! What is owed is computed from the state ([`holdfast_ledger::Ledger::pending_effects`]) whenever the state has moved, never remembered:
//! that is how nothing gets lost between leaders. The actor runs on every node; out of office it only watches.

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture,
};
use holdfast_ledger::{Effect, invariants};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_proto::v1;
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{Epoch, Incarnation, JobId, JobState, TaskId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::WatchStream;

use crate::actors::committer::Committer;
use crate::actors::dispatcher::Dispatcher;
use crate::actors::effect_runner::{EffectRunner, Perform};
use crate::actors::expirer::Expirer;
use crate::actors::finisher::{Finish, Finisher};
use crate::actors::hold_keeper::{HoldKeeper, MemberHold};
use crate::actors::hold_watch::HoldWatch;
use crate::actors::lease_keeper::LeaseKeeper;
use crate::actors::schedule_clock::ScheduleClock;
use crate::actors::starter::Starter;
use crate::actors::sweeper::{Retention, Sweeper};
use crate::api::ensure_identity;
use crate::core::Core;
use crate::link::not_leader;
use crate::notes::Sample;
use crate::office::{InOffice, Office};
use crate::replica::own_term;
use crate::sessions::SessionId;
use holdfast_raft::Leadership;

/// How often the leader looks around without being told that anything changed.
const TICK: Duration = Duration::from_millis(250);
/// From the first change to the look at what is owed: changes in between share the look.
const SURVEY_PAUSE: Duration = Duration::from_millis(1);
/// After this long a worker that was told to stop a task and still holds it is told again.
const STOP_AGAIN: Duration = Duration::from_secs(2);
/// Ticks between two checks of the ledger's invariants: a check costs as much as the state is large.
const TICKS_PER_CHECK: u32 = 8;

/// The leader actor, alive as long as this is.
pub(crate) struct Leader {
    _actor: Supervised<LeaderActor>,
}

impl Leader {
    /// Starts the leader actor of a node.
    pub(crate) fn start(core: Arc<Core>) -> Self {
        let over = core.closing.clone();
        Self {
            _actor: supervise("leader", Backoff::default(), over, move || LeaderActor {
                core: Arc::clone(&core),
                staff: None,
                taking_office: None,
                survey_due: false,
                ticks: 0,
            }),
        }
    }
}

/// One kind of effect on its way to its runner: handed over again only when it has changed, or was not taken.
struct Desk<P: Perform> {
    runner: EffectRunner<P>,
    told: Option<BTreeSet<P::Key>>,
}

impl<P: Perform> Desk<P> {
    fn new(runner: EffectRunner<P>) -> Self {
        Self { runner, told: None }
    }

    fn hand_over(&mut self, owed: BTreeSet<P::Key>) {
        if self.told.as_ref() != Some(&owed) {
            self.told = self.runner.owe(owed.clone()).then_some(owed);
        }
    }
}

/// When, and over which stream, a worker was told to stop a task.
struct Told {
    session: SessionId,
    at: Duration,
}

/// Everybody who works for the leader in office.
struct Staff {
    office: Arc<Office>,
    dispatcher: Dispatcher,
    starts: Desk<Starter>,
    finishes: Desk<Finisher>,
    holds: Desk<HoldKeeper>,
    sweeps: Desk<Sweeper>,
    expiries: Desk<Expirer>,
    stops: BTreeMap<(TaskId, Epoch), Told>,
    _hold_watch: HoldWatch,
    _lease_keeper: LeaseKeeper,
    _retention: Retention,
    _schedule_clock: ScheduleClock,
}

impl Staff {
    fn take_office(core: &Arc<Core>, term: u64) -> Self {
        let office = Arc::new(Office::new(term, core.env.clock.monotonic()));
        let both = || (Arc::clone(core), Arc::clone(&office));
        let committer = {
            let (core, office) = both();
            Committer::start(core, office)
        };
        core.desk.occupy(InOffice {
            office: Arc::clone(&office),
            committer,
        });
        let (dispatch_core, dispatch_office) = both();
        let (lease_core, lease_office) = both();
        let (retention_core, retention_office) = both();
        let (watch_core, watch_office) = both();
        let (clock_core, clock_office) = both();
        Self {
            dispatcher: Dispatcher::start(dispatch_core, dispatch_office),
            starts: runner("starter", core, &office, Starter::new),
            finishes: runner("finisher", core, &office, Finisher::new),
            holds: runner("hold keeper", core, &office, HoldKeeper::new),
            sweeps: runner("sweeper", core, &office, Sweeper::new),
            expiries: runner("expirer", core, &office, Expirer::new),
            stops: BTreeMap::new(),
            _hold_watch: HoldWatch::start(watch_core, watch_office),
            _lease_keeper: LeaseKeeper::start(lease_core, lease_office),
            _retention: Retention::start(retention_core, retention_office),
            _schedule_clock: ScheduleClock::start(clock_core, clock_office),
            office,
        }
    }

    /// Hands out everything that the ledger owes.
    fn survey(&mut self, core: &Core) {
        let mut owed = Owed::default();
        let effects = core.replica.read(|ledger| ledger.pending_effects());
        for effect in effects {
            owed.add(effect);
        }
        self.starts.hand_over(owed.starts);
        self.finishes.hand_over(owed.finishes);
        self.holds.hand_over(owed.holds);
        self.sweeps.hand_over(owed.sweeps);
        self.expiries.hand_over(owed.expiries);
        self.stop_tasks(core.env.clock.monotonic(), owed.stops);
        if owed.dispatch {
            self.dispatcher.wake();
        }
    }

    fn stop_tasks(
        &mut self,
        now: Duration,
        owed: BTreeMap<(TaskId, Epoch), (WorkerId, Incarnation)>,
    ) {
        self.stops.retain(|key, _| owed.contains_key(key));
        for ((task, epoch), (worker, incarnation)) in owed {
            let present = self.office.sessions.session_of(&worker, incarnation);
            let told = self.stops.get(&(task, epoch)).is_some_and(|told| {
                Some(told.session) == present && now.saturating_sub(told.at) < STOP_AGAIN
            });
            if told || present.is_none() {
                continue;
            }
            let stop = v1::TaskStop {
                job: task.job.0,
                task: task.index,
                epoch: epoch.0,
                reason: "the job is being paused, cancelled or has failed".to_owned(),
            };
            let sent = self.office.sessions.send(
                &worker,
                incarnation,
                v1::leader_message::Body::Stop(stop),
            );
            if let Some(session) = sent {
                self.stops.insert((task, epoch), Told { session, at: now });
            }
        }
    }

    /// Notes how far the running jobs are.
    fn take_samples(&self, core: &Core) {
        let now = core.env.clock.monotonic();
        let samples: Vec<(JobId, Sample)> = core.replica.read(|ledger| {
            ledger
                .unsettled_jobs()
                .filter(|job| job.state() == JobState::Running)
                .map(|job| {
                    let counters = job.counters();
                    let sample = Sample {
                        at: now,
                        bytes: counters.bytes_read.0,
                        weight: counters.weight_done,
                    };
                    (job.id(), sample)
                })
                .collect()
        });
        let unsettled: BTreeSet<JobId> = core
            .replica
            .read(|ledger| ledger.unsettled_jobs().map(|job| job.id()).collect());
        self.office.notes.retain(&unsettled);
        for (job, sample) in samples {
            self.office.notes.sample(job, sample);
        }
    }
}

fn runner<P: Perform>(
    name: &'static str,
    core: &Arc<Core>,
    office: &Arc<Office>,
    performer: impl FnOnce(Arc<Core>, Arc<Office>) -> P,
) -> Desk<P> {
    Desk::new(EffectRunner::start(
        name,
        Arc::clone(core),
        Arc::clone(office),
        performer(Arc::clone(core), Arc::clone(office)),
    ))
}

/// What is owed, by who does it.
#[derive(Debug, Default)]
struct Owed {
    dispatch: bool,
    starts: BTreeSet<JobId>,
    finishes: BTreeSet<Finish>,
    holds: BTreeSet<MemberHold>,
    sweeps: BTreeSet<JobId>,
    expiries: BTreeSet<(JobId, String)>,
    stops: BTreeMap<(TaskId, Epoch), (WorkerId, Incarnation)>,
}

impl Owed {
    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::StartJob { job } => {
                self.starts.insert(job);
            }
            Effect::Dispatch { .. } => self.dispatch = true,
            Effect::StopTask {
                task,
                epoch,
                worker,
                incarnation,
            } => {
                self.stops.insert((task, epoch), (worker, incarnation));
            }
            Effect::WritePart { job, part } => {
                self.finishes.insert(Finish::Part { job, part });
            }
            Effect::CommitLayer { job } => {
                self.finishes.insert(Finish::Layer { job });
            }
            Effect::ReleaseHold {
                hold,
                source,
                member,
            } => {
                self.holds.insert(MemberHold {
                    hold,
                    source,
                    member,
                    advance: None,
                });
            }
            Effect::AdvanceHold {
                hold,
                source,
                member,
                layer,
                to,
            } => {
                self.holds.insert(MemberHold {
                    hold,
                    source,
                    member,
                    advance: Some((layer, to)),
                });
            }
            Effect::SweepJob { job } => {
                self.sweeps.insert(job);
            }
            Effect::ExpireChain { job, chain } => {
                self.expiries.insert((job, chain));
            }
        }
    }
}

/// See the module.
struct LeaderActor {
    core: Arc<Core>,
    staff: Option<Staff>,
    /// The term whose office is being taken: it is only taken when the state has caught up.
    taking_office: Option<u64>,
    survey_due: bool,
    ticks: u32,
}

impl Actor for LeaderActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // An earlier actor may have gone in a panic and left its office behind.
        if let Some(left) = self.core.desk.present() {
            end_office(&self.core, &left.office);
        }
        context.add_stream(WatchStream::new(self.core.replica.leadership()));
        context.add_stream(WatchStream::new(self.core.replica.applied()));
        context.run_interval(TICK, Self::tick);
        let closing = self.core.closing.clone();
        let end = actix::fut::wrap_future::<_, Self>(async move { closing.cancelled().await }).map(
            |(), actor: &mut Self, context: &mut Context<Self>| {
                actor.leave_office();
                context.stop();
            },
        );
        context.spawn(end);
    }
}

impl StreamHandler<Leadership> for LeaderActor {
    fn handle(&mut self, leadership: Leadership, context: &mut Context<Self>) {
        self.follow(leadership, context);
    }

    /// Raft is being shut down.
    fn finished(&mut self, _: &mut Context<Self>) {
        self.leave_office();
    }
}

impl StreamHandler<u64> for LeaderActor {
    fn handle(&mut self, _applied: u64, context: &mut Context<Self>) {
        if self.staff.is_some() && !self.survey_due {
            self.survey_due = true;
            context.run_later(SURVEY_PAUSE, |actor, _| actor.survey());
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl LeaderActor {
    fn follow(&mut self, leadership: Leadership, context: &mut Context<Self>) {
        let in_office = self.staff.as_ref().map(|staff| staff.office.term);
        match own_term(&leadership) {
            Some(term) if in_office == Some(term) || self.taking_office == Some(term) => {}
            Some(term) => {
                self.leave_office();
                self.taking_office = Some(term);
                let core = Arc::clone(&self.core);
                let caught_up = async move {
                    core.replica.linearizable().await?;
                    ensure_identity(&core).await
                };
                let caught_up = caught_up.into_actor(self).map(
                    move |result, actor, context: &mut Context<Self>| {
                        actor.caught_up(term, result.is_ok(), context);
                    },
                );
                context.spawn(caught_up);
            }
            None => self.leave_office(),
        }
    }

    fn caught_up(&mut self, term: u64, caught_up: bool, context: &mut Context<Self>) {
        if self.taking_office != Some(term) {
            return;
        }
        self.taking_office = None;
        let leadership = self.core.replica.leadership().borrow().clone();
        if own_term(&leadership) != Some(term) {
            return;
        }
        if !caught_up {
            // Still leading without a quorum's word: again with the next tick.
            return;
        }
        tracing::info!(term, node = %self.core.config.raft.node, "taking office as the leader");
        self.staff = Some(Staff::take_office(&self.core, term));
        self.survey_due = true;
        context.run_later(SURVEY_PAUSE, |actor, _| actor.survey());
    }

    fn leave_office(&mut self) {
        self.taking_office = None;
        if let Some(staff) = self.staff.take() {
            tracing::info!(term = staff.office.term, "leaving office");
            end_office(&self.core, &staff.office);
        }
    }

    fn survey(&mut self) {
        self.survey_due = false;
        if let Some(staff) = &mut self.staff {
            if staff.office.term > 1 && mutant::is_broken(Promise::OwedIsDone) {
                return;
            }
            staff.survey(&self.core);
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.core.config.check_invariants && self.ticks.is_multiple_of(TICKS_PER_CHECK) {
            self.check_invariants();
        }
        let leadership = self.core.replica.leadership().borrow().clone();
        self.follow(leadership, context);
        if let Some(staff) = &self.staff {
            staff.take_samples(&self.core);
        }
        self.survey();
    }

    fn check_invariants(&self) {
        let violations: Vec<String> = self.core.replica.read(|ledger| {
            invariants::check(ledger)
                .iter()
                .map(ToString::to_string)
                .collect()
        });
        if !violations.is_empty() {
            tracing::error!(?violations, "ledger invariants are violated");
            self.core.config.on_violation.call(&violations);
        }
    }
}

fn end_office(core: &Core, office: &Office) {
    office.over.cancel();
    core.desk.vacate();
    office.sessions.close_all(|| not_leader(core));
}
