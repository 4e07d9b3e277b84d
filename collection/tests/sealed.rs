//! Encrypted layers: they keep every promise of the others, nothing of them can be changed unnoticed, and nothing of their content is in them.

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_collection::{
    Claim, CollectionStore, CollectionUri, DataName, Depth, PartName, StoreProvider, SystemStores,
    VerifyReport, conformance,
};
use holdfast_env::Env;
use holdfast_format::{
    CatalogFile, DataKey, Envelope, KeyInfo, KeyWrap, LayerTotals, Manifest, ManifestEntry,
    PartWriter, SpanFileOptions, SpanFileWriter, TupleFileOptions, TupleFileWriter, WrapKind,
};
use holdfast_types::{
    ByteCount, ClusterId, Epoch, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, ObjectKind,
    ObjectRef, RelationId, SourceKind, Target, TaskId, Timestamp, full_subdir,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

const CLAIM: Claim = Claim {
    cluster: ClusterId([1; 16]),
    job: JobId(5),
};
/// Found in nothing that is stored.
const CANARY: &[u8] = b"canary of a row";
/// An encrypted chunk as stored.
const CHUNK: usize = (64 << 10) + 16;
const HEAD: usize = 64;

fn key(byte: u8) -> DataKey {
    DataKey::from_slice(&[byte; 32]).expect("32 bytes")
}

fn end(second: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000 + second * 1000))
}

fn path(second: u64) -> LayerPath {
    LayerPath::full(full_subdir(end(second).wall))
}

/// A collection in memory of which the test sees the objects.
struct World {
    objects: Arc<dyn ObjectStore>,
    clear: CollectionStore,
}

impl World {
    async fn new() -> Self {
        let env = Env::system();
        let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::new(Arc::clone(&env.disk)));
        let uri: CollectionUri = "memory://sealed".parse().expect("legal");
        let clear = CollectionStore::open(&provider, &uri, &env)
            .await
            .expect("opens");
        Self {
            objects: provider.open(&uri).expect("opens"),
            clear,
        }
    }

    fn sealed(&self, key: &DataKey) -> CollectionStore {
        self.clear.with_envelope(Envelope::Sealed(key.clone()))
    }

    async fn keys(&self) -> Vec<Path> {
        let listed = self.objects.list(None).map_ok(|meta| meta.location);
        let mut keys: Vec<Path> = listed.try_collect().await.expect("lists");
        keys.sort();
        keys
    }

    async fn get(&self, at: &Path) -> Bytes {
        let object = self.objects.get(at).await.expect("is there");
        object.bytes().await.expect("is read")
    }

    async fn put(&self, at: &Path, bytes: impl Into<Bytes>) {
        let put = self.objects.put(at, bytes.into().into()).await;
        put.expect("is written");
    }

    /// A copy that may be damaged.
    async fn copy(&self) -> Self {
        let copy = Self::new().await;
        for at in self.keys().await {
            copy.put(&at, self.get(&at).await).await;
        }
        copy
    }
}

/// Rows that hardly compress, and hold the canary.
fn row(at: u32) -> Vec<u8> {
    let mut state = u64::from(at) << 32 | 0x9e37;
    let mut row = CANARY.to_vec();
    for _ in 0..24 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        row.extend_from_slice(&state.to_le_bytes());
    }
    row
}

fn name(sequence: u32, kind: ObjectKind) -> DataName {
    let task = TaskId {
        job: CLAIM.job,
        index: 0,
    };
    DataName {
        kind,
        ..DataName::new(task, Epoch(1), sequence)
    }
}

