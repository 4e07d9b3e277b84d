//! What a version wrote is read for ever, and written the same today. The bytes of version 1 are in `tests/compat/format-v1/`, and what
//! version 2 brought (PostgreSQL: its positions, tuple files, and catalog files) is in `tests/compat/format-v2/`;
//! version 3 brought columns that are recoded in tuple files, in `tests/compat/format-v3/`. `tests/compat/localities-v1/` has the manifest of
//! a layer in several stores.

#![expect(clippy::disallowed_methods, reason = "fixtures are files")]

use bytes::Bytes;
use holdfast_format::{
    CatalogFile, Change, Entry, LayerRelation, LayerTotals, Manifest, ManifestEntry,
    ManifestMember, PartReader, PartRef, PartSummary, PartWriter, SpanFileOptions, SpanFileReader,
    SpanFileWriter, TupleFileOptions, TupleFileReader, TupleFileWriter,
};
use holdfast_types::{
    ByteCount, ClusterId, Digest, Hlc, JobId, KeyRange, LayerPath, Lsn, ParentLayer, Position,
    Relation, RelationId, RowCount, SourceKind, TableName, Target, Timestamp, Window,
};
use std::path::PathBuf;

/// A fixture by its path under `tests/compat/`.
fn file(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/compat");
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

/// The same rows as a PostgreSQL server commits them, two to a transaction.
fn lsn_entries() -> Vec<Entry> {
    let mut entries = entries();
    for entry in &mut entries {
        let micros = match entry.position {
            Position::Hlc(hlc) => hlc.wall.as_micros() - 1_790_000_000_000_000,
            other => panic!("{other}"),
        };
        entry.position = Position::Lsn(Lsn {
            lsn: 0x16_b374_d848 + micros.div_ceil(2000) * 344,
            ordinal: (micros / 1000 % 2) as u32,
        });
    }
    entries
}

fn span_file(level: Option<i32>) -> Bytes {
    span_file_of(level, &entries())
}

fn span_file_of(level: Option<i32>, entries: &[Entry]) -> Bytes {
    let mut writer = SpanFileWriter::new(SpanFileOptions {
        level,
        block_size: 256,
    })
    .expect("a level");
    for entry in entries {
        writer.push(entry).expect("in order");
    }
    writer.finish().expect("closes").0
}

/// Rows as binary COPY has them, with a column of every kind: of one width, with nulls and without; of lengths that take one byte, two and
/// four; without any value; without any byte.
fn tuples() -> Vec<u8> {
    let mut rows = Vec::new();
    for row in 0..40u32 {
        let varied = |longest: u32| Some(vec![row as u8; (row * longest / 39) as usize]);
        let fields = [
            Some(u64::from(row * 7).to_be_bytes().to_vec()),
            (row % 3 > 0).then(|| (row * 40_000).to_be_bytes().to_vec()),
            varied(20),
            varied(300).filter(|_| row % 5 > 0),
            varied(70_000).filter(|_| row > 37),
            None,
            Some(Vec::new()),
            Some(vec![u8::from(row < 20)]),
            Some(format!("a constant width of more than {row:02}").into_bytes()),
        ];
        rows.extend_from_slice(&(fields.len() as i16).to_be_bytes());
        for field in fields {
            let length = field.as_ref().map_or(-1, |field| field.len() as i32);
            rows.extend_from_slice(&length.to_be_bytes());
            rows.extend_from_slice(&field.unwrap_or_default());
        }
    }
    rows
}

fn tuple_file(level: Option<i32>) -> Bytes {
    let options = TupleFileOptions {
        level,
        block_rows: 25,
        ..TupleFileOptions::default()
    };
    let mut writer = TupleFileWriter::new(9, options).expect("a level");
    let rows = tuples();
    assert_eq!(writer.push(&rows).expect("rows"), rows.len());
    writer.finish().expect("closes").0
}

/// Rows whose columns version 3 recodes: a counter, a time in whole seconds that is null at times, a decimal, and words.
fn recoded_tuples() -> Vec<u8> {
    let mut rows = Vec::new();
    for row in 0..100i64 {
        let time = (row % 7 != 0).then(|| (row * row % 61 * 1_000_000 - 9_000_000).to_be_bytes());
        let decimal = [
            1u16,
            0,
            if row % 2 == 0 { 0 } else { 0x4000 },
            0,
            row as u16 + 1,
        ];
        let decimal: Vec<u8> = decimal.iter().flat_map(|part| part.to_be_bytes()).collect();
        let word: &[u8] = [&b"open"[..], b"shipped", b""][row as usize * 5 % 11 % 3];
        let counter = (row as i32 * 3 - 40).to_be_bytes();
        rows.extend(4i16.to_be_bytes());
        for field in [
            Some(&counter[..]),
            time.as_ref().map(|it| &it[..]),
            Some(&decimal),
            Some(word),
        ] {
            let length = field.map_or(-1, |field| field.len() as i32);
            rows.extend(length.to_be_bytes());
            rows.extend(field.unwrap_or_default());
        }
    }
    rows
}

fn recoded_file() -> Bytes {
    let options = TupleFileOptions {
        block_rows: 60,
        ..TupleFileOptions::default()
    };
    let mut writer = TupleFileWriter::new(4, options).expect("a level");
    let rows = recoded_tuples();
    assert_eq!(writer.push(&rows).expect("rows"), rows.len());
    writer.finish().expect("closes").0
}

fn listed() -> Vec<ManifestEntry> {
    let (raw, zstd) = (
        fixture("format-v1/rows-raw.hfs"),
        fixture("format-v1/rows-zstd.hfs"),
    );
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

/// A span file and a tuple file of a PostgreSQL relation.
fn listed_v2() -> Vec<ManifestEntry> {
    let rows = SpanFileReader::check(&fixture("format-v2/rows-lsn-zstd.hfs")).expect("sound");
    let tuples = TupleFileReader::check(&fixture("format-v2/tuples-zstd.hft")).expect("sound");
    let entry = |start: &'static [u8], end: &'static [u8], object| ManifestEntry {
        member: 0,
        relation: RelationId(16_400),
        range: KeyRange {
            start: start.into(),
            end: end.into(),
        },
        object,
    };
    vec![
        entry(b"", &[0, 0, 32, 0], tuples.object_ref("78-0-1-0.hft")),
        entry(b"", b"", rows.object_ref("78-1-1-0.hfs")),
    ]
}

fn catalog() -> Vec<u8> {
    br#"{"database":"bank","end":"16/B374F000"}"#.repeat(4)
}

fn catalog_file(level: Option<i32>) -> CatalogFile {
    CatalogFile::encode(&catalog(), level).expect("fits")
}

/// What a settling step writes: versions of rows, and a catalog at the end, all of the whole range.
fn listed_catalog() -> Vec<ManifestEntry> {
    let rows = SpanFileReader::check(&fixture("format-v2/rows-lsn-zstd.hfs")).expect("sound");
    let catalog = catalog_file(None).object_ref("78-2-1-1.hfc");
    [rows.object_ref("78-2-1-0.hfs"), catalog]
        .into_iter()
        .map(|object| ManifestEntry {
            member: 0,
            relation: RelationId(5 << 32),
            range: KeyRange::all(),
            object,
        })
        .collect()
}

fn part() -> Bytes {
    part_of(&listed()).0
}

fn part_of(entries: &[ManifestEntry]) -> (Bytes, PartSummary) {
    let mut writer = PartWriter::new();
    for entry in entries {
        writer.push(entry).expect("within limits");
    }
    writer.finish()
}

/// A full of a PostgreSQL server.
fn manifest_v2() -> Manifest {
    let mut manifest = manifest();
    let place = |lsn: u64| Position::from(Lsn::at(lsn));
    manifest.kind = SourceKind::Postgres;
    manifest.path = LayerPath::full("2026/09/21-141321.00");
    manifest.parent = None;
    manifest.history = false;
    manifest.revision_start = None;
    manifest.parts = vec![part_of(&listed_v2()).1.part_ref("78-0.hfp")];
    for member in &mut manifest.members {
        member.window = Window {
            after: None,
            upto: place(0x16_b374_f000),
            history: false,
        };
        member.complete_until = Some(at(999_000, 0));
        member.relations.truncate(1);
        for held in &mut member.relations {
            held.relation.id = RelationId(16_400);
            held.relation.created_at = place(0);
            held.relation.dropped_at = None;
            held.introduced = true;
        }
    }
    manifest
}

/// The layer of two members, each with a store of its own beside the default one, which has a part too.
fn manifest_of_localities() -> Manifest {
    let mut manifest = manifest();
    let tier = |tier: &str| tier.parse().expect("legal");
    manifest.tiers = vec![tier("zone=b"), tier("region=us")];
    let mut other = manifest.members[0].clone();
    other.name = "m2".parse().expect("legal");
    other.locality = "region=us,zone=c".parse().expect("legal");
    manifest.members.push(other);
    let part = part_of(&listed()).1;
    manifest.parts = (0..3)
        .map(|store| PartRef {
            store,
            ..part.part_ref(format!("77-{store}.hfp"))
        })
        .collect();
    manifest
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
            complete_until: None,
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
        parts: vec![part_of(&listed()).1.part_ref("77-0.hfp")],
        tiers: Vec::new(),
    }
}

#[test]
fn span_files_of_version_1_are_read() {
    for name in ["format-v1/rows-raw.hfs", "format-v1/rows-zstd.hfs"] {
        let reader = SpanFileReader::open(fixture(name)).expect(name);
        let found: Result<Vec<Vec<Entry>>, _> = reader.read(KeyRange::all()).collect();
        assert_eq!(found.expect(name).concat(), entries(), "{name}");
    }
}

#[test]
fn lists_of_version_1_are_read() {
    let mut reader = PartReader::new();
    reader.feed(&fixture("format-v1/list.hfp"));
    assert_eq!(reader.next_block().expect("sound"), Some(listed()));
    assert_eq!(reader.next_block().expect("sound"), None);
    assert_eq!(reader.finish().expect("complete").entries, 2);
    assert_eq!(
        Manifest::decode(&fixture("format-v1/MANIFEST")).expect("sound"),
        manifest()
    );
}

#[test]
fn span_files_of_version_2_are_read() {
    for name in ["format-v2/rows-lsn-raw.hfs", "format-v2/rows-lsn-zstd.hfs"] {
        let reader = SpanFileReader::open(fixture(name)).expect(name);
        let found: Result<Vec<Vec<Entry>>, _> = reader.read(KeyRange::all()).collect();
        assert_eq!(found.expect(name).concat(), lsn_entries(), "{name}");
    }
}

#[test]
fn tuple_files_of_version_1_are_read() {
    for name in ["format-v2/tuples-raw.hft", "format-v2/tuples-zstd.hft"] {
        let reader = TupleFileReader::open(fixture(name)).expect(name);
        let mut found = Vec::new();
        for rows in reader.read() {
            found.extend_from_slice(rows.expect(name).bytes());
        }
        assert!(found == tuples(), "{name}");
    }
}

#[test]
fn tuple_files_of_version_2_are_read() {
    let file = fixture("format-v3/tuples-recoded.hft");
    assert_eq!(file[8], 2, "the version it says");
    let reader = TupleFileReader::open(file).expect("sound");
    let mut found = Vec::new();
    for rows in reader.read() {
        found.extend_from_slice(rows.expect("sound").bytes());
    }
    assert!(found == recoded_tuples());
}

#[test]
fn lists_of_version_2_are_read() {
    let mut reader = PartReader::new();
    reader.feed(&fixture("format-v2/list.hfp"));
    assert_eq!(reader.next_block().expect("sound"), Some(listed_v2()));
    assert_eq!(
        Manifest::decode(&fixture("format-v2/MANIFEST")).expect("sound"),
        manifest_v2()
    );
}

#[test]
fn catalog_files_of_version_1_are_read() {
    for name in ["format-v2/catalog-raw.hfc", "format-v2/catalog-zstd.hfc"] {
        let content = CatalogFile::decode(&fixture(name)).expect(name);
        assert_eq!(content, catalog(), "{name}");
    }
    let mut reader = PartReader::new();
    reader.feed(&fixture("format-v2/list-catalog.hfp"));
    assert_eq!(reader.next_block().expect("sound"), Some(listed_catalog()));
}

#[test]
fn manifests_of_several_localities_are_read() {
    let manifest = Manifest::decode(&fixture("localities-v1/MANIFEST")).expect("sound");
    assert_eq!(manifest, manifest_of_localities());
}

/// Not for compressed blocks: another version of the compressor may find other bytes, and that is no other format.
#[test]
fn todays_writers_write_the_same_bytes() {
    assert!(
        span_file(None) == fixture("format-v1/rows-raw.hfs"),
        "span file"
    );
    assert!(part() == fixture("format-v1/list.hfp"), "part");
    assert!(
        manifest().encode().expect("encodable") == fixture("format-v1/MANIFEST"),
        "manifest"
    );
    assert!(
        span_file_of(None, &lsn_entries()) == fixture("format-v2/rows-lsn-raw.hfs"),
        "span file with log positions"
    );
    assert!(
        tuple_file(None) == fixture("format-v2/tuples-raw.hft"),
        "tuple file"
    );
    assert!(
        catalog_file(None).bytes == fixture("format-v2/catalog-raw.hfc"),
        "catalog file"
    );
    assert!(
        part_of(&listed_catalog()).0 == fixture("format-v2/list-catalog.hfp"),
        "part with a catalog file"
    );
    assert!(
        part_of(&listed_v2()).0 == fixture("format-v2/list.hfp"),
        "part with a tuple file"
    );
    assert!(
        manifest_v2().encode().expect("encodable") == fixture("format-v2/MANIFEST"),
        "manifest of a PostgreSQL source"
    );
    assert!(
        manifest_of_localities().encode().expect("encodable") == fixture("localities-v1/MANIFEST"),
        "manifest of several localities"
    );
}

/// With `HOLDFAST_WRITE_FIXTURES` set (`cargo xtask fixtures`) the fixtures of the current version are written where they are missing.
/// What is there is never touched.
#[test]
fn compat_fixtures_are_there() {
    let is_writing = std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some();
    let ensure = |name: &str, bytes: &dyn Fn() -> Bytes| {
        if is_writing && !file(name).exists() {
            std::fs::create_dir_all(file(name).parent().expect("a directory")).expect(name);
            std::fs::write(file(name), bytes()).expect(name);
        }
        assert!(
            file(name).exists(),
            "{name} is missing: run `cargo xtask fixtures`"
        );
    };
    ensure("format-v1/rows-raw.hfs", &|| span_file(None));
    ensure("format-v1/rows-zstd.hfs", &|| span_file(Some(1)));
    ensure("format-v1/list.hfp", &part);
    ensure("format-v1/MANIFEST", &|| {
        manifest().encode().expect("encodable")
    });
    let lsn = |level| move || span_file_of(level, &lsn_entries());
    ensure("format-v2/rows-lsn-raw.hfs", &lsn(None));
    ensure("format-v2/rows-lsn-zstd.hfs", &lsn(Some(1)));
    ensure("format-v2/tuples-raw.hft", &|| tuple_file(None));
    ensure("format-v2/tuples-zstd.hft", &|| tuple_file(Some(1)));
    ensure("format-v2/catalog-raw.hfc", &|| catalog_file(None).bytes);
    ensure("format-v2/catalog-zstd.hfc", &|| {
        catalog_file(Some(3)).bytes
    });
    ensure("format-v2/list-catalog.hfp", &|| {
        part_of(&listed_catalog()).0
    });
    ensure("format-v2/list.hfp", &|| part_of(&listed_v2()).0);
    ensure("format-v2/MANIFEST", &|| {
        manifest_v2().encode().expect("encodable")
    });
    ensure("format-v3/tuples-recoded.hft", &recoded_file);
    ensure("localities-v1/MANIFEST", &|| {
        manifest_of_localities().encode().expect("encodable")
    });
}
