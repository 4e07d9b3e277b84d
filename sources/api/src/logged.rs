//! The contract between Holdfast and a database whose history is a log.
//!
//! Such a source cannot be read as of the past, and knows where a backup ends only when it is there. A backup of a member is therefore
//! in three steps: [`LoggedSource::begin`] places the hold and cuts the member; spans are read, in any order, at different
//! moments; and when all of them are done, the **settling** spans make one state of them, say where it ends, and write what the
//! member's part of the layer consists of, its catalogs. Layers of such a source are read through their catalogs, which nobody but
//! the source understands.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use holdfast_types::{
    ByteCount, DatabaseName, ErrorCode, Fault, HoldId, JobId, KeyRange, Position, Relation,
    RelationId, RestoreOptions, RowCount, RowSum, SettledDatabase, TableName, Target,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use crate::check::{HoldStanding, MemberCheck};
use crate::notes::Notes;
use crate::row::RowBatch;
use crate::steps::Steps;

/// A backup of one member.
#[derive(Debug, Clone)]
pub struct LoggedBackup {
    /// The job.
    pub job: JobId,
    /// The hold: it is there when [`LoggedSource::begin`] returns. An incremental's is its chain's.
    pub hold: HoldId,
    /// What is covered.
    pub target: Target,
    /// Whether the source has other members: this one need not have every database and table that is named, and plans those that it has,
    /// perhaps none. Whether any member has one is looked at when all have been planned: the plan describes at least one relation for
    /// each name of the target that the member has, be it one without spans.
    pub partial: bool,
    /// The parent layer's catalogs of this member; empty for a full, and for a member that had nothing of what is covered.
    pub parent: Vec<Bytes>,
    /// Whether every change since the parent's end is kept, so that each commit can be restored.
    pub history: bool,
    /// Bytes after which a part is closed.
    pub part_size: ByteCount,
    /// What whoever asked for it should know.
    pub notes: Notes,
    /// What it is busy with now.
    pub steps: Steps,
}

/// A relation and the spans that it is cut into, from the open start to the open end.
///
/// What the bounds mean is the source's business; a range is read in the order of its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRelation {
    /// The relation. A settling one stands for a database, by whose name it goes ([`TableName::of_database`]).
    pub relation: Relation,
    /// Its spans, each with its estimated bytes. A relation may have none; a settling one has one, the open range.
    pub spans: Vec<(KeyRange, ByteCount)>,
    /// Whether it is read when all others of the member are done.
    pub settles: bool,
}

/// Where rows go, object by object.
///
/// Rows are packed while the source reads on, so that an error of theirs may come with a later call, at the latest with the end of their
/// object. After an error, and after a call that was dropped before it returned, every other call fails.
#[async_trait]
pub trait TupleOutlet: Send {
    /// Begins an object of rows in the form of PostgreSQL's `COPY … BINARY`, of that many columns. The one before must have ended.
    async fn begin_tuples(&mut self, columns: u16) -> Result<(), Fault>;

    /// Adds whole rows, without header and trailer.
    async fn tuples(&mut self, rows: Bytes) -> Result<(), Fault>;

    /// Ends the object, and gives its name; `None` if it would be empty.
    async fn end_tuples(&mut self) -> Result<Option<String>, Fault>;
}

/// Where a source puts what it has read. Objects are durable when [`Outlet::advance`] returns, and belong to the layer only then.
#[async_trait]
pub trait Outlet: TupleOutlet {
    /// A way to write objects of rows beside this one and other lanes. They belong to what [`Outlet::advance`] is told of next, by when they must
    /// have ended; an error in one is an error in all.
    fn lane(&mut self) -> Result<Box<dyn TupleOutlet>, Fault>;

    /// Writes an object of row versions, sorted by key, the newest version of a key first. Batches come one after another until
    /// [`Outlet::end_rows`].
    async fn rows(&mut self, rows: RowBatch) -> Result<(), Fault>;

    /// Ends the object of row versions, and gives its name; `None` if it would be empty.
    async fn end_rows(&mut self) -> Result<Option<String>, Fault>;

    /// Writes an object in the source's own terms, such as a catalog or a dump of a schema, and gives its name.
    async fn catalog(&mut self, bytes: Bytes) -> Result<String, Fault>;

    /// Everything up to `upto` is done (`None`: the whole range), with the objects since the last call. Returns when that counts; after an
    /// error nothing may go on. A settling span, which is one step, only tells here what it has read: its objects count when it is done.
    async fn advance(&mut self, upto: Option<Bytes>, read: ByteCount) -> Result<(), Fault>;
}

/// Rows of a tuple object, ready for `COPY … FROM`.
#[derive(Debug, Clone)]
pub struct TupleBlock {
    /// Whole rows, one after another.
    pub bytes: Bytes,
    /// Where each of them is.
    pub rows: Vec<Range<usize>>,
}

/// What a restore reads: a chain's layers, oldest first, of one member.
#[async_trait]
pub trait Inlet: Send + Sync {
    /// How many layers there are.
    fn layers(&self) -> usize;

    /// A layer's catalogs, one per database: the last object that each of its settling spans wrote.
    async fn catalogs(&self, layer: usize) -> Result<Vec<Bytes>, Fault>;

