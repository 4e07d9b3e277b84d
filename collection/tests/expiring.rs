//! Chains that expire: cut off anywhere, refused anywhere, what is shown as restorable can be restored.

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{
    Claim, CollectionStore, CollectionUri, DataName, Depth, ExpiryMark, Location, PartName,
    StoreProvider, SystemStores, VerifyReport,
};
use holdfast_env::Env;
use holdfast_format::{
    Layer, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartWriter, SpanFileOptions,
    SpanFileWriter,
};
use holdfast_types::{
    ClusterId, Epoch, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, ParentLayer, RelationId,
    SourceKind, Target, TaskId, Timestamp, Window, full_subdir, incremental_subdir,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::{Arc, Mutex};

const CLUSTER: ClusterId = ClusterId([3; 16]);
const HOUR: u64 = 3600;

/// What happens to deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    None,
    /// So many succeed, and then none.
    After(usize),
    /// Those of paths with this in them are not permitted.
    Denied(String),
}

#[derive(Debug)]
struct Plan(Mutex<Trouble>);

impl FaultPlan for Plan {
    fn next(&self, operation: StoreOp, path: &str) -> Injection {
        let mut trouble = self.0.lock().expect("the lock");
        let fault = match (operation, &mut *trouble) {
            (StoreOp::Delete, Trouble::After(0)) => Some(StoreFault::Reject),
            (StoreOp::Delete, Trouble::After(left)) => {
                *left -= 1;
                None
            }
            (StoreOp::Delete, Trouble::Denied(part)) if path.contains(part.as_str()) => {
                Some(StoreFault::Deny)
            }
            _ => None,
        };
        Injection {
            fault,
            ..Injection::NONE
        }
    }
}

#[derive(Debug)]
struct Troubled {
    inner: SystemStores,
    plan: Arc<Plan>,
}

impl StoreProvider for Troubled {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let plan = Arc::clone(&self.plan);
        Ok(Arc::new(FaultyStore::new(self.inner.open(uri)?, plan)))
    }
}

struct World {
    store: CollectionStore,
    provider: Arc<dyn StoreProvider>,
    plan: Arc<Plan>,
    raws: Vec<Arc<dyn ObjectStore>>,
}

async fn world(uris: &[&str]) -> World {
    let env = Env::system();
    let plan = Arc::new(Plan(Mutex::new(Trouble::None)));
    let provider = Arc::new(Troubled {
        inner: SystemStores::new(Arc::clone(&env.disk)),
        plan: Arc::clone(&plan),
    });
    let uris: Vec<CollectionUri> = (uris.iter())
        .map(|uri| uri.parse().expect("legal"))
        .collect();
    let raws = uris
        .iter()
        .map(|uri| provider.inner.open(uri).expect("opens"));
    let raws = raws.collect();
    let provider: Arc<dyn StoreProvider> = provider;
    let location = Location::to_write(uris).expect("legal");
    let store = CollectionStore::open_all(&provider, &location, &env)
        .await
        .expect("opens");
    World {
        store,
        provider,
        plan,
        raws,
    }
}

impl World {
    fn trouble(&self, trouble: Trouble) {
        *self.plan.0.lock().expect("the lock") = trouble;
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for raw in &self.raws {
            let all: Vec<_> = raw.list(None).try_collect().await.expect("listed");
            keys.extend(all.into_iter().map(|meta| meta.location.to_string()));
        }
        keys.sort();
        keys
    }

    /// What is shown as restorable, layer by layer; every object of it is read.
    async fn restorable(&self) -> Vec<String> {
        let mut found = Vec::new();
        for chain in self.store.summaries().await.expect("listed") {
            let chain = self.store.load_chain(&chain.full).await.expect("loaded");
            assert!(chain.broken().is_empty(), "{:?}", chain.broken());
            for layer in chain.all_layers() {
                let entries: Vec<Vec<ManifestEntry>> = self
                    .store
                    .entries(layer)
                    .try_collect()
                    .await
                    .expect("the file list");
                let mut report = VerifyReport::default();
                let path = &layer.manifest.path;
                let _ = self
                    .store
                    .verify_objects(path, &entries.concat(), Depth::Rows, &mut report)
                    .await
                    .expect("read");
                assert!(report.is_sound() && report.objects > 0, "{report:?}");
                found.push(path.to_string());
            }
        }
        match self.store.latest().await {
            Ok(latest) => assert!(found.contains(&latest), "{latest}"),
            Err(fault) => assert!(found.is_empty(), "{fault}"),
        }
        found
    }
}

