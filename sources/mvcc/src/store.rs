//! One member: the store itself, as an application embeds it.

use bytes::Bytes;
use holdfast_env::Env;
use holdfast_source::{Change, Row};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Hlc, HoldId, KeyRange, Millis, Position, Relation, RelationId,
    TableName, Target,
};
use std::sync::Arc;
use tokio::sync::Mutex as AsyncMutex;

use crate::catalogue::Visibility;
use crate::commit::{CommitQueue, Request, submit};
use crate::counters::RelationCount;
use crate::engine::Engine;
use crate::layout::ROWS;
use crate::mutation::{Mutation, check_transaction};
use crate::read::history_gone;
use crate::walk::{BatchSink, View, walk};
use crate::writer::{Shared, Step, Writer};

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Memory for pages of the store's file.
    pub cache: ByteCount,
    /// Writes are refused with `StorageFull` while the disk has less room than this, so that reads, releases of holds and garbage
    /// collection always find some.
    pub reserve: ByteCount,
    /// Reads the whole file when the store is opened, and refuses it if a single page does not match its checksum. Without it, this is done only
    /// after an unclean stop.
    pub check_integrity: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache: ByteCount(64 * 1024 * 1024),
            reserve: ByteCount(16 * 1024 * 1024),
            check_integrity: false,
        }
    }
}

/// A multi-version table store. Clones are handles of the same store.
///
/// # Concurrency
/// Any number of readers beside one writer; neither waits for the other. A read never keeps a database transaction open for
/// longer than one batch: it goes on by its position, which is repeatable because versions do not change and the garbage-collection
/// threshold is checked with every batch.
///
/// # Crash consistency
/// What was acknowledged is durable. After an unclean stop at any instant the store opens at the last acknowledged commit (or at a
/// later one whose answer was lost), and its clock goes on after every position that it ever showed.
#[derive(Debug, Clone)]
pub struct MvccStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) options: StoreOptions,
    pub(crate) engine: Arc<Engine>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Arc<AsyncMutex<Writer>>,
    pub(crate) queue: CommitQueue,
}

/// What a member holds and has served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Everything up to here is durable and will not change.
    pub position: Hlc,
    /// Reads start here at the earliest.
    pub threshold: Hlc,
    /// How long history is kept.
    pub ttl: Millis,
    /// What keeps history from being discarded.
    pub holds: Vec<(HoldId, Hlc)>,
    /// Relations that exist, or that were served since the start.
    pub relations: Vec<RelationStatus>,
    /// Bytes that the store's file takes.
    pub stored: ByteCount,
    /// Transactions and loads committed since the start.
    pub commits: u64,
}

/// What a member has served of one relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationStatus {
    /// Its id.
    pub id: RelationId,
    /// Its name; `None` if it is gone.
    pub name: Option<TableName>,
    /// `online`, `restoring` or `dropped`.
    pub state: &'static str,
    /// What was served since the start.
    pub count: RelationCount,
}

impl MvccStore {
    /// Opens the store in a directory of [`Env::disk`], making it if it is not there.
    ///
    /// # Errors
    /// The directory is in use by another process (`Unavailable`), damaged (`Corrupted`), or of an unknown format.
    pub async fn open(env: Env, directory: &str, options: StoreOptions) -> Result<Self, Fault> {
        let (disk, clock) = (Arc::clone(&env.disk), Arc::clone(&env.clock));
        let directory = directory.trim_end_matches('/').to_owned();
        let (engine, writer) = env
            .blocking(move || {
                disk.create_dir_all(&directory).map_err(|error| {
                    Fault::new(
                        ErrorCode::Unavailable,
                        format!("the directory {directory} cannot be made: {error}"),
                    )
                })?;
                let path = format!("{directory}/member.redb");
                let engine = Arc::new(Engine::open(disk, path, &options)?);
                let writer = Writer::open(Arc::clone(&engine), clock)?;
                Ok((engine, writer))
            })
            .await?;
        Ok(Self {
            inner: Arc::new(Inner {
                env,
                options,
                engine,
                shared: Arc::clone(&writer.shared),
                writer: Arc::new(AsyncMutex::new(writer)),
                queue: CommitQueue::default(),
            }),
        })
    }

    /// The environment that the store lives in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The present position. Everything committed later lies after it and after `at_least`.
    ///
    /// # Errors
    /// `FailedPrecondition` if `at_least` is more than [`crate::MAX_CLOCK_OFFSET`] ahead of the wall clock.
    pub async fn position(&self, at_least: Hlc) -> Result<Hlc, Fault> {
        self.exclusive(move |writer| writer.position(at_least))
            .await
    }

    /// Makes a database.
    ///
    /// # Errors
    /// The name is taken, or illegal.
    pub async fn create_database(&self, name: &str) -> Result<Hlc, Fault> {
        let name = name.to_owned();
        self.change_catalogue(move |catalogue, at| catalogue.create_database(&name, at))
            .await
            .map(|((), at)| at)
    }

