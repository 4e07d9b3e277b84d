//! Watching a job: its view now and after each change, until it is terminal.
//!
//! Driven by the applied index, so that nothing is polled while nothing happens. On a node that does not lead, the leader's stream is passed
//! through while it lasts, for what only the leader knows; when it breaks, this node's own state carries on. Nothing older than what
//! was shown is shown.

use futures::StreamExt;
use holdfast_client::JobStream;
use holdfast_ledger::Ledger;
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, JobId, JobState};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Streaming;

use super::Coordinator;

/// Between two views: whoever watches sees ten a second at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// A view is repeated after this long even if nothing has changed: the reader knows that the stream lives.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// Between two attempts to reach the leader.
const REMOTE_PAUSE: Duration = Duration::from_secs(1);

struct Watch {
    api: Coordinator,
    job: JobId,
    applied: watch::Receiver<u64>,
    remote: Option<Streaming<v1::Job>>,
    remote_tried: Option<Duration>,
    shown: Option<v1::Job>,
    shown_at: Duration,
    over: bool,
}

/// Starts to watch; `first` is the present view.
pub(super) fn watch(api: Coordinator, first: v1::Job) -> JobStream {
    let watch = Watch {
        applied: api.core().replica.applied(),
        job: JobId(first.id),
        remote: None,
        remote_tried: None,
        shown: None,
        shown_at: Duration::ZERO,
        over: false,
        api,
    };
    futures::stream::unfold((watch, Some(first)), |(mut watch, first)| async move {
        if watch.over {
            return None;
        }
        let next = match first {
            Some(first) => Ok(first),
            None => watch.next().await,
        };
        watch.note(&next);
        Some((next, (watch, None)))
    })
    .boxed()
}

impl Watch {
    fn now(&self) -> Duration {
        self.api.core().env.clock.monotonic()
    }

    fn note(&mut self, next: &Result<v1::Job, Fault>) {
        self.over = match next {
            Ok(job) => {
                self.shown_at = self.now();
                self.shown = Some(job.clone());
                is_terminal(&job.state)
            }
            Err(_) => true,
        };
    }

    /// The next view worth showing.
    async fn next(&mut self) -> Result<v1::Job, Fault> {
        self.pause().await;
        loop {
            self.reach_leader().await;
            let job = match self.remote.as_mut() {
                Some(stream) => {
                    let next = tokio::time::timeout(2 * LONGEST_SILENCE, stream.message()).await;
                    match next {
                        Ok(Ok(Some(job))) => job,
                        // Its end, an error, or silence: this node's state carries on.
                        _ => {
                            self.remote = None;
                            continue;
                        }
                    }
                }
                None => self.own_view().await?,
            };
            if self.is_worth_showing(&job) {
                return Ok(job);
            }
        }
    }

    /// Waits until the next view may be shown. The last one may at once: somebody waits for the job.
    async fn pause(&self) {
        let core = self.api.core();
        // Another look at the same: what is seen here is news to the view all the same.
        let mut applied = core.replica.applied();
        let mut ends = std::pin::pin!(tokio::time::sleep(SHORTEST_PAUSE));
        let is_over = || {
            let job = |ledger: &Ledger| ledger.job(self.job).map(|job| job.state().is_terminal());
            core.replica.read(job).unwrap_or(true)
        };
        while !is_over() {
            tokio::select! {
                biased;
                () = &mut ends => return,
                changed = applied.changed() => if changed.is_err() {
                    return ends.await;
                },
            }
        }
    }

    /// Opens the leader's stream if another node leads.
    async fn reach_leader(&mut self) {
        let now = self.now();
        let tried = self.remote_tried.is_some_and(|at| now < at + REMOTE_PAUSE);
        if self.remote.is_some() || tried || !self.api.passes_on() {
            return;
        }
        self.remote_tried = Some(now);
        let question = v1::GetJobRequest { job: self.job.0 };
        let stream = self
            .api
            .ask(question, |mut client, request| async move {
                client.watch_job(request).await
            })
            .await;
        self.remote = stream.and_then(Result::ok);
    }

    /// This node's view after the next change, or after a while.
    async fn own_view(&mut self) -> Result<v1::Job, Fault> {
        let silent = self.now().saturating_sub(self.shown_at);
        let patience = LONGEST_SILENCE.saturating_sub(silent).max(SHORTEST_PAUSE);
        let changed = tokio::time::timeout(patience, self.applied.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return Err(Fault::new(
                ErrorCode::Unavailable,
                "this coordinator is shutting down",
            ));
        }
        self.api.own_view(self.job).ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!("job {} has been forgotten", self.job),
            )
        })
    }

    fn is_worth_showing(&self, job: &v1::Job) -> bool {
        let Some(shown) = &self.shown else {
            return true;
        };
        if job.applied_index < shown.applied_index {
            return false;
        }
        let silent = self.now().saturating_sub(self.shown_at) >= LONGEST_SILENCE;
        silent || timeless(job) != timeless(shown)
    }
}

/// A view without what changes by itself.
fn timeless(job: &v1::Job) -> v1::Job {
    v1::Job {
        applied_index: 0,
        hold_age_seconds: 0.0,
        ..job.clone()
    }
}

fn is_terminal(state: &str) -> bool {
    JobState::ALL
        .iter()
        .any(|known| known.is_terminal() && known.as_str() == state)
}
