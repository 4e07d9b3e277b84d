//! What of a backup can be checked before it is submitted again and again.

use holdfast_proto::v1;
use holdfast_types::{BackupTemplate, ErrorCode, Fault};

use super::backup::{check_capabilities, identify, read};
use crate::core::Core;
use crate::encryption::for_schedule;
use crate::location::Collection;

/// Reads what a schedule backs up from the request that it would submit, and checks that such a backup could be submitted now: that there is
/// the source, that it can be backed up like that, that the store answers, and that its keys are such that a chain can be encrypted with them.
///
/// # Errors
/// What the backup would be refused with; `AlreadyExists` for a collection that has a backup, unless that is to be ignored.
pub(crate) async fn read_template(
    core: &Core,
    mut request: v1::SubmitBackupRequest,
    ignores_existing: bool,
) -> Result<BackupTemplate, Fault> {
    let given = request.encryption.take();
    let into = Collection::to_write(core, &request.into, &request.more_into)?;
    let wanted = read(request, into)?;
    let (_, source) = core
        .replica
        .read(|ledger| identify(ledger, &wanted.source))?;
    check_capabilities(source.kind, &wanted)?;
    if !ignores_existing {
        check_empty(core, &wanted.collection).await?;
    }
    let keys = for_schedule(core, given).await?;
    Ok(BackupTemplate {
        source: wanted.source,
        target: wanted.target,
        collection: wanted.collection.to_string(),
        access: wanted.collection.access(&core.config.cluster_key),
        history: wanted.history,
        execution_locality: wanted.execution_locality,
        keys,
    })
}

/// A collection without backups; the first one makes the collection.
async fn check_empty(core: &Core, collection: &Collection) -> Result<(), Fault> {
    let store = match core.open_existing(collection).await {
        Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
        other => other?,
    };
    let what = format!("looking for backups in {collection}");
    match core.bounded(&what, store.latest()).await {
        Err(fault) if fault.code == ErrorCode::NotFound => Ok(()),
        Err(fault) => Err(fault),
        Ok(latest) => Err(Fault::new(
            ErrorCode::AlreadyExists,
            format!("backups already created in {collection}, the newest in '{latest}'"),
        )
        .hint("choose another place, or say that the schedule is to go on there with ignore_existing_backups")),
    }
}
