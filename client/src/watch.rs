//! Watching a job across reconnections: the stream goes on at another coordinator when one is lost or falls silent, and never goes
//! backwards, because what a coordinator with an older state says is left out.

use futures::StreamExt;
use holdfast_proto::v1::{GetJobRequest, Job};
use holdfast_proto::{CallKind, status_to_fault};
use holdfast_types::{Fault, JobState};
use std::sync::Arc;
use tonic::Streaming;

use crate::JobStream;
use crate::retry::{Endpoints, Nature};

struct Watch {
    endpoints: Arc<Endpoints>,
    job: u64,
    stream: Option<Streaming<Job>>,
    /// Index at which the last job that was handed out was true.
    seen: u64,
    over: bool,
}

/// Whether a job in the state of this name can still change; a state of a newer release can.
pub(crate) fn is_terminal(state: &str) -> bool {
    JobState::ALL
        .iter()
        .any(|known| known.is_terminal() && known.as_str() == state)
}

/// Starts to watch. The first answer, and with it "no such job", comes before this returns.
pub(crate) async fn watch(endpoints: Arc<Endpoints>, job: u64) -> Result<JobStream, Fault> {
    let stream = open(&endpoints, job).await?;
    let watch = Watch {
        endpoints,
        job,
        stream: Some(stream),
        seen: 0,
        over: false,
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move {
        if watch.over {
            return None;
        }
        let next = watch.next().await;
        watch.over = match &next {
            Ok(job) => is_terminal(&job.state),
            Err(_) => true,
        };
        Some((next, watch))
    })
    .boxed())
}

async fn open(endpoints: &Endpoints, job: u64) -> Result<Streaming<Job>, Fault> {
    endpoints
        .call(
            Nature::Repeatable,
            endpoints.options().call_timeout,
            GetJobRequest { job },
            |mut client, request| async move { client.watch_job(request).await },
        )
        .await
}

impl Watch {
    /// The next state that is not older than the last one. Opening a stream again has the client's patience; beyond it, its fault ends the
    /// watch.
    async fn next(&mut self) -> Result<Job, Fault> {
        let silence = self.endpoints.options().watch_silence;
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                empty => empty.insert(open(&self.endpoints, self.job).await?),
            };
            match tokio::time::timeout(silence, stream.message()).await {
                Ok(Ok(Some(job))) if job.applied_index < self.seen => {}
                Ok(Ok(Some(job))) => {
                    self.seen = job.applied_index;
                    return Ok(job);
                }
                Ok(Err(status)) => {
                    let fault = status_to_fault(&status, CallKind::Repeatable);
                    if !fault.is_retryable() {
                        return Err(fault);
                    }
                    self.lost().await;
                }
                // Ended before the job did, or silent.
                Ok(Ok(None)) | Err(_) => self.lost().await,
            }
        }
    }

    /// Gives the stream up. The short pause keeps a coordinator that ends every stream at once from being asked in a tight loop.
    async fn lost(&mut self) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
        self.stream = None;
        self.endpoints.turn_away();
        tokio::time::sleep(PAUSE).await;
    }
}
