//! The second stage of a restore: writes rows to the member.

use futures::stream::{self, StreamExt, TryStreamExt};
use holdfast_source::{Row, RowBatch, Source};
use holdfast_types::{Fault, JobId, TableName};
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;
use crate::bounds::{LOAD_BATCH, LOADS_IN_FLIGHT};

/// Writes the rows of one table.
pub(crate) struct Loader {
    source: Arc<dyn Source>,
    job: JobId,
    table: TableName,
    gate: Gate,
}

impl Loader {
    pub(crate) fn new(ticket: &Ticket, source: Arc<dyn Source>, table: TableName) -> Self {
        Self {
            source,
            job: ticket.lease().task.job,
            table,
            gate: ticket.shared.gate.clone(),
        }
    }
}

impl Stage for Loader {
    type Input = RowBatch;
    type Output = ();
    const NAME: &'static str = "loader";

    async fn run(&mut self, rows: RowBatch) -> Result<(), Fault> {
        let mut rows = rows.into_iter().peekable();
        let batches = std::iter::from_fn(|| next_batch(&mut rows));
        let this = &*self;
        // Several at once, so that a source that syncs its disk for each finds the next ones waiting and syncs once for all.
        stream::iter(batches)
            .map(|batch| async move {
                this.gate.check()?;
                this.source.load(this.job, &this.table, batch).await
            })
            .buffer_unordered(LOADS_IN_FLIGHT)
            .try_collect()
            .await
    }
}

/// Rows for one call; `None` at the end.
fn next_batch(rows: &mut Peekable<IntoIter<Row>>) -> Option<RowBatch> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(row) =
        rows.next_if(|row| batch.is_empty() || bytes + row.logical_len() as u64 <= LOAD_BATCH)
    {
        bytes += row.logical_len() as u64;
        batch.push(row);
    }
    (!batch.is_empty()).then_some(batch)
}
