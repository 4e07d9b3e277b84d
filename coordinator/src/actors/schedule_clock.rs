//! The schedule clock: submits the backups that are due.
//!
//! Which run is due stands in the ledger, and a run is told there once: whoever leads then has done it, or nobody. A leader that dies between
//! the submission and the telling leaves a job under the run's own request key, which the next leader gets instead of another job.
//!
//! After an outage a schedule runs once, as of the present, and then at its regular times: what was missed is not made up for, and no run
//! asks for an instant that its source may have forgotten.
//!
//! The keys of encrypted chains are opened for each run. Incrementals whose chain was begun before the keys were changed go on with the keys
//! from before, and which ones opened the chain is told to the ledger with the run, so that older ones are forgotten.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures::{StreamExt, stream};
use holdfast_keys::KeyRing;
use holdfast_ledger::{Action, Outcome, ScheduleRecord};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_proto::v1;
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{
    ErrorCode, Fault, JobId, Millis, OnPrevious, RequestKey, RunResult, ScheduleId, ScheduleKeys,
    ScheduledLayer, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::core::Core;
use crate::encryption::{of_schedule, read_ring};
use crate::location::written;
use crate::office::Office;
use crate::schedule::cron::Cron;
use crate::submit::{submit_scheduled, wire_target};

/// How often it is looked what is due: cron counts minutes.
const LOOK: Duration = Duration::from_secs(1);
/// A run that is later than this is as of the present, not as of when it was due.
const STALE: Millis = Millis(60_000);
/// For how long a run is tried that cannot be submitted at present.
const PATIENCE: Millis = Millis(600_000);
/// Runs that are submitted at once.
const AT_ONCE: usize = 8;
/// The rest between two tries.
const REST: Duration = Duration::from_secs(10);

/// The schedule clock, alive as long as this is.
pub(crate) struct ScheduleClock {
    _actor: Supervised<ScheduleClockActor>,
}

impl ScheduleClock {
    /// Starts the schedule clock of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let over = office.over.clone();
        let tries = Arc::new(Tries::default());
        Self {
            _actor: supervise("schedule clock", Backoff::default(), over, move || {
                ScheduleClockActor {
                    core: Arc::clone(&core),
                    office: Arc::clone(&office),
                    tries: Arc::clone(&tries),
                }
            }),
        }
    }
}

/// See the module.
struct ScheduleClockActor {
    core: Arc<Core>,
    office: Arc<Office>,
    tries: Arc<Tries>,
}

impl Actor for ScheduleClockActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        self.look(context);
    }
}

impl ScheduleClockActor {
    /// Does what is due, then looks again in a while.
    fn look(&mut self, context: &mut Context<Self>) {
        let work = do_what_is_due(Arc::clone(&self.core), Arc::clone(&self.tries));
        let work = work
            .into_actor(self)
            .map(|(), _, context: &mut Context<Self>| {
                context.run_later(LOOK, Self::look);
            });
        context.spawn(work);
    }
}

/// When runs that could not be submitted were last tried, on the monotonic clock.
#[derive(Debug, Default)]
struct Tries(Mutex<BTreeMap<ScheduleId, Duration>>);

impl Tries {
    fn rests(&self, schedule: ScheduleId, now: Duration) -> bool {
        let tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = tries.get(&schedule);
        last.is_some_and(|last| now.saturating_sub(*last) < REST)
    }

    fn note(&self, schedule: ScheduleId, now: Duration) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tries.insert(schedule, now);
    }

    fn forget(&self, schedule: ScheduleId) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tries.remove(&schedule);
    }
}

/// What is to be done for a schedule.
enum Due {
    /// Its next regular time is to be found.
    Next(ScheduleId, String),
    /// It is to run.
    Run(Box<DueRun>),
}

/// A run that is due.
struct DueRun {
    record: ScheduleRecord,
    /// When it was.
    due: Timestamp,
    /// The run before it that is under way.
    running: Option<JobId>,
    is_logged: bool,
}

async fn do_what_is_due(core: Arc<Core>, tries: Arc<Tries>) {
    let now = core.env.clock.now();
    let all: Vec<Due> = core.replica.read(|ledger| {
        let due = ledger.schedules().filter_map(|record| {
            if record.needs_next() {
                return Some(Due::Next(record.id, record.cron.clone()));
            }
            let due = record.next_run.filter(|next| *next <= now)?;
            let source = ledger.source(&record.template.source);
            Some(Due::Run(Box::new(DueRun {
                record: record.clone(),
                due,
                running: ledger.runs_under_way(record.id).next().map(|job| job.id()),
                is_logged: source.is_some_and(|source| source.kind.is_logged()),
            })))
        });
        due.collect()
    });
    let perform = |due| {
        let (core, tries) = (&core, &tries);
        async move {
            let (id, action) = match due {
                Due::Next(id, cron) => {
                    let next = next_of(&cron, now);
                    (id, Some(Action::PlanSchedule { schedule: id, next }))
                }
                Due::Run(run) => (run.record.id, run.perform(core, tries).await),
            };
            let Some(action) = action else { return };
            match core.replica.propose(action).await {
                Ok(Outcome::Refused(fault)) => {
                    tracing::debug!(schedule = %id, %fault, "somebody else was faster");
                }
                Ok(_) => tries.forget(id),
                // It is due still, and is done again.
                Err(fault) => {
                    tracing::debug!(schedule = %id, %fault, "a schedule's run is not told")
                }
            }
        }
    };
    // Together, so that a store that does not answer keeps no other schedule waiting for long.
    stream::iter(all)
        .for_each_concurrent(AT_ONCE, perform)
        .await;
}

