//! What a task is doing right now, for people.

use holdfast_env::Clock;
use holdfast_proto::{Lease, v1};
use holdfast_source::Steps;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
struct State {
    doing: String,
    in_flight_bytes: u64,
    moved: Duration,
    /// What was seen last of how often the steps have changed.
    changes: u64,
}

/// What a task is doing right now. Written by its stages, read for heartbeats.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    steps: Steps,
}

impl Activity {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let moved = clock.monotonic();
        Self {
            clock,
            state: Arc::new(Mutex::new(State {
                doing: "waiting for a slot".to_owned(),
                in_flight_bytes: 0,
                moved,
                changes: 0,
            })),
            steps: Steps::default(),
        }
    }

    fn moved(&self) -> MutexGuard<'_, State> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.moved = now;
        state
    }

    /// Where a source says how far it is.
    pub(crate) fn steps(&self) -> Steps {
        self.steps.clone()
    }

    /// The task has begun something else.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        self.moved().doing = what.into();
    }

    /// Bytes were read that no checkpoint covers yet.
    pub(crate) fn read(&self, bytes: u64) {
        let mut state = self.moved();
        state.in_flight_bytes = state.in_flight_bytes.saturating_add(bytes);
    }

    /// A checkpoint was acknowledged; `ahead` bytes after it were read already.
    pub(crate) fn committed(&self, ahead: u64) {
        self.moved().in_flight_bytes = ahead;
    }

    pub(crate) fn to_wire(&self, lease: Lease) -> v1::TaskActivity {
        let now = self.clock.monotonic();
        let (step, changes) = self.steps.look();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.changes != changes {
            state.changes = changes;
            state.moved = now;
        }
        let idle = now.saturating_sub(state.moved).as_millis();
        v1::TaskActivity {
            job: lease.task.job.0,
            task: lease.task.index,
            epoch: lease.epoch.0,
            in_flight_bytes: state.in_flight_bytes,
            idle_ms: u64::try_from(idle).unwrap_or(u64::MAX),
            doing: state.doing.clone(),
            step: step.map(|step| v1::TaskStep {
                phase: step.phase,
                done: step.done,
                total: step.total,
                bytes_done: step.bytes_done,
                bytes_total: step.bytes_total,
                now: step.now,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Epoch, JobId, TaskId, Timestamp};

    #[derive(Debug, Default)]
    struct At(Mutex<Duration>);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().expect("not poisoned")
        }
    }

    #[test]
    fn a_step_that_changes_moves_the_task() {
        let clock = Arc::new(At::default());
        let activity = Activity::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let task = TaskId {
            job: JobId(1),
            index: 2,
        };
        let lease = Lease {
            task,
            epoch: Epoch(3),
        };
        let at = |second| {
            *clock.0.lock().expect("not poisoned") = Duration::from_secs(second);
            activity.to_wire(lease)
        };
        activity.doing("finishing");
        let said = at(5);
        assert_eq!((said.idle_ms, said.step), (5000, None));
        activity.steps().begin("indexes", 2, 100);
        activity.steps().started("a");
        let said = at(6);
        assert_eq!((said.idle_ms, said.doing.as_str()), (0, "finishing"));
        let step = said.step.expect("a step");
        assert_eq!((step.phase.as_str(), step.total), ("indexes", 2));
        assert_eq!((step.bytes_total, step.now), (100, vec!["a".to_owned()]));
        assert_eq!(at(9).idle_ms, 3000, "nothing has changed");
        activity.steps().ended("a", 40);
        let said = at(10);
        assert_eq!(said.idle_ms, 0);
        assert_eq!(said.step.map(|step| step.done), Some(1));
    }
}
