//! Where a run stands. The script on the user's host and the driver move it forward in turns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::latencies::Latencies;
use crate::outcome::Failure;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The cluster is made and the sources are filled. No faults.
    Start,
    /// Workload and faults together. Set by the script.
    Chaos,
    /// Faults have ended, everything runs again; the script brings everything to its end. Set by the driver.
    Heal,
    /// Every acknowledged backup is restored and compared. Set by the script.
    Audit,
    /// Over. Set by the script.
    Done,
}

#[derive(Debug)]
struct Shared {
    stage: Stage,
    failure: Option<Failure>,
    marks: BTreeMap<&'static str, u64>,
    latencies: Latencies,
    doing: String,
}

/// What the script, the tellers and the driver share. Clones share it; everything runs on one thread.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Rc<RefCell<Shared>>);

impl Progress {
    /// At the start.
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Shared {
            stage: Stage::Start,
            failure: None,
            marks: BTreeMap::new(),
            latencies: Latencies::default(),
            doing: String::new(),
        })))
    }

    /// Where the run stands.
    pub(crate) fn stage(&self) -> Stage {
        self.0.borrow().stage
    }

    /// Moves on.
    pub(crate) fn enter(&self, stage: Stage) {
        self.0.borrow_mut().stage = stage;
        crate::trace::event("driver", format_args!("stage {stage:?}"));
    }

    /// Ends the run; the first failure counts.
    pub(crate) fn fail(&self, failure: Failure) {
        self.0.borrow_mut().failure.get_or_insert(failure);
    }

    /// The failure that ended the run, if one did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.borrow().failure.clone()
    }

    /// Counts something that a good run should meet now and then.
    pub(crate) fn mark(&self, what: &'static str) {
        self.count(what, 1);
    }

    /// Adds to what is counted.
    pub(crate) fn count(&self, what: &'static str, number: u64) {
        *self.0.borrow_mut().marks.entry(what).or_default() += number;
    }

    /// Notes how long something took, in simulated time.
    pub(crate) fn took(&self, what: &'static str, time: Duration) {
        self.0.borrow_mut().latencies.add(what, time);
    }

    /// How long things took.
    pub(crate) fn latencies(&self) -> Latencies {
        self.0.borrow().latencies.clone()
    }

    /// What was counted.
    pub(crate) fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.0.borrow().marks.clone()
    }

    /// Says what the script is waiting for, for the report of a run that does not end.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        self.0.borrow_mut().doing = what.into();
    }

    /// What the script is waiting for.
    pub(crate) fn wait(&self) -> String {
        self.0.borrow().doing.clone()
    }
}
