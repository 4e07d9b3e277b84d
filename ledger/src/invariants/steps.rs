//! What holds between one state and the next: J1, J3, J4, J5, J7, J8.

use std::collections::BTreeMap;

use holdfast_types::{Epoch, JobId, JobState, RequestKey, Sealed, TaskId};

use super::{Findings, InvariantId, Violation};
use crate::command::{Action, Report, ReportBody};
use crate::job::{Counters, Job};
use crate::ledger::Ledger;
use crate::outcome::{Outcome, ReportOutcome};
use crate::progress::fraction_millionths;
use crate::tasks::TaskKind;

/// What is remembered of a state, to judge the next one by.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    jobs: BTreeMap<JobId, JobWitness>,
    requests: BTreeMap<RequestKey, JobId>,
}

#[derive(Debug, Clone)]
struct JobWitness {
    state: JobState,
    fraction: u32,
    counters: Counters,
    /// Unfinished tasks that were ever leased.
    tasks: BTreeMap<u32, TaskWitness>,
}

#[derive(Debug, Clone)]
struct TaskWitness {
    epoch: Epoch,
    leased: bool,
    /// Frontier and end of a span.
    span: Option<(Sealed, Sealed)>,
}

impl Witness {
    /// Remembers a state. Costs as much as the state is large.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let jobs = ledger.jobs().map(|job| (job.id(), witness(job))).collect();
        Self {
            jobs,
            requests: ledger.requests.clone(),
        }
    }

    /// Judges the step from the remembered state, by `action` with `outcome`, to `after`.
    #[must_use]
    pub fn check_step(&self, action: &Action, outcome: &Outcome, after: &Ledger) -> Vec<Violation> {
        let mut findings = Findings::default();
        for (id, before) in &self.jobs {
            if let Some(job) = after.job(*id) {
                check_job(before, job, &mut findings);
            }
        }
        for (key, id) in &self.requests {
            let now = after.job_of_request(key);
            findings.expect(
                InvariantId::J8,
                now == Some(*id) || after.job(*id).is_none(),
                || format!("request key {key} stood for job {id} and now for {now:?}"),
            );
        }
        if let (Action::Reports { reports }, Outcome::Reports(outcomes)) = (action, outcome) {
            self.check_reports(reports, outcomes, after, &mut findings);
        }
        findings.0
    }

    fn check_reports(
        &self,
        reports: &[Report],
        outcomes: &[ReportOutcome],
        after: &Ledger,
        findings: &mut Findings,
    ) {
        // Frontiers as they move from report to report.
        let mut frontiers: BTreeMap<TaskId, Sealed> = BTreeMap::new();
        for (report, outcome) in reports.iter().zip(outcomes) {
            let task = report.task;
            let known = self
                .jobs
                .get(&task.job)
                .and_then(|job| job.tasks.get(&task.index));
            let (Some(known), ReportOutcome::Accepted) = (known, outcome) else {
                continue;
            };
            // That a revoked lease was given back is good to know, and changes nothing of the task.
            let harmless = report.body == ReportBody::Released && report.epoch < known.epoch;
            let current = known.epoch == report.epoch;
            findings.expect(InvariantId::J7, current || harmless, || {
                format!(
                    "a report of task {task} under epoch {} was accepted in epoch {}",
                    report.epoch, known.epoch
                )
            });
            let (ReportBody::Checkpoint(checkpoint), Some((frontier, end))) =
                (&report.body, &known.span)
            else {
                continue;
            };
            findings.expect(InvariantId::J7, known.leased, || {
                format!("a checkpoint of task {task} was accepted without a lease")
            });
            let frontier = frontiers.entry(task).or_insert_with(|| frontier.clone());
            findings.expect(
                InvariantId::J4,
                checkpoint.from == *frontier || checkpoint.to == *frontier,
                || format!("a checkpoint of task {task} was accepted and does not chain"),
            );
            if checkpoint.from == *frontier {
                *frontier = checkpoint.to.clone();
            }
            findings.expect(
                InvariantId::J5,
                !checkpoint.last || checkpoint.to == *end,
                || format!("task {task} was finished before its end"),
            );
        }
        for (task, frontier) in frontiers {
            let view = after.task(task);
            if let Some(TaskKind::Span { frontier: now, .. }) = view.map(|view| view.kind) {
                findings.expect(InvariantId::J4, now == frontier, || {
                    format!("the frontier of task {task} is not where its checkpoints led")
                });
            }
        }
    }
}

fn witness(job: &Job) -> JobWitness {
    let tasks = job.tasks.started().into_iter().filter_map(|index| {
        let view = job.tasks.view(job.id, index)?;
        let span = match view.kind {
            TaskKind::Span { frontier, end, .. } => Some((frontier, end)),
            TaskKind::Plan | TaskKind::Finish | TaskKind::Revert => None,
        };
        let task = TaskWitness {
            epoch: view.epoch,
            leased: view.lease.is_some(),
            span,
        };
        Some((index, task))
    });
    JobWitness {
        state: job.state,
        fraction: fraction_millionths(job),
        counters: *job.counters(),
        tasks: tasks.collect(),
    }
}

fn check_job(before: &JobWitness, job: &Job, findings: &mut Findings) {
    let id = job.id();
    if before.state != job.state {
        let came_from = job
            .transitions()
            .iter()
            .any(|transition| transition.from == before.state);
        findings.expect(
            InvariantId::J1,
            came_from && !before.state.is_terminal(),
            || format!("job {id} was {} and is {}", before.state, job.state),
        );
    }
    let now = fraction_millionths(job);
    findings.expect(InvariantId::J4, now >= before.fraction, || {
        format!(
            "the progress of job {id} went from {} to {now}",
            before.fraction
        )
    });
    let (a, b) = (&before.counters, job.counters());
    let grows = a.bytes_read <= b.bytes_read
        && a.bytes_written <= b.bytes_written
        && a.bytes_redone <= b.bytes_redone
        && a.rows <= b.rows
        && a.objects <= b.objects
        && a.weight_total <= b.weight_total
        && a.weight_done <= b.weight_done
        && a.spans_done <= b.spans_done;
    findings.expect(InvariantId::J4, grows, || {
        format!("the counters of job {id} went from {a:?} to {b:?}")
    });
    for (&index, known) in &before.tasks {
        let Some(work) = job.tasks.work(index) else {
            continue;
        };
        let released = known.leased && work.lease.is_none();
        let kept = known.epoch == work.epoch && (known.leased || work.lease.is_none());
        findings.expect(
            InvariantId::J3,
            kept || released && known.epoch == work.epoch || work.epoch > known.epoch,
            || {
                format!(
                    "task {id}/{index} went from epoch {} to {}",
                    known.epoch, work.epoch
                )
            },
        );
    }
}