/// A committed layer with an object of each kind, the first of several chunks, and another of its kind.
async fn layer(world: &World, key: &DataKey, second: u64) -> Vec<ManifestEntry> {
    let (store, path) = (world.sealed(key), path(second));
    store.claim(&path, CLAIM).await.expect("free");
    let wrap = KeyWrap {
        kind: WrapKind::Aws,
        label: "aws:///k?REGION=r".into(),
        kdf: None,
        wrapped: Bytes::from_static(b"wrapped"),
    };
    let info = KeyInfo::new(key, path.full.as_str(), 1, vec![wrap]).expect("legal");
    let info = info.encode().expect("legal");
    store.put_key_info(&path.full, 1, info).await.expect("put");

    let mut objects: Vec<ObjectRef> = Vec::new();
    for (sequence, rows) in [(0, 1200), (1, 10)] {
        let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
        for at in 0..rows {
            writer
                .push_row(&u32::to_be_bytes(at), end(second).into(), Some(&row(at)))
                .expect("in order");
        }
        let (bytes, summary) = writer.finish().expect("closes");
        let name = name(sequence, ObjectKind::Rows);
        let put = store.put_data(&path, name, vec![bytes], &summary).await;
        objects.push(put.expect("put"));
    }
    let mut writer = TupleFileWriter::new(1, TupleFileOptions::default()).expect("a level");
    let tuples: Vec<u8> = (0..400)
        .flat_map(|at| {
            let row = row(at);
            let length = i32::try_from(row.len()).expect("short").to_be_bytes();
            [&[0, 1], length.as_slice(), &row].concat()
        })
        .collect();
    writer.push(&tuples).expect("rows");
    let (bytes, summary) = writer.finish().expect("closes");
    let put = store.put_tuples(&path, name(2, ObjectKind::Tuples), vec![bytes], &summary);
    objects.push(put.await.expect("put"));
    let catalog = CatalogFile::encode(CANARY, None).expect("legal");
    let put = store.put_catalog(&path, name(3, ObjectKind::Catalog), catalog);
    objects.push(put.await.expect("put"));

    let mut part = PartWriter::new();
    let entries: Vec<ManifestEntry> = objects
        .into_iter()
        .map(|object| ManifestEntry {
            member: 0,
            relation: RelationId(1),
            range: KeyRange::all(),
            object,
        })
        .collect();
    for entry in &entries {
        part.push(entry).expect("listed");
    }
    let (bytes, summary) = part.finish();
    let part_name = PartName {
        job: CLAIM.job,
        part: 0,
    };
    let part = store
        .put_part(&path, part_name, vec![bytes], &summary)
        .await
        .expect("put");
    let manifest = Manifest {
        cluster: CLAIM.cluster,
        job: CLAIM.job,
        tiers: Vec::new(),
        source: "bank".parse().expect("a name"),
        kind: SourceKind::Postgres,
        path: path.clone(),
        parent: None,
        target: Target::Source,
        complete: Vec::new(),
        end: end(second),
        history: false,
        revision_start: None,
        members: Vec::new(),
        totals: LayerTotals::default(),
        parts: vec![part],
    };
    store.commit_layer(&manifest).await.expect("committed");
    entries
}

/// Reads all of a layer in the ways that restores and verifications do: by whole objects with their digests, and then without these, in
/// ranges, so that what holds is the encryption.
async fn read(world: &World, key: &DataKey, second: u64) -> Result<u64, Fault> {
    let path = path(second);
    let info = world.clear.key_info(&path.full).await?;
    let info = info.ok_or_else(|| Fault::new(ErrorCode::NotFound, "no key info"))?;
    info.check(key)?;
    let store = world.sealed(key);
    let latest = store.latest().await?;
    if latest != path.full {
        return Err(Fault::new(
            ErrorCode::Corrupted,
            "another full is the latest",
        ));
    }
    let chain = store.load_chain(&path.full).await?;
    let layer = chain.all_layers().next().expect("a full");
    let entries: Vec<_> = store.entries(layer).try_collect().await?;
    let entries = entries.concat();
    let mut rows = 0;
    for entry in &entries {
        let object = &entry.object;
        rows += match object.kind() {
            ObjectKind::Rows => {
                let span = store.open_span(&path, object).await?;
                let read: Vec<_> = span.read(KeyRange::all()).try_collect().await?;
                read.concat().len() as u64
            }
            ObjectKind::Tuples => {
                let tuples = store.open_tuples(&path, object).await?;
                let read: Vec<_> = tuples.read().try_collect().await?;
                read.iter().map(|rows| rows.count().0).sum()
            }
            ObjectKind::Catalog => store.read_catalog(&path, object).await?.len() as u64,
        };
    }
    let mut report = VerifyReport::default();
    let _ = store
        .verify_objects(&path, &entries, Depth::Rows, &mut report)
        .await?;
    match report.damaged.into_iter().next() {
        Some(damage) => Err(damage.fault),
        None => Ok(rows),
    }
}

fn is_of_index(at: &Path) -> bool {
    at.as_ref().starts_with("metadata/index/")
}

/// Objects that are not encrypted, and have ways of their own to notice changes, which other tests try: claims and pointers.
fn is_encrypted(at: &Path) -> bool {
    let name = at.as_ref();
    let is_pointer = name.contains("LATEST-") || is_of_index(at);
    !name.contains("BACKUP-LOCK") && !is_pointer && !name.contains("/keys/")
}

