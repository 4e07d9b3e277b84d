//! How jobs move by themselves: through their phases, to rest when their last lease is gone, and to their end.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_types::mutant::{self, Promise};
use holdfast_types::{
    Epoch, ErrorCode, Fault, IllegalTransition, JobEvent, JobId, JobKind, JobSpec, JobState, Phase,
    TableName, Target, Verdict,
};

use super::Apply;
use crate::job::{Doom, Lane};
use crate::settings::Setting;

/// How many missing names an error lists.
const MISSING_SHOWN: usize = 5;

impl Apply<'_> {
    /// Makes an event happen to a job, if its state allows. The one place where a job's state changes.
    pub(super) fn fire(&mut self, id: JobId, event: JobEvent) -> Result<Verdict, Fault> {
        let at = self.at;
        let job = self.job_mut(id)?;
        let verdict = job
            .state
            .next(event, job.is_doomed())
            .map_err(|illegal| explain(id, illegal))?;
        if let Verdict::Move(state) = verdict {
            job.enter(state, at);
            self.moved.insert(id);
        }
        Ok(verdict)
    }

    /// Lets a job go as far as it can by itself. Called after every change; idempotent.
    pub(super) fn settle(&mut self, id: JobId) {
        // Every round changes the state or the phase, forwards only, so this ends.
        while self.settle_once(id) {}
        if let Some(job) = self.ledger.jobs.get(&id)
            && !job.needs_attention()
        {
            self.ledger.attention.remove(&id);
        }
    }

    fn settle_once(&mut self, id: JobId) -> bool {
        let Some(job) = self.known(id) else {
            return false;
        };
        match job.state {
            // A pause that came while the manifest was being written, and too late: the layer is there, and nothing is left to do.
            JobState::PauseRequested | JobState::Paused if job.committed && job.doom.is_none() => {
                let moved = self.fired(id, JobEvent::Complete);
                self.end_job(id);
                moved
            }
            JobState::PauseRequested
                if job.is_quiet() || mutant::is_broken(Promise::PausedIsQuiet) =>
            {
                self.fired(id, JobEvent::Quiesced)
            }
            JobState::CancelRequested if job.is_quiet() => {
                let moved = self.fired(id, JobEvent::Quiesced);
                self.begin_reverting(id);
                moved
            }
            JobState::Running => self.advance(id),
            JobState::Reverting if job.tasks.reverts.is_done() => {
                let canceled = matches!(job.doom, Some(Doom::Canceled));
                let moved = self.fired(id, JobEvent::Reverted { canceled });
                self.end_job(id);
                moved
            }
            JobState::Pending
            | JobState::PauseRequested
            | JobState::Paused
            | JobState::CancelRequested
            | JobState::Reverting => false,
            JobState::Succeeded
            | JobState::Failed
            | JobState::Canceled
            | JobState::RevertFailed => {
                // Lingering leases may just have ended, and with them what the sweep waited for and what holds of the job did: also one that has
                // passed to a chain, and is to be released all the same.
                if job.lingering.is_empty() {
                    self.moved.insert(id);
                    let holds = self.ledger.holds.values();
                    (self.holds).extend(holds.filter(|hold| hold.job == id).map(|hold| hold.id));
                }
                false
            }
        }
    }

    fn fired(&mut self, id: JobId, event: JobEvent) -> bool {
        matches!(self.fire(id, event), Ok(Verdict::Move(_)))
    }

    /// Takes a running job to its next phase when the present one has nothing left to do.
    fn advance(&mut self, id: JobId) -> bool {
        let at = self.at;
        let Some(job) = self.known(id) else {
            return false;
        };
        if job.started_at.is_none() {
            job.started_at = Some(at);
            let members = job.members();
            job.lanes = vec![Lane::default(); members.len()];
            job.tasks.begin_planning(members);
            self.moved.insert(id);
            return true;
        }
        match job.phase {
            Phase::Planning if job.tasks.plans.is_done() => {
                begin_transferring(job);
                let missing = missing_everywhere(job);
                self.moved.insert(id);
                if let Some(fault) = missing {
                    self.note_error(id, None, fault.clone());
                    // It runs, so that it can fail.
                    let _ = self.fail_job(id, fault);
                }
                true
            }
            Phase::Transferring => {
                let (spans, done) = job.tasks.spans();
                if spans != done {
                    return false;
                }
                job.phase = Phase::Finishing;
                if job.kind() == JobKind::Restore {
                    let members = job.members();
                    job.tasks.begin_finishing(members);
                    job.counters.finishes_total = job.tasks.finishes.len();
                }
                self.moved.insert(id);
                true
            }
            Phase::Finishing => self.finish(id),
            Phase::Planning => false,
        }
    }

    /// What is left once every span is transferred.
    fn finish(&mut self, id: JobId) -> bool {
        let limit = self.ledger.settings.get(Setting::PartListThreshold);
        let Some(job) = self.known(id) else {
            return false;
        };
        let complete = match job.kind() {
            JobKind::Backup => {
                let spec = Arc::clone(&job.spec);
                if job.list.seal(1, limit, |member| spec.store_of(member)) {
                    self.moved.insert(id);
                    return false;
                }
                if job.list.is_drained() && !job.committing {
                    job.committing = true;
                    self.moved.insert(id);
                    return false;
                }
                job.committed
            }
            JobKind::Restore => job.tasks.finishes.is_done(),
            JobKind::Verify => true,
            JobKind::Expire => job.next_to_expire().is_none(),
        };
        if !complete {
            return false;
        }
        let moved = self.fired(id, JobEvent::Complete);
        self.end_job(id);
        moved
    }

    /// The job can only be undone: its forward work is forgotten. A restore has something to undo on every member whose plan was ever
    /// leased, for that is what makes tables.
    pub(super) fn begin_reverting(&mut self, id: JobId) {
        let Some(job) = self.known(id) else { return };
        if job.state != JobState::Reverting {
            return;
        }
        let members: Vec<_> = if job.kind() == JobKind::Restore {
            let plans = job.tasks.plans.steps.iter();
            plans
                .filter(|step| step.work.epoch != Epoch::ZERO)
                .map(|step| step.member)
                .collect()
        } else {
            Vec::new()
        };
        job.tasks.begin_reverting(members);
        // The manifest of a job that was committing may have become durable: then it is that of a layer after all.
        job.list.clear(job.committing);
        self.moved.insert(id);
    }

    /// The job is terminal: only what is shown of it stays, and what is still to be cleared away.
    pub(super) fn end_job(&mut self, id: JobId) {
        let at = self.at;
        let Some(job) = self.known(id) else { return };
        if !job.state.is_terminal() || job.finished_at.is_some() {
            return;
        }
        job.finished_at = Some(at);
        self.end_hold_of(id);
        if let Some(job) = self.known(id) {
            for lane in &mut job.lanes {
                lane.relations = Arc::default();
                lane.settled_relations = Arc::default();
            }
            job.tasks = Default::default();
            job.expiring = None;
            job.list.clear(true);
            // What a backup has left is swept first, and for that its manifest is read.
            if job.kind() != JobKind::Backup {
                job.forget_key();
            }
        }
        self.run_ended(id);
        self.moved.insert(id);
    }
}

