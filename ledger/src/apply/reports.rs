//! What workers say of the tasks they hold.
//!
//! Every report is judged by its epoch first, and a checkpoint then by where it starts:
//!
//! | the report | is |
//! |---|---|
//! | is of a lease that is not current | `Stale` |
//! | is of a lease that was revoked because the job failed | `Stale`; `Released`, `Done` and `Failed` end the wait for that worker |
//! | repeats the last report of a task that it finished (same epoch) | `Accepted`, no change; `Stale` once the task is forgotten |
//! | `Released`, after the lease ended under the same epoch | `Accepted`, no change |
//! | checkpoint: `from` is the frontier | `Accepted`: the frontier moves to `to` |
//! | checkpoint: `to` is the frontier, `from` is not, not `last` | `Accepted`, no change: a repetition after a lost answer |
//! | checkpoint: anything else | `Refused` |
//! | checkpoint: `last`, but `to` is not the span's end | `Refused` |
//! | checkpoint: not `last`, but `to` is the open end, or `to` is `from` | `Refused` |
//! | plan batch: the next in sequence, and it tiles | `Accepted` |
//! | plan batch: an earlier one of the same lease | `Accepted`, no change |
//! | plan batch: anything else | `Refused` |
//! | notes | `Accepted`: those that are new are kept, as long as there is room |
//! | of a kind that does not fit the task | `Refused` |

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_types::mutant::{self, Promise};
use holdfast_types::{
    ControlVerb, Digest, Epoch, ErrorCode, Fault, JobEvent, JobKind, JobSpec, JobState, RelationId,
    RowCount, SettledDatabase, TaskId,
};

use super::Apply;
use crate::command::{Checkpoint, Report, ReportBody};
use crate::file_list::ManifestEntry;
use crate::job::{FinishResult, Job};
use crate::outcome::{Outcome, ReportOutcome};
use crate::settings::Setting;
use crate::tasks::{Place, TaskEntry};

/// How a report's epoch stands to its task.
enum Standing {
    /// The lease is current.
    Current,
    /// The lease ended when the task was finished under it.
    Finished,
    /// The lease ended otherwise, and there was none after it.
    Ended,
    /// The lease was revoked, and its worker has not been known to stop.
    Lingering,
    /// None of these.
    Stale,
}