    /// Makes a table; the definition is opaque to the store.
    ///
    /// # Errors
    /// The database does not exist, or the name is taken or illegal.
    pub async fn create_table(
        &self,
        name: &TableName,
        definition: impl Into<Vec<u8>>,
    ) -> Result<Relation, Fault> {
        let (name, definition) = (name.clone(), definition.into());
        self.change_catalogue(move |catalogue, at| catalogue.create_table(&name, definition, at))
            .await
            .map(|(relation, _)| relation)
    }

    /// Drops a table. Its history stays until garbage collection.
    ///
    /// # Errors
    /// There is no such table.
    pub async fn drop_table(&self, name: &TableName) -> Result<Hlc, Fault> {
        let name = name.clone();
        self.change_catalogue(move |catalogue, at| catalogue.drop_table(&name, at))
            .await
            .map(|((), at)| at)
    }

    /// Drops a database with its tables. Their history stays until garbage collection.
    ///
    /// # Errors
    /// There is no such database, or a restore is filling it.
    pub async fn drop_database(&self, name: &str) -> Result<Hlc, Fault> {
        let name = name.to_owned();
        self.change_catalogue(move |catalogue, at| catalogue.drop_database(&name, at))
            .await
            .map(|((), at)| at)
    }

    /// Commits a transaction: all mutations at one position, or none. Of several mutations of one key the last one counts. Durable when it
    /// returns.
    ///
    /// # Errors
    /// A table that does not exist; a row or transaction that is too large; a full disk.
    pub async fn write(&self, mutations: Vec<Mutation>) -> Result<Hlc, Fault> {
        self.commit(mutations, None).await
    }

    /// Commits a transaction, unless one of its keys has changed since a position (`FailedPrecondition`): what a
    /// read-modify-write needs.
    ///
    /// # Errors
    /// As for [`MvccStore::write`].
    pub async fn write_unless_changed(
        &self,
        mutations: Vec<Mutation>,
        since: Hlc,
    ) -> Result<Hlc, Fault> {
        self.commit(mutations, Some(since)).await
    }

    async fn commit(
        &self,
        mutations: Vec<Mutation>,
        unless_changed_since: Option<Hlc>,
    ) -> Result<Hlc, Fault> {
        let length = check_transaction(&mutations)?;
        let request = Request::Write {
            mutations,
            unless_changed_since,
        };
        submit(&self.inner, request, length).await
    }

