//! A client for applications.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::Net;
use holdfast_proto::{CallKind, v1};
use holdfast_source::{Change, ReadRequest, Row, RowStream, Source};
use holdfast_types::{Fault, Hlc, KeyRange, Millis, Position, Relation, TableName, Target, Window};
use std::sync::Arc;

use crate::gc::GcStep;
use crate::mutation::{Mutation, check_transaction};
use crate::read::hlc;
use crate::remote::RemoteMember;
use crate::store::MemberStatus;
use crate::wire;

/// An application's client of one member. Clones share the connection.
///
/// Calls that change something fail with `Unknown` when their answer is lost: it may or may not have happened.
#[derive(Debug, Clone)]
pub struct MvccClient {
    member: RemoteMember,
}

impl MvccClient {
    /// A client of the member at an address (`host:port`); connecting is lazy.
    ///
    /// # Errors
    /// The address is malformed.
    pub fn new(net: Arc<dyn Net>, address: &str) -> Result<Self, Fault> {
        let member = RemoteMember::new(net, "mvcc", address)?;
        Ok(Self { member })
    }

    /// The member as a backup sees it.
    #[must_use]
    pub fn source(&self) -> &RemoteMember {
        &self.member
    }

    /// Waits for an answer from the member.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self) -> Result<(), Fault> {
        self.member
            .link()
            .call(
                v1::MvccPing { nonce: 1 },
                |mut member, request| async move { member.ping(request).await },
            )
            .await
            .map(|_| ())
    }

    /// The member's present position.
    ///
    /// # Errors
    /// The member cannot be reached.
    pub async fn position(&self) -> Result<Hlc, Fault> {
        hlc(self.member.position(Position::Hlc(Hlc::ZERO)).await?)
    }

    /// Makes a database.
    ///
    /// # Errors
    /// The name is taken, or illegal.
    pub async fn create_database(&self, name: &str) -> Result<Hlc, Fault> {
        let request = v1::MvccCreateDatabaseRequest {
            name: name.to_owned(),
        };
        let link = self.member.link();
        link.call_as(
            CallKind::Mutation,
            request,
            |mut member, request| async move { member.create_database(request).await },
        )
        .await
        .map(wire::position_from_wire)
    }

    /// Makes a table; the definition is opaque to the store.
    ///
    /// # Errors
    /// The database does not exist, or the name is taken or illegal.
    pub async fn create_table(
        &self,
        name: &TableName,
        definition: impl Into<Bytes>,
    ) -> Result<Relation, Fault> {
        let request = v1::MvccCreateTableRequest {
            name: Some(wire::table_to_wire(name)),
            definition: definition.into(),
        };
        let link = self.member.link();
        let relation = link
            .call_as(
                CallKind::Mutation,
                request,
                |mut member, request| async move { member.create_table(request).await },
            )
            .await?;
        wire::relation_from_wire(relation)
    }

    /// Drops a table.
    ///
    /// # Errors
    /// There is no such table.
    pub async fn drop_table(&self, name: &TableName) -> Result<Hlc, Fault> {
        let request = v1::MvccDropTableRequest {
            name: Some(wire::table_to_wire(name)),
        };
        let link = self.member.link();
        link.call_as(
            CallKind::Mutation,
            request,
            |mut member, request| async move { member.drop_table(request).await },
        )
        .await
        .map(wire::position_from_wire)
    }

    /// Drops a database with its tables.
    ///
    /// # Errors
    /// There is no such database, or a restore is filling it.
    pub async fn drop_database(&self, name: &str) -> Result<Hlc, Fault> {
        let request = v1::MvccDropDatabaseRequest {
            name: name.to_owned(),
        };
        let link = self.member.link();
        link.call_as(
            CallKind::Mutation,
            request,
            |mut member, request| async move { member.drop_database(request).await },
        )
        .await
        .map(wire::position_from_wire)
    }

    /// Commits a transaction: all mutations at one position, or none.
    ///
    /// # Errors
    /// A table that does not exist; a row or transaction that is too large; a full disk.
    pub async fn write(&self, mutations: Vec<Mutation>) -> Result<Hlc, Fault> {
        self.commit(mutations, None).await
    }

    /// Commits a transaction, unless one of its keys has changed since a position (`FailedPrecondition`).
    ///
    /// # Errors
    /// As for [`MvccClient::write`].
    pub async fn write_unless_changed(
        &self,
        mutations: Vec<Mutation>,
        since: Hlc,
    ) -> Result<Hlc, Fault> {
        self.commit(mutations, Some(since)).await
    }

    async fn commit(&self, mutations: Vec<Mutation>, since: Option<Hlc>) -> Result<Hlc, Fault> {
        // Here as well as at the member: a message that is too large would be refused by the transport, without a good reason.
        check_transaction(&mutations)?;
        let request = v1::MvccWriteRequest {
            mutations: mutations.into_iter().map(wire::mutation_to_wire).collect(),
            unless_changed_since: since.map(wire::position_to_wire),
        };
        let link = self.member.link();
        link.call_as(
            CallKind::Mutation,
            request,
            |mut member, request| async move { member.write(request).await },
        )
        .await
        .map(wire::position_from_wire)
    }

    /// Reads one row as of a position, or as of now, and tells as of when.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn get(
        &self,
        table: &TableName,
        key: impl Into<Bytes>,
        at: Option<Hlc>,
    ) -> Result<(Hlc, Option<Row>), Fault> {
        let request = v1::MvccGetRequest {
            table: Some(wire::table_to_wire(table)),
            key: key.into(),
            at: at.map(wire::position_to_wire),
        };
        let response = self
            .member
            .link()
            .call(request, |mut member, request| async move {
                member.get(request).await
            })
            .await?;
        let at = wire::required(response.at, "the position that was read")?;
        Ok((at, response.row.map(wire::row_from_wire)))
    }

    /// The table that has a name at a position.
    ///
    /// # Errors
    /// There is none.
    pub async fn table(&self, table: &TableName, at: Hlc) -> Result<Relation, Fault> {
        let target = Target::Tables(vec![table.clone()]);
        let relations = self.member.describe(&target, Position::Hlc(at)).await?;
        relations
            .into_iter()
            .next()
            .ok_or_else(|| wire::missing("the table that was asked for"))
    }

    /// Streams the rows of a table as of a position or now, in key order.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn scan(
        &self,
        table: &TableName,
        range: KeyRange,
        at: Option<Hlc>,
    ) -> Result<RowStream, Fault> {
        let at = match at {
            Some(at) => at,
            None => self.position().await?,
        };
        let relation = self.table(table, at).await?.id;
        let window = Window {
            after: None,
            upto: Position::Hlc(at),
            history: false,
        };
        let request = ReadRequest {
            relation,
            range,
            window,
        };
        self.member.read(request).await
    }

    /// All rows of a table as of a position or now: for small tables and tests.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn rows(
        &self,
        table: &TableName,
        at: Option<Hlc>,
    ) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let mut stream = self.scan(table, KeyRange::all(), at).await?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            for row in batch? {
                if let Change::Put(value) = row.change {
                    rows.push((row.key, value));
                }
            }
        }
        Ok(rows)
    }

    /// Streams every version of a table's rows in `(after, upto]`, deletions included: with `after` zero, the whole history of a member
    /// whose garbage has never been collected.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn history(
        &self,
        table: &TableName,
        after: Hlc,
        upto: Hlc,
    ) -> Result<RowStream, Fault> {
        let relation = self.table(table, upto).await?.id;
        let request = ReadRequest {
            relation,
            range: KeyRange::all(),
            window: Window {
                after: Some(Position::Hlc(after)),
                upto: Position::Hlc(upto),
                history: true,
            },
        };
        self.member.read(request).await
    }

    /// Discards all history that is older than the time to live (the setting, or another one) and not held.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn collect_garbage(&self, ttl: Option<Millis>) -> Result<GcStep, Fault> {
        let mut removed = 0;
        loop {
            let request = v1::MvccGcRequest {
                ttl_ms: ttl.map(|ttl| ttl.0),
            };
            let step = self
                .member
                .link()
                .call(request, |mut member, request| async move {
                    member.collect_garbage(request).await
                })
                .await?;
            removed += step.removed;
            if !step.more {
                return Ok(GcStep {
                    threshold: wire::required(step.threshold, "a threshold")?,
                    removed,
                    more: false,
                });
            }
        }
    }

    /// Sets how long history is kept.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn set_time_to_live(&self, ttl: Millis) -> Result<(), Fault> {
        let request = v1::MvccTtlRequest { ttl_ms: ttl.0 };
        self.member
            .link()
            .call(request, |mut member, request| async move {
                member.set_time_to_live(request).await
            })
            .await
            .map(|_| ())
    }

    /// What the member holds and has served.
    ///
    /// # Errors
    /// The member cannot be reached.
    pub async fn status(&self) -> Result<MemberStatus, Fault> {
        let status = self
            .member
            .link()
            .call(v1::MvccStatusRequest {}, |mut member, request| async move {
                member.status(request).await
            })
            .await?;
        wire::status_from_wire(status)
    }
}
