//! A member in the same process: [`Source`] directly on a store.

use async_trait::async_trait;
use futures::TryStreamExt;
use holdfast_source::{
    Capabilities, Fingerprint, ReadRequest, RestoreTable, RowBatch, RowStream, Source,
};
use holdfast_types::{
    ByteCount, Fault, HoldId, JobId, KeyRange, Position, Relation, RelationId, RowSum, TableName,
    Target, Window,
};

use crate::read::hlc;
use crate::store::MvccStore;

/// What an mvcc source can do.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    time_travel: true,
    changes: true,
    restore: true,
};

/// A member in the same process.
#[derive(Debug, Clone)]
pub struct LocalMember(MvccStore);

impl LocalMember {
    /// The member that a store is.
    #[must_use]
    pub fn new(store: MvccStore) -> Self {
        Self(store)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &MvccStore {
        &self.0
    }
}

/// A sum of rows as sources report it.
pub(crate) fn fingerprint(sum: RowSum) -> Fingerprint {
    Fingerprint {
        rows: sum.rows,
        bytes: sum.bytes,
        digest: sum.digest,
    }
}

#[async_trait]
impl Source for LocalMember {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn position(&self, at_least: Position) -> Result<Position, Fault> {
        self.0.position(hlc(at_least)?).await.map(Position::Hlc)
    }

    async fn hold(&self, hold: HoldId, at: Position) -> Result<(), Fault> {
        self.0.hold(hold, hlc(at)?).await
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        self.0.release(hold).await
    }

    async fn describe(&self, target: &Target, at: Position) -> Result<Vec<Relation>, Fault> {
        self.0.describe(target, hlc(at)?).await
    }

    async fn dropped(
        &self,
        target: &Target,
        after: Position,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        self.0.dropped(target, hlc(after)?, hlc(upto)?).await
    }

    async fn describe_databases(
        &self,
        target: &Target,
        after: Option<Position>,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        let after = after.map(hlc).transpose()?;
        self.0.describe_databases(target, after, hlc(upto)?).await
    }

    async fn databases(&self, at: Position) -> Result<Vec<String>, Fault> {
        self.0.databases(hlc(at)?).await
    }

    async fn plan(
        &self,
        relation: RelationId,
        window: Window,
        target_bytes: ByteCount,
    ) -> Result<Vec<(KeyRange, ByteCount)>, Fault> {
        let plan = self.0.plan(relation, window, target_bytes).await?;
        plan.try_concat().await
    }

    async fn read(&self, request: ReadRequest) -> Result<RowStream, Fault> {
        self.0
            .read(request.relation, request.range, request.window)
            .await
    }

    async fn prepare_restore(
        &self,
        job: JobId,
        tables: &[RestoreTable],
        into_existing: bool,
    ) -> Result<(), Fault> {
        self.0.prepare_restore(job, tables, into_existing).await
    }

    async fn load(&self, job: JobId, table: &TableName, rows: RowBatch) -> Result<(), Fault> {
        self.0.load(job, table, rows).await
    }

    async fn fingerprint(
        &self,
        job: Option<JobId>,
        table: &TableName,
        range: KeyRange,
        at: Option<Position>,
    ) -> Result<Fingerprint, Fault> {
        let at = at.map(hlc).transpose()?;
        let sum = self.0.fingerprint(job, table, range, at).await?;
        Ok(fingerprint(sum))
    }

    async fn publish(&self, job: JobId) -> Result<(), Fault> {
        self.0.publish(job).await
    }

    async fn discard_restore(&self, job: JobId) -> Result<(), Fault> {
        self.0.discard_restore(job).await
    }
}
