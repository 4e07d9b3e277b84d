//! Directories for files that are in nobody's way.
//!
//! # Crash consistency
//! What a process that ended left behind is removed before the first room is taken. Rooms are numbered and used again, so that there are never more
//! directories than there was work at once.

use holdfast_env::{Disk, Env};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Directories below a room's, in which files are looked for.
const DEEPEST: u32 = 3;

/// The rooms of one process, in a directory of its own.
#[derive(Debug)]
pub struct Rooms {
    env: Env,
    directory: String,
    taken: Mutex<BTreeSet<u32>>,
    emptied: OnceCell<()>,
}

impl Rooms {
    /// Rooms in a directory that nobody else uses.
    #[must_use]
    pub fn new(env: Env, directory: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            env,
            directory: directory.into(),
            taken: Mutex::default(),
            emptied: OnceCell::new(),
        })
    }

    /// Takes a room that nobody uses.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the disk cannot be used.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Room, Fault> {
        self.emptied
            .get_or_try_init(|| async {
                let (disk, directory) = (Arc::clone(&self.env.disk), self.directory.clone());
                let emptied = self
                    .env
                    .blocking(move || {
                        disk.create_dir_all(&directory)?;
                        empty(disk.as_ref(), &directory, DEEPEST)
                    })
                    .await;
                emptied.map_err(|error| fault(&self.directory, &error))
            })
            .await?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..u32::MAX).find(|number| !taken.contains(number));
        let number = number.ok_or_else(|| {
            Fault::new(ErrorCode::ResourceExhausted, "too many working directories")
        })?;
        taken.insert(number);
        Ok(Room {
            directory: format!("{}/room-{number}", self.directory),
            key: Arc::new(Key {
                number,
                rooms: Arc::clone(self),
            }),
        })
    }
}

/// Removes all files below a directory.
fn empty(disk: &dyn Disk, directory: &str, depth: u32) -> std::io::Result<()> {
    for name in disk.list(directory)? {
        let path = format!("{directory}/{name}");
        // What cannot be listed is a file.
        match disk.list(&path) {
            Ok(_) if depth > 0 => empty(disk, &path, depth - 1)?,
            Ok(_) => {}
            Err(_) => disk.remove(&path)?,
        }
    }
    Ok(())
}

fn fault(path: &str, error: &std::io::Error) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("working directory {path}: {error}"),
    )
}

/// Gives the number back.
#[derive(Debug)]
struct Key {
    number: u32,
    rooms: Arc<Rooms>,
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut taken = self
            .rooms
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.number);
    }
}

/// A directory that others keep out of while a copy of this lives.
#[derive(Debug, Clone)]
pub(super) struct Room {
    directory: String,
    key: Arc<Key>,
}

impl Room {
    /// The process's disk and its like.
    pub(super) fn env(&self) -> &Env {
        &self.key.rooms.env
    }

    /// A directory in it, made if need be. Blocks.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the disk cannot be used.
    pub(super) fn part(&self, name: &str) -> Result<String, Fault> {
        let path = format!("{}/{name}", self.directory);
        let made = self.env().disk.create_dir_all(&path);
        made.map_err(|error| fault(&path, &error))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rooms_are_used_again_and_begin_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        let env = Env::system();
        let left = ["room-0/changes/run-0", "stray"].map(|name| format!("{path}/{name}"));
        let made = env.disk.create_dir_all(&format!("{path}/room-0/changes"));
        made.expect("a directory");
        for file in &left {
            env.disk.write_atomically(file, b"left").expect("a file");
        }
        let rooms = Rooms::new(env.clone(), path);
        let first = rooms.take().await.expect("a room");
        for file in &left {
            assert!(!env.disk.exists(file).expect("an answer"), "{file}");
        }
        let second = rooms.take().await.expect("a room");
        let parts = [&first, &second].map(|room| room.part("x").expect("a part"));
        assert_ne!(parts[0], parts[1]);
        let kept = first.clone();
        drop(first);
        assert_eq!(
            rooms.take().await.expect("a room").part("x").expect("one"),
            format!("{path}/room-2/x")
        );
        drop(kept);
        assert_eq!(
            rooms.take().await.expect("a room").part("x").expect("one"),
            parts[0]
        );
    }
}
