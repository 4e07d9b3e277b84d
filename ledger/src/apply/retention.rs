//! What terminal jobs leave behind.

use holdfast_types::{ByteCount, ErrorCode, Fault, JobId, JobKind, Millis};

use super::Apply;
use crate::job::{Job, Swept};
use crate::outcome::Outcome;
use crate::settings::Setting;

/// How long a terminal backup whose objects could not be swept is remembered beyond the retention: afterwards its store is taken to be gone.
const UNSWEPT_RETENTION: Millis = Millis(14 * 24 * 3600 * 1000);

impl Apply<'_> {
    pub(super) fn job_swept(
        &mut self,
        id: JobId,
        objects: u64,
        bytes: ByteCount,
    ) -> Result<Outcome, Fault> {
        let job = self.job_mut(id)?;
        if !job.state.is_terminal() || job.kind() != JobKind::Backup {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id} ({}) has nothing to sweep", job.state),
            ));
        }
        if job.swept.is_some() {
            return Ok(Outcome::NoOp);
        }
        job.swept = Some(Swept { objects, bytes });
        job.forget_key();
        self.settle(id);
        Ok(Outcome::Done)
    }

    /// Forgets those of the jobs that may be forgotten.
    pub(super) fn forget_jobs(&mut self, jobs: &[JobId]) -> Outcome {
        let retention = Millis(self.ledger.settings.get(Setting::JobRetention));
        let mut forgotten = false;
        for id in jobs {
            let Some(job) = self.ledger.jobs.get(id) else {
                continue;
            };
            if !self.may_forget(job, retention) {
                continue;
            }
            if let Some(key) = job.request.clone() {
                self.ledger.requests.remove(&key);
            }
            self.ledger.jobs.remove(id);
            self.ledger.attention.remove(id);
            forgotten = true;
        }
        if forgotten {
            Outcome::Done
        } else {
            Outcome::NoOp
        }
    }

    fn may_forget(&self, job: &Job, retention: Millis) -> bool {
        let Some(finished_at) = job.finished_at else {
            return false;
        };
        let age = self.at.since(finished_at);
        let settled = !job.needs_sweep() || age >= retention + UNSWEPT_RETENTION;
        age >= retention && settled && job.lingering.is_empty()
    }
}
