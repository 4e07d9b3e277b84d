//! A member over the network: [`Source`] over gRPC, as workers use it.

use async_trait::async_trait;
use holdfast_env::Net;
use holdfast_proto::v1;
use holdfast_source::{
    Capabilities, Fingerprint, ReadRequest, RestoreTable, RowBatch, RowStream, Source,
};
use holdfast_types::{
    ByteCount, Fault, HoldId, JobId, KeyRange, Position, Relation, RelationId, RowSum, TableName,
    Target, Window,
};
use std::sync::Arc;
use tonic::transport::Channel;

use crate::link::{Link, open_channel};
use crate::local::{CAPABILITIES, fingerprint};
use crate::read::hlc;
use crate::wire;

/// Bytes of rows that one message of a load carries. A load is committed by the message, and what was committed twice is stored once.
const LOAD_MESSAGE_LENGTH: usize = 2 * 1024 * 1024;

/// A member over the network. Clones share the connection.
#[derive(Debug, Clone)]
pub struct RemoteMember {
    link: Link,
}

impl RemoteMember {
    /// The member at an address (`host:port`); connecting is lazy. The name is for faults.
    ///
    /// # Errors
    /// The address is malformed.
    pub fn new(net: Arc<dyn Net>, name: &str, address: &str) -> Result<Self, Fault> {
        let channel = open_channel(net, address)?;
        Ok(Self::over(channel, name, address))
    }

    /// The member at the other end of a channel.
    pub(crate) fn over(channel: Channel, name: &str, address: &str) -> Self {
        Self {
            link: Link::new(format!("member {name} at {address}"), channel),
        }
    }

    /// The calls below the trait.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    async fn describe_as(
        &self,
        target: &Target,
        at: Position,
        dropped_after: Option<Position>,
        databases_themselves: bool,
    ) -> Result<Vec<Relation>, Fault> {
        let (databases, tables) = wire::target_to_wire(target);
        let dropped_after = dropped_after.map(hlc).transpose()?;
        let request = v1::MvccDescribeRequest {
            databases,
            tables,
            at: Some(wire::position_to_wire(hlc(at)?)),
            dropped_after: dropped_after.map(wire::position_to_wire),
            databases_themselves,
        };
        let response = self
            .link
            .call(request, |mut member, request| async move {
                member.describe(request).await
            })
            .await?;
        response
            .relations
            .into_iter()
            .map(wire::relation_from_wire)
            .collect()
    }

    async fn load_message(
        &self,
        job: JobId,
        table: &TableName,
        rows: Vec<v1::MvccRow>,
    ) -> Result<(), Fault> {
        let request = v1::MvccLoadRequest {
            job: job.0,
            table: Some(wire::table_to_wire(table)),
            rows,
        };
        self.link
            .call(request, |mut member, request| async move {
                member.load(request).await
            })
            .await
            .map(|_| ())
    }
}

#[async_trait]
impl Source for RemoteMember {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn position(&self, at_least: Position) -> Result<Position, Fault> {
        let request = v1::MvccPositionRequest {
            at_least: Some(wire::position_to_wire(hlc(at_least)?)),
        };
        let position = self
            .link
            .call(request, |mut member, request| async move {
                member.position(request).await
            })
            .await?;
        Ok(Position::Hlc(wire::position_from_wire(position)))
    }

    async fn hold(&self, hold: HoldId, at: Position) -> Result<(), Fault> {
        let request = v1::MvccHoldRequest {
            hold: hold.0,
            at: Some(wire::position_to_wire(hlc(at)?)),
        };
        self.link
            .call(request, |mut member, request| async move {
                member.hold(request).await
            })
            .await
            .map(|_| ())
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        let request = v1::MvccReleaseRequest { hold: hold.0 };
        self.link
            .call(request, |mut member, request| async move {
                member.release(request).await
            })
            .await
            .map(|_| ())
    }

    async fn describe(&self, target: &Target, at: Position) -> Result<Vec<Relation>, Fault> {
        self.describe_as(target, at, None, false).await
    }

    async fn dropped(
        &self,
        target: &Target,
        after: Position,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        self.describe_as(target, upto, Some(after), false).await
    }

    async fn describe_databases(
        &self,
        target: &Target,
        after: Option<Position>,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        self.describe_as(target, upto, after, true).await
    }

