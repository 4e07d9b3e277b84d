//! S1, S2.

use std::collections::BTreeSet;

use holdfast_types::ScheduledLayer;

use super::{Findings, InvariantId};
use crate::ledger::Ledger;
use crate::schedule::MAX_FORMER_KEYS;

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let mut runs = BTreeSet::new();
    for job in ledger.jobs.values() {
        if let Some(run) = job.scheduled {
            findings.expect(InvariantId::S1, runs.insert(run), || {
                format!(
                    "job {} is another run of schedule {} at {}",
                    job.id, run.schedule, run.due
                )
            });
        }
    }
    for record in ledger.schedules.values() {
        let id = record.id;
        let is_later = match (record.last_due, record.next_run) {
            (Some(last), Some(next)) => last < next,
            _ => true,
        };
        findings.expect(InvariantId::S1, is_later, || {
            format!("schedule {id} runs again at a time at which it ran")
        });
        findings.expect(
            InvariantId::S2,
            record.is_active() || record.next_run.is_none(),
            || format!("schedule {id} does not run, and has a next time"),
        );
        let versions: Vec<u32> = (record.former_keys.iter().map(|it| it.version)).collect();
        let are_former = versions.first().is_none_or(|it| *it < record.keys_version)
            && versions.is_sorted_by(|newer, older| newer > older)
            && versions.len() <= MAX_FORMER_KEYS
            && (versions.is_empty() || record.layer == ScheduledLayer::Incremental);
        findings.expect(InvariantId::S2, are_former, || {
            format!("schedule {id} keeps keys that no chain of it was begun with: {versions:?}")
        });
        let partner = record.partner.and_then(|id| ledger.schedules.get(&id));
        let is_mutual = match (record.partner, partner) {
            (None, _) => record.layer == ScheduledLayer::Full,
            (Some(_), Some(partner)) => {
                partner.partner == Some(id)
                    && partner.layer != record.layer
                    && partner.template == record.template
                    && partner.keys_version == record.keys_version
            }
            (Some(_), None) => false,
        };
        findings.expect(InvariantId::S2, is_mutual, || {
            format!("schedule {id} and its partner do not belong together")
        });
    }
}