    /// An object in the source's own terms.
    async fn blob(&self, layer: usize, name: &str) -> Result<Bytes, Fault>;

    /// Names of the objects that the spans of a relation wrote, in the order of their ranges.
    async fn objects(&self, layer: usize, relation: RelationId) -> Result<Vec<String>, Fault>;

    /// The rows of a tuple object.
    fn tuples(&self, layer: usize, name: &str) -> BoxStream<'static, Result<TupleBlock, Fault>>;

    /// The row versions of some objects of a layer in a range of keys, merged by key, the newest version of a key first. Those of one key
    /// may come in more than one batch.
    fn rows(
        &self,
        layer: usize,
        names: &[String],
        range: KeyRange,
    ) -> BoxStream<'static, Result<RowBatch, Fault>>;
}

/// A restore onto one member.
#[derive(Debug, Clone)]
pub struct LoggedRestore {
    /// The job.
    pub job: JobId,
    /// What is restored.
    pub target: Target,
    /// What is restored unless it is the newest layer's end: the instant, by the clock ([`Position::Hlc`]), or what was committed before a
    /// place in the member's own log.
    pub as_of: Option<Position>,
    /// Databases that get another name: old → new.
    pub databases: BTreeMap<DatabaseName, DatabaseName>,
    /// Tables that get another name, database or schema: old → new.
    pub tables: BTreeMap<TableName, TableName>,
    /// Whether single tables go into databases that exist (`true`), or whole databases are made.
    pub into_existing: bool,
    /// What else is wished of it.
    pub options: RestoreOptions,
    /// Bytes after which loading is checkpointed.
    pub part_size: ByteCount,
    /// What whoever asked for it should know.
    pub notes: Notes,
    /// What it is busy with now.
    pub steps: Steps,
}

/// How a load tells how far it is.
#[async_trait]
pub trait LoadProgress: Send {
    /// Everything up to `upto` is loaded and durable (`None`: the whole range).
    async fn advance(
        &mut self,
        upto: Option<Bytes>,
        read: ByteCount,
        written: ByteCount,
        rows: RowCount,
    ) -> Result<(), Fault>;
}

/// A client of one member whose history is a log. See the module.
///
/// Every method may be called again after a failure or a crash, with the same arguments (idempotent), and may be dropped at any
/// await: the member then stops by itself. Errors that pass by themselves are `Unavailable`; everything else fails the task.
#[async_trait]
pub trait LoggedSource: Debug + Send + Sync {
    /// Looks whether, and how, everything on the member can be backed up, and how its holds stand. Nothing is changed.
    async fn check(&self) -> Result<MemberCheck, Fault> {
        Ok(MemberCheck::default())
    }

    /// Places the hold, or finds it in place, describes the member and cuts it. `HistoryGone` if the parent's hold is lost: the chain is
    /// broken.
    async fn begin(&self, backup: &LoggedBackup) -> Result<Vec<LoggedRelation>, Fault>;

    /// Reads a range of a relation.
    async fn read(
        &self,
        backup: &LoggedBackup,
        relation: &Relation,
        range: KeyRange,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault>;

    /// Settles a database, whose other relations are `planned`; the whole span is one step. The last object that it writes is the
    /// database's catalog, by [`Outlet::catalog`].
    async fn settle(
        &self,
        backup: &LoggedBackup,
        relation: &Relation,
        planned: &[Relation],
        outlet: &mut dyn Outlet,
    ) -> Result<SettledDatabase, Fault>;

    /// History up to `to` may go, and the hold stays.
    async fn advance_hold(&self, hold: HoldId, to: Position) -> Result<(), Fault>;

    /// Looks how a hold stands, once for each of its parts on the member; nothing if it is not there. One that keeps more than it may is
    /// given up: `HistoryGone` then. Called now and then as long as there is a hold, whether a job uses it or not.
    async fn look_after_hold(&self, hold: HoldId) -> Result<Vec<HoldStanding>, Fault> {
        let _ = hold;
        Ok(Vec::new())
    }

    /// Ends a hold; one that does not exist is no error.
    async fn release(&self, hold: HoldId) -> Result<(), Fault>;

    /// Looks what a restore would make of every object: as it was, with a difference, or not at all, and then what mends it. Nothing is
    /// changed.
    async fn check_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<MemberCheck, Fault> {
        let _ = (restore, inlet);
        Err(Fault::new(
            ErrorCode::Unsupported,
            "a restore onto this kind of source has no dry run",
        ))
    }

    /// Checks that everything can be restored, makes what the rows go into, invisible to applications, and cuts the work.
    async fn begin_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Vec<LoggedRelation>, Fault>;

    /// Loads a range of a relation, each row exactly once however often it is called.
    async fn load(
        &self,
        restore: &LoggedRestore,
        relation: &Relation,
        range: KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault>;

    /// Builds what comes after the rows, compares what was loaded, and makes everything visible at once.
    async fn finish_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault>;

    /// Undoes a restore that is not visible yet. Nothing to undo is no error.
    async fn discard_restore(&self, job: JobId) -> Result<(), Fault>;
}
