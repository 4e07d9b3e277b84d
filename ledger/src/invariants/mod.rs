//! What always holds, each with an id and one definition: used by the property tests, the simulator and production alike.
//!
//! [`check`] judges a state by itself, [`check_job`] one job of it; [`Witness`] judges the step from one state to the next.
//! `docs/INVARIANTS.md` lists them for people.

mod checkpoints;
mod holds;
mod jobs;
mod layers;
mod leases;
mod registry;
mod schedules;
mod steps;

use std::fmt;

use holdfast_types::JobId;

use crate::ledger::Ledger;

pub use registry::InvariantId;
pub use steps::Witness;

/// An invariant that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub id: InvariantId,
    /// Where, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.id, self.what, self.id.sentence())
    }
}

/// Collects violations.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Violation>);

impl Findings {
    /// Notes a violation unless `holds`.
    pub(crate) fn expect(&mut self, id: InvariantId, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { id, what: what() });
        }
    }
}

/// Checks everything that can be seen in one state. Costs as much as the state is large.
#[must_use]
pub fn check(ledger: &Ledger) -> Vec<Violation> {
    let mut findings = Findings::default();
    for job in ledger.jobs() {
        check_one(ledger, job, &mut findings);
    }
    leases::check_workers(ledger, &mut findings);
    holds::check(ledger, &mut findings);
    layers::check_chains(ledger, &mut findings);
    jobs::check_requests(ledger, &mut findings);
    schedules::check(ledger, &mut findings);
    findings.0
}

/// Checks one job.
#[must_use]
pub fn check_job(ledger: &Ledger, id: JobId) -> Vec<Violation> {
    let mut findings = Findings::default();
    if let Some(job) = ledger.job(id) {
        check_one(ledger, job, &mut findings);
    }
    findings.0
}

fn check_one(ledger: &Ledger, job: &crate::job::Job, findings: &mut Findings) {
    jobs::check(ledger, job, findings);
    leases::check_job(ledger, job, findings);
    checkpoints::check(job, findings);
    layers::check_job(ledger, job, findings);
}
