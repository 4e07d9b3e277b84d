//! Collections of several stores: what goes where, and how it is found again.

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_collection::{
    Claim, CollectionStore, CollectionUri, DataName, Depth, Location, PartName, ResidencyReport,
    StoreProvider, SystemStores, VerifyReport,
};
use holdfast_env::Env;
use holdfast_format::{
    Layer, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartWriter, SpanFileOptions,
    SpanFileWriter,
};
use holdfast_types::{
    ClusterId, Epoch, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, RelationId, SourceKind,
    Target, TaskId, Timestamp, Window, full_subdir,
};
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::Arc;

const CLAIM: Claim = Claim {
    cluster: ClusterId([1; 16]),
    job: JobId(5),
};
const MEMBERS: [(&str, &str); 3] = [
    ("m0", "region=us"),
    ("m1", "region=eu,zone=a"),
    ("m2", "region=eu,zone=b"),
];

struct World {
    env: Env,
    provider: Arc<dyn StoreProvider>,
}

impl World {
    fn new() -> Self {
        let env = Env::system();
        let provider = Arc::new(SystemStores::new(Arc::clone(&env.disk)));
        Self { env, provider }
    }

    fn raw(&self, name: &str) -> Arc<dyn ObjectStore> {
        let uri = format!("memory://{name}").parse().expect("legal");
        self.provider.open(&uri).expect("opens")
    }

    async fn open(&self, location: Location) -> CollectionStore {
        CollectionStore::open_all(&self.provider, &location, &self.env)
            .await
            .expect("opens")
    }

    async fn to_write(&self) -> CollectionStore {
        let location = Location::to_write(uris(&[
            "memory://home?HOLDFAST_LOCALITY=default",
            "memory://eu?HOLDFAST_LOCALITY=region%3Deu",
            "memory://b?COCKROACH_LOCALITY=zone%3Db",
        ]));
        self.open(location.expect("legal")).await
    }

    async fn to_read(&self, names: &[&str]) -> CollectionStore {
        let texts: Vec<String> = names
            .iter()
            .map(|name| format!("memory://{name}"))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.open(Location::to_read(uris(&texts)).expect("legal"))
            .await
    }

    async fn keys(&self, name: &str) -> Vec<String> {
        let all: Vec<_> = self
            .raw(name)
            .list(None)
            .try_collect()
            .await
            .expect("listed");
        let mut keys: Vec<String> = all.iter().map(|meta| meta.location.to_string()).collect();
        keys.sort();
        keys
    }

    async fn copy(&self, from: &str, to: &str) {
        let (from_store, to_store) = (self.raw(from), self.raw(to));
        for key in self.keys(from).await {
            let at = Path::from(key);
            let bytes = from_store.get(&at).await.expect("there").bytes().await;
            to_store
                .put(&at, bytes.expect("whole").into())
                .await
                .expect("put");
        }
    }
}

fn uris(texts: &[&str]) -> Vec<CollectionUri> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn end() -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000))
}

fn path() -> LayerPath {
    LayerPath::full(full_subdir(end().wall))
}

