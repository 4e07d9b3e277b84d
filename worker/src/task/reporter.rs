//! The last stage: tells the leader, and waits until it counts.

use actix::Addr;
use holdfast_proto::{Lease, LeaseReport, LeaseReportBody};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

use super::stage::{Stage, gone};
use super::ticket::Ticket;
use crate::agent::{Ack, Agent, SubmitReport};

/// Tells the leader, and waits until it counts. One report at a time, as every stage does one thing at a time: that is what keeps a stream
/// from running ahead of what is committed.
pub(crate) struct Reporter {
    lease: Lease,
    sequence: Arc<AtomicU64>,
    agent: Addr<Agent>,
}

impl Reporter {
    pub(super) fn new(ticket: &Ticket) -> Self {
        Self {
            lease: ticket.lease(),
            sequence: Arc::clone(&ticket.sequence),
            agent: ticket.agent.clone(),
        }
    }
}

impl Stage for Reporter {
    type Input = LeaseReportBody;
    type Output = Ack;
    const NAME: &'static str = "reporter";

    async fn run(&mut self, body: LeaseReportBody) -> Result<Ack, Fault> {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let (ack, answer) = oneshot::channel();
        let report = LeaseReport {
            lease: self.lease,
            sequence,
            body,
        };
        let submitted = SubmitReport { report, ack };
        self.agent
            .send(submitted)
            .await
            .map_err(|_| gone("agent"))?;
        // An answer that never comes: the lease is gone, and with it the question.
        Ok(answer.await.unwrap_or_else(|_| {
            Ack::Refused(Fault::new(
                ErrorCode::StaleEpoch,
                "the lease ended before the report was answered",
            ))
        }))
    }
}
