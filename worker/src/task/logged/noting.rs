//! Telling the leader what a source noted.

use holdfast_proto::LeaseReportBody;
use holdfast_source::Notes;
use std::pin::pin;
use std::time::Duration;

use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

/// How often one looks for notes: a worker that dies takes those since then along.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Tells the leader what was noted since the last time. No other report of the task may be under way.
pub(super) async fn tell(ticket: &Ticket, notes: &Notes) -> Result<(), Halt> {
    let notes = notes.take();
    if notes.is_empty() {
        return Ok(());
    }
    notes.iter().for_each(|note| tracing::warn!(note, "noted"));
    let body = LeaseReportBody::Notes { notes };
    ticket.report(&ticket.reporter(), body).await
}

/// Does something that reports nothing by itself, and tells the leader what is noted meanwhile, also if it fails.
pub(super) async fn noting<T>(
    ticket: &Ticket,
    notes: &Notes,
    doing: &str,
    work: impl Future<Output = Result<T, Halt>>,
) -> Result<T, Halt> {
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(TOLD_EVERY, &mut work).await {
            Ok(Ok(done)) => return tell(ticket, notes).await.map(|()| done),
            Ok(Err(Halt::Failed(fault))) => {
                tell(ticket, notes).await?;
                return Err(Halt::Failed(fault));
            }
            Ok(Err(halt)) => return Err(halt),
            Err(_) if notes.is_empty() => {}
            Err(_) => {
                tell(ticket, notes).await?;
                ticket.activity.doing(doing);
            }
        }
    }
}
