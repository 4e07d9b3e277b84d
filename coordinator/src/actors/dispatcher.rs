//! The dispatcher: leases ready tasks to workers. It plans ([`crate::plan`]), proposes all grants of a plan as one command, and tells the
//! workers whose leases were committed. A worker that is not told, because its stream broke in between, is told when it is back,
//! or expires.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use holdfast_ledger::{Action, Grant, Ledger, Outcome, ReadyTask, WorkerRecord};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_proto::v1;
use holdfast_types::{JobId, TaskId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::grant::task_grant;
use crate::office::Office;
use crate::plan::{Assignment, JobDemand, TaskDemand, WorkerView, assign};

/// Leases in one command. What is left is granted by the next one, right after.
const MAX_GRANTS: usize = 1024;
/// How often it looks again although nothing has changed: tasks whose rest is over become due without a command.
const TICK: Duration = Duration::from_millis(250);
/// After a proposal that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest a failed task rests here, whatever the wall clocks say: a clock that jumped must not stop a job.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Resting tasks that are remembered; beyond it tasks are tried without a rest.
const MAX_RESTING: usize = 10_000;
/// Ready tasks of one member that are looked at in one plan beyond those that are needed: resting ones stand in the way.
const MAX_LOOK: usize = 1024;

/// The way to the dispatcher.
pub(crate) struct Dispatcher(Supervised<DispatcherActor>);

impl Dispatcher {
    /// Starts the dispatcher of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let over = office.over.clone();
        Self(supervise(
            "dispatcher",
            Backoff::default(),
            over,
            move || DispatcherActor {
                core: Arc::clone(&core),
                office: Arc::clone(&office),
                rests: Rests::default(),
                busy: false,
                again: false,
            },
        ))
    }

    /// There may be something to lease. Cheap, and may be said too often; lost words are made up for by the tick.
    pub(crate) fn wake(&self) {
        let _ = self.0.try_send(Wake);
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Wake;

/// See the module.
struct DispatcherActor {
    core: Arc<Core>,
    office: Arc<Office>,
    rests: Rests,
    busy: bool,
    again: bool,
}

impl Actor for DispatcherActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        context.run_interval(TICK, Self::round);
    }
}

impl Handler<Wake> for DispatcherActor {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        self.round(context);
    }
}

impl DispatcherActor {
    /// One plan and its grants, unless one is under way: then another one follows.
    fn round(&mut self, context: &mut Context<Self>) {
        if self.busy {
            self.again = true;
            return;
        }
        let assignments = self.plan();
        if assignments.is_empty() {
            return;
        }
        self.busy = true;
        self.again = assignments.len() >= MAX_GRANTS;
        let work = grant(
            Arc::clone(&self.core),
            Arc::clone(&self.office),
            assignments,
        );
        let work = work
            .into_actor(self)
            .map(|(), actor, context: &mut Context<Self>| {
                actor.busy = false;
                if std::mem::take(&mut actor.again) {
                    actor.round(context);
                }
            });
        context.spawn(work);
    }

    fn plan(&mut self) -> Vec<Assignment> {
        let now = Now {
            wall: self.core.env.clock.now(),
            monotonic: self.core.env.clock.monotonic(),
        };
        let connected = self.office.sessions.connected();
        let rests = &mut self.rests;
        rests.forget_over(now);
        self.core.replica.read(|ledger| {
            let workers: Vec<WorkerView> = ledger
                .workers()
                .filter(|worker| connected.get(&worker.id) == Some(&worker.incarnation))
                .map(|worker| WorkerView {
                    id: worker.id.clone(),
                    incarnation: worker.incarnation,
                    locality: worker.locality.clone(),
                    slots: worker.slots,
                    busy: worker.slots.saturating_sub(worker.free_slots()),
                })
                .collect();
            let free: u32 = workers
                .iter()
                .map(|worker| worker.slots - worker.busy)
                .sum();
            if free == 0 {
                return Vec::new();
            }
            let jobs = demands(ledger, free as usize, rests, now);
            assign(&jobs, &workers, MAX_GRANTS)
        })
    }
}

/// What is ready and not resting, of every job: of each member at most as many as there are free slots.
fn demands(ledger: &Ledger, free: usize, rests: &mut Rests, now: Now) -> Vec<JobDemand> {
    let wanted = free.min(MAX_GRANTS);
    let mut running: BTreeMap<JobId, u32> = BTreeMap::new();
    for task in ledger.workers().flat_map(WorkerRecord::leases) {
        *running.entry(task.job).or_default() += 1;
    }
    ledger
        .unsettled_jobs()
        .filter(|job| job.state().may_dispatch())
        .map(|job| {
            let members = job.spec().members();
            let lanes: Vec<Option<u32>> = if members.is_empty() {
                vec![None]
            } else {
                (0u32..)
                    .zip(&members)
                    .map(|(index, _)| Some(index))
                    .collect()
            };
            let tasks = lanes.into_iter().flat_map(|member| {
                let place = member
                    .and_then(|index| members.get(index as usize))
                    .map(|member| member.locality.clone())
                    .unwrap_or_default();
                ledger
                    .ready_tasks_of(job.id(), member)
                    .take(wanted + MAX_LOOK)
                    .filter(|task| !rests.is_resting(task, now))
                    .take(wanted)
                    .map(|task| TaskDemand {
                        task: task.task,
                        place: place.clone(),
                    })
                    .collect::<Vec<_>>()
            });
            JobDemand {
                job: job.id(),
                execution: job.spec().execution_locality().clone(),
                tasks: tasks.collect(),
                running: running.get(&job.id()).copied().unwrap_or_default(),
            }
        })
        .filter(|demand| !demand.tasks.is_empty())
        .collect()
}

