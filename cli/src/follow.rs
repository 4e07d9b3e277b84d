//! Waiting for a job.

use futures::StreamExt;
use holdfast_client::ControlApi;
use holdfast_client::v1::Job;
use holdfast_proto::wire_to_fault;
use holdfast_types::{ErrorCode, Fault, JobState};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::Progress;
use crate::views::JobView;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The job's end.
    Ended,
    /// A pause, or the end.
    Paused,
}

/// The state of this name.
pub(crate) fn state_of(job: &Job) -> Option<JobState> {
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == job.state)
}

/// Follows a job with a bar. `None` if the user pressed Ctrl-C; the job knows nothing of that.
pub(crate) async fn follow(
    context: &Context,
    api: &dyn ControlApi,
    job: u64,
    until: Until,
) -> Result<Option<Job>, Fault> {
    let mut progress = Progress::new(context.output);
    let mut stream = api.watch_job(job).await?;
    let mut interrupt = std::pin::pin!(crate::roles::interrupted());
    let mut last = None;
    loop {
        let next = tokio::select! {
            biased;
            () = &mut interrupt => {
                progress.finish();
                return Ok(None);
            }
            next = stream.next() => next,
        };
        let Some(job) = next.transpose()? else {
            break;
        };
        progress.show(&job);
        let paused = until == Until::Paused && state_of(&job) == Some(JobState::Paused);
        let ended = state_of(&job).is_some_and(JobState::is_terminal);
        last = Some(job);
        if paused || ended {
            break;
        }
    }
    progress.finish();
    last.map(Some).ok_or_else(|| {
        Fault::new(
            ErrorCode::Unavailable,
            format!("the watch of job {job} ended without an answer"),
        )
    })
}

/// Follows a job to its end, prints it, and turns it into an exit code.
pub(crate) async fn follow_to_end(
    context: &Context,
    api: &dyn ControlApi,
    job: u64,
) -> Result<Exit, Fault> {
    match follow(context, api, job, Until::Ended).await? {
        Some(job) => Ok(report(context, job)),
        None => Ok(detached(context, job)),
    }
}

/// The user waits no more.
pub(crate) fn detached(context: &Context, job: u64) -> Exit {
    context.output.note(format!(
        "job {job} goes on\nhint: follow it with `holdfast job watch {job}`"
    ));
    Exit::Interrupted
}

/// Prints a job that ended or was paused, and turns it into an exit code.
pub(crate) fn report(context: &Context, job: Job) -> Exit {
    let exit = exit_of(&job);
    if let Some(fault) = failure(&job) {
        context.output.error(&fault);
    }
    let view = JobView::from(job);
    for note in view.notes_text() {
        context.output.note(note);
    }
    context.output.result(&view, || view.summary());
    exit
}

fn failure(job: &Job) -> Option<Fault> {
    let fault = wire_to_fault(job.error.clone()?);
    Some(fault.context(format!("job {}", job.id)))
}

fn exit_of(job: &Job) -> Exit {
    match state_of(job) {
        Some(JobState::Succeeded | JobState::Paused) => Exit::Ok,
        _ => failure(job).map_or(Exit::Failed, |fault| Exit::of_job(&fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_client::v1;

    #[test]
    fn a_jobs_end_is_the_exit_code() {
        let job = |state: &str, code: &str| Job {
            state: state.into(),
            error: (!code.is_empty()).then(|| v1::Fault {
                code: code.into(),
                ..v1::Fault::default()
            }),
            ..Job::default()
        };
        assert_eq!(exit_of(&job("succeeded", "")), Exit::Ok);
        assert_eq!(exit_of(&job("paused", "")), Exit::Ok);
        assert_eq!(exit_of(&job("canceled", "")), Exit::Failed);
        assert_eq!(exit_of(&job("failed", "already-exists")), Exit::Failed);
        assert_eq!(exit_of(&job("failed", "corrupted")), Exit::Corrupted);
        assert_eq!(exit_of(&job("failed", "storage-full")), Exit::StorageFull);
    }
}
