//! Plan, finish and revert tasks: at most one of each per member.

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::work::Work;

/// One step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Index of the member; `None` for the plan of a verification.
    pub(crate) member: Option<u32>,
    /// Whether it is finished.
    pub(crate) done: bool,
    /// Leases and failures.
    pub(crate) work: Work,
    /// A plan's batches so far: of the current lease only, until the last batch has come.
    pub(crate) draft: Option<Box<Draft>>,
}

impl Step {
    /// Whether it waits for a worker.
    pub(crate) fn is_ready(&self) -> bool {
        !self.done && self.work.lease.is_none()
    }
}

/// Steps of one kind, numbered consecutively.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StepRun {
    /// Task index of the first.
    pub(crate) first: u32,
    /// The steps.
    pub(crate) steps: Vec<Step>,
}

impl StepRun {
    /// Fresh steps for these members.
    pub(crate) fn new(first: u32, members: impl IntoIterator<Item = Option<u32>>) -> Self {
        let steps = members
            .into_iter()
            .map(|member| Step {
                member,
                ..Step::default()
            })
            .collect();
        Self { first, steps }
    }

    /// The place of a task index in the run.
    pub(crate) fn position(&self, index: u32) -> Option<usize> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (position < self.steps.len()).then_some(position)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Whether none is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.steps.iter().all(|step| step.done)
    }

    /// Task indices and steps that wait for a worker.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (u32, &Step)> {
        (self.first..)
            .zip(&self.steps)
            .filter(|(_, step)| step.is_ready())
    }
}
