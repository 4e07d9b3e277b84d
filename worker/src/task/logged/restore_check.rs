//! What a restore would make of every object, before there is a job.

use holdfast_source::{LoggedSource, MemberCheck};
use holdfast_types::{Fault, JobId, JobSpec, RestoreSpec};

use super::inlet::{LayerInlet, restore_from};
use crate::core::Core;
use crate::task::layers::JobLayers;
use crate::task::restore_plan::restore_member;
use crate::task::ticket::envelope;

/// A restore that is only looked at has no job: nothing is made, so that nothing is named by it.
const NO_JOB: JobId = JobId(0);

/// Asks a member what a restore would make there. Nothing is changed.
pub(crate) async fn check_restore(
    shared: &Core,
    source: &dyn LoggedSource,
    spec: &RestoreSpec,
    member: u32,
) -> Result<MemberCheck, Fault> {
    let from = &restore_member(spec, member)?.from;
    let store = shared
        .open_existing(&spec.collection, &spec.access)
        .await?
        .with_envelope(envelope(shared, spec.encryption.as_ref())?);
    let layers = JobLayers::of_spec(store, &JobSpec::Restore(spec.clone())).await?;
    let inlet = LayerInlet::without_task(shared, layers, from);
    let restore = restore_from(&inlet, spec, NO_JOB);
    source.check_restore(&restore, &inlet).await
}
