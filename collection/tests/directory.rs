//! What is particular to collections in a directory: durability, damage, strangers, rights.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests look behind the store, and damage what is there"
)]

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{
    Claim, CollectionStore, CollectionUri, DataName, Depth, PartName, StoreProvider, SystemStores,
    VerifyReport,
};
use holdfast_env::Env;
use holdfast_format::{
    CatalogFile, LayerTotals, Manifest, ManifestEntry, PartWriter, SpanFileOptions,
    SpanFileSummary, SpanFileWriter, TupleFileOptions, TupleFileWriter,
};
use holdfast_types::{
    ClusterId, Epoch, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, ObjectKind, ObjectRef,
    RelationId, RowCount, SourceKind, Target, TaskId, Timestamp, full_subdir,
};
use object_store::ObjectStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A collection in a directory that goes with the test.
struct Place {
    directory: tempfile::TempDir,
    store: CollectionStore,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let uri = CollectionUri::file(directory.path().to_str().expect("UTF-8")).expect("legal");
        let env = Env::system();
        let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::new(Arc::clone(&env.disk)));
        let store = CollectionStore::open(&provider, &uri, &env)
            .await
            .expect("opens");
        Self { directory, store }
    }

    fn file(&self, key: &str) -> PathBuf {
        self.directory.path().join(key)
    }
}

const CLAIM: Claim = Claim {
    cluster: ClusterId([1; 16]),
    job: JobId(5),
};

fn end() -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000))
}

fn path() -> LayerPath {
    LayerPath::full(full_subdir(end().wall))
}

fn span_file(rows: u32) -> (Vec<Bytes>, SpanFileSummary) {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    for row in 0..rows {
        let value = format!("value {row}");
        writer
            .push_row(&row.to_be_bytes(), end().into(), Some(value.as_bytes()))
            .expect("in order");
    }
    let (bytes, summary) = writer.finish().expect("closes");
    (vec![bytes], summary)
}

fn name(sequence: u32) -> DataName {
    let task = TaskId {
        job: CLAIM.job,
        index: 0,
    };
    DataName::new(task, Epoch(1), sequence)
}

/// A committed layer of three objects.
async fn layer(store: &CollectionStore) -> Vec<ManifestEntry> {
    store.claim(&path(), CLAIM).await.expect("free");
    let mut part = PartWriter::new();
    let mut entries = Vec::new();
    for sequence in 0..3 {
        let (chunks, summary) = span_file(1000 + sequence);
        let object = store
            .put_data(&path(), name(sequence), chunks, &summary)
            .await
            .expect("written");
        let entry = ManifestEntry {
            member: 0,
            relation: RelationId(1),
            range: KeyRange::all(),
            object,
        };
        part.push(&entry).expect("listed");
        entries.push(entry);
    }
    let (bytes, summary) = part.finish();
    let name = PartName {
        job: CLAIM.job,
        part: 0,
    };
    let part = store
        .put_part(&path(), name, vec![bytes], &summary)
        .await
        .expect("written");
    let manifest = Manifest {
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
        parts: vec![part],
        tiers: Vec::new(),
    };
    store.commit_layer(&manifest).await.expect("committed");
    entries
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("readable");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("writable");
}

#[tokio::test]
async fn damage_of_every_kind_is_named() {
    let place = Place::new().await;
    let entries = layer(&place.store).await;
    let object = |at: usize| format!("{}/data/{}", path(), entries[at].object.name);
    flip(&place.file(&object(0)), 100);
    let cut = std::fs::read(place.file(&object(1))).expect("readable");
    std::fs::write(place.file(&object(1)), &cut[..cut.len() - 1]).expect("writable");
    std::fs::remove_file(place.file(&object(2))).expect("removable");

    for (depth, found) in [(Depth::Length, 2), (Depth::Digest, 3), (Depth::Rows, 3)] {
        let mut report = VerifyReport::default();
        let flow = place
            .store
            .verify_objects(&path(), &entries, depth, &mut report)
            .await;
        assert!(flow.expect("no other error").is_continue());
        assert_eq!(
            (report.objects, report.damaged.len()),
            (3, found),
            "{depth:?}: {report:?}"
        );
        for damage in &report.damaged {
            assert!(damage.fault.message.contains(&damage.object), "{damage:?}");
        }
    }
    for (at, code) in [
        (0, ErrorCode::Corrupted),
        (1, ErrorCode::Corrupted),
        (2, ErrorCode::NotFound),
    ] {
        let read = place.store.read_span(&path(), &entries[at].object).await;
        let fault = read.expect_err("damaged");
        assert_eq!(fault.code, code);
        assert!(fault.message.contains(&entries[at].object.name), "{fault}");
    }
    // The flipped bit lies in a block: the index is sound, and the block is refused when it is read.
    let span = place
        .store
        .open_span(&path(), &entries[0].object)
        .await
        .expect("a sound index");
    let read: Result<Vec<_>, Fault> = span.read(KeyRange::all()).try_collect().await;
    assert_eq!(read.expect_err("damaged").code, ErrorCode::Corrupted);
}