fn at(seconds: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000 + seconds * 1000))
}

fn mark(full: &str) -> ExpiryMark {
    ExpiryMark {
        full: full.to_owned(),
        cluster: CLUSTER,
        job: JobId(99),
        at: at(1_000_000).wall,
        stores: 1,
    }
}

/// A layer with a span file and a part in the store of each member.
async fn layer(
    store: &CollectionStore,
    path: LayerPath,
    parent: Option<&Layer>,
    end: Hlc,
) -> Layer {
    let job = JobId(end.wall.as_millis());
    let claim = Claim {
        cluster: CLUSTER,
        job,
    };
    store.claim(&path, claim).await.expect("free");
    let localities = ["region=us", "region=eu"].map(|text| text.parse().expect("legal"));
    let mut parts = Vec::new();
    for (index, locality) in (0u16..).zip(&localities) {
        let place = store.for_locality(locality).expect("opened to write");
        let mut span = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
        span.push_row(b"key", end.into(), Some(b"value"))
            .expect("in order");
        let (rest, summary) = span.finish().expect("closes");
        let task = TaskId {
            job,
            index: index.into(),
        };
        let name = DataName::new(task, Epoch(1), 0);
        let object = place
            .put_data(&path, name, vec![rest], &summary)
            .await
            .expect("put");
        let mut part = PartWriter::new();
        part.push(&ManifestEntry {
            member: index,
            relation: RelationId(1),
            range: KeyRange::all(),
            object,
        })
        .expect("in order");
        let (rest, summary) = part.finish();
        let name = PartName {
            job,
            part: index.into(),
        };
        let put = place.put_part(&path, name, vec![rest], &summary).await;
        parts.push(put.expect("put"));
    }
    let start = parent.map(|parent| parent.manifest.end);
    let members = (0..)
        .zip(&localities)
        .map(|(index, locality)| ManifestMember {
            name: format!("m{index}").parse().expect("legal"),
            locality: locality.clone(),
            window: Window {
                after: start.map(Into::into),
                upto: end.into(),
                history: false,
            },
            complete_until: None,
            relations: Vec::new(),
        });
    let manifest = Manifest {
        cluster: CLUSTER,
        job,
        source: "fleet".parse().expect("legal"),
        kind: SourceKind::Mvcc,
        path,
        parent: parent.map(|parent| ParentLayer {
            path: parent.manifest.path.clone(),
            manifest: parent.digest,
            end: parent.manifest.end,
        }),
        target: Target::Source,
        complete: Vec::new(),
        end,
        history: false,
        revision_start: None,
        members: members.collect(),
        totals: LayerTotals {
            objects: 2,
            ..LayerTotals::default()
        },
        parts,
        tiers: store.location().tiers(),
    };
    store.commit_layer(&manifest).await.expect("committed")
}

/// A chain of a full and so many incrementals, an hour apart.
async fn chain(store: &CollectionStore, start: u64, incrementals: u64) -> String {
    let full = full_subdir(at(start).wall);
    let mut last = layer(store, LayerPath::full(full.clone()), None, at(start)).await;
    for number in 1..=incrementals {
        let end = at(start + number * HOUR);
        let own = incremental_subdir(last.manifest.end.wall, end.wall);
        let path = LayerPath::incremental(full.clone(), own);
        last = layer(store, path, Some(&last), end).await;
    }
    full
}

const TWO: [&str; 2] = [
    "memory://home?HOLDFAST_LOCALITY=default",
    "memory://eu?HOLDFAST_LOCALITY=region%3Deu",
];

