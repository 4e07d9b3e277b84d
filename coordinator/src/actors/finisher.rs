//! The finisher: writes the parts of a backup's file list, and then its manifest, which makes the layer exist.
//!
//! What is written is a pure function of the ledger ([`crate::manifest`]) and is put once: a leader that was thought dead and its
//! successor write the same bytes, and whoever comes second finds its own. A manifest is only written while a quorum confirms
//! that this node leads, so that a layer does not appear long after its job was cancelled and swept.

use futures::future::LocalBoxFuture;
use holdfast_collection::{CollectionStore, PartName};
use holdfast_format::{Layer, Manifest};
use holdfast_ledger::{Action, Job, PartRef};
use holdfast_types::{
    BackupSpec, ChainKey, CollectionAccess, ErrorCode, Fault, JobId, JobSpec, JobState, LayerPath,
};
use std::sync::Arc;

use super::effect_runner::{Perform, Setback};
use crate::core::{Core, MANY_CALLS_TIMEOUT, bounded_by};
use crate::encryption::envelope;
use crate::manifest::{manifest_of, needs_parent, write_part};
use crate::office::Office;

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finish {
    /// A sealed part of a file list.
    Part {
        /// Whose.
        job: JobId,
        /// Which.
        part: u32,
    },
    /// A manifest.
    Layer {
        /// Whose.
        job: JobId,
    },
}

/// See the module.
pub(crate) struct Finisher {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl Finisher {
    pub(crate) fn new(core: Arc<Core>, office: Arc<Office>) -> Self {
        Self { core, office }
    }
}

impl Perform for Finisher {
    type Key = Finish;

    const AT_ONCE: usize = 8;

    fn describe(key: &Finish) -> &'static str {
        match key {
            Finish::Part { .. } => "writing a part of the file list",
            Finish::Layer { .. } => "writing the manifest",
        }
    }

    fn job(key: &Finish) -> Option<JobId> {
        match key {
            Finish::Part { job, .. } | Finish::Layer { job } => Some(*job),
        }
    }

    fn perform(&self, key: Finish) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let (core, office) = (Arc::clone(&self.core), Arc::clone(&self.office));
        Box::pin(async move {
            match key {
                Finish::Part { job, part } => part_of(&core, job, part).await,
                Finish::Layer { job } => layer_of(&core, &office, job).await,
            }
        })
    }
}

/// A permanent error outside of any task: the job fails, and the effect is no longer owed.
pub(crate) async fn fail_job(core: &Core, job: JobId, fault: Fault) -> Result<(), Setback> {
    tracing::error!(%job, %fault, "job fails");
    match core.replica.make(Action::FailJob { job, fault }).await {
        Ok(()) => Ok(()),
        Err(fault) if fault.is_retryable() => Err(fault.into()),
        // Paused, cancelled or over in the meantime: the ledger says what is owed now.
        Err(fault) => {
            tracing::debug!(%job, %fault, "job cannot fail any more");
            Err(Setback::Later)
        }
    }
}

/// The running backup and its specification; `None` if it is something else by now.
fn running_backup<T>(
    core: &Core,
    job: JobId,
    look: impl FnOnce(&Job, &BackupSpec) -> Option<T>,
) -> Option<T> {
    core.replica.read(|ledger| {
        let job = ledger.job(job)?;
        if job.state() != JobState::Running {
            return None;
        }
        match job.spec().as_ref() {
            JobSpec::Backup(spec) => look(job, spec),
            JobSpec::Restore(_) | JobSpec::Verify(_) | JobSpec::Expire(_) => None,
        }
    })
}

/// Opens a backup's collection; errors that do not pass by themselves fail the job.
async fn open(core: &Core, place: &JobPlace) -> Result<CollectionStore, Fault> {
    let store = core
        .open_collection(&place.collection, &place.access)
        .await?;
    let key = place.encryption.as_ref();
    Ok(store.with_envelope(envelope(&core.config.cluster_key, key)?))
}

/// Where a backup's objects go, and the key that they are encrypted with.
struct JobPlace {
    collection: String,
    access: CollectionAccess,
    encryption: Option<ChainKey>,
}

impl JobPlace {
    fn of(spec: &BackupSpec) -> Self {
        Self {
            collection: spec.collection.clone(),
            access: spec.access.clone(),
            encryption: spec.encryption.clone(),
        }
    }
}

async fn part_of(core: &Core, job: JobId, part: u32) -> Result<(), Setback> {
    let found = running_backup(core, job, |job, spec| {
        let (number, entries) = job.sealed_part()?;
        (number == part).then(|| SealedPart {
            store: (entries.first()).map_or(0, |first| job.spec().store_of(first.member)),
            place: JobPlace::of(spec),
            path: spec.path.clone(),
            name: PartName {
                job: job.id(),
                part,
            },
            entries,
        })
    });
    let Some(sealed) = found else { return Ok(()) };
    match store_part(core, sealed).await {
        Ok(object) => settle(core, Action::PartWritten { job, part, object }).await,
        Err(fault) if fault.is_retryable() => Err(fault.into()),
        Err(fault) => fail_job(core, job, fault).await,
    }
}

