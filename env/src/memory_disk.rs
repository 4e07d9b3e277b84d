//! A disk in memory that forgets unsynced writes when it crashes.
//!
//! # Model
//! A disk outlives the processes that use it. [`MemoryDisk`] is one *mount* of it: clones share the mount. A crash
//! ([`MemoryDisk::crash`]) ends every mount and every open file, as the kernel would: whatever a zombie still does with them fails.
//!
//! * Writes to a [`BlockFile`] are unsynced until [`BlockFile::sync`]. At a crash each unsynced write is, by the seed, kept, dropped, or torn:
//!   kept in some of its 512-byte sectors only. Writes of one file are lost independently of each other, not from the end.
//! * Names (making, renaming, removing files, [`Disk::write_atomically`]) are durable at once, as the contract of [`Disk`] says.
//! * Files are sparse: only pages that were written count against the capacity, and a full disk answers
//!   [`io::ErrorKind::StorageFull`] without changing anything.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{BlockFile, Disk};

/// Bytes that are allocated together.
const PAGE_SIZE: u64 = 4096;

/// Bytes that reach a disk as a whole or not at all.
const SECTOR_SIZE: u64 = 512;

/// One mount of a disk in memory. See the module.
#[derive(Clone)]
pub struct MemoryDisk {
    platter: Arc<Mutex<Platter>>,
    /// The life of the disk that this mount belongs to.
    incarnation: u64,
}

struct Platter {
    incarnation: u64,
    files: BTreeMap<String, Arc<Mutex<File>>>,
    directories: BTreeMap<String, ()>,
    capacity: u64,
    /// Pages allocated, over all files.
    used: u64,
}

/// A change that a crash may undo.
enum Unsynced {
    /// Bytes written at an offset; `old` is what was there, as far as the file reached.
    Write {
        offset: u64,
        old: Vec<u8>,
        new: Vec<u8>,
    },
    /// The length changed; `tail` is what a cut removed.
    Length { old: u64, new: u64, tail: Vec<u8> },
}

#[derive(Default)]
struct File {
    pages: BTreeMap<u64, Box<[u8]>>,
    length: u64,
    unsynced: Vec<Unsynced>,
    /// The incarnation in which the file is open, and thereby locked.
    locked_in: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path} does not exist"))
}

fn crashed() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the disk crashed since this handle was made",
    )
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(u64::MAX)
    }

    /// An empty disk that holds this many bytes, rounded down to pages.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self {
            platter: Arc::new(Mutex::new(Platter {
                incarnation: 0,
                files: BTreeMap::new(),
                directories: BTreeMap::new(),
                capacity: bytes / PAGE_SIZE,
                used: 0,
            })),
            incarnation: 0,
        }
    }

    /// Cuts the power: loses a random part of the unsynced writes, ends every mount, and gives a fresh one.
    #[must_use = "the old mount no longer works"]
    pub fn crash(&self, seed: u64) -> Self {
        let mut platter = lock(&self.platter);
        platter.incarnation += 1;
        let mut rng = StdRng::seed_from_u64(seed);
        let files: Vec<_> = platter.files.values().cloned().collect();
        let mut used = 0;
        for file in files {
            let mut file = lock(&file);
            file.lose_unsynced(&mut rng);
            file.locked_in = None;
            used += file.pages.len() as u64;
        }
        platter.used = used;
        Self {
            platter: Arc::clone(&self.platter),
            incarnation: platter.incarnation,
        }
    }

    /// Changes how many bytes the disk holds; what is there stays, even beyond it.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.platter).capacity = bytes / PAGE_SIZE;
    }

    /// Bytes allocated to files.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.platter).used * PAGE_SIZE
    }

    /// Flips bits of one stored byte, as a failing disk does.
    ///
    /// # Errors
    /// The file does not exist, or ends before the offset.
    pub fn corrupt(&self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        let file = lock(&self.platter)
            .files
            .get(path)
            .cloned()
            .ok_or_else(|| not_found(path))?;
        let mut file = lock(&file);
        let mut byte = [0u8];
        file.read(offset, &mut byte)?;
        byte[0] ^= mask;
        file.put(offset, &byte);
        Ok(())
    }

    /// The platter, if this mount is still the current one.
    fn mounted(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = lock(&self.platter);
        if platter.incarnation == self.incarnation {
            Ok(platter)
        } else {
            Err(crashed())
        }
    }
}

