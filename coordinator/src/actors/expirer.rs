//! The expirer: removes chains that have expired, one after another for each job.
//!
//! The ledger is told before a chain is touched and when it is gone. In between the job is neither paused nor over, so that nobody begins to read what
//! is being removed; and whoever leads next does the same again, which changes nothing where it was done.

use futures::future::LocalBoxFuture;
use holdfast_collection::{ExpiryMark, ExpiryReport};
use holdfast_ledger::{Action, ExpiredChain};
use holdfast_types::{CollectionAccess, Fault, JobId, JobSpec};
use std::sync::Arc;

use super::effect_runner::{Perform, Setback};
use super::finisher::fail_job;
use crate::core::Core;
use crate::office::Office;

/// See the module.
pub(crate) struct Expirer {
    core: Arc<Core>,
}

impl Expirer {
    pub(crate) fn new(core: Arc<Core>, _: Arc<Office>) -> Self {
        Self { core }
    }
}

impl Perform for Expirer {
    /// A job, and the chain that it removes.
    type Key = (JobId, String);

    const AT_ONCE: usize = 4;

    fn describe(_: &Self::Key) -> &'static str {
        "removing an expired chain"
    }

    fn job(key: &Self::Key) -> Option<JobId> {
        Some(key.0)
    }

    fn perform(&self, (job, chain): Self::Key) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { remove(&core, job, chain).await })
    }
}

/// What is to be removed, and where.
struct Doomed {
    collection: String,
    access: CollectionAccess,
    mark: ExpiryMark,
}

async fn remove(core: &Core, job: JobId, chain: String) -> Result<(), Setback> {
    let Some(doomed) = find(core, job, &chain) else {
        return Ok(());
    };
    let begin = Action::BeginExpiry {
        job,
        chain: chain.clone(),
    };
    match core.replica.make(begin).await {
        Ok(()) => {}
        Err(fault) if fault.is_retryable() => return Err(fault.into()),
        // Paused or cancelled in the meantime: the ledger says what is owed now.
        Err(fault) => {
            tracing::debug!(%job, %fault, "a chain is not removed");
            return Err(Setback::Later);
        }
    }
    let report = match removed(core, &doomed).await {
        Ok(report) => report,
        Err(fault) if fault.is_retryable() => return Err(fault.into()),
        Err(fault) => return fail_job(core, job, fault).await,
    };
    tracing::info!(
        %job, %chain, objects = report.objects, bytes = report.bytes.0, refused = report.refused,
        "an expired chain is removed"
    );
    let told = Action::ChainExpired {
        job,
        note: note(&chain, &report),
        chain,
        removed: ExpiredChain {
            objects: report.objects,
            bytes: report.bytes,
            refused: report.refused,
        },
    };
    Ok(core.replica.make(told).await?)
}

fn find(core: &Core, job: JobId, chain: &str) -> Option<Doomed> {
    core.replica.read(|ledger| {
        let cluster = ledger.cluster()?;
        let found = ledger.job(job)?;
        let JobSpec::Expire(spec) = found.spec().as_ref() else {
            return None;
        };
        (found.next_to_expire() == Some(chain) && !found.state().is_terminal()).then(|| Doomed {
            collection: spec.collection.clone(),
            access: spec.access.clone(),
            mark: ExpiryMark {
                full: chain.to_owned(),
                cluster,
                job,
                // The job's own time: whoever leads writes the same mark.
                at: found.created_at(),
                // Known when they are opened.
                stores: 0,
            },
        })
    })
}

async fn removed(core: &Core, doomed: &Doomed) -> Result<ExpiryReport, Fault> {
    let store = core
        .open_collection(&doomed.collection, &doomed.access)
        .await?;
    let mark = ExpiryMark {
        stores: store.location().stores().len(),
        ..doomed.mark.clone()
    };
    // Every call of it has a deadline of its own; how many there are depends on the chain.
    store.expire_chain(&mark).await
}

/// What is said where something stayed.
fn note(chain: &str, report: &ExpiryReport) -> Option<String> {
    let why = report.refusal.as_ref()?;
    Some(format!(
        "chain {chain} has expired, and the store did not let {} object(s) of it go; the next expiry tries again: {why}",
        report.refused
    ))
}
