//! The second stage of a restore: writes rows to the member.

use holdfast_source::{RowBatch, Source};
use holdfast_types::{Fault, JobId, TableName};
use std::sync::Arc;

use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;
use crate::bounds::LOAD_BATCH;

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
        while rows.peek().is_some() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(row) = rows
                .next_if(|row| batch.is_empty() || bytes + row.logical_len() as u64 <= LOAD_BATCH)
            {
                bytes += row.logical_len() as u64;
                batch.push(row);
            }
            self.gate.check()?;
            self.source.load(self.job, &self.table, batch).await?;
        }
        Ok(())
    }
}
