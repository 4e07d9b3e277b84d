//! J6 (the ledger's half), J12 and C4.

use holdfast_types::{JobSpec, JobState};

use super::{Findings, InvariantId};
use crate::job::Job;
use crate::ledger::Ledger;

pub(super) fn check_job(ledger: &Ledger, job: &Job, findings: &mut Findings) {
    let JobSpec::Backup(spec) = job.spec.as_ref() else {
        return;
    };
    let id = job.id;
    findings.expect(
        InvariantId::J6,
        job.state != JobState::Succeeded || job.committed,
        || format!("backup job {id} has succeeded without a layer"),
    );
    if !job.committing {
        findings.expect(InvariantId::J6, !job.committed, || {
            format!("job {id} has a layer before its file list was durable")
        });
        return;
    }
    let (unsealed, sealed, written) = job.list.counts();
    findings.expect(
        InvariantId::J6,
        (unsealed, sealed) == (0, 0) && written == job.counters.objects,
        || {
            format!(
                "the file list of job {id} names {written} of {} objects",
                job.counters.objects
            )
        },
    );
    if job.committed {
        findings.expect(
            InvariantId::J12,
            job.is_doomed() || job.state == JobState::Succeeded,
            || format!("job {id} has its layer and is {}", job.state),
        );
        let layer = ledger.catalogue.layer(&spec.collection, &spec.path);
        findings.expect(
            InvariantId::J6,
            match job.layer_expired {
                true => layer.is_none_or(|layer| layer.job != id),
                false => layer.is_some_and(|layer| layer.job == id && layer.objects == written),
            },
            || format!("the layer of job {id} is not in the catalogue, or counts other objects"),
        );
    }
}

pub(super) fn check_chains(ledger: &Ledger, findings: &mut Findings) {
    for collection in ledger.catalogue.collections() {
        let mut heads: Vec<_> = (ledger.catalogue.of_collection(collection))
            .map(|layer| layer.path.full.as_str())
            .collect();
        heads.dedup();
        for head in heads {
            let chain = ledger.catalogue.chain(collection, head);
            for pair in chain.windows(2) {
                let [before, layer] = pair else { continue };
                let continues = layer.parent.as_ref().is_some_and(|parent| {
                    parent.path == before.path
                        && parent.manifest == before.manifest
                        && parent.end == before.end
                });
                findings.expect(
                    InvariantId::C4,
                    continues && layer.start == Some(before.end) && layer.end > before.end,
                    || format!("'{}' does not continue '{}'", layer.path, before.path),
                );
            }
        }
    }
}