#[tokio::test]
async fn a_damaged_manifest_part_or_pointer_is_named_and_never_used() {
    for key in ["MANIFEST", "parts/5-0.hfp", "BACKUP-LOCK"] {
        let place = Place::new().await;
        layer(&place.store).await;
        let key = format!("{}/{key}", path());
        flip(&place.file(&key), 40);
        let outcome = async {
            let layer = place.store.load_layer(&path()).await?;
            place.store.entries(&layer).try_collect::<Vec<_>>().await?;
            place.store.read_claim(&path()).await
        };
        let fault = outcome.await.expect_err("damaged");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{key}");
        assert!(fault.message.contains(&key), "{fault}");
        // Nobody knows what may go, unless the file list can be read in full.
        if !key.ends_with("LOCK") {
            let swept = place.store.sweep_layer(&path(), CLAIM).await;
            assert_eq!(swept.expect_err("no sweep").code, ErrorCode::Corrupted);
        }
    }
    let place = Place::new().await;
    layer(&place.store).await;
    let pointers = std::fs::read_dir(place.file("metadata/latest")).expect("a directory");
    let pointer = pointers
        .map(|entry| entry.expect("an entry").path())
        .next()
        .expect("one");
    std::fs::write(&pointer, "2020/01/01-000000.00").expect("writable");
    assert_eq!(
        place.store.latest().await.expect_err("damaged").code,
        ErrorCode::Corrupted
    );
}

#[tokio::test]
async fn strangers_and_placeholders_are_passed_over() {
    let place = Place::new().await;
    layer(&place.store).await;
    let strangers = [
        "metadata/latest/LATEST-",
        "metadata/latest/.keep",
        "2026/.keep",
        "2026/99/not-a-backup/MANIFEST",
        "2026/01/01-000000.00/data/5-0-1-0.hfs",
        "lost+found/x",
        "README.txt",
    ];
    for key in strangers {
        let file = place.file(key);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(file, "").expect("written");
    }
    let data = place.file(&format!("{}/data", path()));
    std::fs::write(data.join("notes.txt"), "mine").expect("written");
    assert_eq!(place.store.list_chains().await.expect("listed"), [path()]);
    assert_eq!(
        place.store.list_layers(&path().full).await.expect("listed"),
        [path()]
    );
    assert_eq!(place.store.latest().await.expect("found"), path().full);
    let report = place
        .store
        .sweep_layer(&path(), CLAIM)
        .await
        .expect("swept");
    assert_eq!((report.objects, report.kept), (0, 4));
    assert!(data.join("notes.txt").exists());
}

#[tokio::test]
async fn half_written_objects_are_never_seen_and_are_swept() {
    let place = Place::new().await;
    layer(&place.store).await;
    // What a writer that was killed leaves: the staging file of its object.
    let data = place.file(&format!("{}/data", path()));
    std::fs::write(data.join("5-0-2-0.hfs#1"), "half").expect("written");
    std::fs::write(data.join("6-0-2-0.hfs#1"), "of another job").expect("written");
    let (chunks, summary) = span_file(10);
    let object = summary.object_ref("5-0-2-0.hfs");
    let read = place.store.get_verified(&path(), &object).await;
    assert_eq!(read.expect_err("not there").code, ErrorCode::NotFound);
    // The name is free, whatever the dead writer left.
    let task = TaskId {
        job: CLAIM.job,
        index: 0,
    };
    let name = DataName::new(task, Epoch(2), 0);
    place
        .store
        .put_data(&path(), name, chunks, &summary)
        .await
        .expect("written");
    let report = place
        .store
        .sweep_layer(&path(), CLAIM)
        .await
        .expect("swept");
    assert_eq!((report.objects, report.kept), (2, 4));
    assert!(data.join("6-0-2-0.hfs#1").exists());
}

