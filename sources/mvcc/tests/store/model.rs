//! What the property tests share: a world without real time or disk, and the naive model of a store.

use async_trait::async_trait;
use holdfast_env::{
    BlockFile, Clock, Compute, Connection, Disk, Entropy, Env, Listener, MemoryDisk, Net,
};
use holdfast_types::Timestamp;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A wall clock that is set by hand, in either direction.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn shift(&self, millis: i64) {
        let micros = self.0.load(Ordering::Relaxed);
        let moved = micros.saturating_add_signed(millis * 1000).max(1_000_000);
        self.0.store(moved, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug)]
struct Nothing;

impl Entropy for Nothing {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

impl Compute for Nothing {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

#[async_trait]
impl Net for Nothing {
    async fn connect(&self, _address: &str) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn listen(&self, _address: &str) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug, Default)]
struct Fuse {
    disk: MemoryDisk,
    /// Writes and syncs until the power fails, and the seed of what is lost then.
    left: Option<(u32, u64)>,
    /// Bytes read.
    read: u64,
}

/// A disk whose power fails after so many writes and syncs.
#[derive(Debug, Clone, Default)]
pub(crate) struct FusedDisk(Arc<Mutex<Fuse>>);

impl FusedDisk {
    fn fuse(&self) -> MutexGuard<'_, Fuse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power after this many writes and syncs.
    pub(crate) fn cut_after(&self, operations: u32, seed: u64) {
        self.fuse().left = Some((operations, seed));
    }

    /// Cuts the power now, and gives it back.
    pub(crate) fn crash(&self, seed: u64) {
        let mut fuse = self.fuse();
        fuse.disk = fuse.disk.crash(seed);
        fuse.left = None;
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.fuse().disk.set_capacity(bytes);
    }

    pub(crate) fn used(&self) -> u64 {
        self.fuse().disk.used()
    }

    /// Bytes read from files so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.fuse().read
    }

    fn mounted(&self) -> MemoryDisk {
        self.fuse().disk.clone()
    }

    fn burn(&self) {
        let mut fuse = self.fuse();
        if let Some((left, seed)) = fuse.left {
            fuse.left = left.checked_sub(1).map(|left| (left, seed));
            if left == 0 {
                // The mount stays the old one, which no longer works, until the test gives the power back.
                let _ = fuse.disk.crash(seed);
            }
        }
    }
}

#[derive(Debug)]
struct FusedFile {
    file: Arc<dyn BlockFile>,
    disk: FusedDisk,
}

impl BlockFile for FusedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.fuse().read += buffer.len() as u64;
        self.file.read_exact_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.burn();
        self.file.write_all_at(offset, bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.burn();
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.burn();
        self.file.sync()
    }
}

impl Disk for FusedDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn BlockFile>> {
        Ok(Arc::new(FusedFile {
            file: self.mounted().open(path)?,
            disk: self.clone(),
        }))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.mounted().exists(path)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.mounted().create_dir_all(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.mounted().list(path)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.mounted().read(path)
    }

    fn write_atomically(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.mounted().write_atomically(path, bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.mounted().rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.mounted().remove(path)
    }

    fn available(&self, path: &str) -> io::Result<u64> {
        self.mounted().available(path)
    }
}

/// A world in which nothing happens by itself.
pub(crate) fn world() -> (Env, Arc<ManualClock>, FusedDisk) {
    let clock = Arc::new(ManualClock(AtomicU64::new(1_700_000_000_000_000)));
    let disk = FusedDisk::default();
    let env = Env {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        entropy: Arc::new(Nothing),
        net: Arc::new(Nothing),
        disk: Arc::new(disk.clone()),
        compute: Arc::new(Nothing),
    };
    (env, clock, disk)
}
