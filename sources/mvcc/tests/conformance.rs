//! The conformance suite over every way to reach a store: in the process, over real sockets, and on a disk in memory.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_env::{Env, MemoryDisk};
use holdfast_mvcc::{
    LocalMember, Mutation, MvccFactory, MvccStore, ServeHandle, StoreOptions, serve,
};
use holdfast_source::conformance::{Application, Fixture, Write, run_all};
use holdfast_source::{Source, SourceFactory};
use holdfast_types::{
    ErrorCode, Locality, MemberName, MemberRecord, Millis, Position, SourceKind, TableName,
};
use std::sync::Arc;

struct StoreApplication(MvccStore);

#[async_trait]
impl Application for StoreApplication {
    async fn create_database(&self, name: &str) {
        self.0.create_database(name).await.expect("database");
    }

    async fn create_table(&self, name: &TableName) {
        self.0
            .create_table(name, "key, value")
            .await
            .expect("table");
    }

    async fn drop_table(&self, name: &TableName) {
        self.0.drop_table(name).await.expect("drop");
    }

    async fn write(&self, writes: Vec<Write>) -> Position {
        let mutations = writes
            .into_iter()
            .map(|(table, key, value)| match value {
                Some(value) => Mutation::put(table, key, value),
                None => Mutation::delete(table, key),
            })
            .collect();
        Position::Hlc(self.0.write(mutations).await.expect("write"))
    }

    async fn rows(&self, name: &TableName) -> Option<Vec<(Bytes, Bytes)>> {
        match self.0.rows(name, None).await {
            Ok(rows) => Some(rows),
            Err(fault) if fault.code == ErrorCode::NotFound => None,
            Err(fault) => panic!("{fault}"),
        }
    }

    async fn discard_history(&self) {
        self.0
            .collect_garbage(Some(Millis(0)))
            .await
            .expect("garbage collection");
    }
}

async fn open(env: Env, directory: &str) -> MvccStore {
    MvccStore::open(env, directory, StoreOptions::default())
        .await
        .expect("open")
}

struct OnDisk(Vec<tempfile::TempDir>);

impl OnDisk {
    async fn store(&mut self) -> MvccStore {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().display().to_string();
        self.0.push(directory);
        open(Env::system(), &path).await
    }
}

#[async_trait]
impl Fixture for OnDisk {
    async fn fresh(&mut self) -> (Arc<dyn Source>, Arc<dyn Application>) {
        let store = self.store().await;
        let member = Arc::new(LocalMember::new(store.clone()));
        (member, Arc::new(StoreApplication(store)))
    }
}

struct InMemory;

#[async_trait]
impl Fixture for InMemory {
    async fn fresh(&mut self) -> (Arc<dyn Source>, Arc<dyn Application>) {
        let env = Env {
            disk: Arc::new(MemoryDisk::new()),
            ..Env::system()
        };
        let store = open(env, "member").await;
        let member = Arc::new(LocalMember::new(store.clone()));
        (member, Arc::new(StoreApplication(store)))
    }
}

struct OverTheNetwork {
    disk: OnDisk,
    served: Vec<ServeHandle>,
    factory: MvccFactory,
}

#[async_trait]
impl Fixture for OverTheNetwork {
    async fn fresh(&mut self) -> (Arc<dyn Source>, Arc<dyn Application>) {
        let store = self.disk.store().await;
        let served = serve(&Env::system(), "127.0.0.1:0", store.clone())
            .await
            .expect("serve");
        let record = MemberRecord {
            name: MemberName::new("m1").expect("a name"),
            locality: Locality::default(),
            address: served.address().to_owned(),
            secret: None,
            limits: holdfast_types::MemberLimits::default(),
        };
        self.served.push(served);
        let member = self
            .factory
            .member(SourceKind::Mvcc, &record)
            .expect("a member");
        (member, Arc::new(StoreApplication(store)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_the_process_conforms() {
    run_all(&mut OnDisk(Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_disk_in_memory_conforms() {
    run_all(&mut InMemory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_over_the_network_conforms() {
    let mut fixture = OverTheNetwork {
        disk: OnDisk(Vec::new()),
        served: Vec::new(),
        factory: MvccFactory::new(Env::system().net),
    };
    run_all(&mut fixture).await;
    for served in fixture.served {
        served.shutdown().await;
    }
}