#[tokio::test]
async fn a_swept_layer_leaves_no_directory() {
    let place = Place::new().await;
    place.store.claim(&path(), CLAIM).await.expect("free");
    let (chunks, summary) = span_file(10);
    place
        .store
        .put_data(&path(), name(0), chunks, &summary)
        .await
        .expect("written");
    place
        .store
        .sweep_layer(&path(), CLAIM)
        .await
        .expect("swept");
    let left: Vec<_> = std::fs::read_dir(place.directory.path())
        .expect("there")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_collection_that_is_not_there_is_not_made_by_looking() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("typo");
    let uri = CollectionUri::file(missing.to_str().expect("UTF-8")).expect("legal");
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::new(Arc::clone(&env.disk)));
    let opened = CollectionStore::open_existing(&provider, &uri, &env).await;
    let fault = opened.expect_err("not there");
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(fault.message.contains("typo"), "{fault}");
    assert!(!missing.exists());
    CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("made");
    CollectionStore::open_existing(&provider, &uri, &env)
        .await
        .expect("there");
}

#[tokio::test]
async fn a_file_in_the_way_is_reported() {
    let place = Place::new().await;
    std::fs::write(place.file("2026"), "in the way").expect("written");
    let claimed = place.store.claim(&path(), CLAIM).await;
    let fault = claimed.expect_err("in the way");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    assert!(fault.hint.is_some());
}

/// Has no room.
#[derive(Debug)]
struct NoRoom;

impl FaultPlan for NoRoom {
    fn next(&self, operation: StoreOp, _path: &str) -> Injection {
        Injection {
            fault: (operation == StoreOp::Put).then_some(StoreFault::Full),
            ..Injection::NONE
        }
    }
}

#[derive(Debug)]
struct FullStores(SystemStores);

impl StoreProvider for FullStores {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        Ok(Arc::new(FaultyStore::new(
            self.0.open(uri)?,
            Arc::new(NoRoom),
        )))
    }
}

#[tokio::test]
async fn a_full_store_says_so_at_once() {
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> =
        Arc::new(FullStores(SystemStores::new(Arc::clone(&env.disk))));
    let uri: CollectionUri = "memory://full".parse().expect("legal");
    let store = CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("opens");
    let claimed = store.claim(&path(), CLAIM).await;
    let fault = claimed.expect_err("no room");
    assert_eq!(fault.code, ErrorCode::StorageFull);
    assert!(fault.is_retryable() && fault.hint.is_some(), "{fault}");
}

#[tokio::test]
async fn a_tuple_file_is_kept_and_verified_like_any_object() {
    let place = Place::new().await;
    let task = TaskId {
        job: CLAIM.job,
        index: 0,
    };
    let row = [&[0, 1, 0, 0, 0, 4][..], b"text"].concat();
    let mut writer = TupleFileWriter::new(1, TupleFileOptions::default()).expect("a level");
    assert_eq!(writer.push(&row).expect("a row"), row.len());
    let (bytes, summary) = writer.finish().expect("closes");
    let put = async |name| {
        let chunks = vec![bytes.clone()];
        place
            .store
            .put_tuples(&path(), name, chunks, &summary)
            .await
    };
    let object = put(DataName::tuples(task, Epoch(1), 0))
        .await
        .expect("written");
    assert_eq!(object.kind(), ObjectKind::Tuples);
    // Another name would say that it is a span file.
    put(DataName::new(task, Epoch(1), 0))
        .await
        .expect_err("misnamed");
    let reader = place
        .store
        .read_tuples(&path(), &object)
        .await
        .expect("sound");
    let rows = reader.read().next().expect("a block").expect("sound");
    assert_eq!(rows.bytes(), &row[..]);
    let opened = place
        .store
        .open_tuples(&path(), &object)
        .await
        .expect("sound");
    let blocks: Vec<_> = opened.read().try_collect().await.expect("sound");
    assert_eq!(blocks, [rows]);
    let entry = |rows| ManifestEntry {
        member: 0,
        relation: RelationId(1),
        range: KeyRange::all(),
        object: ObjectRef {
            rows: RowCount(rows),
            ..object.clone()
        },
    };
    for (rows, is_sound) in [(1, true), (2, false)] {
        let mut report = VerifyReport::default();
        let entries = [entry(rows)];
        let _ = place
            .store
            .verify_objects(&path(), &entries, Depth::Rows, &mut report)
            .await
            .expect("looked at");
        assert_eq!(report.is_sound(), is_sound, "{report:?}");
    }
}