impl Apply<'_> {
    pub(super) fn reports(&mut self, reports: &[Report]) -> Outcome {
        Outcome::Reports(reports.iter().map(|report| self.report(report)).collect())
    }

    fn report(&mut self, report: &Report) -> ReportOutcome {
        let task = report.task;
        let Some(job) = self.ledger.jobs.get(&task.job) else {
            return ReportOutcome::Stale;
        };
        match standing(job, task.index, report.epoch) {
            Standing::Current => match self.take(report) {
                Ok(()) => ReportOutcome::Accepted,
                Err(fault) => ReportOutcome::Refused(fault),
            },
            Standing::Finished => match &report.body {
                ReportBody::Plan { .. } | ReportBody::Done { .. } | ReportBody::Released => {
                    ReportOutcome::Accepted
                }
                ReportBody::Checkpoint(checkpoint) if checkpoint.last => ReportOutcome::Accepted,
                ReportBody::Checkpoint(_)
                | ReportBody::Failed { .. }
                | ReportBody::Notes { .. } => ReportOutcome::Stale,
            },
            Standing::Ended if report.body == ReportBody::Released => ReportOutcome::Accepted,
            Standing::Lingering => match report.body {
                ReportBody::Released => {
                    self.stopped(task, report.epoch);
                    ReportOutcome::Accepted
                }
                ReportBody::Done { .. } | ReportBody::Failed { .. } => {
                    self.stopped(task, report.epoch);
                    ReportOutcome::Stale
                }
                ReportBody::Plan { .. } | ReportBody::Checkpoint(_) | ReportBody::Notes { .. } => {
                    ReportOutcome::Stale
                }
            },
            Standing::Ended | Standing::Stale => ReportOutcome::Stale,
        }
    }

    fn stopped(&mut self, task: TaskId, epoch: Epoch) {
        self.end_lingering(task, epoch);
        self.settle(task.job);
    }

    /// Takes a report under a current lease.
    fn take(&mut self, report: &Report) -> Result<(), Fault> {
        let task = report.task;
        let place = self.job(task.job)?.tasks.locate(task.index);
        match (&report.body, place) {
            (ReportBody::Released, _) => {
                self.end_lease(task, false);
                self.settle(task.job);
                Ok(())
            }
            (ReportBody::Notes { notes }, _) => {
                let job = self.job_mut(task.job)?;
                let member = job.tasks.member(task.index);
                notes.iter().for_each(|text| job.note(member, text));
                Ok(())
            }
            (ReportBody::Failed { fault }, _) => {
                self.task_failed(task, fault);
                Ok(())
            }
            (
                ReportBody::Plan {
                    sequence,
                    relations,
                    spans,
                    last,
                },
                Some(Place::Plan(_)),
            ) => self.take_plan(task, *sequence, relations, spans, *last),
            (ReportBody::Checkpoint(checkpoint), Some(Place::Span { .. })) => {
                self.take_checkpoint(task, checkpoint)
            }
            (ReportBody::Done { rows, fingerprint }, Some(Place::Finish(_) | Place::Revert(_))) => {
                self.take_done(task, *rows, *fingerprint);
                Ok(())
            }
            (ReportBody::Plan { .. } | ReportBody::Checkpoint(_) | ReportBody::Done { .. }, _) => {
                Err(Fault::new(
                    ErrorCode::Internal,
                    format!("the report does not fit task {task}"),
                ))
            }
        }
    }

    fn take_plan(
        &mut self,
        task: TaskId,
        sequence: u32,
        relations: &[holdfast_types::Relation],
        spans: &[holdfast_types::PlannedSpan],
        last: bool,
    ) -> Result<(), Fault> {
        let at = self.at;
        let job = self.job_mut(task.job)?;
        let described = job.kind() == JobKind::Backup;
        let Some(step) = job.tasks.plan_mut(task.index) else {
            return Ok(());
        };
        let draft = step.draft.get_or_insert_default();
        if sequence < draft.next_sequence {
            return Ok(());
        }
        if sequence > draft.next_sequence {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!(
                    "batch {sequence} of the plan of task {task} came instead of batch {}",
                    draft.next_sequence
                ),
            ));
        }
        draft
            .add(relations, spans, last, described)
            .map_err(|fault| fault.context(format_args!("task {task}")))?;
        step.work.progressed(at);
        if last {
            self.finish_step(task);
        }
        Ok(())
    }

    fn take_done(&mut self, task: TaskId, rows: RowCount, fingerprint: Option<Digest>) {
        if let Some(job) = self.known(task.job)
            && let Some(Place::Finish(_)) = job.tasks.locate(task.index)
        {
            let member = job.tasks.member(task.index).unwrap_or_default();
            job.counters.finishes_done += 1;
            job.finish_results.push(FinishResult {
                member,
                rows,
                fingerprint,
            });
        }
        self.finish_step(task);
    }

    fn finish_step(&mut self, task: TaskId) {
        if let Some(job) = self.known(task.job)
            && let Some(lease) = job.tasks.finish_step(task.index)
        {
            self.forget_lease(task, &lease);
        }
        self.settle(task.job);
    }

    /// The worker's side of a lease that ended with its task.
    fn forget_lease(&mut self, task: TaskId, lease: &crate::tasks::Lease) {
        if let Some(worker) = self.ledger.workers.get_mut(&lease.worker) {
            worker.leases.remove(&task);
        }
        self.dispatch = true;
    }

    fn take_checkpoint(&mut self, task: TaskId, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let at = self.at;
        let job = self.job_mut(task.job)?;
        if !judge(job, task, checkpoint)? {
            return Ok(());
        }
        credit(job, task.index, checkpoint);
        let Some(active) = job.tasks.active_mut(task.index) else {
            return Ok(());
        };
        active.work.progressed(at);
        active.frontier = checkpoint.to.clone();
        active
            .entries
            .extend(checkpoint.objects.iter().map(|object| TaskEntry {
                from: checkpoint.from.clone(),
                to: checkpoint.to.clone(),
                object: object.clone(),
            }));
        if let Some(settled) = &checkpoint.settled {
            take_settled(job, task, settled);
        }
        if checkpoint.last {
            self.finish_span(task);
        }
        Ok(())
    }

    fn finish_span(&mut self, task: TaskId) {
        let threshold = self.ledger.settings.get(Setting::PartListThreshold);
        let Some(job) = self.known(task.job) else {
            return;
        };
        let place = job.tasks.locate(task.index);
        let relation = place
            .and_then(|place| job.tasks.segment_of(place))
            .and_then(|(segment, slot)| segment.relation(slot));
        let member = job.tasks.member(task.index).unwrap_or_default();
        let (Some(relation), Some(active)) = (relation, job.tasks.finish_span(task.index)) else {
            return;
        };
        job.counters.spans_done += 1;
        if let Some(lane) = job.lanes.get_mut(member as usize) {
            lane.spans_done += 1;
        }
        let entries = active.entries.into_iter().map(|entry| ManifestEntry {
            member,
            relation,
            from: entry.from,
            to: entry.to,
            object: entry.object,
        });
        job.list
            .add((member, relation, task.index), entries.collect());
        let spec = Arc::clone(&job.spec);
        let sealed = (job.list).seal(threshold, threshold, |member| spec.store_of(member));
        if sealed {
            self.moved.insert(task.job);
        }
        if let Some(lease) = active.work.lease {
            self.forget_lease(task, &lease);
        }
        self.settle(task.job);
    }

    /// A task failed: it is tried again, or its job pauses, or fails.
    fn task_failed(&mut self, task: TaskId, fault: &Fault) {
        let at = self.at;
        let most = self.ledger.settings.get(Setting::MaxTaskAttempts);
        // A worker that was told to stop, or stopped by itself, has not failed.
        let cancelled = fault.code == ErrorCode::Cancelled;
        self.end_lease(task, true);
        if cancelled {
            return self.settle(task.job);
        }
        let Some(job) = self.known(task.job) else {
            return;
        };
        let fault = fault.clone().context(job.describe_task(task.index));
        let full = fault.code == ErrorCode::StorageFull;
        let attempts = match job.tasks.work_mut(task.index) {
            Some(work) if !full => work.failed(at),
            _ => 0,
        };
        let (state, doomed) = (job.state, job.is_doomed());
        self.note_error(task.job, Some(task.index), fault.clone());
        let permanent = !fault.is_retryable() || u64::from(attempts) >= most;
        match state {
            JobState::Running | JobState::Reverting if full => self.pause_for(task, &fault),
            JobState::Running | JobState::PauseRequested if permanent && !doomed => {
                self.fail_after(task, fault, attempts);
            }
            JobState::Reverting if permanent => self.revert_failed(task),
            _ => {}
        }
        self.settle(task.job);
    }

    fn pause_for(&mut self, task: TaskId, fault: &Fault) {
        let paused = self.fire(task.job, JobEvent::Control(ControlVerb::Pause));
        if paused.is_ok()
            && let Some(job) = self.known(task.job)
        {
            job.reason = Some(format!("{fault}; make room, then resume the job"));
        }
    }

    fn fail_after(&mut self, task: TaskId, fault: Fault, attempts: u32) {
        let fault = if fault.is_retryable() {
            Fault {
                message: format!("{} (given up after {attempts} attempts)", fault.message),
                ..fault
            }
        } else {
            fault
        };
        // The state was looked at: running, or about to pause, and not doomed.
        let _ = self.fail_job(task.job, fault);
    }

    fn revert_failed(&mut self, task: TaskId) {
        self.revoke_leases(task.job);
        if self.fire(task.job, JobEvent::RevertFail).is_ok() {
            self.end_job(task.job);
        }
    }
}