/// The next regular time. One that is not found is so far away that nobody waits for it.
fn next_of(cron: &str, after: Timestamp) -> Timestamp {
    let cron = Cron::read(cron).ok();
    cron.and_then(|cron| cron.next_after(after))
        .unwrap_or(Timestamp::MAX)
}

impl DueRun {
    /// Runs it, or finds that it has to wait; what is to be told to the ledger.
    async fn perform(&self, core: &Core, tries: &Tries) -> Option<Action> {
        let id = self.record.id;
        let monotonic = core.env.clock.monotonic();
        if tries.rests(id, monotonic) {
            return None;
        }
        let mut opened_by = None;
        let result = match (self.running, self.record.on_previous) {
            (Some(_), OnPrevious::Wait) => return None,
            (Some(_), OnPrevious::Skip) => RunResult::Skipped,
            (Some(_), OnPrevious::Start) | (None, _) => match self.submit(core).await {
                Ok((job, version)) => {
                    opened_by = version;
                    RunResult::Job(job)
                }
                Err(fault) if self.may_try_again(&fault, core.env.clock.now()) => {
                    tracing::info!(schedule = %id, %fault, "a run that is due is tried again soon");
                    tries.note(id, monotonic);
                    return None;
                }
                Err(fault) => {
                    tracing::warn!(schedule = %id, %fault, "a run could not be submitted");
                    RunResult::Refused(fault)
                }
            },
        };
        let now = core.env.clock.now();
        Some(Action::FireSchedule {
            schedule: id,
            due: self.due,
            next: next_of(&self.record.cron, now.max(self.due)),
            result: Box::new(result),
            opened_by,
        })
    }

    /// Whether a run that was refused may yet be accepted: the store is away, or another job writes to the chain.
    fn may_try_again(&self, fault: &Fault, now: Timestamp) -> bool {
        let passes = fault.is_retryable() || fault.code == ErrorCode::FailedPrecondition;
        match fault.code {
            // Whether there is a job is not known: its key tells, whenever that is.
            ErrorCode::Unknown | ErrorCode::NoLeader => true,
            _ => passes && now.since(self.due) < PATIENCE,
        }
    }

    /// The run's job, and which version of the schedule's keys opened its chain.
    async fn submit(&self, core: &Core) -> Result<(JobId, Option<u32>), Fault> {
        let is_late = core.env.clock.now().since(self.due) > STALE;
        let as_of = match is_late || self.is_logged {
            true => String::new(),
            false => self.due.to_string(),
        };
        let request = self.request(core, as_of.clone())?;
        let submitted = submit_scheduled(core, request, self.former_rings(core)?).await;
        let submitted = match submitted {
            // Another backup ends at the same instant, where only one can be.
            Err(fault) if fault.code == ErrorCode::AlreadyExists && !as_of.is_empty() => {
                let request = self.request(core, String::new())?;
                submit_scheduled(core, request, self.former_rings(core)?).await?
            }
            other => other?,
        };
        let opened_by = submitted.opened_by.and_then(|number| self.version(number));
        Ok((JobId(submitted.response.job), opened_by))
    }

    /// The keys from before, in the order in which the record has them.
    fn former_rings(&self, core: &Core) -> Result<Vec<KeyRing>, Fault> {
        let former = self.record.former_keys.iter();
        let rings = former.map(|former| read_ring(self.open_keys(core, former.keys.as_ref())?));
        rings.collect()
    }

    /// The version of the schedule's own keys, which are number 0, or of those from before.
    fn version(&self, number: usize) -> Option<u32> {
        match number.checked_sub(1) {
            None => Some(self.record.keys_version),
            Some(at) => self.record.former_keys.get(at).map(|it| it.version),
        }
    }

    fn open_keys(
        &self,
        core: &Core,
        keys: Option<&ScheduleKeys>,
    ) -> Result<Option<v1::EncryptionKeys>, Fault> {
        let open = |keys| of_schedule(&core.config.cluster_key, keys);
        keys.map(open).transpose()
    }

    /// The run's own: whoever submits it again gets the job that there is.
    fn request_key(&self, core: &Core) -> String {
        let key = RequestKey::of_run(self.record.id, self.due);
        match mutant::is_broken(Promise::RunsAreOnce) {
            true => format!("{key}-{}", core.ids.next(core.env.clock.now())),
            false => key.to_string(),
        }
    }

    fn request(&self, core: &Core, as_of: String) -> Result<v1::SubmitBackupRequest, Fault> {
        use v1::submit_backup_request::Layer;
        let template = &self.record.template;
        let key = &core.config.cluster_key;
        let (into, more_into) = written(key, &template.collection, &template.access)?;
        Ok(v1::SubmitBackupRequest {
            request_key: self.request_key(core),
            source: template.source.to_string(),
            target: Some(wire_target(&template.target)),
            into,
            more_into,
            layer: Some(match self.record.layer {
                ScheduledLayer::Full => Layer::Full(true),
                ScheduledLayer::Incremental => Layer::AppendToLatest(true),
            }),
            as_of,
            revision_history: template.history,
            execution_locality: template.execution_locality.to_string(),
            start_chain: None,
            encryption: self.open_keys(core, template.keys.as_ref())?,
        })
    }
}
