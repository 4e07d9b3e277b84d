//! Removing what a finished job left and no manifest names: list → validate → delete.

use futures::{StreamExt, TryStreamExt};
use holdfast_format::Layer;
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{ByteCount, ErrorCode, Fault, JobId, LayerPath};
use object_store::path::Path;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::claim::Claim;
use crate::layout;
use crate::names::{DataName, PartName};
use crate::store::{CONCURRENCY, CollectionStore, LIST_DEADLINE, within};

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// Objects of the job that a manifest names, and that stay.
    pub kept: u64,
    /// Objects that the store did not let go: it may be that nobody may remove anything there.
    pub refused: u64,
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
            Some(_) if mutant::is_broken(Promise::NamedIsKept) => Keep::default(),
            Some(layer) => self.named(layer).await?,
            None => Keep::default(),
        };
        let mut report = SweepReport::default();
        for number in 0..self.stores() {
            let store = self.numbered(number)?;
            store
                .sweep_store(path, claim.job, &keep, &mut report)
                .await?;
        }
        if let Some(layer) = &layer {
            // Whoever wrote the manifest may have died before it wrote the line.
            let (line, body) =
                layout::index(&layer.manifest, layer.digest, self.envelope().is_sealed());
            self.home().put_once(&line, vec![body.into()]).await?;
        }
        if layer.is_none() {
            self.sweep_claim(path, claim, &mut report).await?;
        }
        Ok(report)
    }

    /// The same in one store.
    async fn sweep_store(
        &self,
        path: &LayerPath,
        job: JobId,
        keep: &Keep,
        report: &mut SweepReport,
    ) -> Result<(), Fault> {
        let data = self.list_objects::<DataName>(&layout::data(path)).await?;
        let data = data.into_iter().filter(|(name, _)| name.job == job);
        let is_named = |name: &DataName| keep.data.contains(name);
        self.sweep_objects(&layout::data(path), data, is_named, report)
            .await?;
        let parts = self.list_objects::<PartName>(&layout::parts(path)).await?;
        let parts = parts.into_iter().filter(|(name, _)| name.job == job);
        let is_named = |name: &PartName| keep.parts.contains(name);
        self.sweep_objects(&layout::parts(path), parts, is_named, report)
            .await?;
        report.objects += self.sweep_drafts(path, job).await?;
        Ok(())
    }

    /// The names that a layer's manifest and file list hold. Small even for a million objects: a name is 24 bytes.
    async fn named(&self, layer: &Layer) -> Result<Keep, Fault> {
        let mut keep = Keep::default();
        for part in &layer.manifest.parts {
            // A name that is none of ours is never listed, so it need not be kept.
            keep.parts.extend(part.name.parse::<PartName>());
        }
        let mut entries = self.entries(layer);
        while let Some(batch) = entries.try_next().await? {
            let names = batch
                .iter()
                .map(|entry| entry.object.name.parse::<DataName>());
            keep.data.extend(names.flatten());
        }
        Ok(keep)
    }

    async fn sweep_objects<T: fmt::Display>(
        &self,
        directory: &Path,
        found: impl Iterator<Item = (T, u64)>,
        is_named: impl Fn(&T) -> bool,
        report: &mut SweepReport,
    ) -> Result<(), Fault> {
        let (kept, doomed): (Vec<_>, Vec<_>) = found.partition(|(name, _)| is_named(name));
        report.kept += kept.len() as u64;
        let mut removals = futures::stream::iter(doomed)
            .map(|(name, size)| async move {
                let at = directory.clone().join(name.to_string());
                match self.remove(&at).await {
                    Ok(()) => Ok(Some(size)),
                    // Some may write and not remove. What is left costs room, and nothing else.
                    Err(fault) if fault.code == ErrorCode::FailedPrecondition => Ok(None),
                    Err(fault) => Err(fault),
                }
            })
            .buffer_unordered(CONCURRENCY);
        while let Some(removed) = removals.try_next().await? {
            match removed {
                Some(size) => {
                    report.objects += 1;
                    report.bytes += ByteCount(size);
                }
                None => report.refused += 1,
            }
        }
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
        let home = self.home();
        // Looked at again: what was listed before may have been completed meanwhile, and a layer keeps its claim.
        if home.head(&layout::manifest(path)).await?.is_some() {
            return Ok(());
        }
        let drafts = [layout::MANIFEST, layout::CLAIM];
        for name in drafts {
            report.objects += home
                .remove_drafts(&layout::layer(path), format!("{name}#"))
                .await?;
        }
        let removing = async {
            // The claim last: as long as it is there the rest is this job's.
            let (mut objects, bytes) = self.remove_descriptions(path, claim).await?;
            if path.incremental.is_none() {
                objects += home.sweep_key_info(&path.full).await?;
            }
            home.remove(&layout::claim(path)).await?;
            Ok::<_, Fault>((objects, bytes))
        };
        match removing.await {
            Ok((objects, bytes)) => {
                report.objects += objects + 1;
                report.bytes += ByteCount(bytes + claim.encode().len() as u64);
                Ok(())
            }
            Err(fault) if fault.code == ErrorCode::FailedPrecondition => {
                report.refused += 1;
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// The objects directly in a directory whose names are of one kind, with their sizes. Others are passed over.
    pub(crate) async fn list_objects<T>(&self, directory: &Path) -> Result<Vec<(T, u64)>, Fault>
    where
        T: FromStr + fmt::Display,
    {
        self.retrying(|| async {
            let mut listed = self.objects().list(Some(directory));
            let mut found = Vec::new();
            while let Some(meta) =
                within(LIST_DEADLINE, "listing", directory, listed.try_next()).await?
            {
                let name = meta.location.filename().and_then(|name| name.parse().ok());
                // Listings go down the tree; only what lies here counts.
                let is_here = |name: &T| directory.clone().join(name.to_string()) == meta.location;
                found.extend(name.filter(is_here).map(|name| (name, meta.size)));
            }
            Ok(found)
        })
        .await
    }
}