/// Proposes leases, and tells the workers of those that were given.
async fn grant(core: Arc<Core>, office: Arc<Office>, assignments: Vec<Assignment>) {
    let grants = assignments
        .iter()
        .map(|assignment| Grant {
            task: assignment.task,
            worker: assignment.worker.clone(),
            incarnation: assignment.incarnation,
        })
        .collect();
    let leases = match core.replica.propose(Action::GrantLeases { grants }).await {
        Ok(Outcome::Leases(leases)) => leases,
        Ok(other) => {
            tracing::error!(?other, "grants have an outcome of another kind");
            return;
        }
        Err(fault) => {
            // If it took effect all the same, the workers are told when the ledger is compared with what they hold.
            tracing::warn!(%fault, "leases not granted yet");
            tokio::time::sleep(RETRY_PAUSE).await;
            return;
        }
    };
    for (assignment, lease) in assignments.into_iter().zip(leases) {
        match lease {
            Ok(_) => tell(&core, &office, &assignment),
            Err(fault) => {
                tracing::debug!(task = %assignment.task, %fault, "lease refused");
            }
        }
    }
}

fn tell(core: &Core, office: &Office, assignment: &Assignment) {
    let message = core.replica.read(|ledger| {
        let task = ledger.task(assignment.task)?;
        let lease = task.lease.as_ref()?;
        let ours = lease.worker == assignment.worker && lease.incarnation == assignment.incarnation;
        ours.then(|| task_grant(ledger, &office.specs, &core.config.cluster_key, &task))?
    });
    if let Some(message) = message {
        let _ = office.sessions.send(
            &assignment.worker,
            assignment.incarnation,
            v1::leader_message::Body::Grant(message),
        );
    }
}

/// The present, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall: Timestamp,
    monotonic: Duration,
}

/// Until when failed tasks rest, on this node's monotonic clock. The ledger says it by the wall clock of whoever noted the failure;
/// only the distance to the present is taken from it, once and within bounds.
#[derive(Debug, Default)]
struct Rests(BTreeMap<(TaskId, Timestamp), Duration>);

impl Rests {
    fn is_resting(&mut self, task: &ReadyTask, now: Now) -> bool {
        let Some(until) = task.rests_until else {
            return false;
        };
        if let Some(until) = self.0.get(&(task.task, until)) {
            return *until > now.monotonic;
        }
        if self.0.len() >= MAX_RESTING {
            return false;
        }
        let left = Duration::from(until.since(now.wall)).min(LONGEST_REST);
        self.0.insert((task.task, until), now.monotonic + left);
        !left.is_zero()
    }

    /// Forgets rests that have been over for so long that their tasks must have been leased again, or never will be.
    fn forget_over(&mut self, now: Now) {
        self.0
            .retain(|_, until| *until + LONGEST_REST > now.monotonic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(rests_until: Option<u64>) -> ReadyTask {
        ReadyTask {
            task: TaskId {
                job: JobId(1),
                index: 0,
            },
            member: Some(0),
            rests_until: rests_until.map(Timestamp::from_millis),
        }
    }

    fn at(wall_ms: u64, monotonic_ms: u64) -> Now {
        Now {
            wall: Timestamp::from_millis(wall_ms),
            monotonic: Duration::from_millis(monotonic_ms),
        }
    }

    #[test]
    fn a_rest_is_measured_on_the_monotonic_clock() {
        let mut rests = Rests::default();
        assert!(!rests.is_resting(&ready(None), at(1000, 0)));
        assert!(rests.is_resting(&ready(Some(3000)), at(1000, 0)));
        // The wall clock jumps far back and far ahead; the rest stays 2 s long.
        assert!(rests.is_resting(&ready(Some(3000)), at(0, 1999)));
        assert!(!rests.is_resting(&ready(Some(3000)), at(0, 2000)));
        assert!(rests.is_resting(&ready(Some(9_000_000)), at(1000, 2000)));
        assert!(!rests.is_resting(&ready(Some(9_000_000)), at(1000, 62_000)));
    }

    #[test]
    fn old_rests_are_forgotten() {
        let mut rests = Rests::default();
        assert!(rests.is_resting(&ready(Some(2000)), at(1000, 0)));
        rests.forget_over(at(1000, 30_000));
        assert_eq!(rests.0.len(), 1);
        rests.forget_over(at(1000, 70_000));
        assert!(rests.0.is_empty());
    }
}
