//! One file per group of commands. Everything here is a plain function of the state and the command.

mod cluster;
mod connections;
mod control;
mod expiry;
mod grants;
mod holds;
mod layers;
mod leases;
mod lifecycle;
mod reports;
mod retention;
mod schedules;
mod sources;
mod submit;
mod users;
mod workers;

use std::collections::BTreeSet;

use holdfast_types::{ErrorCode, Fault, HoldId, JobId, Timestamp};

use crate::command::Action;
use crate::effect::Effect;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::pending::owed_by_job;

/// One command being applied: the state, the proposer's time, and what became owed on the way.
#[derive(Debug)]
pub(crate) struct Apply<'a> {
    ledger: &'a mut Ledger,
    at: Timestamp,
    /// Jobs that moved to another state or phase: all that they owe is told.
    moved: BTreeSet<JobId>,
    /// Holds whose release became owed.
    holds: BTreeSet<HoldId>,
    /// A slot came free or a task became ready somewhere: every job with ready tasks is worth a look.
    dispatch: bool,
}

impl<'a> Apply<'a> {
    pub(crate) fn new(ledger: &'a mut Ledger, at: Timestamp) -> Self {
        Self {
            ledger,
            at,
            moved: BTreeSet::new(),
            holds: BTreeSet::new(),
            dispatch: false,
        }
    }

    /// Applies a command.
    pub(crate) fn perform(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Batch(actions) => Outcome::Batch(
                actions
                    .iter()
                    .map(|action| match action {
                        Action::Batch(_) => Outcome::Refused(Fault::new(
                            ErrorCode::InvalidArgument,
                            "a batch cannot hold a batch",
                        )),
                        action => self.perform_one(action),
                    })
                    .collect(),
            ),
            action => self.perform_one(action),
        }
    }

    fn perform_one(&mut self, action: &Action) -> Outcome {
        let result = match action {
            // Handled by `perform`; an empty one is the only batch that could be meant here.
            Action::Batch(_) => Ok(Outcome::NoOp),
            Action::InitCluster { cluster } => self.init_cluster(*cluster),
            Action::SetSetting { name, value } => self.set_setting(name, *value),
            Action::RegisterSource { source } => self.register_source(source),
            Action::UpdateSource { source } => self.update_source(source),
            Action::DropSource { source } => self.drop_source(source),
            Action::RegisterWorker {
                worker,
                incarnation,
                locality,
                slots,
                version,
            } => self.register_worker(worker, *incarnation, locality, *slots, version),
            Action::ExpireWorker {
                worker,
                incarnation,
                clean,
            } => Ok(self.expire_worker(worker, *incarnation, *clean)),
            Action::SubmitJob {
                job,
                hold,
                spec,
                request,
            } => self.submit_job(*job, *hold, spec, request.as_ref()),
            Action::StartJob { job } => self.start_job(*job),
            Action::ControlJob { job, verb, reason } => {
                self.control_job(*job, *verb, reason.as_deref())
            }
            Action::FailJob { job, fault } => self.fail_job_command(*job, fault),
            Action::GrantLeases { grants } => Ok(self.grant_leases(grants)),
            Action::Reports { reports } => Ok(self.reports(reports)),
            Action::PartWritten { job, part, object } => self.part_written(*job, *part, object),
            Action::LayerCommitted {
                job,
                manifest,
                length,
            } => self.layer_committed(*job, *manifest, *length),
            Action::HoldReleased { hold, member } => self.hold_released(*hold, member),
            Action::JobSwept {
                job,
                objects,
                bytes,
            } => self.job_swept(*job, *objects, *bytes),
            Action::ForgetJobs { jobs } => Ok(self.forget_jobs(jobs)),
            Action::HoldAdvanced {
                hold,
                member,
                layer,
            } => self.hold_advanced(*hold, member, layer),
            Action::BeginExpiry { job, chain } => self.begin_expiry(*job, chain),
            Action::ChainExpired {
                job,
                chain,
                removed,
                note,
            } => self.chain_expired(*job, chain, *removed, note.as_deref()),
            Action::DropHold { hold } => self.drop_hold(*hold),
            Action::CreateSchedule {
                schedule,
                if_not_exists,
            } => self.create_schedule(schedule, *if_not_exists),
            Action::AlterSchedule { schedule, change } => self.alter_schedule(*schedule, change),
            Action::ControlSchedule { schedule, verb } => self.control_schedule(*schedule, *verb),
            Action::PlanSchedule { schedule, next } => self.plan_schedule(*schedule, *next),
            Action::FireSchedule {
                schedule,
                due,
                next,
                result,
                opened_by,
            } => self.fire_schedule(*schedule, *due, *next, result, *opened_by),
            Action::PutConnection { connection, alter } => self.put_connection(connection, *alter),
            Action::DropConnection { connection } => self.drop_connection(connection),
            Action::PutUser { user, alter } => self.put_user(user, *alter),
            Action::DropUser { user } => self.drop_user(user),
        };
        result.unwrap_or_else(Outcome::Refused)
    }

    /// What became owed, in a fixed order, each once.
    pub(crate) fn into_effects(self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for job in &self.moved {
            if let Some(job) = self.ledger.jobs.get(job) {
                owed_by_job(job, &mut effects);
            }
        }
        for &hold in &self.holds {
            self.ledger.owed_by_hold(hold, &mut effects);
        }
        if self.dispatch {
            effects.extend(
                self.ledger
                    .dispatchable()
                    .filter(|job| !self.moved.contains(job))
                    .map(|job| Effect::Dispatch { job }),
            );
        }
        effects
    }

    fn job(&self, id: JobId) -> Result<&Job, Fault> {
        self.ledger.jobs.get(&id).ok_or_else(|| unknown_job(id))
    }

    fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Fault> {
        self.ledger.jobs.get_mut(&id).ok_or_else(|| unknown_job(id))
    }

    /// The job of a task that was found before.
    fn known(&mut self, id: JobId) -> Option<&mut Job> {
        self.ledger.jobs.get_mut(&id)
    }
}

fn unknown_job(id: JobId) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("there is no job {id}"))
        .hint("list the jobs with: holdfast job list")
}
