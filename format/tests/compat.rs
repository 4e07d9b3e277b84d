//! What version 1 wrote is read for ever, and written the same today. The bytes are in `tests/compat/format-v1/`.

#![expect(clippy::disallowed_methods, reason = "fixtures are files")]

use bytes::Bytes;
use holdfast_format::{
    Change, Entry, LayerRelation, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartReader,
    PartWriter, SpanFileOptions, SpanFileReader, SpanFileWriter,
};
use holdfast_types::{
    ByteCount, ClusterId, Digest, Hlc, JobId, KeyRange, LayerPath, ParentLayer, Relation,
    RelationId, RowCount, SourceKind, TableName, Target, Timestamp, Window,
};
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/compat/format-v1");
    PathBuf::from(root).join(name)
}

fn fixture(name: &str) -> Bytes {
    std::fs::read(file(name)).expect(name).into()
}

fn at(micros: u64, logical: u32) -> Hlc {
    Hlc {
        wall: Timestamp::from_micros(1_790_000_000_000_000 + micros),
        logical,
    }
}

/// Versions of 60 rows: every third row has an older version, every fourth is deleted.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for row in 0..60u32 {
        let key = Bytes::from(format!("accounts/{row:04}"));
        let mut push = |position: Hlc, change| {
            entries.push(Entry {
                key: key.clone(),
                position: position.into(),
                change,
            });
        };
        push(
            at(u64::from(row) * 1000 + 1, row % 3),
            if row % 4 == 3 {
                Change::Delete
            } else {
                Change::Put(format!("balance={}", row * row).into())
            },
        );
        if row % 3 == 0 {
            push(at(0, 0), Change::Put(Bytes::new()));
        }
    }
    entries
}

fn span_file(level: Option<i32>) -> Bytes {
    let mut writer = SpanFileWriter::new(SpanFileOptions {
        level,
        block_size: 256,
    })
    .expect("a level");
    for entry in entries() {
        writer.push(&entry).expect("in order");
    }
    writer.finish().expect("closes").0
}

fn listed() -> Vec<ManifestEntry> {
    let (raw, zstd) = (fixture("rows-raw.hfs"), fixture("rows-zstd.hfs"));
    let entry = |file: &Bytes, start: &'static str, end: &'static str, name: &str| {
        let summary = SpanFileReader::check(file).expect("sound");
        ManifestEntry {
            member: 0,
            relation: RelationId(12),
            range: KeyRange {
                start: start.into(),
                end: end.into(),
            },
            object: summary.object_ref(name),
        }
    };
    vec![
        entry(&raw, "", "accounts/0060", "77-0-1-0.hfs"),
        entry(&zstd, "accounts/0060", "", "77-0-1-1.hfs"),
    ]
}

fn part() -> Bytes {
    let mut writer = PartWriter::new();
    for entry in listed() {
        writer.push(&entry).expect("within limits");
    }
    writer.finish().0
}

fn manifest() -> Manifest {
    let relation = |id, table: &str, created, dropped: Option<u64>, introduced| LayerRelation {
        relation: Relation {
            id: RelationId(id),
            name: TableName {
                database: "bank".into(),
                table: table.into(),
            },
            created_at: at(created, 0).into(),
            dropped_at: dropped.map(|micros| at(micros, 0).into()),
            definition: vec![1, 2, 3],
        },
        introduced,
    };
    let mut part_writer = PartWriter::new();
    for entry in listed() {
        part_writer.push(&entry).expect("within limits");
    }
    Manifest {
        cluster: ClusterId(*b"holdfast-cluster"),
        job: JobId(77),
        source: "fleet".parse().expect("legal"),
        kind: SourceKind::Mvcc,
        path: LayerPath::incremental(
            "2026/09/21-141320.00",
            "20260921/141321.00-20260921-141320.00",
        ),
        parent: Some(ParentLayer {
            path: LayerPath::full("2026/09/21-141320.00"),
            manifest: Digest::of(b"the parent's manifest"),
            end: at(0, 0),
        }),
        target: Target::Databases(vec!["bank".into()]),
        complete: vec!["bank".into()],
        end: at(1_000_000, 0),
        history: true,
        revision_start: Some(at(5, 1)),
        members: vec![ManifestMember {
            name: "m1".parse().expect("legal"),
            locality: "region=eu,zone=b".parse().expect("legal"),
            window: Window {
                after: Some(at(0, 0).into()),
                upto: at(1_000_000, 0).into(),
                history: true,
            },
            relations: vec![
                relation(11, "old", 0, Some(500), false),
                relation(12, "accounts", 600, None, true),
            ],
        }],
        totals: LayerTotals {
            rows: RowCount(158),
            logical: ByteCount(4000),
            stored: ByteCount(3000),
            objects: 2,
        },
        parts: vec![part_writer.finish().1.part_ref("77-0.hfp")],
    }
}

#[test]
fn span_files_of_version_1_are_read() {
    for name in ["rows-raw.hfs", "rows-zstd.hfs"] {
        let reader = SpanFileReader::open(fixture(name)).expect(name);
        let found: Result<Vec<Vec<Entry>>, _> = reader.read(KeyRange::all()).collect();
        assert_eq!(found.expect(name).concat(), entries(), "{name}");
    }
}

#[test]
fn lists_of_version_1_are_read() {
    let mut reader = PartReader::new();
    reader.feed(&fixture("list.hfp"));
    assert_eq!(reader.next_block().expect("sound"), Some(listed()));
    assert_eq!(reader.next_block().expect("sound"), None);
    assert_eq!(reader.finish().expect("complete").entries, 2);
    assert_eq!(
        Manifest::decode(&fixture("MANIFEST")).expect("sound"),
        manifest()
    );
}

/// Not for compressed blocks: another version of the compressor may find other bytes, and that is no other format.
#[test]
fn todays_writers_write_the_same_bytes() {
    assert!(span_file(None) == fixture("rows-raw.hfs"), "span file");
    assert!(part() == fixture("list.hfp"), "part");
    assert!(
        manifest().encode().expect("encodable") == fixture("MANIFEST"),
        "manifest"
    );
}

/// With `HOLDFAST_WRITE_FIXTURES` set (`cargo xtask fixtures`) the fixtures of the current version are written where they are missing.
/// What is there is never touched.
#[test]
fn compat_fixtures_are_there() {
    let is_writing = std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some();
    let ensure = |name: &str, bytes: &dyn Fn() -> Bytes| {
        if is_writing && !file(name).exists() {
            std::fs::write(file(name), bytes()).expect(name);
        }
        assert!(
            file(name).exists(),
            "{name} is missing: run `cargo xtask fixtures`"
        );
    };
    ensure("rows-raw.hfs", &|| span_file(None));
    ensure("rows-zstd.hfs", &|| span_file(Some(1)));
    ensure("list.hfp", &part);
    ensure("MANIFEST", &|| manifest().encode().expect("encodable"));
}