#[tokio::test]
async fn tuple_objects_are_read_block_by_block_and_damage_is_found() {
    let place = Place::new().await;
    let task = TaskId {
        job: JobId(1),
        index: 0,
    };
    let options = TupleFileOptions {
        block_rows: 10,
        ..TupleFileOptions::default()
    };
    let mut writer = TupleFileWriter::new(1, options).expect("a level");
    let mut rows = Vec::new();
    for row in 0u32..105 {
        rows.extend_from_slice(&[0, 1, 0, 0, 0, 4]);
        rows.extend_from_slice(&row.to_be_bytes());
    }
    assert_eq!(writer.push(&rows).expect("rows"), rows.len());
    let (bytes, summary) = writer.finish().expect("closes");
    let name = DataName::tuples(task, Epoch(1), 0);
    let object = place
        .store
        .put_tuples(&path(), name, vec![bytes], &summary)
        .await
        .expect("written");
    let opened = place
        .store
        .open_tuples(&path(), &object)
        .await
        .expect("sound");
    let blocks: Vec<_> = opened.read().try_collect().await.expect("sound");
    assert_eq!(blocks.len(), 11);
    let together: Vec<u8> = blocks
        .iter()
        .flat_map(|rows| rows.bytes().to_vec())
        .collect();
    assert_eq!(together, rows);

    let file = place
        .directory
        .path()
        .join(format!("{}/data/{}", path(), object.name));
    let mut damaged = std::fs::read(&file).expect("there");
    damaged[20] ^= 1;
    std::fs::write(&file, damaged).expect("written");
    let mut stream = opened.read();
    let mut fault = None;
    while let Some(block) = stream.try_next().await.unwrap_or_else(|found| {
        fault = Some(found);
        None
    }) {
        assert!(block.count().0 > 0);
    }
    assert_eq!(fault.expect("found").code, ErrorCode::Corrupted);
}

#[tokio::test]
async fn catalog_files_are_kept_and_verified() {
    let place = Place::new().await;
    let task = TaskId {
        job: JobId(1),
        index: 0,
    };
    let content = b"a catalog of many words ".repeat(100);
    let file = CatalogFile::encode(&content, Some(3)).expect("fits");
    let put = async |name| place.store.put_catalog(&path(), name, file.clone()).await;
    let object = put(DataName::catalog(task, Epoch(1), 0))
        .await
        .expect("written");
    assert_eq!(object.kind(), ObjectKind::Catalog);
    put(DataName::tuples(task, Epoch(1), 0))
        .await
        .expect_err("misnamed");
    let read = place.store.read_catalog(&path(), &object).await;
    assert_eq!(read.expect("sound"), content);
    let entry = |logical| ManifestEntry {
        member: 0,
        relation: RelationId(1),
        range: KeyRange::all(),
        object: ObjectRef {
            logical: holdfast_types::ByteCount(logical),
            ..object.clone()
        },
    };
    for (logical, is_sound) in [(2400, true), (2401, false)] {
        let mut report = VerifyReport::default();
        let _ = place
            .store
            .verify_objects(&path(), &[entry(logical)], Depth::Rows, &mut report)
            .await
            .expect("looked at");
        assert_eq!(report.is_sound(), is_sound, "{report:?}");
    }
}
