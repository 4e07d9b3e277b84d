//! The first stage of a backup: reads parts from a source.

use futures::StreamExt;
use holdfast_source::{ReadRequest, Row, RowStream, Source};
use holdfast_types::{ErrorCode, Fault};
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::activity::Activity;
use super::part::{Part, PartBuilder};
use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;
use crate::bounds::SOURCE_BATCH_DEADLINE;

/// Reads one part after another from where the last one ended. Asked for nothing, it reads nothing; the stream stays open meanwhile. Besides
/// the part it holds the rest of one batch.
pub(crate) struct Reader {
    source: Arc<dyn Source>,
    request: ReadRequest,
    stream: Option<RowStream>,
    ended: bool,
    rest: Peekable<IntoIter<Row>>,
    /// Bytes in `rest`.
    rest_bytes: u64,
    gate: Gate,
    activity: Activity,
}

impl Reader {
    pub(crate) fn new(ticket: &Ticket, source: Arc<dyn Source>, request: ReadRequest) -> Self {
        Self {
            source,
            request,
            stream: None,
            ended: false,
            rest: Vec::new().into_iter().peekable(),
            rest_bytes: 0,
            gate: ticket.shared.gate.clone(),
            activity: ticket.activity.clone(),
        }
    }

    /// The next batch of the source; `false` at the end of the range.
    async fn fetch(&mut self) -> Result<bool, Fault> {
        self.gate.check()?;
        let next = async {
            if self.stream.is_none() {
                self.stream = Some(self.source.read(self.request.clone()).await?);
            }
            match &mut self.stream {
                Some(stream) => stream.next().await.transpose(),
                None => Ok(None),
            }
        };
        let batch = tokio::time::timeout(SOURCE_BATCH_DEADLINE, next)
            .await
            .map_err(|_| {
                Fault::new(
                    ErrorCode::DeadlineExceeded,
                    format!("no rows came for {} s", SOURCE_BATCH_DEADLINE.as_secs()),
                )
            })??;
        let Some(batch) = batch else {
            self.ended = true;
            self.stream = None;
            return Ok(false);
        };
        if batch
            .iter()
            .any(|row| !self.request.range.contains(&row.key))
        {
            return Err(Fault::new(
                ErrorCode::Internal,
                "the source gave a row outside of the range that was read",
            ));
        }
        self.rest_bytes = batch.iter().map(|row| row.logical_len() as u64).sum();
        self.activity.read(self.rest_bytes);
        self.rest = batch.into_iter().peekable();
        Ok(true)
    }
}

impl Stage for Reader {
    /// Logical bytes after which the part is closed.
    type Input = u64;
    type Output = Part;
    const NAME: &'static str = "reader";

    async fn run(&mut self, limit: u64) -> Result<Part, Fault> {
        self.activity.committed(self.rest_bytes);
        let mut builder = PartBuilder::new(limit);
        loop {
            while let Some(row) = self.rest.next_if(|row| !builder.is_full_for(row)) {
                self.rest_bytes = self.rest_bytes.saturating_sub(row.logical_len() as u64);
                builder.push(row);
            }
            // A batch never splits the versions of a key: a part that is full at its end is whole.
            if self.rest.peek().is_some() || builder.is_full() {
                return Ok(finish(builder, false));
            }
            if self.ended || !self.fetch().await? {
                return Ok(finish(builder, true));
            }
        }
    }
}

fn finish(builder: PartBuilder, last: bool) -> Part {
    let mut part = builder.finish(last, 0);
    part.read = part.logical;
    part
}