fn standing(job: &Job, index: u32, epoch: Epoch) -> Standing {
    if job.lingering.contains_key(&(index, epoch)) {
        return Standing::Lingering;
    }
    if let Some(finished) = job.tasks.finished(index) {
        return if finished == Some(epoch) {
            Standing::Finished
        } else {
            Standing::Stale
        };
    }
    match job.tasks.work(index) {
        Some(work) if work.epoch == epoch && work.lease.is_some() => Standing::Current,
        Some(_) if mutant::is_broken(Promise::StaleIsRefused) => Standing::Current,
        Some(work) if work.epoch == epoch => Standing::Ended,
        Some(_) | None => Standing::Stale,
    }
}

/// Whether a checkpoint brings something new. See the module's table.
fn judge(job: &Job, task: TaskId, checkpoint: &Checkpoint) -> Result<bool, Fault> {
    let refuse = |what: &str| {
        Err(Fault::new(
            ErrorCode::Internal,
            format!("checkpoint of task {task} is refused: {what}"),
        ))
    };
    let place = job.tasks.locate(task.index);
    let end = place
        .and_then(|place| job.tasks.segment_of(place))
        .and_then(|(segment, slot)| segment.end(slot));
    let (Some(active), Some(end)) = (job.tasks.active(task.index), end) else {
        return refuse("the task is not under way");
    };
    if checkpoint.last && checkpoint.to != end {
        return refuse("it is the last one and does not reach the end of the span");
    }
    if !checkpoint.last && checkpoint.to.is_open_end() {
        return refuse("it reaches the open end and is not the last one");
    }
    if checkpoint.from != active.frontier {
        // A repeated last checkpoint never comes here: its task is finished.
        if checkpoint.to == active.frontier && !checkpoint.last {
            return Ok(false);
        }
        return refuse("it does not start where the last one ended");
    }
    if !checkpoint.last && checkpoint.to == checkpoint.from {
        return refuse("it makes no progress");
    }
    let settles = place
        .and_then(|place| job.tasks.segment_of(place))
        .is_some_and(|(segment, slot)| segment.settles(slot));
    if checkpoint.settled.is_some() != (settles && checkpoint.last) {
        return refuse("only the last one of a settling span says where its member ended");
    }
    if let Some(settled) = &checkpoint.settled
        && let Err(why) = check_settled(job, task, settled)
    {
        return refuse(why);
    }
    if job.kind() != JobKind::Backup && !checkpoint.objects.is_empty() {
        return refuse("only a backup makes objects");
    }
    Ok(true)
}