/// A committed layer with an object of each member, and the entries.
async fn layer(store: &CollectionStore) -> (Layer, Vec<ManifestEntry>) {
    store.claim(&path(), CLAIM).await.expect("free");
    store.claim(&path(), CLAIM).await.expect("ours");
    let mut manifest = Manifest {
        cluster: CLAIM.cluster,
        job: CLAIM.job,
        source: "fleet".parse().expect("legal"),
        kind: SourceKind::Mvcc,
        path: path(),
        parent: None,
        target: Target::Source,
        complete: Vec::new(),
        end: end(),
        history: false,
        revision_start: None,
        members: Vec::new(),
        totals: LayerTotals::default(),
        parts: Vec::new(),
        tiers: store.location().tiers(),
    };
    let mut entries = Vec::new();
    for (index, (name, place)) in (0u16..).zip(MEMBERS) {
        let place = place.parse().expect("a locality");
        let own = store.for_locality(&place).expect("opened to write");
        let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
        for row in 0..100u32 {
            writer
                .push_row(&row.to_be_bytes(), end().into(), Some(name.as_bytes()))
                .expect("in order");
        }
        let (bytes, summary) = writer.finish().expect("closes");
        let task = TaskId {
            job: CLAIM.job,
            index: u32::from(index),
        };
        let object = own
            .put_data(
                &path(),
                DataName::new(task, Epoch(1), 0),
                vec![bytes],
                &summary,
            )
            .await
            .expect("written");
        let entry = ManifestEntry {
            member: index,
            relation: RelationId(1),
            range: KeyRange::all(),
            object,
        };
        let mut part = PartWriter::new();
        part.push(&entry).expect("listed");
        let (bytes, summary) = part.finish();
        let part_name = PartName {
            job: CLAIM.job,
            part: u32::from(index),
        };
        let path = path();
        let part = own.put_part(&path, part_name, vec![bytes], &summary);
        manifest.parts.push(part.await.expect("written"));
        manifest.members.push(ManifestMember {
            name: name.parse().expect("legal"),
            locality: place,
            window: Window {
                after: None,
                upto: end().into(),
                history: false,
            },
            complete_until: None,
            relations: Vec::new(),
        });
        entries.push(entry);
    }
    let report = store.check_presence(&manifest).await.expect("listed");
    assert!(report.is_sound() && report.objects == 3, "{report:?}");
    let layer = store.commit_layer(&manifest).await.expect("committed");
    (layer, entries)
}

/// Everything can be read back through a collection.
async fn assert_whole(store: &CollectionStore, entries: &[ManifestEntry]) -> Result<(), Fault> {
    let layer = store.load_layer(&path()).await?;
    let listed: Vec<Vec<ManifestEntry>> = store.entries(&layer).try_collect().await?;
    assert_eq!(listed.concat(), entries);
    let mut report = VerifyReport::default();
    let path = path();
    let flow = store.verify_objects(&path, entries, Depth::Rows, &mut report);
    assert!(flow.await?.is_continue());
    assert!(report.is_sound() && report.rows == 300, "{report:?}");
    Ok(())
}

