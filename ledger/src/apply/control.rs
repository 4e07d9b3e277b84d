//! Starting, pausing, resuming, cancelling and failing jobs.

use holdfast_types::{ControlVerb, ErrorCode, Fault, JobEvent, JobId, JobState, Verdict};

use super::Apply;
use crate::job::{Doom, JobError};
use crate::outcome::Outcome;

/// The longest reason that is kept with a job, in bytes: it is shown, replicated and stored.
const MAX_REASON_BYTES: usize = 4096;

impl Apply<'_> {
    pub(super) fn start_job(&mut self, id: JobId) -> Result<Outcome, Fault> {
        if self.job(id)?.state != JobState::Pending {
            return Ok(Outcome::NoOp);
        }
        self.fire(id, JobEvent::Start)?;
        self.settle(id);
        Ok(Outcome::Done)
    }

    pub(super) fn control_job(
        &mut self,
        id: JobId,
        verb: ControlVerb,
        reason: Option<&str>,
    ) -> Result<Outcome, Fault> {
        if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("the reason is longer than {MAX_REASON_BYTES} bytes"),
            ));
        }
        let verdict = self.fire(id, JobEvent::Control(verb))?;
        if matches!(verdict, Verdict::Move(_)) {
            let job = self.job_mut(id)?;
            job.reason = match verb {
                ControlVerb::Pause | ControlVerb::Cancel => reason.map(str::to_owned),
                ControlVerb::Resume => None,
            };
            if verb == ControlVerb::Cancel {
                job.doom = Some(Doom::Canceled);
            }
            self.settle(id);
        }
        Ok(Outcome::State(self.job(id)?.state))
    }

    pub(super) fn fail_job_command(&mut self, id: JobId, fault: &Fault) -> Result<Outcome, Fault> {
        let job = self.job_mut(id)?;
        // What cannot be removed is not waited for. The chain keeps its mark.
        let gives_up = job.expiring.take().is_some() && job.state == JobState::CancelRequested;
        if !gives_up {
            self.fail_job(id, fault.clone())?;
        }
        self.note_error(id, None, fault.clone());
        self.settle(id);
        Ok(Outcome::State(self.job(id)?.state))
    }

    /// A permanent error: every lease is revoked, and what was done is to be undone.
    pub(super) fn fail_job(&mut self, id: JobId, fault: Fault) -> Result<(), Fault> {
        self.fire(id, JobEvent::Fail)?;
        self.revoke_leases(id);
        self.job_mut(id)?.doom = Some(Doom::Failed(fault));
        self.begin_reverting(id);
        Ok(())
    }

    /// Remembers an error with a job, for show.
    pub(super) fn note_error(&mut self, id: JobId, task: Option<u32>, fault: Fault) {
        let at = self.at;
        if let Some(job) = self.known(id) {
            let task = task.map(|index| holdfast_types::TaskId { job: id, index });
            job.note_error(JobError { at, task, fault });
        }
    }
}
