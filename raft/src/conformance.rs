//! openraft's own conformance suite, on our log and snapshots.

use holdfast_env::Env;
use holdfast_ledger::Ledger;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::log_store::LogStore;
use crate::machine::{Machine, SharedMachine};
use crate::machine_store::MachineStore;
use crate::snapshot::SnapshotStore;
use crate::type_config::{Runtime, TypeConfig};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, MachineStore, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineStore), StorageError<TypeConfig>> {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().to_str().expect("a text path");
        let env = Env::system();
        let (log, _) = LogStore::open(&env, path, 1024 * 1024)
            .await
            .expect("a new log");
        let machine: Arc<dyn Machine> = Arc::new(SharedMachine::<Ledger>::new());
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
