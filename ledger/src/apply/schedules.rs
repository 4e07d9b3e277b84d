//! Schedules: made, changed, run, and told how their runs ended.

use std::sync::Arc;

use holdfast_types::{
    Cadence, ErrorCode, Fault, JobId, JobSpec, JobState, NewSchedule, OnPrevious, Pairing,
    RunResult, ScheduleChange, ScheduleId, ScheduleVerb, ScheduledLayer, ScheduledRun, SourceName,
    Timestamp,
};

use super::Apply;
use crate::outcome::Outcome;
use crate::schedule::{LastRun, MAX_FORMER_KEYS, ScheduleRecord};

/// Schedules at most: the leader looks at all of them every second.
const MAX_SCHEDULES: usize = 10_000;
/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 1024;
/// The longest cadence, in bytes.
const MAX_CRON_BYTES: usize = 256;

impl Apply<'_> {
    pub(super) fn create_schedule(
        &mut self,
        new: &NewSchedule,
        if_not_exists: bool,
    ) -> Result<Outcome, Fault> {
        let is_labelled = |it: &ScheduleRecord| it.label == new.label;
        if if_not_exists && self.ledger.schedules.values().any(is_labelled) {
            return Ok(Outcome::NoOp);
        }
        self.registered(&new.template.source)?;
        self.check_reachable(&new.template.access)?;
        check_label(&new.label)?;
        check_cron(&new.full_cadence.cron)?;
        let partner = new.incremental.as_ref().map(|(id, _)| *id);
        for id in [Some(new.full), partner].into_iter().flatten() {
            self.check_new(id)?;
        }
        if partner == Some(new.full) {
            return Err(taken(new.full));
        }
        let full = ScheduleRecord {
            id: new.full,
            label: new.label.clone(),
            template: Arc::new(new.template.clone()),
            layer: ScheduledLayer::Full,
            cron: new.full_cadence.cron.clone(),
            partner,
            on_failure: new.on_failure,
            on_previous: new.on_previous,
            paused: false,
            waits_for_full: false,
            next_run: Some(new.full_cadence.next),
            last_due: None,
            last: None,
            failures_in_a_row: 0,
            created_at: self.at,
            keys_version: 0,
            former_keys: Vec::new(),
        };
        if let Some((id, cron)) = &new.incremental {
            check_cron(cron)?;
            let half = self.half_of(&full, *id, cron);
            self.ledger.schedules.insert(*id, half);
        }
        self.ledger.schedules.insert(full.id, full);
        Ok(Outcome::Done)
    }

    /// A schedule of incrementals for one of fulls. It runs when there is a full.
    fn half_of(&self, full: &ScheduleRecord, id: ScheduleId, cron: &str) -> ScheduleRecord {
        ScheduleRecord {
            id,
            layer: ScheduledLayer::Incremental,
            cron: cron.to_owned(),
            partner: Some(full.id),
            on_previous: OnPrevious::Wait,
            paused: false,
            waits_for_full: true,
            next_run: None,
            last_due: None,
            last: None,
            failures_in_a_row: 0,
            created_at: self.at,
            ..full.clone()
        }
    }

    fn check_new(&self, id: ScheduleId) -> Result<(), Fault> {
        if self.ledger.schedules.contains_key(&id) {
            return Err(taken(id));
        }
        if self.ledger.schedules.len() >= MAX_SCHEDULES {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("there are {MAX_SCHEDULES} schedules, and no more may be"),
            )
            .hint("drop some"));
        }
        Ok(())
    }

    fn schedule_mut(&mut self, id: ScheduleId) -> Result<&mut ScheduleRecord, Fault> {
        self.ledger.schedules.get_mut(&id).ok_or_else(|| {
            Fault::new(ErrorCode::NotFound, format!("there is no schedule {id}"))
                .hint("list the schedules with: holdfast schedule list")
        })
    }

    /// The fulls' half of a pair, and the incrementals'.
    fn pair_of(&mut self, id: ScheduleId) -> Result<(ScheduleId, Option<ScheduleId>), Fault> {
        let record = self.schedule_mut(id)?;
        Ok(match (record.layer, record.partner) {
            (ScheduledLayer::Incremental, Some(full)) => (full, Some(id)),
            (_, partner) => (id, partner),
        })
    }

    pub(super) fn control_schedule(
        &mut self,
        id: ScheduleId,
        verb: ScheduleVerb,
    ) -> Result<Outcome, Fault> {
        let at = self.at;
        let record = self.schedule_mut(id)?;
        match verb {
            ScheduleVerb::Pause if record.paused => return Ok(Outcome::NoOp),
            ScheduleVerb::Pause => record.pause(),
            ScheduleVerb::Resume { .. } if !record.paused => return Ok(Outcome::NoOp),
            ScheduleVerb::Resume { next } => {
                record.paused = false;
                record.failures_in_a_row = 0;
                if record.is_active() {
                    record.run_at(next);
                }
            }
            ScheduleVerb::RunNow if record.paused => {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("cannot execute a paused schedule; schedule {id} is paused"),
                )
                .hint(format!("resume it first: holdfast schedule resume {id}")));
            }
            ScheduleVerb::RunNow if record.waits_for_full => {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("schedule {id} waits for its first full backup"),
                )
                .hint("run the schedule of its full backups"));
            }
            ScheduleVerb::RunNow => record.run_at(at),
            ScheduleVerb::Drop => self.forget_schedule(id)?,
        }
        Ok(Outcome::Done)
    }

    /// Incrementals go with their fulls; fulls go on without incrementals.
    fn forget_schedule(&mut self, id: ScheduleId) -> Result<(), Fault> {
        let (full, incremental) = self.pair_of(id)?;
        if id == full {
            self.ledger.schedules.remove(&full);
        } else {
            self.schedule_mut(full)?.partner = None;
        }
        if let Some(incremental) = incremental {
            self.ledger.schedules.remove(&incremental);
        }
        Ok(())
    }

    pub(super) fn alter_schedule(
        &mut self,
        id: ScheduleId,
        change: &ScheduleChange,
    ) -> Result<Outcome, Fault> {
        let (full, _) = self.pair_of(id)?;
        if let Some(label) = &change.label {
            check_label(label)?;
        }
        for cadence in [&change.full, &change.incremental].into_iter().flatten() {
            check_cron(&cadence.cron)?;
        }
        if let Some(Pairing::Pair(new, cron)) = &change.pairing
            && self.schedule_mut(full)?.partner.is_none()
        {
            check_cron(cron)?;
            self.check_new(*new)?;
        }
        if let Some((_, access)) = &change.collection {
            self.check_reachable(access)?;
        }
        if change.keys.is_some() {
            self.check_room_for_keys(full)?;
        }
        // All that can be refused was; now the changes are made.
        self.pair_as(full, change.pairing.as_ref())?;
        let (_, incremental) = self.pair_of(full)?;
        let record = self.schedule_mut(full)?;
        alter(record, change, change.full.as_ref());
        if let Some(on_previous) = change.on_previous {
            record.on_previous = on_previous;
        }
        if let Some(incremental) = incremental {
            let record = self.schedule_mut(incremental)?;
            let moves = (change.collection.as_ref())
                .is_some_and(|(collection, _)| *collection != record.template.collection);
            alter(record, change, change.incremental.as_ref());
            if moves {
                record.wait_for_full();
                // No chain there was begun with them.
                record.former_keys.clear();
            }
        }
        Ok(Outcome::Done)
    }

    /// Incrementals keep the keys of every chain that may be the newest one.
    fn check_room_for_keys(&mut self, full: ScheduleId) -> Result<(), Fault> {
        let (_, Some(incremental)) = self.pair_of(full)? else {
            return Ok(());
        };
        if self.schedule_mut(incremental)?.former_keys.len() < MAX_FORMER_KEYS {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "the keys of schedule {full} were changed {MAX_FORMER_KEYS} times since an incremental was taken, and all are kept until then"
            ),
        )
        .hint(format!("run it first: holdfast schedule run {full}, and then {incremental}")))
    }

    fn pair_as(&mut self, full: ScheduleId, pairing: Option<&Pairing>) -> Result<(), Fault> {
        let record = self.schedule_mut(full)?;
        match (pairing, record.partner) {
            (Some(Pairing::Single), Some(incremental)) => {
                record.partner = None;
                self.ledger.schedules.remove(&incremental);
            }
            (Some(Pairing::Pair(new, cron)), None) => {
                record.partner = Some(*new);
                let record = record.clone();
                let half = self.half_of(&record, *new, cron);
                self.ledger.schedules.insert(*new, half);
            }
            _ => {}
        }
        Ok(())
    }

    /// The leader has found a schedule's next regular time.
    pub(super) fn plan_schedule(
        &mut self,
        id: ScheduleId,
        next: Timestamp,
    ) -> Result<Outcome, Fault> {
        let record = self.schedule_mut(id)?;
        if !record.needs_next() {
            return Ok(Outcome::NoOp);
        }
        record.run_at(next);
        Ok(Outcome::Done)
    }

    /// A run that was due has begun, or not. Refused if it was not due: then somebody else was faster.
    pub(super) fn fire_schedule(
        &mut self,
        id: ScheduleId,
        due: Timestamp,
        next: Timestamp,
        result: &RunResult,
        opened_by: Option<u32>,
    ) -> Result<Outcome, Fault> {
        let at = self.at;
        let run = ScheduledRun { schedule: id, due };
        if let RunResult::Job(job) = result
            && let Some(other) = self.known(*job).and_then(|job| job.scheduled)
            && other != run
        {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {job} is another run, of schedule {}", other.schedule),
            ));
        }
        let record = self.schedule_mut(id)?;
        if record.next_run != Some(due) {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("no run of schedule {id} is due at {due}"),
            ));
        }
        record.last_due = Some(due);
        record.run_at(next);
        if let Some(version) = opened_by {
            record.forget_keys_before(version);
        }
        match result {
            RunResult::Skipped => Ok(Outcome::Done),
            RunResult::Refused(fault) => {
                record.last = Some(LastRun {
                    job: None,
                    result: Some(Err(fault.clone())),
                });
                record.failed(at);
                let (layer, partner) = (record.layer, record.partner);
                // A chain that cannot go on is followed by a new one at once, not when its time comes.
                if layer == ScheduledLayer::Incremental
                    && fault.code == ErrorCode::ChainRule
                    && let Some(full) = partner.and_then(|id| self.ledger.schedules.get_mut(&id))
                    && full.is_active()
                {
                    full.run_at(at);
                }
                Ok(Outcome::Done)
            }
            RunResult::Job(job) => {
                record.last = Some(LastRun {
                    job: Some(*job),
                    result: None,
                });
                // A job that is forgotten already ended long ago; how, nobody knows.
                if let Some(job) = self.known(*job) {
                    job.scheduled = Some(run);
                }
                self.run_ended(*job);
                Ok(Outcome::Done)
            }
        }
    }

    /// Tells a job's schedule how it ended, if it did.
    pub(super) fn run_ended(&mut self, id: JobId) {
        let at = self.at;
        let Some(job) = self.ledger.jobs.get(&id) else {
            return;
        };
        let (Some(run), true) = (job.scheduled, job.state.is_terminal()) else {
            return;
        };
        let result = match job.state {
            JobState::Succeeded => Ok(()),
            state => Err(job.fault().cloned().unwrap_or_else(|| {
                Fault::new(ErrorCode::Cancelled, format!("job {id} was {state}"))
            })),
        };
        let collection = match job.spec.as_ref() {
            JobSpec::Backup(spec) => Some(spec.collection.clone()),
            JobSpec::Restore(_) | JobSpec::Verify(_) | JobSpec::Expire(_) => None,
        };
        let Some(record) = self.ledger.schedules.get_mut(&run.schedule) else {
            return;
        };
        let succeeded = result.is_ok();
        if let Some(last) = &mut record.last
            && last.job == Some(id)
        {
            last.result = Some(result);
        }
        if !succeeded {
            record.failed(at);
            return;
        }
        record.failures_in_a_row = 0;
        let (layer, partner) = (record.layer, record.partner);
        if layer == ScheduledLayer::Full
            && let Some(waiting) = partner.and_then(|id| self.ledger.schedules.get_mut(&id))
            && waiting.waits_for_full
            && collection.as_ref() == Some(&waiting.template.collection)
        {
            // The leader finds its next time.
            waiting.waits_for_full = false;
        }
    }

    /// A source that is backed up on schedule stays.
    pub(super) fn check_unscheduled(&self, source: &SourceName) -> Result<(), Fault> {
        let mut all = self.ledger.schedules.values();
        match all.find(|schedule| schedule.template.source == *source) {
            None => Ok(()),
            Some(schedule) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "source {source} cannot be dropped while schedule {} backs it up",
                    schedule.id
                ),
            )
            .hint(format!(
                "drop the schedule first: holdfast schedule drop {}",
                schedule.id
            ))),
        }
    }
}

