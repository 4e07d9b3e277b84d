//! Holds are released member by member, and then forgotten.

use std::collections::BTreeSet;

use holdfast_types::{ErrorCode, Fault, HoldId, JobId, MemberName};

use super::Apply;
use crate::outcome::Outcome;

impl Apply<'_> {
    /// The job is terminal: its hold is to be released on every member whose plan was ever leased, for that is what places it.
    pub(super) fn release_hold_of(&mut self, id: JobId) {
        let Some(job) = self.known(id) else { return };
        let Some(hold) = job.hold else { return };
        let members = job.spec.members();
        let placed: BTreeSet<_> = job
            .tasks
            .plans
            .steps
            .iter()
            .filter(|step| step.work.epoch != holdfast_types::Epoch::ZERO)
            .filter_map(|step| members.get(step.member? as usize))
            .map(|member| member.name.clone())
            .collect();
        if let Some(record) = self.ledger.holds.get_mut(&hold) {
            record.releasing = Some(placed);
        }
        self.holds.insert(hold);
        self.forget_released_hold(hold);
    }

    pub(super) fn hold_released(
        &mut self,
        id: HoldId,
        member: &MemberName,
    ) -> Result<Outcome, Fault> {
        let Some(hold) = self.ledger.holds.get_mut(&id) else {
            return Ok(Outcome::NoOp);
        };
        let Some(releasing) = &mut hold.releasing else {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("hold {id} is still needed by job {}", hold.job),
            ));
        };
        if !releasing.remove(member) {
            return Ok(Outcome::NoOp);
        }
        self.forget_released_hold(id);
        Ok(Outcome::Done)
    }

    /// Forgets a hold that no member keeps any more.
    pub(super) fn forget_released_hold(&mut self, id: HoldId) {
        let Some(hold) = self.ledger.holds.get(&id) else {
            return;
        };
        if hold.releasing.as_ref().is_some_and(BTreeSet::is_empty) {
            let job = hold.job;
            self.ledger.holds.remove(&id);
            if let Some(job) = self.known(job) {
                job.hold = None;
            }
        }
    }
}
