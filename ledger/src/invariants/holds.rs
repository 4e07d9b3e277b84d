//! H1 and H2.

use holdfast_types::{JobKind, JobSpec};

use super::{Findings, InvariantId};
use crate::ledger::Ledger;

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    for job in ledger.jobs() {
        let JobSpec::Backup(spec) = job.spec.as_ref() else {
            findings.expect(InvariantId::H1, job.hold.is_none(), || {
                format!("job {} is no backup and has a hold", job.id)
            });
            continue;
        };
        if job.state.is_terminal() {
            continue;
        }
        let position = spec.parent.as_ref().map_or(spec.end, |parent| parent.end);
        let held = job
            .hold
            .and_then(|hold| ledger.hold(hold))
            .is_some_and(|hold| {
                hold.job == job.id && hold.position <= position && hold.releasing.is_none()
            });
        findings.expect(InvariantId::H1, held, || {
            format!("backup job {} ({}) has no hold", job.id, job.state)
        });
    }
    for hold in ledger.holds() {
        let job = ledger.job(hold.job);
        let over = job.is_none_or(|job| job.state.is_terminal());
        let kept = hold.chain.is_some() && over && hold.releasing.is_none();
        findings.expect(
            InvariantId::H2,
            (kept || hold.releasing.is_some() == over)
                && hold.releasing.as_ref().is_none_or(|rest| !rest.is_empty()),
            || format!("hold {} of job {} is in a wrong state", hold.id, hold.job),
        );
        findings.expect(
            InvariantId::H2,
            job.is_none_or(|job| {
                let of_chain = over && hold.chain.is_some();
                job.kind() == JobKind::Backup && (of_chain || job.hold == Some(hold.id))
            }),
            || format!("hold {} is unknown to job {}", hold.id, hold.job),
        );
    }
}
