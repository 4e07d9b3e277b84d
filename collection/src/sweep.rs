//! Removing what a finished job left and no manifest names: list → validate → delete.

use futures::TryStreamExt;
use holdfast_format::Layer;
use holdfast_types::{ByteCount, ErrorCode, Fault, JobId, LayerPath};
use object_store::ObjectMeta;
use object_store::path::Path;
use std::collections::BTreeSet;

use crate::claim::Claim;
use crate::layout;
use crate::names::{DataName, PartName};
use crate::store::CollectionStore;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// Objects of the job that a manifest names, and that stay.
    pub kept: u64,
}

/// What stays.
#[derive(Default)]
struct Keep {
    data: BTreeSet<DataName>,
    parts: BTreeSet<PartName>,
}

impl CollectionStore {
    /// Removes the objects of a job from a layer's directory, except those that the layer's manifest names; without a manifest also the
    /// job's claim, so that nothing of the layer is left. Objects of other jobs and foreign objects stay.
    ///
    /// To be called when the job is terminal: nobody writes for it any more. May be repeated.
    ///
    /// # Errors
    /// What the store failed with; `Corrupted` if a manifest is there and cannot be read in full, for then nobody knows what may go.
    pub async fn sweep_layer(&self, path: &LayerPath, claim: Claim) -> Result<SweepReport, Fault> {
        let layer = self.find_layer(path).await?;
        let keep = match &layer {
            Some(layer) => self.named(layer).await?,
            None => Keep::default(),
        };
        let mut report = SweepReport::default();
        let job = claim.job;
        let data = self.list_objects(&layout::data(path)).await?;
        for meta in data {
            let name = parsed::<DataName>(&meta).filter(|name| name.job == job);
            if let Some(name) = name {
                let is_named = keep.data.contains(&name);
                self.sweep_object(&meta, is_named, &mut report).await?;
            }
        }
        let parts = self.list_objects(&layout::parts(path)).await?;
        for meta in parts {
            let name = parsed::<PartName>(&meta).filter(|name| name.job == job);
            if let Some(name) = name {
                let is_named = keep.parts.contains(&name);
                self.sweep_object(&meta, is_named, &mut report).await?;
            }
        }
        report.objects += self.sweep_drafts(path, job).await?;
        if layer.is_none() {
            self.sweep_claim(path, claim, &mut report).await?;
        }
        Ok(report)
    }

    /// The names that a layer's manifest and file list hold. Small even for a million objects: a name is 24 bytes.
    async fn named(&self, layer: &Layer) -> Result<Keep, Fault> {
        let mut keep = Keep::default();
        for part in &layer.manifest.parts {
            keep.parts.insert(part.name.parse()?);
        }
        let mut entries = self.entries(layer);
        while let Some(batch) = entries.try_next().await? {
            for entry in batch {
                keep.data.insert(entry.object.name.parse()?);
            }
        }
        Ok(keep)
    }

    async fn sweep_object(
        &self,
        meta: &ObjectMeta,
        is_named: bool,
        report: &mut SweepReport,
    ) -> Result<(), Fault> {
        if is_named {
            report.kept += 1;
            return Ok(());
        }
        self.remove(&meta.location).await?;
        report.objects += 1;
        report.bytes += ByteCount(meta.size);
        Ok(())
    }

    /// Half-written objects of writers that died are no objects yet, but take room.
    async fn sweep_drafts(&self, path: &LayerPath, job: JobId) -> Result<u64, Fault> {
        let prefix = format!("{job}-");
        let data = self
            .remove_drafts(&layout::data(path), prefix.clone())
            .await?;
        let parts = self.remove_drafts(&layout::parts(path), prefix).await?;
        Ok(data + parts)
    }

    async fn sweep_claim(
        &self,
        path: &LayerPath,
        claim: Claim,
        report: &mut SweepReport,
    ) -> Result<(), Fault> {
        match self.read_claim(path).await? {
            Some(found) if found == claim => {}
            _ => return Ok(()),
        }
        // Looked at again: what was listed before may have been completed meanwhile, and a layer keeps its claim.
        if self.head(&layout::manifest(path)).await?.is_some() {
            return Ok(());
        }
        let drafts = [layout::MANIFEST, layout::CLAIM];
        for name in drafts {
            report.objects += self
                .remove_drafts(&layout::layer(path), format!("{name}#"))
                .await?;
        }
        self.remove(&layout::claim(path)).await?;
        report.objects += 1;
        report.bytes += ByteCount(claim.encode().len() as u64);
        Ok(())
    }

    async fn list_objects(&self, directory: &Path) -> Result<Vec<ObjectMeta>, Fault> {
        match self.list_directory(directory).await {
            Ok(listed) => Ok(listed.objects),
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(Vec::new()),
            Err(fault) => Err(fault),
        }
    }
}

/// An object's name, if it is one of ours.
fn parsed<T: std::str::FromStr>(meta: &ObjectMeta) -> Option<T> {
    meta.location.filename()?.parse().ok()
}
