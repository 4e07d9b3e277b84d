//! The file `raft.redb`: log entries, vote, committed and purged marks, snapshot pointer. Synchronous.

use holdfast_env::{Disk, RedbFile};
use holdfast_types::{ErrorCode, Fault};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use crate::record;
use crate::snapshot::SnapshotPointer;
use crate::type_config::{Entry, LogId, Vote};
use openraft::entry::RaftEntry;

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks");

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT: &str = "snapshot";

/// A change to the file. Changes of one [`Engine::commit`] become durable together, in order.
#[derive(Debug)]
pub(crate) enum Write {
    /// Encoded entries and their indexes.
    Append(Vec<(u64, Vec<u8>)>),
    /// Drops the entries from an index on.
    Truncate(u64),
    /// Drops the entries up to and including a log id.
    Purge(LogId),
    /// The vote.
    Vote(Vote),
    /// What is known to be committed.
    Committed(Option<LogId>),
    /// The current snapshot.
    Pointer(SnapshotPointer),
}

impl Write {
    /// About how many bytes it writes, to bound a group.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Append(entries) => entries.iter().map(|(_, record)| record.len()).sum(),
            Self::Truncate(_)
            | Self::Purge(_)
            | Self::Vote(_)
            | Self::Committed(_)
            | Self::Pointer(_) => 64,
        }
    }
}

/// What a file held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) pointer: Option<SnapshotPointer>,
    /// The last entry; without entries, the last purged one.
    pub(crate) last: Option<LogId>,
    /// Bytes of all entries.
    pub(crate) entry_bytes: u64,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Engine {
    path: String,
    /// `None` once closed.
    database: RwLock<Option<Database>>,
}