/// A part of a file list that is to be written.
struct SealedPart {
    /// The number of the store that it and all that it lists are in.
    store: u16,
    place: JobPlace,
    path: LayerPath,
    name: PartName,
    entries: Arc<Vec<holdfast_ledger::ManifestEntry>>,
}

async fn store_part(core: &Core, sealed: SealedPart) -> Result<PartRef, Fault> {
    let SealedPart {
        store: number,
        place,
        path,
        name,
        entries,
    } = sealed;
    let store = open(core, &place).await?;
    let store = store.numbered(usize::from(number))?;
    let key = core.config.cluster_key.clone();
    let prepared = core
        .env
        .blocking(move || write_part(&key, &entries))
        .await?;
    let put = store.put_part(&path, name, prepared.chunks, &prepared.summary);
    let object = core
        .bounded(format!("writing part {} of {path}", name.part), put)
        .await?;
    Ok(PartRef {
        name: object.name,
        length: object.length,
        digest: object.digest,
        entries: object.entries,
        store: object.store,
    })
}

/// Whether every object that the layer will name is there with its length: a layer that names what does not exist must not come
/// to be.
async fn check_objects(store: &CollectionStore, manifest: &Manifest) -> Result<(), Fault> {
    let report = store.check_presence(manifest).await?;
    match report.damaged.into_iter().next() {
        None => Ok(()),
        Some(damage) => Err(Fault::new(
            ErrorCode::Corrupted,
            format!(
                "the backup cannot be completed: {}: {}",
                damage.object, damage.fault.message
            ),
        )
        .hint("something removed or changed an object of a running backup; take the backup again")),
    }
}

async fn layer_of(core: &Core, office: &Arc<Office>, job: JobId) -> Result<(), Setback> {
    let Some(_guard) = office.commit_guard(job) else {
        return Err(Setback::Later);
    };
    let cluster = core.replica.read(|ledger| ledger.cluster());
    let parent = match parent_of(core, job).await {
        Ok(parent) => parent,
        Err(fault) if fault.is_retryable() => return Err(fault.into()),
        Err(fault) => return fail_job(core, job, fault).await,
    };
    let manifest = cluster.and_then(|cluster| {
        running_backup(core, job, |job, spec| {
            let ready = job.is_committing() && !job.is_committed();
            let manifest = || manifest_of(cluster, job, spec, parent.as_ref());
            ready.then(|| (JobPlace::of(spec), manifest()))
        })
    });
    let Some((place, manifest)) = manifest else {
        return Ok(());
    };
    match store_manifest(core, &place, &manifest).await {
        Ok(None) => Err(Setback::Later),
        Ok(Some(layer)) => {
            let action = Action::LayerCommitted {
                job,
                manifest: layer.digest,
                length: layer.length,
            };
            settle(core, action).await
        }
        Err(fault) if fault.is_retryable() => Err(fault.into()),
        Err(fault) => fail_job(core, job, fault).await,
    }
}

/// The manifest of the layer that a backup continues, if only that says where its members start.
async fn parent_of(core: &Core, job: JobId) -> Result<Option<Manifest>, Fault> {
    let needed = running_backup(core, job, |_, spec| {
        let parent = needs_parent(spec)?;
        Some((JobPlace::of(spec), parent.clone()))
    });
    let Some((place, parent)) = needed else {
        return Ok(None);
    };
    let store = open(core, &place).await?;
    let loading = store.load_layer_as(&parent.path, parent.manifest);
    let what = format!("reading the manifest of {}", parent.path);
    Ok(Some(core.bounded(what, loading).await?.manifest))
}

/// Writes a manifest; `None` if it is not sure any more that this node leads.
async fn store_manifest(
    core: &Core,
    place: &JobPlace,
    manifest: &Manifest,
) -> Result<Option<Layer>, Fault> {
    let store = open(core, place).await?;
    let check = check_objects(&store, manifest);
    let what = format!("checking the objects of {}", manifest.path);
    bounded_by(MANY_CALLS_TIMEOUT, what, check).await?;
    if !core.replica.leads_for_sure() {
        return Ok(None);
    }
    let commit = store.commit_layer(manifest);
    let what = format!("writing the manifest of {}", manifest.path);
    core.bounded(what, commit).await.map(Some)
}

/// Tells the ledger. What it refuses has been overtaken by something else, and it says itself what is owed then.
async fn settle(core: &Core, action: Action) -> Result<(), Setback> {
    match core.replica.make(action).await {
        Ok(()) => Ok(()),
        Err(fault) if fault.is_retryable() => Err(fault.into()),
        Err(fault) => {
            tracing::debug!(%fault, "effect was overtaken");
            Err(Setback::Later)
        }
    }
}
