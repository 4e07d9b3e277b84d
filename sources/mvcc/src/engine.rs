//! The redb database below a member: opening it, transactions, and coming back after an I/O error.
//!
//! # Crash consistency
//! Every commit is durable when it returns (redb writes, then syncs; after a crash it falls back to the newer of two checksummed
//! roots). redb refuses all further work after any I/O error, a full disk included: the engine then drops it and opens the file again, which
//! restores the last durable commit.

use holdfast_env::{BlockFile, Disk, RedbFile};
use holdfast_types::{ErrorCode, Fault};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::store::StoreOptions;

/// The database of one member.
pub(crate) struct Engine {
    disk: Arc<dyn Disk>,
    path: String,
    cache_bytes: usize,
    check_integrity: bool,
    /// `None` while it could not be opened again after an I/O error.
    database: RwLock<Option<Database>>,
    /// The file, for its length; the database owns it, and with it the lock.
    file: RwLock<Option<Weak<dyn BlockFile>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the file, making it if it does not exist.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: String,
        options: &StoreOptions,
    ) -> Result<Self, Fault> {
        let engine = Self {
            disk,
            path,
            cache_bytes: usize::try_from(options.cache.0).unwrap_or(usize::MAX),
            check_integrity: options.check_integrity,
            database: RwLock::new(None),
            file: RwLock::new(None),
        };
        engine.reopen()?;
        Ok(engine)
    }

    /// A view of the last durable commit.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Fault> {
        self.with_database(|database| database.begin_read().map_err(Into::into))
    }

    /// A write transaction. The caller makes sure that there is one at a time.
    pub(crate) fn write(&self) -> Result<WriteTransaction, Fault> {
        self.with_database(|database| database.begin_write().map_err(Into::into))
    }

    /// Drops the database, which may be unusable after an I/O error, and opens it again.
    pub(crate) fn reopen(&self) -> Result<(), Fault> {
        let mut slot = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // The old handle holds the lock on the file: it must be gone first.
        *slot = None;
        *slot = Some(self.open_database()?);
        Ok(())
    }

    /// Bytes that the file takes.
    pub(crate) fn stored_bytes(&self) -> Result<u64, Fault> {
        let file = self
            .file
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .and_then(Weak::upgrade);
        match file {
            Some(file) => file
                .len()
                .map_err(|error| self.fault(redb::Error::Io(error))),
            None => Err(self.fault(redb::Error::DatabaseClosed)),
        }
    }

    /// Bytes that can still be written to the disk.
    pub(crate) fn available(&self) -> Result<u64, Fault> {
        let directory = self.path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        self.disk
            .available(directory)
            .map_err(|error| self.fault(redb::Error::Io(error)))
    }

    /// What an error of the database means to a caller.
    pub(crate) fn fault(&self, error: impl Into<redb::Error>) -> Fault {
        fault(&self.path, &error.into())
    }

    fn with_database<T>(
        &self,
        work: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Fault> {
        {
            let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = slot.as_ref() {
                match work(database) {
                    Err(redb::Error::PreviousIo | redb::Error::DatabaseClosed) => {}
                    other => return other.map_err(|error| self.fault(error)),
                }
            }
        }
        self.reopen()?;
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some(database) => work(database).map_err(|error| self.fault(error)),
            None => Err(self.fault(redb::Error::DatabaseClosed)),
        }
    }

    fn open_database(&self) -> Result<Database, Fault> {
        let file = self
            .disk
            .open(&self.path)
            .map_err(|error| self.fault(redb::Error::Io(error)))?;
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(&file));
        // redb may panic on a file that something else has altered.
        std::panic::catch_unwind(AssertUnwindSafe(|| {
            redb::Builder::new()
                .set_cache_size(self.cache_bytes)
                .set_check_integrity_on_open(self.check_integrity)
                .create_with_backend(RedbFile::new(file))
        }))
        .unwrap_or_else(|_| {
            let broken = "the database cannot be opened".to_owned();
            Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(
                broken,
            )))
        })
        .map_err(|error| self.fault(error))
    }
}

/// The fault for stored bytes that cannot be what this crate wrote.
pub(crate) fn corrupted(what: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the member's store holds a malformed {what}"),
    )
    .hint("restore the member from a backup")
}

fn fault(path: &str, error: &redb::Error) -> Fault {
    match error {
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::new(
                ErrorCode::StorageFull,
                format!("the disk of the member's store {path} is full"),
            )
            .hint("free or add disk space; nothing that was acknowledged is lost"),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Fault::new(
                ErrorCode::Corrupted,
                format!("the member's store {path} is damaged: {error}"),
            )
            .hint("restore the member from a backup"),
            io::ErrorKind::WouldBlock => Fault::new(
                ErrorCode::Unavailable,
                format!("the member's store {path} is in use by another process"),
            ),
            _ => Fault::new(
                ErrorCode::Unavailable,
                format!("the member's store {path} cannot be read or written: {error}"),
            ),
        },
        redb::Error::Corrupted(_) => Fault::new(
            ErrorCode::Corrupted,
            format!("the member's store {path} is damaged: {error}"),
        )
        .hint("restore the member from a backup"),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => Fault::new(
            ErrorCode::Unavailable,
            format!("the member's store {path} is being opened again after an i/o error"),
        ),
        other => Fault::new(
            ErrorCode::Internal,
            format!("the member's store {path}: {other}"),
        ),
    }
}