/// What both halves of a pair share, and the one's own cadence.
fn alter(record: &mut ScheduleRecord, change: &ScheduleChange, cadence: Option<&Cadence>) {
    if let Some(label) = &change.label {
        record.label.clone_from(label);
    }
    if let Some(on_failure) = change.on_failure {
        record.on_failure = on_failure;
    }
    let mut template = record.template.as_ref().clone();
    if let Some((collection, access)) = &change.collection {
        template.collection.clone_from(collection);
        template.access = access.clone();
    }
    if let Some(history) = change.history {
        template.history = history;
    }
    record.template = Arc::new(template);
    if let Some(keys) = &change.keys {
        record.change_keys(keys);
    }
    if let Some(cadence) = cadence {
        record.cron.clone_from(&cadence.cron);
        if record.is_active() {
            record.run_at(cadence.next);
        }
    }
}

fn taken(id: ScheduleId) -> Fault {
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("there is a schedule {id} already"),
    )
    .hint("draw new ids and try again")
}

fn check_label(label: &str) -> Result<(), Fault> {
    if label.is_empty() || label.len() > MAX_LABEL_BYTES {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("a schedule's label has 1 to {MAX_LABEL_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// What a cadence means is checked by whoever proposes it; here only that it cannot grow without bound.
fn check_cron(cron: &str) -> Result<(), Fault> {
    if cron.is_empty() || cron.len() > MAX_CRON_BYTES {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("a schedule's cadence has 1 to {MAX_CRON_BYTES} bytes"),
        ));
    }
    Ok(())
}
