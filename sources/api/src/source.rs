//! The contract between Holdfast and a database.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use holdfast_types::{
    ByteCount, Digest, ErrorCode, Fault, HoldId, JobId, KeyRange, MemberRecord, Position, Relation,
    RelationId, RowCount, SourceKind, TableName, Target, Window,
};
use std::fmt::Debug;
use std::sync::Arc;

use crate::logged::LoggedSource;
use crate::row::RowBatch;

/// What a source can do. A job that needs more is refused at submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Reads as of a past position are possible, so that a backup can be AS OF a time.
    pub time_travel: bool,
    /// The versions between two positions can be read, so that incrementals and history are possible.
    pub changes: bool,
    /// Rows can be written back.
    pub restore: bool,
}

/// A read of part of a relation.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Which relation.
    pub relation: RelationId,
    /// Which keys. A resumed read passes the same end and a later start.
    pub range: KeyRange,
    /// Which versions. With `after: None` the rows visible at `upto`, deleted ones left out; otherwise what changed in
    /// `(after, upto]`, deletions included: the last version of each key, or with `history` every version.
    pub window: Window,
}

/// Batches of rows in order; the stream ends at the end of the range. Memory is bounded by one batch at a time; a batch
/// never splits the versions of one key.
pub type RowStream = BoxStream<'static, Result<RowBatch, Fault>>;

/// A table that a restore makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTable {
    /// The relation as the backup described it.
    pub relation: Relation,
    /// The name that it gets.
    pub name: TableName,
}

/// A count and an order-independent digest of a relation's visible rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Visible rows.
    pub rows: RowCount,
    /// Bytes of their keys and values.
    pub bytes: ByteCount,
    /// Byte-wise sum (mod 2^256, little endian) of the BLAKE3 digests of every row's `key length (u32 LE) ‖ key ‖ value`, so that
    /// spans can be summed in any order.
    pub digest: Digest,
}

/// A client of one member.
///
/// Every method may be called again after a failure or a crash, with the same arguments and the same result (idempotent),
/// and may be dropped at any await (cancel-safe): the member then stops by itself. Errors that pass by themselves are
/// `Unavailable`; everything else fails the task. Deadlines are the implementation's.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// What the source can do.
    fn capabilities(&self) -> Capabilities;

    /// The member's present position. It also moves the member's clock to at least `at_least`, so that everything committed
    /// later lies after it; refused with `FailedPrecondition` if that is further in the future than the member's bound.
    async fn position(&self, at_least: Position) -> Result<Position, Fault>;

    /// Keeps all history after `at` from being discarded until released. `HistoryGone` if some already is.
    async fn hold(&self, hold: HoldId, at: Position) -> Result<(), Fault>;

    /// Ends a hold; one that does not exist is no error.
    async fn release(&self, hold: HoldId) -> Result<(), Fault>;

    /// The relations of the target as of a position, sorted by id. Names in the target that do not exist are `NotFound`.
    async fn describe(&self, target: &Target, at: Position) -> Result<Vec<Relation>, Fault>;

    /// The relations of the target that were dropped in `(after, upto]`, with [`Relation::dropped_at`] set, sorted by id: a
    /// layer with history holds them up to that position. Names that do not exist are no error. `HistoryGone` if the window starts
    /// before the GC threshold.
    async fn dropped(
        &self,
        target: &Target,
        after: Position,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        let _ = (target, after, upto);
        Ok(Vec::new())
    }

    /// The databases of the target themselves, sorted by id: relations without rows whose name has no table, with ids that no other
    /// relation of the member ever has. Those that exist at `upto`, and with `after` also those dropped in `(after, upto]`. Names that
    /// do not exist are no error, and a target of tables has no databases. A source whose databases cannot be without tables has
    /// nothing to tell.
    async fn describe_databases(
        &self,
        target: &Target,
        after: Option<Position>,
        upto: Position,
    ) -> Result<Vec<Relation>, Fault> {
        let _ = (target, after, upto);
        Ok(Vec::new())
    }

    /// Names of all databases as of a position.
    async fn databases(&self, at: Position) -> Result<Vec<String>, Fault>;

    /// Cuts what a window holds of a relation into ranges of about `target_bytes`, in order, from the open start to the
    /// open end without gap or overlap, each with its estimated bytes.
    async fn plan(
        &self,
        relation: RelationId,
        window: Window,
        target_bytes: ByteCount,
    ) -> Result<Vec<(KeyRange, ByteCount)>, Fault>;

    /// Reads rows. `HistoryGone` if the window starts before the GC threshold.
    async fn read(&self, request: ReadRequest) -> Result<RowStream, Fault>;

    /// Makes the tables of a restore, and the databases that are listed themselves, invisible to the application until
    /// [`Source::publish`]. `AlreadyExists` if a name is
    /// taken by something that this restore did not make. With `into_existing` the databases must exist (`NotFound`);
    /// without, they must not (`AlreadyExists`).
    async fn prepare_restore(
        &self,
        job: JobId,
        tables: &[RestoreTable],
        into_existing: bool,
    ) -> Result<(), Fault>;

    /// Writes rows of a prepared table (`Put`s only, each key once, in order); writing the same rows again changes nothing.
    /// Durable when it returns.
    async fn load(&self, job: JobId, table: &TableName, rows: RowBatch) -> Result<(), Fault>;

    /// Count and digest of what a prepared or published table holds.
    async fn fingerprint(
        &self,
        job: Option<JobId>,
        table: &TableName,
        range: KeyRange,
        at: Option<Position>,
    ) -> Result<Fingerprint, Fault>;

    /// Makes all tables of a restore visible at once. Idempotent.
    async fn publish(&self, job: JobId) -> Result<(), Fault>;

    /// Undoes an unpublished restore: its tables, and the databases that it made. Idempotent; nothing to undo is no error.
    async fn discard_restore(&self, job: JobId) -> Result<(), Fault>;
}

/// Makes clients of members.
pub trait SourceFactory: Debug + Send + Sync {
    /// A client of a member; connecting is lazy. `Unsupported` for a kind that this build does not serve.
    ///
    /// # Errors
    /// A malformed address or an unknown kind.
    fn member(&self, kind: SourceKind, member: &MemberRecord) -> Result<Arc<dyn Source>, Fault>;

    /// A client of a member of a kind whose history is a log ([`SourceKind::is_logged`]); connecting is lazy. `Unsupported` for a kind
    /// that this build does not serve.
    ///
    /// # Errors
    /// A malformed address or an unknown kind.
    fn logged(
        &self,
        kind: SourceKind,
        member: &MemberRecord,
    ) -> Result<Arc<dyn LoggedSource>, Fault> {
        Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "member {} is of kind {kind}, which this build does not serve",
                member.name
            ),
        ))
    }
}

/// The key that follows `key` directly in memcmp order: where a read resumes after `key`.
#[must_use]
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
