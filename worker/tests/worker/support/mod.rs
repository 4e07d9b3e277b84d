//! The worker's surroundings.

mod chain;
pub(crate) mod jobs;
mod leader;
mod log;
mod source;

pub(crate) use chain::{Collection, TestStores};
pub(crate) use leader::{Conversation, Leader};
pub(crate) use log::{DATABASE, FakeLog, Misuse, TABLE};
pub(crate) use source::{FakeFactory, FakeSource};

use bytes::Bytes;
use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use holdfast_node::ClusterKey;
use holdfast_proto::{Grant, Lease, LeaseReportBody, SpanWork, Work};
use holdfast_types::{
    BackupMember, BackupSpec, ClusterId, Hlc, HoldId, JobSpec, LayerPath, Locality, MemberRecord,
    ParentLayer, Relation, RelationId, Sealed, SourceKind, TableName, Target, Timestamp,
};
use holdfast_worker::{Worker, WorkerConfig, WorkerHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::LocalSet;

/// The cluster of all tests.
pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Bytes of a part in tests.
pub(crate) const PART: u64 = 4 << 10;

/// The cluster key of all tests.
pub(crate) fn key() -> ClusterKey {
    ClusterKey::from_bytes(&[9; 32])
}

/// Runs a test on a `LocalSet`, with an end.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test ends");
    });
}

pub(crate) fn at(micros: u64) -> Hlc {
    Hlc::at(Timestamp::from_micros(micros))
}

pub(crate) fn table(name: &str) -> TableName {
    TableName {
        database: "app".to_owned(),
        table: name.to_owned(),
    }
}

pub(crate) fn row_key(number: u32) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

/// One worker and what it lives on.
pub(crate) struct World {
    pub(crate) source: Arc<FakeSource>,
    pub(crate) log: Arc<FakeLog>,
    pub(crate) stores: Arc<TestStores>,
    pub(crate) collection: Collection,
    pub(crate) worker: WorkerHandle,
}

impl World {
    /// A worker with so many slots that knows these coordinators.
    pub(crate) async fn start(slots: u32, coordinators: &[&Leader]) -> Self {
        let env = Env::system();
        let source = Arc::new(FakeSource::default());
        let stores = Arc::new(TestStores::new(&env));
        let provider: Arc<dyn StoreProvider> = Arc::<TestStores>::clone(&stores);
        let config = WorkerConfig {
            slots,
            ..WorkerConfig::new(
                "w1".parse().expect("a name"),
                coordinators
                    .iter()
                    .map(|leader| leader.address.clone())
                    .collect(),
                key(),
            )
        };
        let log = Arc::new(FakeLog::default());
        let factory = Arc::new(FakeFactory {
            source: Arc::clone(&source),
            log: Arc::clone(&log),
        });
        let collection = Collection::open(&provider, &env).await;
        let worker = Worker::start(config, env, factory, provider).expect("starts");
        Self {
            source,
            log,
            stores,
            collection,
            worker,
        }
    }

    /// Waits until nothing moves: no batch is read, no object is written.
    pub(crate) async fn assert_quiet(&self, during: Duration) {
        let before = self.activity().await;
        tokio::time::sleep(during).await;
        assert_eq!(before, self.activity().await, "something still works");
    }

    async fn activity(&self) -> ((u64, u64), usize, u64, Vec<String>) {
        (
            self.source.activity(),
            self.log.pages().len(),
            self.log.loaded(),
            self.collection.objects().await,
        )
    }
}

pub(crate) fn member() -> MemberRecord {
    MemberRecord {
        name: "m1".parse().expect("a name"),
        locality: Locality::default(),
        address: "unused:1".to_owned(),
        secret: None,
        limits: holdfast_types::MemberLimits::default(),
    }
}

/// A backup into the tests' collection.
pub(crate) fn backup(
    path: LayerPath,
    parent: Option<ParentLayer>,
    end: Hlc,
    history: bool,
) -> BackupSpec {
    BackupSpec {
        source: "shop".parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: vec![BackupMember { member: member() }],
        target: Target::Source,
        collection: Collection::URI.to_owned(),
        access: holdfast_types::CollectionAccess::default(),
        path,
        parent,
        end,
        history,
        execution_locality: Locality::default(),
        part_size: PART,
        hold: holdfast_types::HoldUse::Job,
        encryption: None,
    }
}

/// A full backup at position 100.
pub(crate) fn full() -> BackupSpec {
    backup(
        LayerPath::full("2026/11/23-190800.00"),
        None,
        at(100),
        false,
    )
}

pub(crate) fn grant(spec: JobSpec, lease: Lease, work: Work) -> Grant {
    Grant {
        lease,
        spec,
        hold: Some(HoldId(5)),
        cluster: CLUSTER,
        work,
    }
}

/// A span of a whole relation, from a frontier on.
pub(crate) fn span(relation: &Relation, frontier: &[u8]) -> Work {
    Work::Span(SpanWork {
        member: 0,
        relation: relation.id,
        start: Sealed::open_end(),
        end: Sealed::open_end(),
        frontier: key().seal_bound(frontier),
        record: Some(relation.clone()),
        settles: false,
        planned: Vec::new(),
    })
}

/// A table of the source with `rows` rows of about 100 bytes, all written at position 10.
pub(crate) fn fill(source: &FakeSource, id: u64, name: &str, rows: u32) -> Relation {
    let relation = Relation {
        id: RelationId(id),
        name: table(name),
        created_at: at(1).into(),
        dropped_at: None,
        definition: b"definition".to_vec(),
    };
    source.create(relation.clone());
    for number in 0..rows {
        source.put(relation.id, number, at(10), 1);
    }
    relation
}

/// The parts of a checkpoint that tests look at.
pub(crate) struct Checkpoint {
    pub(crate) from: Sealed,
    pub(crate) to: Sealed,
    pub(crate) last: bool,
    pub(crate) objects: Vec<holdfast_types::ObjectRef>,
    pub(crate) rows: u64,
    pub(crate) read: u64,
}

pub(crate) fn checkpoint(body: &LeaseReportBody) -> Checkpoint {
    match body.clone() {
        LeaseReportBody::Checkpoint {
            from,
            to,
            last,
            objects,
            rows,
            read,
            ..
        } => Checkpoint {
            from,
            to,
            last,
            objects,
            rows: rows.0,
            read: read.0,
        },
        other => panic!("not a checkpoint: {other:?}"),
    }
}
