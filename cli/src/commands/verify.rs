//! `holdfast verify`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use super::backup::announce;
use super::shown;
use crate::args::VerifyArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::keys;
use crate::local::LocalCluster;

pub(super) async fn run(context: &Context, arguments: VerifyArgs) -> Result<Exit, Fault> {
    let encryption = keys::given(context, &arguments.keys, None, false).await?;
    let detach = arguments.detach;
    let is_local = arguments.local;
    let request = v1::SubmitVerifyRequest {
        encryption,
        ..request(arguments)
    };
    if is_local {
        let cluster = LocalCluster::start(&context.env).await?;
        let result = verify_in(context, &cluster, request).await;
        cluster.stop().await.remove(&context.env).await;
        return result;
    }
    let api = context.client()?;
    let submitted = api.submit_verify(request).await?;
    let job = submitted.job;
    announce(context, submitted, detach);
    if detach {
        return Ok(Exit::Ok);
    }
    follow_to_end(context, &api, job).await
}

async fn verify_in(
    context: &Context,
    cluster: &LocalCluster,
    request: v1::SubmitVerifyRequest,
) -> Result<Exit, Fault> {
    let submitted = cluster.api().submit_verify(request).await?;
    cluster.follow(context, submitted.job).await
}

fn request(arguments: VerifyArgs) -> v1::SubmitVerifyRequest {
    let mut from = arguments.from.into_iter();
    v1::SubmitVerifyRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        from: from.next().unwrap_or_default(),
        more_from: from.collect(),
        subdir: arguments.subdir,
        layer_end: arguments.layer_end.unwrap_or_default(),
        execution_locality: shown(arguments.execution_locality),
        encryption: None,
    }
}
