//! The collection of a test, and layers in it.

use futures::TryStreamExt;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{CollectionStore, CollectionUri, PartName, StoreProvider, SystemStores};
use holdfast_env::Env;
use holdfast_format::{
    Entry, Layer, LayerRelation, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartWriter,
    SpanFileReader,
};
use holdfast_types::{
    BackupSpec, Fault, Hlc, JobId, KeyRange, Locality, ObjectRef, Position, Relation, Window,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::CLUSTER;

/// Stores in memory that can be told to refuse puts.
#[derive(Debug)]
pub(crate) struct TestStores {
    inner: SystemStores,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan(Mutex<Injection>);

impl FaultPlan for Plan {
    fn next(&self, operation: StoreOp, _: &str) -> Injection {
        if operation == StoreOp::Put {
            *self.0.lock().expect("the lock")
        } else {
            Injection::NONE
        }
    }
}

impl TestStores {
    pub(crate) fn new(env: &Env) -> Self {
        Self {
            inner: SystemStores::new(Arc::clone(&env.disk)),
            plan: Arc::default(),
        }
    }

    /// What happens to every put from now on.
    pub(crate) fn inject(&self, injection: Injection) {
        *self.plan.0.lock().expect("the lock") = injection;
    }

    /// Every put takes so long from now on.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.inject(Injection {
            delay,
            ..Injection::NONE
        });
    }

    pub(crate) fn fill_up(&self) {
        self.inject(Injection {
            fault: Some(StoreFault::Full),
            ..Injection::NONE
        });
    }
}

impl StoreProvider for TestStores {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let plan: Arc<dyn FaultPlan> = Arc::<Plan>::clone(&self.plan);
        Ok(Arc::new(FaultyStore::new(self.inner.open(uri)?, plan)))
    }
}

/// The collection of a test.
pub(crate) struct Collection {
    pub(crate) store: CollectionStore,
    objects: Arc<dyn ObjectStore>,
}

impl Collection {
    pub(crate) const URI: &'static str = "memory://test";

    pub(crate) async fn open(provider: &Arc<dyn StoreProvider>, env: &Env) -> Self {
        let uri: CollectionUri = Self::URI.parse().expect("a URI");
        Self {
            store: CollectionStore::open(provider, &uri, env)
                .await
                .expect("opens"),
            objects: provider.open(&uri).expect("opens"),
        }
    }

    /// The keys of all objects, sorted.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let listed: Vec<_> = self.objects.list(None).try_collect().await.expect("lists");
        let mut keys: Vec<String> = listed
            .into_iter()
            .map(|meta| meta.location.to_string())
            .collect();
        keys.sort();
        keys
    }

    /// Flips a bit in the middle of an object.
    pub(crate) async fn damage(&self, key: &str) {
        let at = Path::from(key);
        let bytes = self.objects.get(&at).await.expect("there");
        let mut bytes = bytes.bytes().await.expect("bytes").to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.objects.put(&at, bytes.into()).await.expect("put");
    }

    /// All entries of an object.
    pub(crate) async fn entries(&self, spec: &BackupSpec, object: &ObjectRef) -> Vec<Entry> {
        let file = self.store.get_verified(&spec.path, object).await;
        let reader = SpanFileReader::open(file.expect("there")).expect("a span file");
        let blocks = reader.read(KeyRange::all());
        blocks.flat_map(|block| block.expect("sound")).collect()
    }

    /// Makes a layer of what workers reported, as the leader would.
    pub(crate) async fn commit(
        &self,
        job: JobId,
        spec: &BackupSpec,
        relations: &[Relation],
        entries: &[ManifestEntry],
    ) -> Layer {
        let parent = spec.parent.as_ref();
        let window = Window {
            after: parent.map(|parent| Position::from(parent.end)),
            upto: spec.end.into(),
            history: spec.history,
        };
        self.commit_until(job, spec, relations, entries, window, spec.end)
            .await
    }

    /// The same with an end that is known now, by the member's count and by the clock.
    pub(crate) async fn commit_until(
        &self,
        job: JobId,
        spec: &BackupSpec,
        relations: &[Relation],
        entries: &[ManifestEntry],
        window: Window,
        end: Hlc,
    ) -> Layer {
        let mut writer = PartWriter::new();
        let mut totals = LayerTotals::default();
        for entry in entries {
            writer.push(entry).expect("legal");
            totals.objects += 1;
            totals.rows += entry.object.rows;
            totals.logical += entry.object.logical;
            totals.stored += entry.object.length;
        }
        let (bytes, summary) = writer.finish();
        let name = PartName { job, part: 0 };
        let part = self.store.put_part(&spec.path, name, vec![bytes], &summary);
        let manifest = Manifest {
            cluster: CLUSTER,
            job,
            source: spec.source.clone(),
            kind: spec.kind,
            path: spec.path.clone(),
            parent: spec.parent.clone(),
            target: spec.target.clone(),
            complete: vec!["app".to_owned()],
            end,
            history: spec.history,
            revision_start: None,
            members: vec![ManifestMember {
                name: "m1".parse().expect("a name"),
                locality: Locality::default(),
                window,
                complete_until: None,
                relations: relations
                    .iter()
                    .map(|relation| LayerRelation {
                        introduced: window.after.is_none_or(|after| relation.created_at > after),
                        relation: relation.clone(),
                    })
                    .collect(),
            }],
            totals,
            parts: vec![part.await.expect("put")],
            tiers: Vec::new(),
        };
        self.store.commit_layer(&manifest).await.expect("commits")
    }
}
