//! Snapshot files: `snapshot-<term>-<index>`, named by a pointer in the raft log's file.
//!
//! # Invariants
//! The pointer names a complete file whose digest it holds. A snapshot is read only together with that digest.
//!
//! # Concurrency
//! One snapshot is made, installed or received at a time; any number are read.
//!
//! # Crash consistency
//! The file is durable under its name before the pointer names it; older files go after that. What a crash leaves
//! behind is removed at the next start.

use holdfast_env::{BlockFile, Env};
use holdfast_types::{Digest, Hasher};
use openraft::{BasicNode, Membership};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::SNAPSHOT_CHUNK_SIZE;
use crate::log_engine::Write;
use crate::log_store::LogReader;
use crate::log_writer::LogWriter;
use crate::machine::Encoder;
use crate::record;
use crate::type_config::{LogId, SnapshotMeta, StoredMembership};

const PREFIX: &str = "snapshot-";

/// How the file of a snapshot that is being received begins.
const INCOMING: &str = "snapshot-incoming-";

/// First bytes of a snapshot file.
const MAGIC: &[u8; 8] = b"HFSNAP01";

/// What a snapshot says besides the state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Nodes that were members once and are not any more. Their ids are not given out again.
    pub(crate) retired: BTreeSet<u64>,
}

impl SnapshotHeader {
    /// Takes a new set of members.
    pub(crate) fn change_members(&mut self, id: LogId, members: Membership<u64, BasicNode>) {
        let left = self
            .membership
            .nodes()
            .map(|(node, _)| *node)
            .filter(|node| members.get_node(node).is_none());
        self.retired.extend(left);
        self.membership = StoredMembership::new(Some(id), members);
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        }
    }
}

/// The current snapshot, as the raft log's file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotPointer {
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

/// A complete snapshot on disk, open. What openraft hands around. It stays readable when a newer one takes its place.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) pointer: SnapshotPointer,
    /// Opened once, because opening takes a lock.
    file: Arc<dyn BlockFile>,
    /// Keeps the file of a received snapshot from being cleaned up before it has its name.
    draft: Option<Arc<Draft>>,
}

/// The name of a file that is in use and that no pointer names.
#[derive(Debug)]
struct Draft {
    name: String,
    in_use: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        lock(&self.in_use).remove(&self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The snapshots in one node's directory.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    env: Env,
    data_dir: String,
    writer: LogWriter,
    log: LogReader,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
    /// Held while a snapshot takes the place of the current one.
    turn: tokio::sync::Mutex<()>,
    /// Files that are being received.
    drafts: Arc<Mutex<BTreeSet<String>>>,
    received: AtomicU64,
}

impl SnapshotStore {
    pub(crate) fn new(env: &Env, data_dir: &str, writer: LogWriter, log: LogReader) -> Self {
        Self {
            env: env.clone(),
            data_dir: data_dir.to_owned(),
            writer,
            log,
            current: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            drafts: Arc::default(),
            received: AtomicU64::new(0),
        }
    }

    /// The current snapshot.
    pub(crate) fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        lock(&self.current).clone()
    }

    /// Lets the current snapshot's file go.
    pub(crate) fn close(&self) {
        *lock(&self.current) = None;
    }

    /// Reads a whole snapshot, checking its digest.
    pub(crate) async fn load(&self, file: &SnapshotFile) -> io::Result<(SnapshotHeader, Vec<u8>)> {
        let path = self.path(&file.pointer.name);
        let file = file.clone();
        self.env
            .blocking(move || {
                let bytes = read_verified(file.file.as_ref(), &path, &file.pointer)?;
                decode(&path, bytes)
            })
            .await
    }

