//! `holdfast restore`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use super::backup::announce;
use super::{shown, wire_members, wire_target};
use crate::args::RestoreArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::local::LocalCluster;

/// What the source of a local restore is called while it runs.
const LOCAL_SOURCE: &str = "local";

pub(super) async fn run(context: &Context, arguments: RestoreArgs) -> Result<Exit, Fault> {
    if arguments.local {
        return run_local(context, arguments).await;
    }
    let api = context.client()?;
    let detach = arguments.detach;
    let submitted = api.submit_restore(request(arguments)).await?;
    let job = submitted.job;
    announce(context, submitted, detach);
    if detach {
        return Ok(Exit::Ok);
    }
    follow_to_end(context, &api, job).await
}

/// The same job, run by a cluster of one that lives in this process for as long as the job.
async fn run_local(context: &Context, arguments: RestoreArgs) -> Result<Exit, Fault> {
    let cluster = LocalCluster::start(&context.env).await?;
    let result = restore_in(context, &cluster, arguments).await;
    cluster.stop().await;
    result
}

async fn restore_in(
    context: &Context,
    cluster: &LocalCluster,
    arguments: RestoreArgs,
) -> Result<Exit, Fault> {
    let api = cluster.api();
    let mut members = wire_members(&arguments.member);
    for member in &mut members {
        // The one worker of this process stands in for those of every locality.
        member.locality.clear();
    }
    let source = v1::RegisterSourceRequest {
        name: LOCAL_SOURCE.to_owned(),
        kind: "mvcc".to_owned(),
        members,
    };
    api.register_source(source).await?;
    let mut request = request(arguments);
    request.into_source = LOCAL_SOURCE.to_owned();
    let submitted = api.submit_restore(request).await?;
    cluster.follow(context, submitted.job).await
}

fn request(arguments: RestoreArgs) -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        from: arguments.from,
        subdir: arguments.subdir,
        target: Some(wire_target(&arguments.target)),
        as_of: shown(arguments.as_of),
        into_source: arguments.into_source.unwrap_or_default(),
        into_db: arguments.into_db.unwrap_or_default(),
        new_db_name: arguments.new_db_name.unwrap_or_default(),
        execution_locality: shown(arguments.execution_locality),
        ..v1::SubmitRestoreRequest::default()
    }
}