/// Every prefix of the sequence of deletes.
#[tokio::test(start_paused = true)]
async fn what_is_shown_can_be_restored_wherever_a_removal_is_cut_off() {
    for stores in [&TWO[..], &["memory://one"]] {
        let mut cuts = 0;
        for cut in 0.. {
            let world = world(stores).await;
            let doomed = chain(&world.store, 0, 2).await;
            let kept = chain(&world.store, 100 * HOUR, 1).await;
            let before = world.keys().await;
            world.trouble(Trouble::After(cut));
            let removed = world.store.expire_chain(&mark(&doomed)).await;
            world.trouble(Trouble::None);
            let shown = world.restorable().await;
            assert_eq!(shown.len(), 2, "{shown:?}");
            assert!(shown.iter().all(|path| path.contains(&kept)), "{shown:?}");
            if removed.is_err() {
                cuts += 1;
                let marked = world.store.expired().await.expect("listed");
                assert!(marked.len() == 1 && marked.contains(&doomed), "{marked:?}");
                // A copy that lost the mark has the whole chain, or none of it.
                let mark_at = format!("metadata/expired/{}", doomed.replace('/', ""));
                world.raws[0]
                    .delete(&Path::from(mark_at))
                    .await
                    .expect("removed");
                let shown = world.restorable().await;
                assert!([2, 5].contains(&shown.len()), "{shown:?}");
                let report = world.store.expire_chain(&mark(&doomed)).await;
                assert!(report.expect("removed").is_complete());
            }
            let left = world.keys().await;
            let ours = |key: &&String| key.contains(&doomed) || key.contains("metadata/expired");
            assert_eq!(left.iter().find(ours), None);
            let record = format!("metadata/removed/{}", doomed.replace('/', ""));
            assert!(left.contains(&record), "{left:?}");
            assert!(
                left.iter()
                    .all(|key| before.contains(key) || *key == record)
            );
            if removed.is_ok() {
                break;
            }
        }
        // 3 layers with 2 objects, 2 parts, a manifest, a claim and a line each, the pointer, and the mark; descriptions.
        let descriptions = if stores.len() > 1 { 3 } else { 0 };
        assert_eq!(cuts, 3 * 7 + 2 + descriptions);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_refuses_is_counted_and_tried_again() {
    let cases = [
        // Without the pointer, or a line, or data, the chain goes on being removed.
        ("metadata/latest", 1, true),
        ("metadata/index", 3, true),
        ("/data/", 6, true),
        ("BACKUP-LOCK", 3, true),
        ("metadata/expired", 1, true),
        // With its head all stays.
        ("MANIFEST", 1, false),
    ];
    for (part, refused, goes_on) in cases {
        let world = world(&["memory://one"]).await;
        let doomed = chain(&world.store, 0, 2).await;
        chain(&world.store, 100 * HOUR, 0).await;
        world.trouble(Trouble::Denied(part.to_owned()));
        let report = world.store.expire_chain(&mark(&doomed)).await.expect(part);
        assert_eq!(report.refused, refused, "{part}");
        assert!(!report.is_complete());
        let why = report.refusal.expect("a reason");
        assert!(why.message.contains("permission denied"), "{why}");
        let left = world.keys().await;
        let parts = left.iter().filter(|key| key.contains("/parts/")).count();
        assert_eq!(parts, if goes_on { 2 } else { 8 }, "{part}");
        assert_eq!(world.restorable().await.len(), 1, "{part}");
        world.trouble(Trouble::None);
        let report = world.store.expire_chain(&mark(&doomed)).await.expect(part);
        assert!(report.is_complete(), "{part}");
        let left = world.keys().await;
        assert!(!left.iter().any(|key| key.contains(&doomed)), "{left:?}");
        assert!(world.store.expired().await.expect("listed").is_empty());
    }
}

#[tokio::test]
async fn nobody_reads_or_goes_on_with_what_has_expired() {
    let world = world(&["memory://one"]).await;
    let doomed = chain(&world.store, 0, 1).await;
    let begun = LayerPath::incremental(
        doomed.clone(),
        incremental_subdir(at(HOUR).wall, at(2 * HOUR).wall),
    );
    let claim = Claim {
        cluster: CLUSTER,
        job: JobId(7),
    };
    // Whose claim is there before is told to whoever wants to remove the chain.
    world.store.claim(&begun, claim).await.expect("free");
    let unfinished = world.store.unfinished(&doomed).await.expect("listed");
    assert_eq!(unfinished.len(), 1);
    assert_eq!(
        (&unfinished[0].path, unfinished[0].claim),
        (&begun, Some(claim))
    );

    let at_mark = Path::from(format!("metadata/expired/{}", doomed.replace('/', "")));
    let body: Bytes = mark(&doomed).encode().into();
    world.raws[0].put(&at_mark, body.into()).await.expect("put");
    let is_told = |fault: Fault| {
        assert_eq!(fault.code, ErrorCode::NotFound, "{fault}");
        assert!(fault.message.contains("has expired at"), "{fault}");
        assert!(fault.message.contains("job 99"), "{fault}");
        assert!(fault.hint.is_some());
    };
    is_told(
        world
            .store
            .resolve_subdir(&doomed)
            .await
            .expect_err("expired"),
    );
    is_told(world.store.list_layers(&doomed).await.expect_err("expired"));
    is_told(world.store.load_chain(&doomed).await.expect_err("expired"));
    let next = LayerPath::incremental(
        doomed.clone(),
        incremental_subdir(at(HOUR).wall, at(3 * HOUR).wall),
    );
    is_told(world.store.claim(&next, claim).await.expect_err("expired"));
    assert!(world.store.summaries().await.expect("listed").is_empty());
    assert!(world.store.list_chains().await.expect("listed").is_empty());
    let latest = world.store.latest().await.expect_err("nothing is left");
    assert_eq!(latest.code, ErrorCode::NotFound);

    // A damaged mark is one all the same.
    world.raws[0]
        .put(&at_mark, Bytes::from_static(b"holdfast").into())
        .await
        .expect("put");
    let fault = world.store.load_chain(&doomed).await.expect_err("expired");
    assert!(fault.message.contains("has expired"), "{fault}");
    // An empty object is none: tools that copy trees leave them behind.
    world.raws[0]
        .put(&at_mark, Bytes::new().into())
        .await
        .expect("put");
    assert_eq!(world.restorable().await.len(), 2);
}

#[tokio::test]
async fn a_layer_whose_full_is_gone_does_not_come_to_be() {
    let world = world(&["memory://one"]).await;
    let doomed = chain(&world.store, 0, 0).await;
    let full = LayerPath::full(doomed.clone());
    let parent = world.store.load_layer(&full).await.expect("there");
    let report = world
        .store
        .expire_chain(&mark(&doomed))
        .await
        .expect("removed");
    assert!(report.is_complete());
    let own = incremental_subdir(at(0).wall, at(HOUR).wall);
    let mut manifest = parent.manifest.clone();
    manifest.path = LayerPath::incremental(doomed, own);
    manifest.parts = Vec::new();
    manifest.parent = Some(ParentLayer {
        path: full,
        manifest: parent.digest,
        end: parent.manifest.end,
    });
    let fault = world
        .store
        .commit_layer(&manifest)
        .await
        .expect_err("no full");
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(fault.message.contains("is gone"), "{fault}");
}

#[tokio::test]
async fn what_is_not_ours_stays() {
    let world = world(&["memory://one"]).await;
    let doomed = chain(&world.store, 0, 1).await;
    let foreign = [
        format!("{doomed}/README"),
        format!("{doomed}/data/notes.txt"),
        format!("incrementals/{doomed}/README"),
        "metadata/expired/README".to_owned(),
        "metadata/latest/README".to_owned(),
    ];
    for key in &foreign {
        let body = Bytes::from_static(b"somebody else's");
        world.raws[0]
            .put(&Path::from(key.as_str()), body.into())
            .await
            .expect("put");
    }
    let report = world
        .store
        .expire_chain(&mark(&doomed))
        .await
        .expect("removed");
    assert!(report.is_complete());
    let mut expected = foreign.to_vec();
    expected.push(format!("metadata/removed/{}", doomed.replace('/', "")));
    expected.sort();
    assert_eq!(world.keys().await, expected);
}

#[tokio::test]
async fn what_was_begun_in_two_stores_is_not_finished_in_one() {
    let world = world(&TWO).await;
    let doomed = chain(&world.store, 0, 0).await;
    world.trouble(Trouble::Denied("/data/".to_owned()));
    let mark = ExpiryMark {
        stores: 2,
        ..mark(&doomed)
    };
    let report = world.store.expire_chain(&mark).await.expect("removed");
    assert_eq!(report.refused, 2);
    world.trouble(Trouble::None);
    let env = Env::system();
    let home: Location = "memory://home"
        .parse::<CollectionUri>()
        .expect("legal")
        .into();
    let alone = CollectionStore::open_all(&world.provider, &home, &env).await;
    let fault = alone
        .expect("opens")
        .expire_chain(&mark_by_another(&doomed))
        .await;
    let fault = fault.expect_err("one store is missing");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains("from 2 stores"), "{fault}");
    let report = world.store.expire_chain(&mark_by_another(&doomed)).await;
    assert!(report.expect("removed").is_complete());
}

fn mark_by_another(full: &str) -> ExpiryMark {
    ExpiryMark {
        job: JobId(100),
        ..mark(full)
    }
}
