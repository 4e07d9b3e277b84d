//! `holdfast backup`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use super::{shown, wire_target};
use crate::args::{AppendTo, BackupArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::views::SubmittedView;

pub(super) async fn run(context: &Context, arguments: BackupArgs) -> Result<Exit, Fault> {
    let api = context.client()?;
    let detach = arguments.detach;
    let submitted = api.submit_backup(request(arguments)).await?;
    let job = submitted.job;
    announce(context, submitted, detach);
    if detach {
        return Ok(Exit::Ok);
    }
    follow_to_end(context, &api, job).await
}

/// Tells of an accepted job: the result itself if nobody waits for it, otherwise a note.
pub(super) fn announce(context: &Context, submitted: v1::SubmitJobResponse, detach: bool) {
    let view = SubmittedView::from(submitted);
    if detach {
        context.output.result(&view, || view.text());
    } else {
        context.output.note(view.text());
    }
}

fn request(arguments: BackupArgs) -> v1::SubmitBackupRequest {
    use v1::submit_backup_request::Layer;
    let layer = match arguments.append {
        None => Layer::Full(true),
        Some(AppendTo::Latest) => Layer::AppendToLatest(true),
        Some(AppendTo::Subdir(subdir)) => Layer::AppendTo(subdir),
    };
    v1::SubmitBackupRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        source: arguments.source,
        target: Some(wire_target(&arguments.target)),
        into: arguments.into,
        layer: Some(layer),
        as_of: shown(arguments.as_of),
        revision_history: arguments.revision_history,
        execution_locality: shown(arguments.execution_locality),
        ..v1::SubmitBackupRequest::default()
    }
}
