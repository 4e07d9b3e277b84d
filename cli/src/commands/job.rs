//! `holdfast job`.

use futures::StreamExt;
use holdfast_client::{ControlApi, GrpcClient, v1};
use holdfast_types::{ErrorCode, Fault, JobState};

use crate::args::JobCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, detached, follow, follow_to_end, report};
use crate::views::{ControlledView, JobView, JobsView};

pub(super) async fn run(context: &Context, command: JobCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        JobCommand::List {
            all,
            state,
            schedule,
            limit,
        } => {
            let request = v1::ListJobsRequest {
                all,
                states: state,
                limit,
                schedules: schedule,
            };
            list(context, &api, request).await
        }
        JobCommand::Show { job } => {
            let view = JobView::from(api.get_job(job).await?);
            context.output.result(&view, || view.text());
            Ok(Exit::Ok)
        }
        JobCommand::Watch { job } if context.output.is_json() => lines(context, &api, job).await,
        JobCommand::Watch { job } => follow_to_end(context, &api, job).await,
        JobCommand::Pause { job, reason, wait } => {
            let wait = wait.then_some(Until::Paused);
            control(context, &api, job, "pause", reason, wait).await
        }
        JobCommand::Resume { job, wait } => {
            let wait = wait.then_some(Until::Ended);
            control(context, &api, job, "resume", String::new(), wait).await
        }
        JobCommand::Cancel { job, reason, wait } => {
            let wait = wait.then_some(Until::Ended);
            control(context, &api, job, "cancel", reason, wait).await
        }
    }
}

async fn list(
    context: &Context,
    api: &GrpcClient,
    request: v1::ListJobsRequest,
) -> Result<Exit, Fault> {
    if let Some(unknown) = (request.states.iter())
        .find(|name| JobState::ALL.iter().all(|state| state.as_str() != *name))
    {
        let known: Vec<&str> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("unknown job state \"{}\"", unknown.escape_debug()),
        )
        .hint(format!("use one of: {}", known.join(", "))));
    }
    let view = JobsView::from(api.list_jobs(request).await?);
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

/// A watch for machines: a line of JSON for every change.
async fn lines(context: &Context, api: &GrpcClient, job: u64) -> Result<Exit, Fault> {
    let mut stream = api.watch_job(job).await?;
    let mut exit = Exit::Failed;
    while let Some(job) = stream.next().await.transpose()? {
        exit = match job.state.as_str() {
            state if state == JobState::Succeeded.as_str() => Exit::Ok,
            _ => Exit::Failed,
        };
        let view = JobView::from(job);
        context.output.item(&view, || view.line());
    }
    Ok(exit)
}

async fn control(
    context: &Context,
    api: &GrpcClient,
    job: u64,
    verb: &str,
    reason: String,
    wait: Option<Until>,
) -> Result<Exit, Fault> {
    let request = v1::ControlJobRequest {
        job,
        verb: verb.to_owned(),
        reason,
    };
    let answer = api.control_job(request).await?;
    let Some(until) = wait else {
        let view = ControlledView::new(answer.job.unwrap_or_default(), answer.no_op);
        context.output.result(&view, || view.text());
        return Ok(Exit::Ok);
    };
    let Some(job) = follow(context, api, job, until).await? else {
        return Ok(detached(context, job));
    };
    // A cancelled job that was to be cancelled is a success.
    let wished = verb == "cancel" && job.state == JobState::Canceled.as_str();
    let exit = report(context, job);
    Ok(if wished { Exit::Ok } else { exit })
}