impl Engine {
    /// Opens or makes the file and reads every record in it.
    ///
    /// # Errors
    /// `Corrupted` if any page or record is damaged or missing; the file is left as it is.
    pub(crate) fn open(disk: &dyn Disk, path: &str, cache: usize) -> Result<(Self, Loaded), Fault> {
        let file = disk.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Fault::new(
                ErrorCode::FailedPrecondition,
                format!("{path} is in use by another process"),
            )
            .hint("stop the other node, or give this one a data directory of its own"),
            _ => storage_fault(path, &error),
        })?;
        // A truncated or foreign file can trip an assertion inside the storage engine; that is the same finding.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Builder::new()
                .set_cache_size(cache)
                .set_check_integrity_on_open(true)
                .create_with_backend(RedbFile::new(file))
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(storage_fault(path, &io_error(error.into()))),
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "its pages are damaged");
                return Err(storage_fault(path, &error));
            }
        };
        let engine = Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        };
        let loaded = engine
            .prepare()
            .and_then(|()| engine.load())
            .map_err(|error| storage_fault(path, &error))?;
        Ok((engine, loaded))
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Makes all changes durable, or fails. After a failure nothing more may be written: what is on disk is one of the two.
    pub(crate) fn commit(&self, writes: &[Write]) -> io::Result<()> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut entries = transaction.open_table(ENTRIES)?;
                let mut marks = transaction.open_table(MARKS)?;
                for write in writes {
                    match write {
                        Write::Append(batch) => {
                            for (index, record) in batch {
                                entries.insert(index, record.as_slice())?;
                            }
                        }
                        Write::Truncate(from) => entries.retain_in(*from.., |_, _| false)?,
                        Write::Purge(upto) => {
                            entries.retain_in(..=upto.index, |_, _| false)?;
                            put(&mut marks, PURGED, upto)?;
                        }
                        Write::Vote(vote) => put(&mut marks, VOTE, vote)?,
                        Write::Committed(id) => put(&mut marks, COMMITTED, id)?,
                        Write::Pointer(pointer) => put(&mut marks, SNAPSHOT, pointer)?,
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// The entries from `start` on: at most `count`, and no more than `limit` bytes after the first. Stops at a gap.
    pub(crate) fn read(&self, start: u64, count: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        self.with(|database| {
            let transaction = database.begin_read()?;
            let entries = transaction.open_table(ENTRIES)?;
            for item in entries.range(start..start.saturating_add(count))? {
                let (index, record) = item?;
                let index = index.value();
                let record = record.value();
                bytes += record.len();
                if index != start + found.len() as u64 || (!found.is_empty() && bytes > limit) {
                    break;
                }
                found.push(self.entry(index, record)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Lets the file go. Everything after it fails.
    pub(crate) fn close(&self) {
        let database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(database) = database
            && let Err(error) = database.close()
        {
            tracing::warn!(path = self.path, %error, "cannot close the raft log cleanly");
        }
    }

    /// Makes the tables of a new file.
    fn prepare(&self) -> io::Result<()> {
        self.commit(&[])
    }

    fn load(&self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        self.with(|database| {
            let transaction = database.begin_read()?;
            let marks = transaction.open_table(MARKS)?;
            loaded.vote = self.mark(&marks, VOTE)?;
            loaded.committed = self.mark::<Option<LogId>>(&marks, COMMITTED)?.flatten();
            loaded.purged = self.mark(&marks, PURGED)?;
            loaded.pointer = self.mark(&marks, SNAPSHOT)?;
            loaded.last = loaded.purged;
            let entries = transaction.open_table(ENTRIES)?;
            let first = loaded.purged.map_or(0, |id| id.index + 1);
            for (expected, item) in (first..).zip(entries.iter()?) {
                let (index, record) = item?;
                if index.value() != expected {
                    return Err(missing(&self.path, expected).into());
                }
                let entry = self.entry(expected, record.value())?;
                loaded.last = Some(entry.log_id());
                loaded.entry_bytes += record.value().len() as u64;
            }
            Ok(())
        })?;
        Ok(loaded)
    }

    fn mark<T: serde::de::DeserializeOwned>(
        &self,
        marks: &impl ReadableTable<&'static str, &'static [u8]>,
        name: &str,
    ) -> Result<Option<T>, redb::Error> {
        let Some(record) = marks.get(name)? else {
            return Ok(None);
        };
        let what = || format!("the record \"{name}\" of {}", self.path);
        Ok(Some(record::decode(name.as_bytes(), record.value(), what)?))
    }

    fn entry(&self, index: u64, record: &[u8]) -> Result<Entry, redb::Error> {
        let what = || format!("entry {index} of {}", self.path);
        let entry: Entry = record::decode(&index.to_be_bytes(), record, what)?;
        if entry.log_id.index == index {
            Ok(entry)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("entry {index} of {} is another one", self.path),
            )
            .into())
        }
    }

    fn with(&self, work: impl FnOnce(&Database) -> Result<(), redb::Error>) -> io::Result<()> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotConnected,
                format!("{} is closed", self.path),
            )
        })?;
        work(database).map_err(io_error)
    }
}

/// An entry as its record.
pub(crate) fn encode_entry(entry: &Entry) -> io::Result<(u64, Vec<u8>)> {
    let index = entry.log_id.index;
    Ok((index, record::encode(&index.to_be_bytes(), entry)?))
}

/// The finding that an entry is not where it must be.
pub(crate) fn missing(path: &str, index: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("entry {index} of {path} is missing"),
    )
}

fn put<T: serde::Serialize>(
    marks: &mut redb::Table<'_, &'static str, &'static [u8]>,
    name: &'static str,
    value: &T,
) -> Result<(), redb::Error> {
    let record = record::encode(name.as_bytes(), value)?;
    marks.insert(name, record.as_slice())?;
    Ok(())
}

/// Keeps the kind of an I/O error, so that a full disk is still one further up.
fn io_error(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        redb::Error::Corrupted(message) => io::Error::new(io::ErrorKind::InvalidData, message),
        other => io::Error::other(other),
    }
}

/// An I/O error of the raft log as the operator sees it.
pub(crate) fn storage_fault(path: &str, error: &io::Error) -> Fault {
    let text = format!("raft storage {path}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Fault::new(ErrorCode::StorageFull, text)
                .hint("free space on this node's disk and start it again; nothing is damaged")
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Fault::new(ErrorCode::Corrupted, text).hint(
                "nothing of it was served; replace this node by a new one with an empty data directory and a new id",
            )
        }
        _ => Fault::new(ErrorCode::Unavailable, text)
            .hint("see to this node's disk and start it again"),
    }
}