    /// Reads one row as of a position, or as of now, and tells as of when.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn get(
        &self,
        table: &TableName,
        key: &[u8],
        at: Option<Hlc>,
    ) -> Result<(Hlc, Option<Row>), Fault> {
        let at = self.settled(at).await?;
        let (relation, created_at) = self.table_at(table, at)?;
        let view = View {
            relation,
            created_at,
            after: None,
            upto: at,
            history: false,
        };
        let range = KeyRange {
            start: Bytes::copy_from_slice(key),
            end: holdfast_source::successor(key),
        };
        let rows = self
            .reading(at, move |transaction| {
                let mut sink = BatchSink::new(1);
                walk(&transaction.open_table(ROWS)?, &view, &range, &mut sink)?;
                Ok(sink.into_rows())
            })
            .await?;
        if let Some(row) = rows.first() {
            let length = row.logical_len() as u64;
            self.inner.shared.counters.read(relation, 1, length);
        }
        Ok((at, rows.into_iter().next()))
    }

    /// All rows of a table as of a position or now, in key order: for small tables and tests. [`MvccStore::scan`] streams.
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
        while let Some(batch) = futures::StreamExt::next(&mut stream).await {
            for row in batch? {
                if let Change::Put(value) = row.change {
                    rows.push((row.key, value));
                }
            }
        }
        Ok(rows)
    }

    /// The relations of a target as of a position, sorted by id.
    ///
    /// # Errors
    /// A name does not exist there, or history is gone.
    pub async fn describe(&self, target: &Target, at: Hlc) -> Result<Vec<Relation>, Fault> {
        let at = self.settled(Some(at)).await?;
        let directory = self.inner.shared.directory();
        history_gone(at, directory.threshold)?;
        directory.catalogue.describe(target, at)
    }

    /// The relations of a target that were dropped in `(after, upto]`, sorted by id.
    ///
    /// # Errors
    /// History is gone.
    pub async fn dropped(
        &self,
        target: &Target,
        after: Hlc,
        upto: Hlc,
    ) -> Result<Vec<Relation>, Fault> {
        let upto = self.settled(Some(upto)).await?;
        let directory = self.inner.shared.directory();
        history_gone(after, directory.threshold)?;
        Ok(directory.catalogue.dropped(target, after, upto))
    }

    /// The databases of a target themselves; see [`holdfast_source::Source::describe_databases`].
    ///
    /// # Errors
    /// History is gone.
    pub async fn describe_databases(
        &self,
        target: &Target,
        after: Option<Hlc>,
        upto: Hlc,
    ) -> Result<Vec<Relation>, Fault> {
        let upto = self.settled(Some(upto)).await?;
        let directory = self.inner.shared.directory();
        history_gone(after.unwrap_or(upto), directory.threshold)?;
        let catalogue = &directory.catalogue;
        Ok(catalogue.describe_databases(target, after, upto))
    }

    /// The names of the databases as of a position, sorted.
    ///
    /// # Errors
    /// History is gone.
    pub async fn databases(&self, at: Hlc) -> Result<Vec<String>, Fault> {
        let at = self.settled(Some(at)).await?;
        let directory = self.inner.shared.directory();
        history_gone(at, directory.threshold)?;
        Ok(directory.catalogue.databases_at(at))
    }

    /// Keeps everything that is needed to read at or after a position, until released. Placing it again moves it.
    ///
    /// # Errors
    /// `HistoryGone` if some of it has been discarded already.
    pub async fn hold(&self, hold: HoldId, at: Hlc) -> Result<(), Fault> {
        if self.inner.shared.directory().holds.get(&hold) == Some(&at) {
            return Ok(());
        }
        self.exclusive(move |writer| {
            writer.change(|directory| {
                history_gone(at, directory.threshold)?;
                directory.holds.insert(hold, at);
                Ok(())
            })
        })
        .await
    }

    /// Ends a hold; one that does not exist is no error.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        if !self.inner.shared.directory().holds.contains_key(&hold) {
            return Ok(());
        }
        self.exclusive(move |writer| {
            writer.change(|directory| {
                directory.holds.remove(&hold);
                Ok(())
            })
        })
        .await
    }

    /// Sets how long history is kept. What has been discarded already stays so.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn set_time_to_live(&self, ttl: Millis) -> Result<(), Fault> {
        self.exclusive(move |writer| {
            writer.change(|directory| {
                directory.ttl = ttl;
                Ok(())
            })
        })
        .await
    }

    /// What the member holds and has served.
    ///
    /// # Errors
    /// The store's file cannot be looked at.
    pub fn status(&self) -> Result<MemberStatus, Fault> {
        let shared = &self.inner.shared;
        let directory = shared.directory();
        let mut counts = shared.counters.all();
        let mut relations: Vec<_> = directory
            .catalogue
            .relations
            .iter()
            .map(|(id, record)| RelationStatus {
                id: *id,
                name: Some(record.name.clone()),
                state: match (record.visibility, record.dropped_at) {
                    (Visibility::Online, None) => "online",
                    (Visibility::Restoring(_), _) => "restoring",
                    (Visibility::Online | Visibility::Discarded, _) => "dropped",
                },
                count: counts.remove(id).unwrap_or_default(),
            })
            .collect();
        relations.extend(counts.into_iter().map(|(id, count)| RelationStatus {
            id,
            name: None,
            state: "dropped",
            count,
        }));
        relations.sort_by_key(|relation| relation.id);
        Ok(MemberStatus {
            position: shared.stable(),
            threshold: directory.threshold,
            ttl: directory.ttl,
            holds: directory.holds.iter().map(|(id, at)| (*id, *at)).collect(),
            relations,
            stored: ByteCount(self.inner.engine.stored_bytes()?),
            commits: shared.counters.commits(),
        })
    }

    /// The table that a name means at a position, and when it was created.
    pub(crate) fn table_at(&self, table: &TableName, at: Hlc) -> Result<(RelationId, Hlc), Fault> {
        let directory = self.inner.shared.directory();
        let (id, record) = directory.catalogue.table_at(table, at)?;
        Ok((id, record.created_at))
    }

    /// A position at which reads are repeatable: the given one, once nothing can be committed at or before it any more, or the present
    /// one.
    pub(crate) async fn settled(&self, at: Option<Hlc>) -> Result<Hlc, Fault> {
        match at {
            Some(at) if at <= self.inner.shared.stable() => Ok(at),
            Some(at) => self.position(at).await.map(|_| at),
            None => self.position(Hlc::ZERO).await,
        }
    }

    /// Runs something as the only writer, off the event loop.
    pub(crate) async fn exclusive<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut writer = Arc::clone(&self.inner.writer).lock_owned().await;
        self.inner.env.blocking(move || work(&mut writer)).await
    }

    /// Runs a read that starts at a position, off the event loop.
    pub(crate) async fn reading<T: Send + 'static>(
        &self,
        from: Hlc,
        work: impl FnOnce(&redb::ReadTransaction) -> Step<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = Arc::clone(&self.inner);
        let env = &self.inner.env;
        env.blocking(move || inner.read(from, work)).await
    }

    async fn change_catalogue<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut crate::catalogue::Catalogue, Hlc) -> Result<T, Fault> + Send + 'static,
    ) -> Result<(T, Hlc), Fault> {
        self.exclusive(move |writer| {
            let at = writer.tick();
            let value = writer.change(|directory| change(&mut directory.catalogue, at))?;
            Ok((value, at))
        })
        .await
    }
}

impl From<Mutation> for Row {
    /// The mutation as a row version at no position in particular.
    fn from(mutation: Mutation) -> Self {
        Self {
            key: mutation.key,
            position: Position::Hlc(Hlc::ZERO),
            change: mutation.change,
        }
    }
}
