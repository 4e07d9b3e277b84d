//! Files of a process's own. Synchronous: call it inside [`crate::Env::blocking`] or from a storage engine's thread.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A file that is read and written in place, as storage engines do. Writes are durable after [`BlockFile::sync`], and not
/// before: a crash may lose any subset of what was written since.
pub trait BlockFile: Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the buffer from `offset`; an error if the file ends before.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes at `offset`, growing the file if needed.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or grows (with zeros) to a length.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
}

/// A directory tree. Paths are absolute or relative to the process's directory, with `/` between components.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing, making it if it does not exist, and locks it: a second opening by another
    /// process fails with [`io::ErrorKind::WouldBlock`]. The lock goes with the handle.
    fn open(&self, path: &str) -> io::Result<Arc<dyn BlockFile>>;

    /// Whether there is a file or directory.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Makes a directory and its parents.
    fn create_dir_all(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Reads a whole small file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Replaces a file as a whole: after a crash there is the old content or the new, durably.
    fn write_atomically(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Renames a file durably, replacing what had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is no error.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Bytes that can still be written below a path.
    fn available(&self, path: &str) -> io::Result<u64>;
}