impl Platter {
    /// Counts pages that are about to be allocated, or says that the disk is full.
    fn allocate(&mut self, pages: u64) -> io::Result<()> {
        if pages > 0 && self.used.saturating_add(pages) > self.capacity {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no space left on the disk in memory",
            ));
        }
        self.used += pages;
        Ok(())
    }

    fn release(&mut self, pages: u64) {
        self.used = self.used.saturating_sub(pages);
    }

    fn file(&self, path: &str) -> io::Result<Arc<Mutex<File>>> {
        self.files.get(path).cloned().ok_or_else(|| not_found(path))
    }
}

impl File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "read beyond the end of the file",
            ));
        }
        let mut done = 0;
        while done < buffer.len() {
            let (page, within, count) = chunk(offset + done as u64, buffer.len() - done);
            let target = &mut buffer[done..done + count];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + count]),
                None => target.fill(0),
            }
            done += count;
        }
        Ok(())
    }

    /// Pages that a write would allocate.
    fn missing_pages(&self, offset: u64, length: usize) -> u64 {
        if length == 0 {
            return 0;
        }
        let last = (offset + length as u64 - 1) / PAGE_SIZE;
        let present = self.pages.range(offset / PAGE_SIZE..=last).count() as u64;
        last - offset / PAGE_SIZE + 1 - present
    }

    /// Stores bytes and grows the file, remembering nothing.
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within, count) = chunk(offset + done as u64, bytes.len() - done);
            let target = self
                .pages
                .entry(page)
                .or_insert_with(|| vec![0; PAGE_SIZE as usize].into_boxed_slice());
            target[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    /// Changes the length, remembering nothing; a cut frees pages and clears the rest of the last one.
    fn resize(&mut self, length: u64) {
        if length < self.length {
            let first_gone = length.div_ceil(PAGE_SIZE);
            self.pages.split_off(&first_gone);
            if let Some(page) = self.pages.get_mut(&(length / PAGE_SIZE)) {
                page[(length % PAGE_SIZE) as usize..].fill(0);
            }
        }
        self.length = length;
    }

    /// The bytes from an offset to at most `length` further, as far as the file reaches.
    fn present(&self, offset: u64, length: u64) -> Vec<u8> {
        let length = length.min(self.length.saturating_sub(offset));
        let mut bytes = vec![0; length as usize];
        // The range was cut to the file's length.
        let _ = self.read(offset, &mut bytes);
        bytes
    }

    /// Undoes everything unsynced, then does a random part of it again.
    fn lose_unsynced(&mut self, rng: &mut StdRng) {
        let changes = std::mem::take(&mut self.unsynced);
        for change in changes.iter().rev() {
            match change {
                Unsynced::Write { offset, old, new } => {
                    let end = *offset + old.len() as u64;
                    self.put(*offset, old);
                    if old.len() < new.len() {
                        self.resize(end.max(*offset));
                    }
                }
                Unsynced::Length { old, tail, .. } => {
                    self.resize(*old);
                    self.put(*old - tail.len() as u64, tail);
                }
            }
        }
        for change in changes {
            match change {
                Unsynced::Write { offset, new, .. } => self.redo_part(offset, &new, rng),
                Unsynced::Length { new, .. } => {
                    if rng.random_bool(0.5) {
                        self.resize(new);
                    }
                }
            }
        }
    }

    fn redo_part(&mut self, offset: u64, bytes: &[u8], rng: &mut StdRng) {
        match rng.random_range(0..3u8) {
            0 => {}
            1 => self.put(offset, bytes),
            _ => {
                let mut done = 0usize;
                while done < bytes.len() {
                    let at = offset + done as u64;
                    let room = (SECTOR_SIZE - at % SECTOR_SIZE) as usize;
                    let count = room.min(bytes.len() - done);
                    if rng.random_bool(0.5) {
                        self.put(at, &bytes[done..done + count]);
                    }
                    done += count;
                }
            }
        }
    }
}

