//! Chains are removed: which jobs exclude each other, and what is told of each chain.

use std::collections::BTreeSet;

use holdfast_types::{ErrorCode, ExpireSpec, Fault, JobId, JobKind, JobSpec, JobState};

use super::Apply;
use crate::job::ExpiredChain;
use crate::outcome::Outcome;

impl Apply<'_> {
    /// An expiry is only accepted while nobody needs any of its chains. From then on nobody can begin to.
    pub(super) fn check_expiry(&self, spec: &ExpireSpec) -> Result<(), Fault> {
        let invalid = |what: String| Err(Fault::new(ErrorCode::InvalidArgument, what));
        if spec.chains.is_empty() {
            return invalid("the expiry names no chain".to_owned());
        }
        if spec.chains.len() > ExpireSpec::MOST_CHAINS {
            return invalid(format!(
                "the expiry names {} chains, and one job removes at most {}",
                spec.chains.len(),
                ExpireSpec::MOST_CHAINS
            ));
        }
        let mut seen = BTreeSet::new();
        let used = self.ledger.chains_in_use(&spec.collection);
        for chain in &spec.chains {
            if !seen.insert(chain) {
                return invalid(format!("the expiry names chain '{chain}' twice"));
            }
            if let Some(what) = used.get(chain.as_str()) {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!(
                        "the chain '{chain}' in '{}' cannot expire: {what}",
                        spec.collection
                    ),
                )
                .hint("wait until it is needed no more, and expire again"));
            }
        }
        Ok(())
    }

    /// Nobody writes to or reads from a chain that is about to go.
    pub(super) fn check_not_expiring(&self, spec: &JobSpec) -> Result<(), Fault> {
        if spec.kind() == JobKind::Expire {
            return Ok(());
        }
        let collection = spec.collection();
        for chain in spec.chains() {
            let mut jobs = self.ledger.unsettled_jobs();
            if let Some(job) = jobs.find(|job| job.is_to_expire(collection, chain)) {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!(
                        "the chain '{chain}' in '{collection}' is being removed by job {}: it has expired",
                        job.id
                    ),
                )
                .hint("use a newer chain; list them with `holdfast backups list`"));
            }
        }
        Ok(())
    }

    pub(super) fn begin_expiry(&mut self, id: JobId, chain: &str) -> Result<Outcome, Fault> {
        let job = self.job_mut(id)?;
        if job.expiring() == Some(chain) {
            return Ok(Outcome::NoOp);
        }
        let is_next = job.expiring.is_none() && job.next_to_expire() == Some(chain);
        if job.state != JobState::Running || !is_next {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "job {id} ({}): chain '{chain}' is not to be removed now",
                    job.state
                ),
            ));
        }
        job.expiring = Some(chain.to_owned());
        self.moved.insert(id);
        Ok(Outcome::Done)
    }

    pub(super) fn chain_expired(
        &mut self,
        id: JobId,
        chain: &str,
        removed: ExpiredChain,
        note: Option<&str>,
    ) -> Result<Outcome, Fault> {
        let job = self.job_mut(id)?;
        if job.expired.contains_key(chain) {
            return Ok(Outcome::NoOp);
        }
        if job.expiring() != Some(chain) {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id}: chain '{chain}' is not being removed"),
            ));
        }
        job.expiring = None;
        job.expired.insert(chain.to_owned(), removed);
        if let Some(note) = note {
            job.note(None, note);
        }
        let collection = job.spec.collection().to_owned();
        for writer in self.ledger.catalogue.remove_chain(&collection, chain) {
            if let Some(writer) = self.known(writer) {
                writer.layer_expired = true;
            }
        }
        self.moved.insert(id);
        self.settle(id);
        Ok(Outcome::Done)
    }
}
