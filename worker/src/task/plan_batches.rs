//! Reports a plan in batches of bounded size.

use holdfast_proto::{LeaseReportBody, to_json};
use holdfast_types::{ByteCount, KeyRange, PlannedSpan, Relation, RelationId, Sealed};

use super::halt::Halt;
use super::reporter::Reporter;
use super::stage::StageHandle;
use super::ticket::Ticket;
use crate::bounds::{PLAN_BATCH_BYTES, PLAN_BATCH_SPANS};

/// What a span costs in a message besides its bounds.
const SPAN_OVERHEAD: usize = 32;

/// Collects relations and spans, and reports them whenever a batch is full. One batch is unacknowledged at a time.
pub(crate) struct PlanBatches<'task> {
    ticket: &'task Ticket,
    reporter: StageHandle<Reporter>,
    batch: u32,
    relations: Vec<Relation>,
    spans: Vec<PlannedSpan>,
    bytes: usize,
}

impl<'task> PlanBatches<'task> {
    pub(crate) fn new(ticket: &'task Ticket) -> Self {
        Self {
            reporter: ticket.reporter(),
            ticket,
            batch: 0,
            relations: Vec::new(),
            spans: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a relation. Its spans, if any, come after it.
    pub(crate) async fn relation(&mut self, relation: &Relation) -> Result<(), Halt> {
        let bytes = to_json(relation).len();
        self.make_room(bytes).await?;
        self.bytes += bytes;
        self.relations.push(relation.clone());
        Ok(())
    }

    /// Adds a span.
    pub(crate) async fn span(
        &mut self,
        relation: RelationId,
        range: &KeyRange,
        weight: ByteCount,
    ) -> Result<(), Halt> {
        self.push(PlannedSpan {
            relation,
            start: self.ticket.seal(&range.start),
            end: self.ticket.seal(&range.end),
            weight,
            settles: false,
        })
        .await
    }

    /// Adds the span that settles a database. All that do come after all that do not.
    pub(crate) async fn settling(
        &mut self,
        relation: RelationId,
        weight: ByteCount,
    ) -> Result<(), Halt> {
        self.push(PlannedSpan {
            relation,
            start: Sealed::open_end(),
            end: Sealed::open_end(),
            weight,
            settles: true,
        })
        .await
    }

    async fn push(&mut self, span: PlannedSpan) -> Result<(), Halt> {
        let bytes = SPAN_OVERHEAD + span.start.as_bytes().len() + span.end.as_bytes().len();
        self.make_room(bytes).await?;
        self.bytes += bytes;
        self.spans.push(span);
        Ok(())
    }

    async fn make_room(&mut self, bytes: usize) -> Result<(), Halt> {
        let has_some = !self.relations.is_empty() || !self.spans.is_empty();
        if has_some
            && (self.bytes + bytes > PLAN_BATCH_BYTES || self.spans.len() >= PLAN_BATCH_SPANS)
        {
            self.send(false).await?;
        }
        Ok(())
    }

    /// Reports what is left; the plan is complete.
    pub(crate) async fn finish(mut self) -> Result<(), Halt> {
        self.send(true).await
    }

    async fn send(&mut self, last: bool) -> Result<(), Halt> {
        let body = LeaseReportBody::Plan {
            batch: self.batch,
            relations: std::mem::take(&mut self.relations),
            spans: std::mem::take(&mut self.spans),
            last,
        };
        self.ticket.report(&self.reporter, body).await?;
        self.bytes = 0;
        self.batch += 1;
        Ok(())
    }
}