/// Z1: bytes of a locality that has a store are in no other.
#[tokio::test]
async fn bytes_of_a_locality_are_in_its_store_and_in_no_other() {
    let world = World::new();
    let store = world.to_write().await;
    let (layer, entries) = layer(&store).await;
    let own = |keys: Vec<String>| -> Vec<String> {
        let is_data = |key: &String| key.contains("/data/") || key.contains("/parts/");
        keys.into_iter().filter(is_data).collect()
    };
    let full = path().to_string();
    let of = |number: u32| {
        vec![
            format!("{full}/data/5-{number}-1-0.hfs"),
            format!("{full}/parts/5-{number}.hfp"),
        ]
    };
    assert_eq!(own(world.keys("home").await), of(0));
    assert_eq!(own(world.keys("eu").await), of(1));
    assert_eq!(own(world.keys("b").await), of(2));
    for (name, part) in [
        ("eu", "BACKUP_PART_1_region=eu"),
        ("b", "BACKUP_PART_2_zone=b"),
    ] {
        let keys = world.keys(name).await;
        assert!(keys.contains(&format!("{full}/{part}")), "{keys:?}");
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
    assert_whole(&store, &entries).await.expect("whole");

    let mut report = ResidencyReport::default();
    store
        .check_residency(&layer, &mut report)
        .await
        .expect("listed");
    assert_eq!(report.violations, Vec::<String>::new());
    let held: Vec<(u64, usize)> = report
        .stores
        .iter()
        .map(|store| (store.all.objects, store.members.len()))
        .collect();
    assert_eq!(held, [(2, 1); 3]);

    // A byte that is somewhere else is found.
    let stray = Path::from(format!("{full}/data/5-2-1-0.hfs"));
    let bytes = world.raw("b").get(&stray).await.expect("there").bytes();
    let bytes = bytes.await.expect("whole");
    world
        .raw("home")
        .put(&stray, bytes.into())
        .await
        .expect("put");
    let mut report = ResidencyReport::default();
    store
        .check_residency(&layer, &mut report)
        .await
        .expect("listed");
    assert_eq!(report.violations_total, 1);
    assert!(
        report.violations[0].contains("belongs elsewhere"),
        "{report:?}"
    );
}

#[tokio::test]
async fn parts_are_found_wherever_they_were_moved_to() {
    let world = World::new();
    let (_, entries) = layer(&world.to_write().await).await;
    // In any order, moved one by one, and all in one place.
    assert_whole(&world.to_read(&["home", "b", "eu"]).await, &entries)
        .await
        .expect("whole");
    world.copy("eu", "elsewhere").await;
    assert_whole(&world.to_read(&["home", "elsewhere", "b"]).await, &entries)
        .await
        .expect("whole");
    for name in ["home", "eu", "b"] {
        world.copy(name, "one").await;
    }
    let one = world.to_read(&["one"]).await;
    assert_whole(&one, &entries).await.expect("whole");
    let layer = one.load_layer(&path()).await.expect("there");
    let mut report = ResidencyReport::default();
    one.check_residency(&layer, &mut report)
        .await
        .expect("listed");
    assert_eq!(report.violations_total, 0, "{report:?}");

    let lacking = world.to_read(&["home", "eu"]).await;
    let fault = assert_whole(&lacking, &entries)
        .await
        .expect_err("a part is missing");
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(fault.message.contains("the part zone=b"), "{fault}");
    assert!(fault.hint.is_some());
}

#[tokio::test]
async fn a_part_of_another_backup_is_not_taken_for_this_ones() {
    let world = World::new();
    let (_, entries) = layer(&world.to_write().await).await;
    let full = path();
    let at = Path::from(format!("{full}/BACKUP_PART_2_zone=b"));
    let ours = world.raw("b").get(&at).await.expect("there").bytes();
    let ours = String::from_utf8(ours.await.expect("whole").to_vec()).expect("text");
    let theirs = ours.replace("job 5", "job 6");
    world
        .raw("other")
        .put(&at, Bytes::from(theirs).into())
        .await
        .expect("put");
    let store = world.to_read(&["home", "other", "eu"]).await;
    let fault = assert_whole(&store, &entries)
        .await
        .expect_err("not this one's");
    assert!(fault.message.contains("was not found"), "{fault}");
}

#[tokio::test]
async fn two_collections_do_not_share_a_store_of_a_locality() {
    let world = World::new();
    layer(&world.to_write().await).await;
    let location = Location::to_write(uris(&[
        "memory://another?HOLDFAST_LOCALITY=default",
        "memory://eu?HOLDFAST_LOCALITY=region%3Deu",
    ]));
    let store = world.open(location.expect("legal")).await;
    let other = Claim {
        cluster: ClusterId([1; 16]),
        job: JobId(6),
    };
    let fault = store.claim(&path(), other).await.expect_err("taken");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains("memory://eu"), "{fault}");
}

#[tokio::test]
async fn a_sweep_clears_all_stores() {
    let world = World::new();
    let store = world.to_write().await;
    store.claim(&path(), CLAIM).await.expect("free");
    for (index, (_, place)) in (0u32..).zip(MEMBERS) {
        let place = place.parse().expect("a locality");
        let own = store.for_locality(&place).expect("opened to write");
        let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
        writer
            .push_row(b"k", end().into(), Some(b"v"))
            .expect("in order");
        let (bytes, summary) = writer.finish().expect("closes");
        let task = TaskId {
            job: CLAIM.job,
            index,
        };
        own.put_data(
            &path(),
            DataName::new(task, Epoch(1), 0),
            vec![bytes],
            &summary,
        )
        .await
        .expect("written");
    }
    let report = store.sweep_layer(&path(), CLAIM).await.expect("swept");
    // Three objects, two descriptions and the claim.
    assert_eq!((report.objects, report.refused), (6, 0));
    for name in ["home", "eu", "b"] {
        assert_eq!(world.keys(name).await, Vec::<String>::new(), "{name}");
    }
}