/// The page of an offset, the place in it, and how many of `length` bytes fit there.
fn chunk(offset: u64, length: usize) -> (u64, usize, usize) {
    let within = (offset % PAGE_SIZE) as usize;
    let room = PAGE_SIZE as usize - within;
    (offset / PAGE_SIZE, within, room.min(length))
}

/// An open file of a [`MemoryDisk`].
struct Handle {
    disk: MemoryDisk,
    file: Arc<Mutex<File>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut file = lock(&self.file);
        if file.locked_in == Some(self.disk.incarnation) {
            file.locked_in = None;
        }
    }
}

impl BlockFile for Handle {
    fn len(&self) -> io::Result<u64> {
        let _mounted = self.disk.mounted()?;
        Ok(lock(&self.file).length)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let _mounted = self.disk.mounted()?;
        lock(&self.file).read(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.disk.mounted()?;
        let mut file = lock(&self.file);
        platter.allocate(file.missing_pages(offset, bytes.len()))?;
        // A gap before the write belongs to it: what is undone is the length as well.
        let start = offset.min(file.length);
        let old = file.present(start, offset + bytes.len() as u64 - start);
        let mut new = vec![0; (offset - start) as usize];
        new.extend_from_slice(bytes);
        file.put(offset, bytes);
        file.unsynced.push(Unsynced::Write {
            offset: start,
            old,
            new,
        });
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.disk.mounted()?;
        let mut file = lock(&self.file);
        let old = file.length;
        let tail = file.present(length, old.saturating_sub(length));
        let before = file.pages.len() as u64;
        file.resize(length);
        platter.release(before - file.pages.len() as u64);
        file.unsynced.push(Unsynced::Length {
            old,
            new: length,
            tail,
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let _mounted = self.disk.mounted()?;
        lock(&self.file).unsynced.clear();
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn BlockFile>> {
        let mut platter = self.mounted()?;
        let file = Arc::clone(platter.files.entry(path.to_owned()).or_default());
        {
            let mut file = lock(&file);
            if file.locked_in == Some(self.incarnation) {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{path} is in use by another process"),
                ));
            }
            file.locked_in = Some(self.incarnation);
        }
        Ok(Arc::new(Handle {
            disk: self.clone(),
            file,
        }))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let platter = self.mounted()?;
        let below = format!("{}/", path.trim_end_matches('/'));
        Ok(platter.files.contains_key(path)
            || platter.directories.contains_key(path.trim_end_matches('/'))
            || platter.files.keys().any(|name| name.starts_with(&below)))
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let mut platter = self.mounted()?;
        let path = path.trim_end_matches('/');
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            platter.directories.insert(path[..at].to_owned(), ());
        }
        platter.directories.insert(path.to_owned(), ());
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let platter = self.mounted()?;
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        let mut names: Vec<String> = platter
            .files
            .keys()
            .chain(platter.directories.keys())
            .filter_map(|name| name.strip_prefix(&below))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        if names.is_empty() && !platter.directories.contains_key(path) {
            return Err(not_found(path));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let platter = self.mounted()?;
        let file = platter.file(path)?;
        let file = lock(&file);
        Ok(file.present(0, file.length))
    }

    fn write_atomically(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.mounted()?;
        let mut file = File::default();
        platter.allocate(file.missing_pages(0, bytes.len()))?;
        file.put(0, bytes);
        let old = platter
            .files
            .insert(path.to_owned(), Arc::new(Mutex::new(file)));
        if let Some(old) = old {
            platter.release(lock(&old).pages.len() as u64);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.mounted()?;
        let file = platter.files.remove(from).ok_or_else(|| not_found(from))?;
        if let Some(old) = platter.files.insert(to.to_owned(), file) {
            platter.release(lock(&old).pages.len() as u64);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut platter = self.mounted()?;
        if let Some(file) = platter.files.remove(path) {
            platter.release(lock(&file).pages.len() as u64);
        }
        Ok(())
    }

    fn available(&self, _path: &str) -> io::Result<u64> {
        let platter = self.mounted()?;
        Ok(platter
            .capacity
            .saturating_sub(platter.used)
            .saturating_mul(PAGE_SIZE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let mut lost = 0;
        for seed in 0..64 {
            let disk = MemoryDisk::new();
            let file = disk.open("a/f").expect("open");
            file.write_all_at(0, &[1; 10_000]).expect("write");
            file.sync().expect("sync");
            file.write_all_at(5_000, &[2; 10_000]).expect("write");
            file.set_len(20_000).expect("grow");
            let disk = disk.crash(seed);
            let bytes = disk.read("a/f").expect("read");
            assert_eq!(bytes[..5_000], [1; 5_000], "synced bytes are intact");
            assert!(bytes.len() >= 10_000);
            assert!(
                bytes[5_000..10_000]
                    .iter()
                    .all(|byte| [1, 2].contains(byte))
            );
            lost += usize::from(bytes.len() < 15_000 || bytes[5_000..15_000] != [2; 10_000]);
        }
        assert!(
            (10..64).contains(&lost),
            "some crashes lose something: {lost}"
        );
    }

    #[test]
    fn a_cut_that_is_lost_brings_the_bytes_back() {
        let mut seen = [0u32; 2];
        for seed in 0..32 {
            let disk = MemoryDisk::new();
            let file = disk.open("f").expect("open");
            file.write_all_at(0, &[7; 9_000]).expect("write");
            file.sync().expect("sync");
            file.set_len(100).expect("cut");
            let bytes = disk.crash(seed).read("f").expect("read");
            assert!(bytes.iter().all(|byte| *byte == 7));
            match bytes.len() {
                100 => seen[0] += 1,
                9_000 => seen[1] += 1,
                other => panic!("a cut is done or not, not {other}"),
            }
        }
        assert!(seen.iter().all(|count| *count > 0));
    }

    #[test]
    fn handles_and_mounts_from_before_a_crash_are_fenced() {
        let disk = MemoryDisk::new();
        let zombie = disk.open("f").expect("open");
        assert_eq!(
            disk.open("f").expect_err("locked").kind(),
            io::ErrorKind::WouldBlock
        );
        let fresh = disk.crash(1);
        let file = fresh.open("f").expect("the lock went with the crash");
        assert!(zombie.write_all_at(0, b"late").is_err());
        assert!(zombie.sync().is_err());
        assert!(disk.open("g").is_err());
        drop(zombie);
        assert_eq!(
            fresh.open("f").expect_err("still locked").kind(),
            io::ErrorKind::WouldBlock
        );
        drop(file);
        assert!(fresh.open("f").is_ok());
    }

    #[test]
    fn a_full_disk_refuses_and_keeps_what_it_has() {
        let disk = MemoryDisk::with_capacity(3 * PAGE_SIZE);
        let file = disk.open("f").expect("open");
        file.write_all_at(0, &[1; 8_000]).expect("two pages");
        let error = file.write_all_at(8_000, &[2; 8_000]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read("f").expect("read"), vec![1; 8_000]);
        assert!(disk.write_atomically("g", &[3; 8_000]).is_err());
        file.set_len(10).expect("cut");
        assert_eq!(disk.available("").expect("available"), 2 * PAGE_SIZE);
        disk.write_atomically("g", &[3; 8_000]).expect("fits now");
        disk.remove("g").expect("remove");
        assert_eq!(disk.used(), PAGE_SIZE);
    }

    #[test]
    fn names_are_listed_and_renamed() {
        let disk = MemoryDisk::new();
        disk.create_dir_all("d/e").expect("mkdir");
        disk.write_atomically("d/x", b"1").expect("write");
        disk.write_atomically("d/y.draft", b"2").expect("write");
        disk.rename("d/y.draft", "d/x").expect("rename");
        assert_eq!(disk.list("d").expect("list"), ["e", "x"]);
        assert_eq!(disk.read("d/x").expect("read"), b"2");
        assert!(disk.exists("d/e").expect("exists") && !disk.exists("d/y").expect("exists"));
        assert!(disk.list("nowhere").is_err());
    }
}
