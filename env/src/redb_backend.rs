//! The storage engine's view of a [`BlockFile`]: redb on any [`crate::Disk`], real or simulated.

use redb::StorageBackend;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::BlockFile;

/// A [`BlockFile`] as redb wants it.
///
/// The file (and with it the lock that [`crate::Disk::open`] took) is let go when redb closes the backend, even if read
/// transactions are still alive: a database that failed can be opened again at once by the same process.
pub struct RedbFile(RwLock<Option<Arc<dyn BlockFile>>>);

impl RedbFile {
    /// Takes an open file.
    #[must_use]
    pub fn new(file: Arc<dyn BlockFile>) -> Self {
        Self(RwLock::new(Some(file)))
    }

    fn file(&self) -> io::Result<Arc<dyn BlockFile>> {
        let file = self.0.read().unwrap_or_else(PoisonError::into_inner);
        file.clone()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the database is closed"))
    }
}

impl fmt::Debug for RedbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedbFile").finish_non_exhaustive()
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
