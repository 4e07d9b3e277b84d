//! Reading a member's table as an application or an auditor would.

use futures::StreamExt;
use holdfast_mvcc::MvccClient;
use holdfast_source::{Change, Row, RowBatch, RowStream};
use holdfast_types::{Fault, Hlc, KeyRange, TableName};

/// The rows of one table at one position, one by one, a batch in memory at a time.
pub(crate) struct Rows {
    stream: RowStream,
    batch: std::vec::IntoIter<Row>,
}

impl Rows {
    /// Starts to read a table as of a position, or as of now.
    pub(crate) async fn open(
        member: &MvccClient,
        table: &TableName,
        at: Option<Hlc>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            stream: member.scan(table, KeyRange::all(), at).await?,
            batch: RowBatch::new().into_iter(),
        })
    }

    /// The next row.
    pub(crate) async fn next(&mut self) -> Result<Option<(bytes::Bytes, bytes::Bytes)>, Fault> {
        loop {
            for row in self.batch.by_ref() {
                if let Change::Put(value) = row.change {
                    return Ok(Some((row.key, value)));
                }
            }
            match self.stream.next().await.transpose()? {
                Some(batch) => self.batch = batch.into_iter(),
                None => return Ok(None),
            }
        }
    }
}