    /// Reads what the pointer names at a start, and takes it as the current snapshot.
    pub(crate) async fn resume(
        &self,
        pointer: SnapshotPointer,
    ) -> io::Result<(SnapshotHeader, Vec<u8>)> {
        let path = self.path(&pointer.name);
        let disk = Arc::clone(&self.env.disk);
        let exists = self
            .env
            .blocking(move || {
                if disk.exists(&path)? {
                    disk.open(&path).map(Some)
                } else {
                    Ok(None)
                }
            })
            .await?;
        let Some(file) = exists else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is missing",
            ));
        };
        let file = SnapshotFile {
            pointer,
            file,
            draft: None,
        };
        let (header, state) = self.load(&file).await?;
        self.remove_others(&file.pointer.name).await;
        self.set_current(&header, file);
        Ok((header, state))
    }

    /// Writes a new snapshot and makes it the current one, unless that is as new; gives the current one.
    pub(crate) async fn create(
        &self,
        header: &SnapshotHeader,
        encoder: Encoder,
    ) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        let _turn = self.turn.lock().await;
        if let Some((meta, current)) = self.current()
            && meta.last_log_id >= header.last
        {
            return Ok((meta, current));
        }
        let name = name_of(header);
        let path = self.path(&name);
        let disk = Arc::clone(&self.env.disk);
        let encoded = header.clone();
        let file = self
            .env
            .blocking(move || -> io::Result<SnapshotFile> {
                let bytes = encode(&encoded, &encoder)?;
                disk.write_atomically(&path, &bytes)?;
                let pointer = SnapshotPointer {
                    name,
                    length: bytes.len() as u64,
                    digest: Digest::of(&bytes),
                };
                let file = disk.open(&path)?;
                Ok(SnapshotFile {
                    pointer,
                    file,
                    draft: None,
                })
            })
            .await?;
        self.publish(header, file.clone()).await?;
        Ok((header.meta(), file))
    }

    /// Gives a received snapshot its name and makes it the current one.
    pub(crate) async fn adopt(
        &self,
        header: &SnapshotHeader,
        file: SnapshotFile,
    ) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        let name = name_of(header);
        let (from, to) = (self.path(&file.pointer.name), self.path(&name));
        if from != to {
            let disk = Arc::clone(&self.env.disk);
            self.env.blocking(move || disk.rename(&from, &to)).await?;
        }
        let pointer = SnapshotPointer {
            name,
            ..file.pointer.clone()
        };
        let _draft = file.draft;
        let file = SnapshotFile {
            pointer,
            file: file.file,
            draft: None,
        };
        self.publish(header, file).await
    }

    /// Starts to receive a snapshot.
    pub(crate) async fn receive(&self) -> io::Result<IncomingSnapshot> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let name = format!("{INCOMING}{number}");
        let path = self.path(&name);
        lock(&self.drafts).insert(name.clone());
        let draft = Arc::new(Draft {
            name,
            in_use: Arc::clone(&self.drafts),
        });
        let disk = Arc::clone(&self.env.disk);
        let file = self
            .env
            .blocking(move || -> io::Result<Arc<dyn BlockFile>> {
                disk.remove(&path)?;
                disk.open(&path)
            })
            .await?;
        Ok(IncomingSnapshot {
            env: self.env.clone(),
            file,
            draft,
            length: 0,
            hasher: Hasher::new(),
        })
    }

    async fn publish(&self, header: &SnapshotHeader, file: SnapshotFile) -> io::Result<()> {
        let pointer = file.pointer.clone();
        self.writer.write(Write::Pointer(pointer.clone())).await?;
        self.set_current(header, file);
        self.log.snapshot_made();
        self.remove_others(&pointer.name).await;
        Ok(())
    }

    fn set_current(&self, header: &SnapshotHeader, file: SnapshotFile) {
        *lock(&self.current) = Some((header.meta(), file));
    }

    /// Removes every snapshot but one. Failing only costs space, until the next time.
    async fn remove_others(&self, keep: &str) {
        let keep = keep.to_owned();
        let data_dir = self.data_dir.clone();
        let disk = Arc::clone(&self.env.disk);
        let drafts = Arc::clone(&self.drafts);
        let removed = self
            .env
            .blocking(move || -> io::Result<()> {
                for name in disk.list(&data_dir)? {
                    let in_use = name == keep || lock(&drafts).contains(&name);
                    if name.starts_with(PREFIX) && !in_use {
                        disk.remove(&format!("{data_dir}/{name}"))?;
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = removed {
            tracing::warn!(dir = self.data_dir, %error, "cannot remove old raft snapshots");
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.data_dir)
    }
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct IncomingSnapshot {
    env: Env,
    file: Arc<dyn BlockFile>,
    draft: Arc<Draft>,
    length: u64,
    hasher: Hasher,
}

impl IncomingSnapshot {
    /// Bytes taken so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: bytes::Bytes) -> io::Result<()> {
        self.hasher.update(&bytes);
        let (file, offset) = (Arc::clone(&self.file), self.length);
        self.length += bytes.len() as u64;
        self.env
            .blocking(move || file.write_all_at(offset, &bytes))
            .await
    }

    /// Makes all of it durable.
    pub(crate) async fn finish(self) -> io::Result<SnapshotFile> {
        let file = Arc::clone(&self.file);
        self.env.blocking(move || file.sync()).await?;
        Ok(SnapshotFile {
            pointer: SnapshotPointer {
                name: self.draft.name.clone(),
                length: self.length,
                digest: self.hasher.finish(),
            },
            file: self.file,
            draft: Some(self.draft),
        })
    }
}

impl SnapshotFile {
    /// Reads the chunk at an offset; empty at the end.
    pub(crate) async fn chunk(&self, env: &Env, offset: u64) -> io::Result<bytes::Bytes> {
        let rest = self.pointer.length.saturating_sub(offset);
        let length =
            usize::try_from(rest).map_or(SNAPSHOT_CHUNK_SIZE, |rest| rest.min(SNAPSHOT_CHUNK_SIZE));
        let file = Arc::clone(&self.file);
        env.blocking(move || {
            let mut chunk = vec![0; length];
            file.read_exact_at(offset, &mut chunk)?;
            Ok(chunk.into())
        })
        .await
    }
}

fn name_of(header: &SnapshotHeader) -> String {
    match header.last {
        Some(id) => format!("{PREFIX}{:020}-{:020}", id.leader_id.term, id.index),
        None => format!("{PREFIX}empty"),
    }
}

fn encode(header: &SnapshotHeader, encoder: &Encoder) -> io::Result<Vec<u8>> {
    let header = record::encode(MAGIC, header)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&header);
    encoder(&mut bytes)?;
    Ok(bytes)
}

/// Splits a snapshot into header and state, giving the state's bytes without another copy of them.
fn decode(path: &str, mut bytes: Vec<u8>) -> io::Result<(SnapshotHeader, Vec<u8>)> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is not a raft snapshot of a version this program knows"),
        )
    };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let header = rest.get(..length).ok_or_else(damaged)?;
    let header = record::decode(MAGIC, header, || format!("the header of {path}"))?;
    bytes.drain(..MAGIC.len() + 4 + length);
    Ok((header, bytes))
}

fn read_verified(
    file: &dyn BlockFile,
    path: &str,
    pointer: &SnapshotPointer,
) -> io::Result<Vec<u8>> {
    let damaged = |how: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is damaged: {how}"),
        )
    };
    let found = file.len()?;
    if found != pointer.length {
        return Err(damaged(format!(
            "it has {found} bytes instead of {}",
            pointer.length
        )));
    }
    let length = usize::try_from(found).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut offset = 0;
    for chunk in bytes.chunks_mut(SNAPSHOT_CHUNK_SIZE) {
        file.read_exact_at(offset, chunk)?;
        offset += chunk.len() as u64;
    }
    if Digest::of(&bytes) == pointer.digest {
        Ok(bytes)
    } else {
        Err(damaged("its digest does not match".to_owned()))
    }
}
