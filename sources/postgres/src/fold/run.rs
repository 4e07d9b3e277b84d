//! Sorted runs in files.

use holdfast_env::{BlockFile, Disk};
use holdfast_types::{ErrorCode, Fault};
use std::io;
use std::sync::Arc;

use super::record::{Entry, LENGTH, Op, Version, decode, encode};

/// Bytes that are written at once.
const WRITE_BUFFER: usize = 1 << 20;

/// Bytes that each run that is being merged reads ahead.
const READ_BUFFER: usize = 256 << 10;

/// A sorted run, written to its end. Its file is removed with it.
#[derive(Debug)]
pub(crate) struct Run {
    disk: Arc<dyn Disk>,
    path: String,
    file: Arc<dyn BlockFile>,
    length: u64,
    entries: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        // A file that stays behind is removed with its directory by whoever made that.
        let _ = self.disk.remove(&self.path);
    }
}

impl Run {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }
}

/// Writes a run. What was written is removed if it is dropped before its end.
#[derive(Debug)]
pub(super) struct RunWriter {
    run: Run,
    buffer: Vec<u8>,
}

impl RunWriter {
    /// Begins a run in a new file.
    pub(super) fn create(disk: Arc<dyn Disk>, path: String) -> Result<Self, Fault> {
        let open = || {
            let file = disk.open(&path)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = open().map_err(|error| disk_fault(&path, &error))?;
        Ok(Self {
            run: Run {
                disk,
                path,
                file,
                length: 0,
                entries: 0,
            },
            buffer: Vec::new(),
        })
    }

    /// Adds an entry, which must be later in order than the one before. A long row is written from where it is.
    pub(super) fn push(&mut self, version: &Version, op: &Op) -> Result<(), Fault> {
        let row = encode(version, op, &mut self.buffer);
        self.run.entries += 1;
        if row.len() < WRITE_BUFFER {
            self.buffer.extend_from_slice(row);
            if self.buffer.len() < WRITE_BUFFER {
                return Ok(());
            }
            return self.flush();
        }
        self.flush()?;
        self.write(row)
    }

    /// Ends the run. It is not synced: it does not outlive the process.
    pub(super) fn finish(mut self) -> Result<Run, Fault> {
        self.flush()?;
        Ok(self.run)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.run
            .file
            .write_all_at(self.run.length, bytes)
            .map_err(|error| disk_fault(&self.run.path, &error))?;
        self.run.length += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a run from an offset on.
#[derive(Debug)]
pub(super) struct RunReader {
    run: Arc<Run>,
    /// Where the next piece is read.
    offset: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was given out.
    used: usize,
}

impl RunReader {
    /// Reads from `offset`, where an entry begins.
    pub(super) fn new(run: Arc<Run>, offset: u64) -> Self {
        Self {
            run,
            offset,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Where the next entry begins.
    pub(super) fn position(&self) -> u64 {
        self.offset - (self.buffer.len() - self.used) as u64
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        if self.position() >= self.run.length {
            return Ok(None);
        }
        let length = self.peek(LENGTH)?.first_chunk::<LENGTH>().copied();
        let length = length
            .map(u64::from_be_bytes)
            .and_then(|it| usize::try_from(it).ok());
        let total = length.and_then(|length| length.checked_add(LENGTH));
        let total = total.ok_or_else(|| changed(&self.run.path))?;
        let entry = decode(self.peek(total)?.get(LENGTH..).unwrap_or_default())?;
        self.used += total;
        Ok(Some(entry))
    }

    /// The next `length` bytes, which stay the next ones.
    fn peek(&mut self, length: usize) -> Result<&[u8], Fault> {
        if self.buffer.len() - self.used < length {
            let left = self.run.length - self.offset;
            self.buffer.drain(..self.used);
            self.used = 0;
            self.buffer.shrink_to(READ_BUFFER);
            let start = self.buffer.len();
            let wanted = (length - start).max(READ_BUFFER.saturating_sub(start));
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
            if start + wanted < length {
                return Err(changed(&self.run.path));
            }
            self.buffer.resize(start + wanted, 0);
            let piece = self.buffer.get_mut(start..).unwrap_or_default();
            self.run
                .file
                .read_exact_at(self.offset, piece)
                .map_err(|error| disk_fault(&self.run.path, &error))?;
            self.offset += wanted as u64;
        }
        Ok(self
            .buffer
            .get(self.used..self.used + length)
            .unwrap_or_default())
    }
}

fn changed(path: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("{path} was changed by somebody else"),
    )
}

pub(super) fn disk_fault(path: &str, error: &io::Error) -> Fault {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::StorageFull,
        _ => ErrorCode::Unavailable,
    };
    Fault::new(code, format!("{path}: {error}"))
        .hint("the fold of changes needs about their size on the worker's disk")
}