/// Whether what a settling span has found can stand in a layer of the job: a manifest that cannot be written would be tried for ever.
fn check_settled(job: &Job, task: TaskId, settled: &SettledDatabase) -> Result<(), &'static str> {
    let JobSpec::Backup(spec) = job.spec.as_ref() else {
        return Ok(());
    };
    let kind = spec.kind.position_kind();
    let relations = settled.relations.iter();
    let positions = relations.flat_map(|relation| [Some(relation.created_at), relation.dropped_at]);
    let mut positions = positions.flatten().chain([settled.end.position]);
    if positions.any(|position| position.kind() != kind) {
        return Err("its positions are not of the source's kind");
    }
    let member = job.tasks.member(task.index).unwrap_or_default();
    let mut known: BTreeSet<RelationId> = (job.lanes.get(member as usize).iter())
        .flat_map(|lane| lane.settled_relations.iter())
        .map(|relation| relation.id)
        .collect();
    if !settled.relations.iter().all(|held| known.insert(held.id)) {
        return Err("it names a relation twice");
    }
    Ok(())
}

/// Notes what a settling span has found. Its own relation, the database, is held too: its objects are those that the span wrote.
fn take_settled(job: &mut Job, task: TaskId, settled: &SettledDatabase) {
    let member = job.tasks.member(task.index).unwrap_or_default();
    let own = job.relation_of_task(task).cloned();
    let Some(lane) = job.lanes.get_mut(member as usize) else {
        return;
    };
    let end = settled.end;
    lane.settled = Some(lane.settled.map_or(end, |other| other.and(end)));
    lane.complete_until = Some(
        lane.complete_until
            .map_or(end.at, |other| other.min(end.at)),
    );
    lane.is_loose |= !settled.keeps_history;
    let held = Arc::make_mut(&mut lane.settled_relations);
    held.extend(settled.relations.iter().cloned());
    if let Some(own) = own
        && !held.iter().any(|relation| relation.id == own.id)
    {
        held.push(own);
    }
}

/// Counts what an accepted checkpoint brings.
fn credit(job: &mut Job, index: u32, checkpoint: &Checkpoint) {
    let place = job.tasks.locate(index);
    let weight = place
        .and_then(|place| job.tasks.segment_of(place))
        .and_then(|(segment, slot)| segment.span_weight(slot))
        .unwrap_or_default();
    let Some(active) = job.tasks.active_mut(index) else {
        return;
    };
    let left = weight.saturating_sub(active.credited);
    let gained = if checkpoint.last {
        left
    } else {
        left.min(checkpoint.read.0)
    };
    active.credited += gained;
    let redone = std::mem::take(&mut active.redo_pending);
    let counters = &mut job.counters;
    counters.weight_done += gained;
    counters.bytes_read += checkpoint.read;
    counters.bytes_written += checkpoint.written;
    counters.rows += checkpoint.rows;
    if redone {
        counters.bytes_redone += checkpoint.read;
    }
    for object in &checkpoint.objects {
        counters.objects += 1;
        counters.object_rows += object.rows;
        counters.stored += object.length;
        counters.logical += object.logical;
    }
    let lane = job.tasks.member(index).unwrap_or_default();
    if let Some(lane) = job.lanes.get_mut(lane as usize) {
        lane.weight_done += gained;
    }
}