/// Turns the plans into spans.
fn begin_transferring(job: &mut crate::job::Job) {
    let relations = job.tasks.adopt_plans();
    job.phase = Phase::Transferring;
    for ((lane, segment), relations) in
        (job.lanes.iter_mut().zip(&job.tasks.segments)).zip(relations)
    {
        lane.relations = Arc::new(relations);
        lane.weight_total = segment.weight();
        lane.spans_total = segment.len();
        job.counters.weight_total = job.counters.weight_total.saturating_add(segment.weight());
        job.counters.spans_total += segment.len();
    }
}

/// The error for names in a backup's target that no member has. One member of several need not have all of them, so only now, when all
/// members have described themselves, it is known; a single member says so itself. What a chain covers may have been dropped since,
/// where only the end tells what there is.
fn missing_everywhere(job: &crate::job::Job) -> Option<Fault> {
    let JobSpec::Backup(spec) = job.spec.as_ref() else {
        return None;
    };
    let goes_on = spec.kind.is_logged() && spec.parent.is_some();
    if spec.members.len() < 2 || goes_on {
        return None;
    }
    let lanes = job.lanes.iter().flat_map(|lane| lane.relations.iter());
    let there: Vec<_> = lanes
        .filter(|relation| relation.dropped_at.is_none())
        .map(|relation| &relation.name)
        .collect();
    let (what, missing): (&str, Vec<String>) = match &spec.target {
        Target::Source => return None,
        Target::Databases(names) => {
            let found: BTreeSet<_> = there.iter().map(|name| &name.database).collect();
            let missing = names.iter().filter(|name| !found.contains(name));
            ("database", missing.cloned().collect())
        }
        Target::Tables(names) => {
            let found: BTreeSet<_> = there.into_iter().collect();
            let is_there = |name: &TableName| {
                let of_database = TableName::of_database(name.database.as_str());
                let is_whole = name.table == "*" && found.contains(&of_database);
                let stands_for = || found.iter().any(|relation| name.covers(relation));
                found.contains(name) || is_whole || (name.is_pattern() && stands_for())
            };
            let missing = names.iter().filter(|name| !is_there(name));
            ("table", missing.map(ToString::to_string).collect())
        }
    };
    let shown: Vec<_> = missing
        .iter()
        .take(MISSING_SHOWN)
        .map(|name| format!("\"{}\"", name.escape_debug()))
        .collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    // What a log's members have now is what counts.
    let when = match spec.kind.is_logged() {
        true => String::new(),
        false => format!(" at {}", spec.end),
    };
    (!missing.is_empty()).then(|| {
        Fault::new(
            ErrorCode::NotFound,
            format!(
                "{what} {}{more} does not exist on any member of source {}{when}",
                shown.join(", "),
                spec.source,
            ),
        )
        .hint("back up what there is: no member has this name, at least not as of that time")
    })
}

/// An illegal event in the model system's words, with the way out.
fn explain(id: JobId, illegal: IllegalTransition) -> Fault {
    let fault = Fault::new(ErrorCode::FailedPrecondition, illegal.to_string())
        .context(format_args!("job {id}"));
    let hint = match illegal.state {
        state if state.is_terminal() => "the job is over: submit it again if it is still wanted",
        JobState::PauseRequested => {
            "its workers are being told to stop: ask again once the job is paused"
        }
        JobState::CancelRequested | JobState::Reverting => {
            "what the job did is being undone: wait until that has ended"
        }
        _ => return fault,
    };
    fault.hint(hint)
}
