//! openraft's own conformance suite on our log and snapshots, and what it does not ask: crashes and damage.

use holdfast_env::{Env, MemoryDisk};
use holdfast_ledger::Ledger;
use holdfast_types::ErrorCode;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::log_engine::{Write, encode_entry};
use crate::log_store::LogStore;
use crate::machine::{Machine, SharedMachine};
use crate::machine_store::MachineStore;
use crate::snapshot::SnapshotStore;
use crate::type_config::{CommandBytes, Entry, LogId, Runtime, TypeConfig, Vote};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, MachineStore, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineStore), StorageError<TypeConfig>> {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().to_str().expect("a text path");
        let env = Env::system();
        let (log, _) = LogStore::open(&env, path, 1024 * 1024)
            .await
            .expect("a new log");
        let machine: Arc<dyn Machine> = Arc::new(SharedMachine::<Ledger>::new(None));
        let snapshots = SnapshotStore::new(&env, path, log.writer(), log.reader());
        let store = MachineStore {
            env,
            machine,
            snapshots: Arc::new(snapshots),
            applied: watch::channel(0).0,
        };
        Ok((directory, log, store))
    }
}

// The suite sleeps a second after each purge.
#[tokio::test(start_paused = true)]
async fn the_stores_pass_the_suite() {
    let suite = Suite::<TypeConfig, LogStore, MachineStore, Builder, TempDir>::test_all(Builder);
    Runtime::scope(7, suite).await.expect("the suite");
}

/// A log on a disk in memory.
async fn log_on(disk: &MemoryDisk) -> LogStore {
    let env = Env {
        disk: Arc::new(disk.clone()),
        ..Env::system()
    };
    let (log, _) = LogStore::open(&env, "/data", 1024 * 1024)
        .await
        .expect("opens");
    log
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: LogId::new_term_index(term, index),
        payload: EntryPayload::Normal(CommandBytes(vec![index as u8; 300].into())),
    }
}

/// Everything the log holds.
async fn entries(log: &mut LogStore) -> Vec<Entry> {
    let mut reader = log.get_log_reader().await;
    reader.try_get_log_entries(..).await.expect("reads")
}

#[tokio::test]
async fn an_acknowledged_vote_survives_every_crash() {
    let mut disk = MemoryDisk::new();
    for term in 1..40 {
        let mut log = log_on(&disk).await;
        let mut reader = log.get_log_reader().await;
        let known = reader.read_vote().await.expect("reads");
        let previous = (term > 1).then(|| Vote::new_committed(term - 1, 3));
        assert_eq!(known, previous);
        log.save_vote(&Vote::new_committed(term, 3))
            .await
            .expect("saves");
        disk = disk.crash(term);
    }
}

#[tokio::test]
async fn acknowledged_entries_survive_every_crash_in_order() {
    let mut disk = MemoryDisk::new();
    let mut next = 0;
    for seed in 1..30 {
        let mut log = log_on(&disk).await;
        let found = entries(&mut log).await;
        let found_next = found.last().map_or(0, |entry| entry.log_id.index + 1);
        assert!(found_next >= next, "lost {found_next} to {next}");
        assert_eq!(
            found,
            (0..found_next).map(|n| entry(1, n)).collect::<Vec<_>>()
        );
        log.blocking_append((found_next..found_next + 10).map(|n| entry(1, n)))
            .await
            .expect("appends");
        next = found_next + 10;
        // These are in flight when the power goes.
        log.append((next..next + 10).map(|n| entry(1, n)), IOFlushed::noop())
            .await
            .expect("queues");
        disk = disk.crash(seed);
    }
}

#[tokio::test]
async fn a_cut_log_stays_cut_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut log = log_on(&disk).await;
    log.blocking_append((0..20).map(|n| entry(1, n)))
        .await
        .expect("appends");
    log.truncate_after(Some(LogId::new_term_index(1, 9)))
        .await
        .expect("truncates");
    log.blocking_append((10..15).map(|n| entry(2, n)))
        .await
        .expect("appends");
    log.purge(LogId::new_term_index(1, 4))
        .await
        .expect("purges");
    log.save_committed(Some(LogId::new_term_index(2, 12)))
        .await
        .expect("saves");
    let expected: Vec<Entry> = (5..10)
        .map(|n| entry(1, n))
        .chain((10..15).map(|n| entry(2, n)))
        .collect();
    assert_eq!(entries(&mut log).await, expected);
    log.writer().close().await;
    drop(log);
    let mut log = log_on(&disk).await;
    assert_eq!(entries(&mut log).await, expected);
    let committed = log.read_committed().await.expect("reads");
    assert_eq!(committed, Some(LogId::new_term_index(2, 12)));
    let state = log.get_log_state().await.expect("reads");
    assert_eq!(state.last_purged_log_id, Some(LogId::new_term_index(1, 4)));
    assert_eq!(state.last_log_id, Some(LogId::new_term_index(2, 14)));
}

#[tokio::test]
async fn a_record_that_is_wrong_inside_a_sound_file_is_named() {
    for (what, write) in [
        (
            "entry 3",
            Write::Append(vec![(3, b"\x01nonsense".to_vec())]),
        ),
        (
            "entry 7",
            Write::Append(vec![(7, encode_entry(&entry(1, 8)).expect("encodes").1)]),
        ),
        (
            "entry 11 of /data/raft.redb is missing",
            Write::Append(vec![encode_entry(&entry(1, 12)).expect("encodes")]),
        ),
    ] {
        let disk = MemoryDisk::new();
        let mut log = log_on(&disk).await;
        log.blocking_append((0..11).map(|n| entry(1, n)))
            .await
            .expect("appends");
        log.writer().write(write).await.expect("writes");
        log.writer().close().await;
        drop(log);
        let env = Env {
            disk: Arc::new(disk.clone()),
            ..Env::system()
        };
        let fault = LogStore::open(&env, "/data", 1024 * 1024)
            .await
            .expect_err("is wrong");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
        assert!(fault.message.contains(what), "{what}: {fault}");
    }
}
