//! A backup's file list and manifest become durable.

use std::sync::Arc;

use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, JobId, JobSpec};

use super::Apply;
use crate::catalogue::LayerRecord;
use crate::command::PartRef;
use crate::job::Job;
use crate::outcome::Outcome;
use crate::settings::Setting;

impl Apply<'_> {
    pub(super) fn part_written(
        &mut self,
        id: JobId,
        part: u32,
        object: &PartRef,
    ) -> Result<Outcome, Fault> {
        let limit = self.ledger.settings.get(Setting::PartListThreshold);
        let job = self.job_mut(id)?;
        if let Some(known) = job.list.parts().get(part as usize) {
            if known == object {
                return Ok(Outcome::NoOp);
            }
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("job {id}: another object is part {part} of the file list"),
            ));
        }
        let sealed = job.list.sealed();
        let Some((_, entries)) = sealed.filter(|(number, _)| *number == part) else {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id}: part {part} of the file list is not to be written"),
            ));
        };
        if entries.len() as u64 != object.entries {
            return Err(Fault::new(
                ErrorCode::Corrupted,
                format!(
                    "job {id}: part {part} of the file list names {} objects instead of {}",
                    object.entries,
                    entries.len()
                ),
            ));
        }
        job.list.written(object.clone());
        let spec = Arc::clone(&job.spec);
        job.list.seal(limit, limit, |member| spec.store_of(member));
        self.moved.insert(id);
        self.settle(id);
        Ok(Outcome::Done)
    }

    /// The layer exists as soon as its manifest does, whatever has become of its job in the meantime; the job succeeds if it may.
    pub(super) fn layer_committed(
        &mut self,
        id: JobId,
        manifest: Digest,
        length: ByteCount,
    ) -> Result<Outcome, Fault> {
        let at = self.at;
        let job = self.job_mut(id)?;
        if !job.committing {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id}: its manifest is not to be written yet"),
            ));
        }
        let layer = layer(job, manifest, length, at).ok_or_else(|| {
            Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id} is no backup"),
            )
        })?;
        if job.layer_expired {
            return Ok(Outcome::NoOp);
        }
        if job.committed {
            let known = self
                .ledger
                .catalogue
                .layer(&layer.collection, &layer.path)
                .is_some_and(|known| known.manifest == manifest);
            return if known {
                Ok(Outcome::NoOp)
            } else {
                Err(Fault::new(
                    ErrorCode::Corrupted,
                    format!("job {id} has committed another manifest before"),
                ))
            };
        }
        if job.swept.is_some() {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {id} was swept: its manifest names objects that are gone"),
            )
            .hint("remove the manifest, or leave it: verify will report the layer as damaged"));
        }
        job.committed = true;
        self.ledger.catalogue.insert(layer);
        self.settle(id);
        Ok(Outcome::Done)
    }
}

fn layer(
    job: &Job,
    manifest: Digest,
    manifest_length: ByteCount,
    committed_at: holdfast_types::Timestamp,
) -> Option<LayerRecord> {
    let JobSpec::Backup(spec) = job.spec.as_ref() else {
        return None;
    };
    Some(LayerRecord {
        collection: spec.collection.clone(),
        path: spec.path.clone(),
        parent: spec.parent.clone(),
        source: spec.source.clone(),
        target: spec.target.clone(),
        stores: u16::try_from(spec.access.tiers().len().saturating_add(1)).unwrap_or(u16::MAX),
        start: spec.parent.as_ref().map(|parent| parent.end),
        end: job.end(spec),
        history: spec.history,
        keeps_history: job.keeps_history(),
        job: job.id,
        manifest,
        manifest_length,
        rows: job.counters.object_rows,
        logical: job.counters.logical,
        stored: job.counters.stored,
        objects: job.counters.objects,
        committed_at,
    })
}
