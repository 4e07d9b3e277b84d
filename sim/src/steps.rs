//! Judges every command that a coordinator applies by what the state was before it. All of them apply the same commands, so the first one to
//! apply a command is judged, and the others by their digests (R5).

use holdfast_ledger::invariants::{Violation, Witness};
use holdfast_ledger::{
    Action, Command, Job, Ledger, LogPosition, Outcome, Report, ReportBody, ReportOutcome,
};
use holdfast_types::{JobSpec, JobState};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::latencies::Latencies;
use crate::outcome::Failure;
use crate::store::Vault;
use crate::trace;

#[derive(Debug)]
struct Shared {
    /// The last command that was judged, and the state after it.
    index: u64,
    witness: Witness,
    violation: Option<Violation>,
    judged: u64,
    /// Runs of schedules that were submitted.
    runs: u64,
    latencies: Latencies,
    vault: Vault,
}

/// See the module. Clones share what was seen.
#[derive(Debug, Clone)]
pub(crate) struct Steps(Arc<Mutex<Shared>>);

impl Steps {
    /// Nothing was seen yet.
    pub(crate) fn new(vault: Vault) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            index: 0,
            witness: Witness::default(),
            violation: None,
            judged: 0,
            runs: 0,
            latencies: Latencies::default(),
            vault,
        })))
    }

    /// A coordinator has applied a command.
    pub(crate) fn applied(
        &self,
        position: LogPosition,
        command: &Command,
        outcome: &Outcome,
        after: &Ledger,
    ) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if position.index <= shared.index {
            return;
        }
        let found = shared.witness.check_step(&command.action, outcome, after);
        let first = found.into_iter().next();
        shared.violation = shared.violation.take().or(first);
        if let (Action::Reports { reports }, Outcome::Reports(outcomes)) =
            (&command.action, outcome)
        {
            shared.time_checkpoints(reports, outcomes);
        }
        if let Action::SubmitJob {
            request: Some(request),
            ..
        } = &command.action
            && request.is_of_a_run()
        {
            shared.runs += 1;
        }
        shared.vault.rest(resting(after));
        shared.index = position.index;
        shared.judged += 1;
        shared.witness = Witness::of(after);
    }

    /// What was broken first, if anything was.
    pub(crate) fn violation(&self) -> Option<Failure> {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let violation = shared.violation.as_ref()?;
        let (id, sentence) = (violation.id.as_str(), violation.id.sentence());
        let seen = format!("at index {}: {}", shared.index, violation.what);
        Some(Failure::safety(id, sentence, seen))
    }

    /// How often a run of a schedule was submitted.
    pub(crate) fn runs_submitted(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs
    }

    /// How long checkpoints took from the moment when their objects were durable.
    pub(crate) fn latencies(&self) -> Latencies {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.latencies.clone()
    }

    /// Commands that were judged.
    pub(crate) fn judged(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).judged
    }
}

/// The directories that jobs which rest would write to.
fn resting(ledger: &Ledger) -> BTreeSet<String> {
    let paused = ledger.jobs().filter(|job| job.state() == JobState::Paused);
    let directories = |job: &Job| match job.spec().as_ref() {
        JobSpec::Backup(spec) => {
            let others = spec.access.localities.iter().map(|store| &store.address);
            let stores = std::iter::once(&spec.collection).chain(others);
            stores
                .map(|address| {
                    let place = address.split("://").last().unwrap_or_default();
                    format!("{place}/{}/data/", spec.path)
                })
                .collect()
        }
        JobSpec::Restore(_) | JobSpec::Verify(_) | JobSpec::Expire(_) => Vec::new(),
    };
    paused.flat_map(directories).collect()
}

impl Shared {
    fn time_checkpoints(&mut self, reports: &[Report], outcomes: &[ReportOutcome]) {
        let now = trace::now();
        for (report, outcome) in reports.iter().zip(outcomes) {
            let (ReportBody::Checkpoint(checkpoint), ReportOutcome::Accepted) =
                (&report.body, outcome)
            else {
                continue;
            };
            let durable = checkpoint
                .objects
                .last()
                .and_then(|object| self.vault.put_at(&object.name));
            if let Some(durable) = durable {
                self.latencies
                    .add("checkpoint", now.saturating_sub(durable));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ClusterId, Timestamp};

    #[test]
    fn each_command_is_judged_once() {
        let steps = Steps::new(Vault::new(1, None));
        let command = Command {
            at: Timestamp::from_micros(1),
            action: Action::InitCluster {
                cluster: ClusterId([1; 16]),
            },
        };
        for _node in 0..3 {
            let mut ledger = Ledger::new();
            let position = LogPosition { term: 1, index: 1 };
            let (outcome, _) = ledger.apply(position, &command);
            steps.applied(position, &command, &outcome, &ledger);
        }
        assert_eq!(steps.judged(), 1);
        assert!(steps.violation().is_none());
    }
}