    async fn databases(&self, at: Position) -> Result<Vec<String>, Fault> {
        let request = v1::MvccDatabasesRequest {
            at: Some(wire::position_to_wire(hlc(at)?)),
        };
        self.link
            .call(request, |mut member, request| async move {
                member.databases(request).await
            })
            .await
            .map(|response| response.names)
    }

    async fn plan(
        &self,
        relation: RelationId,
        window: Window,
        target_bytes: ByteCount,
    ) -> Result<Vec<(KeyRange, ByteCount)>, Fault> {
        let request = v1::MvccPlanRequest {
            relation: relation.0,
            window: Some(wire::window_to_wire(window)?),
            target_bytes: target_bytes.0,
        };
        let mut batches = self
            .link
            .call(request, |mut member, request| async move {
                member.plan(request).await
            })
            .await?;
        let mut ranges = Vec::new();
        while let Some(batch) = self.link.next(&mut batches).await? {
            ranges.extend(batch.ranges.into_iter().map(|planned| {
                let range = wire::range_from_wire(planned.range);
                (range, ByteCount(planned.bytes))
            }));
        }
        Ok(ranges)
    }

    async fn read(&self, request: ReadRequest) -> Result<RowStream, Fault> {
        let request = v1::MvccReadRequest {
            relation: request.relation.0,
            range: Some(wire::range_to_wire(&request.range)),
            window: Some(wire::window_to_wire(request.window)?),
        };
        self.link.read(request).await
    }

    async fn prepare_restore(
        &self,
        job: JobId,
        tables: &[RestoreTable],
        into_existing: bool,
    ) -> Result<(), Fault> {
        let tables = tables
            .iter()
            .map(|table| {
                Ok(v1::MvccRestoreTable {
                    relation: Some(wire::relation_to_wire(&table.relation)?),
                    name: Some(wire::table_to_wire(&table.name)),
                })
            })
            .collect::<Result<_, Fault>>()?;
        let request = v1::MvccPrepareRequest {
            job: job.0,
            tables,
            into_existing,
        };
        self.link
            .call(request, |mut member, request| async move {
                member.prepare_restore(request).await
            })
            .await
            .map(|_| ())
    }

    async fn load(&self, job: JobId, table: &TableName, rows: RowBatch) -> Result<(), Fault> {
        let mut rows = rows.into_iter().peekable();
        // Also without rows: whether the table is there must be known.
        loop {
            let (mut part, mut length) = (Vec::new(), 0);
            while length < LOAD_MESSAGE_LENGTH
                && let Some(row) = rows.next()
            {
                length += row.logical_len() + 32;
                part.push(wire::row_to_wire(row)?);
            }
            self.load_message(job, table, part).await?;
            if rows.peek().is_none() {
                return Ok(());
            }
        }
    }

    async fn fingerprint(
        &self,
        job: Option<JobId>,
        table: &TableName,
        range: KeyRange,
        at: Option<Position>,
    ) -> Result<Fingerprint, Fault> {
        let at = at.map(hlc).transpose()?.map(wire::position_to_wire);
        let mut request = v1::MvccFingerprintRequest {
            job: job.unwrap_or_default().0,
            table: Some(wire::table_to_wire(table)),
            range: Some(wire::range_to_wire(&range)),
            at,
        };
        let mut total = RowSum::default();
        loop {
            let step = self
                .link
                .call(request.clone(), |mut member, request| async move {
                    member.fingerprint(request).await
                })
                .await?;
            total.merge(&wire::sum_from_wire(step.rows, step.bytes, &step.digest)?);
            if !step.more {
                return Ok(fingerprint(total));
            }
            request.at = step.at;
            if let Some(range) = request.range.as_mut() {
                range.start = step.next;
            }
        }
    }

    async fn publish(&self, job: JobId) -> Result<(), Fault> {
        let request = v1::MvccPublishRequest { job: job.0 };
        self.link
            .call(request, |mut member, request| async move {
                member.publish(request).await
            })
            .await
            .map(|_| ())
    }

    async fn discard_restore(&self, job: JobId) -> Result<(), Fault> {
        let request = v1::MvccDiscardRequest { job: job.0 };
        while self
            .link
            .call(request, |mut member, request| async move {
                member.discard(request).await
            })
            .await?
            .more
        {}
        Ok(())
    }
}
