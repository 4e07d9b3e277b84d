//! The starter: takes pending jobs up. A backup claims its directory first, so that two jobs never write into one.

use futures::future::LocalBoxFuture;
use holdfast_collection::Claim;
use holdfast_ledger::{Action, Outcome};
use holdfast_types::{BackupSpec, Fault, JobId, JobSpec};
use std::sync::Arc;

use super::effect_runner::{Perform, Setback};
use super::finisher::fail_job;
use crate::core::Core;
use crate::encryption::{envelope, note_keys};
use crate::office::Office;

/// See the module.
pub(crate) struct Starter {
    core: Arc<Core>,
}

impl Starter {
    pub(crate) fn new(core: Arc<Core>, _office: Arc<Office>) -> Self {
        Self { core }
    }
}

impl Perform for Starter {
    type Key = JobId;

    const AT_ONCE: usize = 16;

    fn describe(_: &JobId) -> &'static str {
        "starting the job"
    }

    fn job(key: &JobId) -> Option<JobId> {
        Some(*key)
    }

    fn perform(&self, job: JobId) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { start(&core, job).await })
    }
}

async fn start(core: &Core, job: JobId) -> Result<(), Setback> {
    let spec = core
        .replica
        .read(|ledger| ledger.job(job).map(|job| Arc::clone(job.spec())));
    let Some(spec) = spec else { return Ok(()) };
    if let JobSpec::Backup(backup) = spec.as_ref() {
        match claim(core, job, backup).await {
            Ok(()) => {}
            Err(fault) if fault.is_retryable() => return Err(fault.into()),
            Err(fault) => return fail_job(core, job, fault).await,
        }
    }
    match core.replica.propose(Action::StartJob { job }).await? {
        // Too many jobs are under way, or the job was paused or cancelled in between: the ledger says what is owed next.
        Outcome::Refused(fault) => Err(fault.into()),
        _ => Ok(()),
    }
}

/// Claims a backup's directory.
async fn claim(core: &Core, job: JobId, backup: &BackupSpec) -> Result<(), Fault> {
    let cluster = core
        .replica
        .read(|ledger| ledger.cluster())
        .unwrap_or_default();
    let key = backup.encryption.as_ref();
    let store = core
        .open_collection(&backup.collection, &backup.access)
        .await?
        .with_envelope(envelope(&core.config.cluster_key, key)?);
    let what = format!("claiming {} in {}", backup.path, store.uri());
    let claimed = async {
        store.claim(&backup.path, Claim { cluster, job }).await?;
        note_keys(&store, &backup.path, key).await
    };
    core.bounded(what, claimed).await
}
