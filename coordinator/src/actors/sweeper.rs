//! The sweeper: removes what an ended backup left and no manifest names, and forgets jobs that have been over for long.
//!
//! A sweep waits until nothing can be written for the job any more: the ledger owes it only when no worker holds a lease of the job,
//! and from when this leader first sees it the time passes in which a worker that was cut off stops itself, and in which a manifest
//! that another leader had begun to write may still arrive.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures::future::LocalBoxFuture;
use holdfast_collection::{Claim, CollectionStore};
use holdfast_ledger::{Action, Setting};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_types::{BackupSpec, ErrorCode, Fault, JobId, JobSpec, JobState, Millis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::effect_runner::{Perform, Setback};
use crate::core::{Core, MANY_CALLS_TIMEOUT, bounded_by};
use crate::encryption::envelope;
use crate::office::Office;

/// How often it is looked for jobs to forget.
const RETENTION_PAUSE: Duration = Duration::from_secs(60);
/// Jobs forgotten by one command.
const MAX_FORGOTTEN: usize = 1000;

/// See the module.
pub(crate) struct Sweeper {
    core: Arc<Core>,
    office: Arc<Office>,
    /// When each sweep was first owed to this leader, on the monotonic clock.
    since: Arc<Mutex<BTreeMap<JobId, Duration>>>,
}

impl Sweeper {
    pub(crate) fn new(core: Arc<Core>, office: Arc<Office>) -> Self {
        Self {
            core,
            office,
            since: Arc::default(),
        }
    }
}

impl Perform for Sweeper {
    type Key = JobId;

    const AT_ONCE: usize = 4;

    fn describe(_: &JobId) -> &'static str {
        "removing what the job left"
    }

    fn job(key: &JobId) -> Option<JobId> {
        Some(*key)
    }

    fn perform(&self, job: JobId) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let (core, office) = (Arc::clone(&self.core), Arc::clone(&self.office));
        let since = Arc::clone(&self.since);
        Box::pin(async move {
            let now = core.env.clock.monotonic();
            let first = *since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(job)
                .or_insert(now);
            if now.saturating_sub(first) < waiting_time(&core, job) {
                return Err(Setback::Later);
            }
            sweep(&core, &office, job).await?;
            since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&job);
            Ok(())
        })
    }
}

/// How long nothing may have been owed before it is swept. A job that succeeded has its manifest, and only what no manifest names goes:
/// then the workers' fence is enough.
fn waiting_time(core: &Core, job: JobId) -> Duration {
    let manifest_may_come = core.replica.read(|ledger| {
        ledger
            .job(job)
            .is_some_and(|job| job.is_committing() && job.state() != JobState::Succeeded)
    });
    if manifest_may_come {
        core.fence().max(core.config.io_timeout)
    } else {
        core.fence()
    }
}

async fn sweep(core: &Core, office: &Arc<Office>, job: JobId) -> Result<(), Setback> {
    let Some(_guard) = office.commit_guard(job) else {
        return Err(Setback::Later);
    };
    let found = core.replica.read(|ledger| {
        let cluster = ledger.cluster()?;
        let found = ledger.job(job)?;
        match found.spec().as_ref() {
            JobSpec::Backup(spec) => Some((cluster, spec.clone(), found.is_committed())),
            JobSpec::Restore(_) | JobSpec::Verify(_) | JobSpec::Expire(_) => None,
        }
    });
    let Some((cluster, spec, committed)) = found else {
        return Ok(());
    };
    let store = core
        .open_collection(&spec.collection, &spec.access)
        .await?
        .with_envelope(envelope(
            &core.config.cluster_key,
            spec.encryption.as_ref(),
        )?);
    if !committed {
        note_layer(core, &store, job, &spec).await?;
    }
    let what = format!("sweeping {} in {}", spec.path, store.uri());
    let claim = Claim { cluster, job };
    let sweeping = store.sweep_layer(&spec.path, claim);
    let report = bounded_by(MANY_CALLS_TIMEOUT, what, sweeping).await?;
    if report.objects > 0 {
        tracing::info!(%job, objects = report.objects, bytes = report.bytes.0, "swept");
    }
    if report.refused > 0 {
        // No reason to try for ever: where nothing may be removed, what is left costs room and nothing else.
        tracing::warn!(%job, objects = report.refused, "the store does not let what a job left be removed");
    }
    let action = Action::JobSwept {
        job,
        objects: report.objects,
        bytes: report.bytes,
    };
    Ok(core.replica.make(action).await?)
}

/// The manifest may have been written before the job was cancelled: then the layer exists, and the catalogue should know.
async fn note_layer(
    core: &Core,
    store: &CollectionStore,
    job: JobId,
    spec: &BackupSpec,
) -> Result<(), Setback> {
    let what = format!("looking at {}", spec.path);
    let layer = match core.bounded(what, store.load_layer(&spec.path)).await {
        Ok(layer) if layer.manifest.job == job => layer,
        Ok(_) => return Ok(()),
        Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
        Err(fault) => return Err(fault.into()),
    };
    let action = Action::LayerCommitted {
        job,
        manifest: layer.digest,
        length: layer.length,
    };
    Ok(core.replica.make(action).await?)
}

/// Forgets jobs that have been over for longer than they are kept. Alive as long as this is.
pub(crate) struct Retention {
    _actor: Supervised<RetentionActor>,
}

impl Retention {
    /// Starts the retention of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let over = office.over.clone();
        Self {
            _actor: supervise("retention", Backoff::default(), over, move || {
                RetentionActor {
                    core: Arc::clone(&core),
                    office: Arc::clone(&office),
                }
            }),
        }
    }
}

/// See [`Retention`].
struct RetentionActor {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl Actor for RetentionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        self.look(context);
    }
}

impl RetentionActor {
    fn look(&mut self, context: &mut Context<Self>) {
        let work = forget(Arc::clone(&self.core)).into_actor(self).map(
            |result, _, context: &mut Context<Self>| {
                if let Err(fault) = result {
                    tracing::warn!(%fault, "old jobs not forgotten yet");
                }
                context.run_later(RETENTION_PAUSE, Self::look);
            },
        );
        context.spawn(work);
    }
}

async fn forget(core: Arc<Core>) -> Result<(), Fault> {
    let now = core.env.clock.now();
    let jobs: Vec<JobId> = core.replica.read(|ledger| {
        let kept = Millis(ledger.settings().get(Setting::JobRetention));
        ledger
            .jobs()
            .filter(|job| {
                let over = job.finished_at();
                over.is_some_and(|over| now.since(over) > kept)
            })
            .map(|job| job.id())
            .take(MAX_FORGOTTEN)
            .collect()
    });
    if jobs.is_empty() {
        return Ok(());
    }
    core.replica.propose(Action::ForgetJobs { jobs }).await?;
    Ok(())
}
