//! What of a backup can be checked before it is submitted again and again.

use holdfast_proto::v1;
use holdfast_types::{BackupTemplate, ErrorCode, Fault};

use super::backup::{check_capabilities, identify, read};
use super::{collection_uri, open_existing};
use crate::core::Core;

/// Reads a collection's URI; what comes back is how it is kept.
///
/// # Errors
/// `InvalidArgument` for what is none.
pub(crate) fn read_collection(text: &str) -> Result<String, Fault> {
    collection_uri(text).map(|uri| uri.to_string())
}

/// Reads what a schedule backs up from the request that it would submit.
///
/// # Errors
/// `InvalidArgument` for whatever is malformed.
pub(crate) fn read_template(request: &v1::SubmitBackupRequest) -> Result<BackupTemplate, Fault> {
    let wanted = read(request.clone())?;
    Ok(BackupTemplate {
        source: wanted.source,
        target: wanted.target,
        collection: wanted.collection.to_string(),
        history: wanted.history,
        execution_locality: wanted.execution_locality,
    })
}

/// Checks that a backup of this could be submitted now: that there is the source, that it can be backed up like that, and that the store
/// answers.
///
/// # Errors
/// What the backup would be refused with; `AlreadyExists` for a collection that has a backup, unless that is to be ignored.
pub(crate) async fn check_schedulable(
    core: &Core,
    template: &BackupTemplate,
    ignores_existing: bool,
) -> Result<(), Fault> {
    let wanted = read(v1::SubmitBackupRequest {
        source: template.source.to_string(),
        target: Some(super::wire_target(&template.target)),
        into: template.collection.clone(),
        layer: Some(v1::submit_backup_request::Layer::Full(true)),
        revision_history: template.history,
        execution_locality: template.execution_locality.to_string(),
        ..v1::SubmitBackupRequest::default()
    })?;
    let (_, source) = core
        .replica
        .read(|ledger| identify(ledger, &template.source))?;
    check_capabilities(source.kind, &wanted)?;
    let store = match open_existing(core, &wanted.collection).await {
        // The first backup makes the collection.
        Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
        other => other?,
    };
    let what = format!("looking for backups in {}", wanted.collection);
    match core.bounded(&what, store.latest()).await {
        Err(fault) if fault.code == ErrorCode::NotFound => Ok(()),
        Err(fault) => Err(fault),
        Ok(_) if ignores_existing => Ok(()),
        Ok(latest) => Err(Fault::new(
            ErrorCode::AlreadyExists,
            format!(
                "backups already created in {}, the newest in '{latest}'",
                wanted.collection
            ),
        )
        .hint("choose another place, or say that the schedule is to go on there with ignore_existing_backups")),
    }
}