#[tokio::test(start_paused = true)]
async fn encrypted_collections_keep_every_promise() {
    let world = World::new().await;
    if let Err(violation) = conformance::run(&world.sealed(&key(1))).await {
        panic!("{violation}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_layer_is_read_back_and_shows_nothing() {
    let world = World::new().await;
    let entries = layer(&world, &key(1), 0).await;
    let rows = read(&world, &key(1), 0).await.expect("sound");
    assert_eq!(rows, 1200 + 10 + 400 + CANARY.len() as u64);
    for at in world.keys().await {
        let bytes = world.get(&at).await;
        assert!(
            !bytes.windows(CANARY.len()).any(|part| part == CANARY),
            "{at}"
        );
        assert!(
            !bytes.windows(16).any(|part| part == [1; 16]),
            "{at}: the key"
        );
        assert_eq!(bytes.starts_with(b"HFSEAL\r\n"), is_encrypted(&at), "{at}");
    }
    // What a verification without a key compares is what is stored.
    for entry in &entries {
        let at = Path::from(format!("{}/data/{}", path(0), entry.object.name));
        let stored = world.get(&at).await;
        assert_eq!(ByteCount(stored.len() as u64), entry.object.length);
        assert_eq!(holdfast_types::Digest::of(&stored), entry.object.digest);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_and_a_wrong_key_are_told_apart() {
    let world = World::new().await;
    layer(&world, &key(1), 0).await;
    let missing = world.clear.load_layer(&path(0)).await.expect_err("no key");
    assert_eq!(missing.code, ErrorCode::FailedPrecondition);
    assert!(missing.message.contains("is encrypted"), "{missing}");
    let unseen = world.clear.load_layer_unless_sealed(&path(0)).await;
    assert!(unseen.expect("is there").is_none());
    let wrong = world.sealed(&key(2)).load_layer(&path(0)).await;
    let wrong = wrong.expect_err("another key");
    assert!(wrong.message.contains("another key"), "{wrong}");
    // And a layer that is not encrypted, in a chain that is.
    let plain = World::new().await;
    plain
        .put(&Path::from(format!("{}/MANIFEST", path(0))), "HFMANIF\n")
        .await;
    let found = plain.sealed(&key(1)).load_layer(&path(0)).await;
    assert!(found.expect_err("plain").message.contains("not encrypted"));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_encrypted_layer_can_be_changed_unnoticed() {
    let world = World::new().await;
    layer(&world, &key(1), 0).await;
    let mut tried = 0u32;
    for at in world.keys().await {
        let sound = world.get(&at).await;
        let mut changes: Vec<(String, Option<Vec<u8>>)> = vec![("removed".into(), None)];
        // Of small objects every byte, of others a dense sample, and all around the ends of chunks.
        let step = (sound.len() / 600).max(1);
        let around = |at: usize| at.saturating_sub(2)..at + 2;
        let chunks = (0..=sound.len() / CHUNK).map(|chunk| HEAD + chunk * CHUNK);
        let mut places: Vec<usize> = (0..sound.len()).step_by(step).collect();
        places.extend(chunks.clone().flat_map(around));
        places.sort_unstable();
        places.dedup();
        for place in places.into_iter().filter(|place| *place < sound.len()) {
            let mut changed = sound.to_vec();
            changed[place] ^= 1 << (place % 8);
            changes.push((format!("bit {} of byte {place}", place % 8), Some(changed)));
        }
        let cuts = chunks.clone().flat_map(around).chain([0, sound.len() - 1]);
        for cut in cuts.filter(|cut| *cut < sound.len()) {
            changes.push((format!("cut at {cut}"), Some(sound[..cut].to_vec())));
        }
        changes.push(("longer".into(), Some([&sound, b"x".as_slice()].concat())));
        if is_encrypted(&at) && sound.len() > HEAD + 2 * CHUNK {
            let mut swapped = sound.to_vec();
            let (first, second) = swapped[HEAD..].split_at_mut(CHUNK);
            first.swap_with_slice(&mut second[..CHUNK]);
            changes.push(("chunks 0 and 1 swapped".into(), Some(swapped)));
            let without = [&sound[..HEAD + CHUNK], &sound[HEAD + 2 * CHUNK..]].concat();
            changes.push(("chunk 1 left out".into(), Some(without)));
        }
        for (what, changed) in changes {
            // A claim has done its work when the layer exists, and nobody reads it then. What the index lacks or says wrongly is looked for.
            if at.as_ref().ends_with("BACKUP-LOCK") || is_of_index(&at) {
                continue;
            }
            match changed {
                Some(changed) => world.put(&at, changed).await,
                None => world.objects.delete(&at).await.expect("is removed"),
            }
            let found = read(&world, &key(1), 0).await;
            assert!(found.is_err(), "{at}: {what}");
            world.put(&at, sound.clone()).await;
            tried += 1;
        }
    }
    assert!(tried > 2000, "{tried}");
    read(&world, &key(1), 0).await.expect("sound again");
}

#[tokio::test(start_paused = true)]
async fn no_object_can_stand_in_for_another_one() {
    let world = World::new().await;
    layer(&world, &key(1), 0).await;
    // Another chain with the same content, and another layer of the same chain's key.
    layer(&world, &key(2), 100).await;
    let sibling = World::new().await;
    layer(&sibling, &key(1), 100).await;
    let own = world.keys().await;
    let own: Vec<Path> = own.into_iter().filter(is_encrypted).collect();
    let first = path(0).to_string();
    let mut tried = 0;
    for at in own.iter().filter(|at| at.as_ref().starts_with(&first)) {
        for (of, origin) in [(&world, "own"), (&sibling, "sibling")] {
            for from in of.keys().await.iter().filter(|from| is_encrypted(from)) {
                if origin == "own" && from == at {
                    continue;
                }
                let changed = world.copy().await;
                // The newest full is the one that is read.
                for pointer in changed.keys().await {
                    let body = changed.get(&pointer).await;
                    if pointer.as_ref().contains("LATEST-") && body != first.as_bytes() {
                        changed.objects.delete(&pointer).await.expect("is removed");
                    }
                }
                read(&changed, &key(1), 0).await.expect("sound before");
                changed.put(at, of.get(from).await).await;
                let found = read(&changed, &key(1), 0).await;
                assert!(found.is_err(), "{from} of {origin} in the place of {at}");
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "{tried}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_key_info_counts_and_an_older_one_helps_out() {
    let world = World::new().await;
    layer(&world, &key(1), 0).await;
    let full = path(0).full;
    let first = world
        .clear
        .key_info(&full)
        .await
        .expect("reads")
        .expect("is there");
    let next = KeyInfo::new(&key(1), full.as_str(), 2, first.wraps.clone()).expect("legal");
    let bytes = next.encode().expect("legal");
    world
        .clear
        .put_key_info(&full, 2, bytes)
        .await
        .expect("put");
    let taken = world
        .clear
        .put_key_info(&full, 2, Bytes::from_static(b"other"));
    assert_eq!(
        taken.await.expect_err("taken").code,
        ErrorCode::AlreadyExists
    );
    let newest = world.clear.key_info(&full).await.expect("reads");
    assert_eq!(newest.expect("is there").number, 2);
    // Damaged, and an empty placeholder of a tool.
    world
        .put(&Path::from(format!("{full}/keys/2.hfk")), "damaged")
        .await;
    world
        .put(&Path::from(format!("{full}/keys/3.hfk")), "")
        .await;
    let older = world.clear.key_info(&full).await.expect("reads");
    assert_eq!(older, Some(first));
    world
        .put(&Path::from(format!("{full}/keys/1.hfk")), "damaged")
        .await;
    let lost = world.clear.key_info(&full).await.expect_err("all damaged");
    assert_eq!(lost.code, ErrorCode::Corrupted);
    let left = world.clear.remove_key_info_before(&full, 2).await;
    assert_eq!(left.expect("lists"), Vec::new());
    let none = world.clear.key_info(&path(1).full).await;
    assert_eq!(none.expect("lists"), None);
}

#[tokio::test(start_paused = true)]
async fn a_full_that_was_given_up_leaves_no_key_info() {
    let world = World::new().await;
    layer(&world, &key(1), 0).await;
    let store = world.sealed(&key(1));
    let manifest = Path::from(format!("{}/MANIFEST", path(0)));
    world.objects.delete(&manifest).await.expect("is removed");
    store.sweep_layer(&path(0), CLAIM).await.expect("sweeps");
    let left: Vec<Path> = world.keys().await;
    let left: Vec<&Path> = left
        .iter()
        .filter(|at| !at.as_ref().contains("LATEST-") && !is_of_index(at))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
