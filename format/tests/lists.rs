//! Manifests and parts against a model, and against hostile bytes.

use bytes::Bytes;
use holdfast_format::{
    LayerRelation, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartReader, PartRef,
    PartSummary, PartWriter,
};
use holdfast_types::{
    ByteCount, ClusterId, Digest, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, Lsn,
    ObjectRef, ParentLayer, Position, PositionKind, Relation, RelationId, RowCount, SourceKind,
    TableName, Target, Timestamp, Window,
};
use proptest::prelude::*;

fn hlc() -> impl Strategy<Value = Hlc> {
    (0..=Timestamp::MAX.as_micros(), any::<u32>()).prop_map(|(wall, logical)| Hlc {
        wall: Timestamp::from_micros(wall),
        logical,
    })
}

fn position(kind: SourceKind) -> BoxedStrategy<Position> {
    match kind.position_kind() {
        PositionKind::Lsn => (any::<u64>(), any::<u32>())
            .prop_map(|(lsn, ordinal)| Position::Lsn(Lsn { lsn, ordinal }))
            .boxed(),
        _ => hlc().prop_map(Position::Hlc).boxed(),
    }
}

fn table() -> impl Strategy<Value = TableName> {
    ("[a-z ü]{1,8}", ".{0,8}").prop_map(|(database, table)| TableName { database, table })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Source),
        prop::collection::vec("[a-z]{1,5}", 0..3).prop_map(Target::Databases),
        prop::collection::vec(table(), 0..3).prop_map(Target::Tables),
    ]
}

fn relation(kind: SourceKind) -> impl Strategy<Value = LayerRelation> {
    (
        any::<u64>(),
        table(),
        position(kind),
        prop::option::of(position(kind)),
        prop::collection::vec(any::<u8>(), 0..20),
        any::<bool>(),
    )
        .prop_map(
            |(id, name, created_at, dropped_at, definition, introduced)| LayerRelation {
                relation: Relation {
                    id: RelationId(id),
                    name,
                    created_at,
                    dropped_at,
                    definition,
                },
                introduced,
            },
        )
}

fn member(kind: SourceKind) -> impl Strategy<Value = ManifestMember> {
    (
        "[a-z][a-z0-9_.-]{0,8}",
        prop::option::of("[a-z]{1,4}=[a-z]{1,4}"),
        prop::option::of(position(kind)),
        position(kind),
        any::<bool>(),
        prop::option::of(hlc()),
        prop::collection::vec(relation(kind), 0..4),
    )
        .prop_map(
            move |(name, locality, after, upto, history, until, relations)| ManifestMember {
                name: name.parse().expect("legal"),
                locality: locality.unwrap_or_default().parse().expect("legal"),
                window: Window {
                    after,
                    upto,
                    history,
                },
                complete_until: until.filter(|_| kind.is_logged()),
                relations,
            },
        )
}

fn path() -> impl Strategy<Value = LayerPath> {
    ("[0-9/.-]{1,20}", prop::option::of("[0-9/.-]{1,20}"))
        .prop_map(|(full, incremental)| LayerPath { full, incremental })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    prop_oneof![Just(SourceKind::Mvcc), Just(SourceKind::Postgres)].prop_flat_map(manifest_of)
}

fn manifest_of(kind: SourceKind) -> impl Strategy<Value = Manifest> {
    let identity = (
        any::<[u8; 16]>(),
        any::<u64>(),
        "[a-z][a-z0-9-]{0,8}",
        path(),
    );
    let parent = prop::option::of((path(), digest(), hlc()));
    let extent = (
        target(),
        prop::collection::vec("[a-z]{1,5}", 0..3),
        hlc(),
        prop::option::of(hlc()),
    );
    let totals = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
    );
    let part = ("[0-9-]{1,9}", any::<u64>(), digest(), any::<u64>());
    (
        identity,
        parent,
        extent,
        prop::collection::vec(member(kind), 0..4),
        totals,
        prop::collection::vec(part, 0..4),
        prop::collection::vec("[a-z]{1,4}=[a-z]{1,4}", 0..3),
    )
        .prop_map(
            move |(identity, parent, extent, members, totals, parts, tiers)| Manifest {
                cluster: ClusterId(identity.0),
                job: JobId(identity.1),
                source: identity.2.parse().expect("legal"),
                kind,
                path: identity.3,
                parent: parent.map(|(path, manifest, end)| ParentLayer {
                    path,
                    manifest,
                    end,
                }),
                target: extent.0,
                complete: extent.1,
                end: extent.2,
                history: totals.4,
                revision_start: extent.3,
                members,
                totals: LayerTotals {
                    rows: RowCount(totals.0),
                    logical: ByteCount(totals.1),
                    stored: ByteCount(totals.2),
                    objects: totals.3,
                },
                parts: parts
                    .into_iter()
                    .map(|(name, length, digest, entries)| PartRef {
                        name,
                        length: ByteCount(length),
                        digest,
                        entries,
                        store: u16::try_from(entries % (tiers.len() as u64 + 1)).expect("few"),
                    })
                    .collect(),
                tiers: (tiers.iter())
                    .map(|tier| tier.parse().expect("legal"))
                    .collect(),
            },
        )
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = ManifestEntry> {
    (
        any::<u16>(),
        any::<u64>(),
        key(),
        key(),
        "[0-9ü-]{0,12}(.hf[st])?",
        (any::<u64>(), digest(), any::<u64>(), any::<u64>()),
    )
        .prop_map(
            |(member, relation, start, end, name, object)| ManifestEntry {
                member,
                relation: RelationId(relation),
                range: KeyRange { start, end },
                object: ObjectRef {
                    name,
                    length: ByteCount(object.0),
                    digest: object.1,
                    rows: RowCount(object.2),
                    logical: ByteCount(object.3),
                },
            },
        )
}

fn write(entries: &[ManifestEntry]) -> (Vec<u8>, PartSummary) {
    let mut writer = PartWriter::new();
    let mut part = Vec::new();
    for entry in entries {
        writer.push(entry).expect("within limits");
        part.extend_from_slice(&writer.take());
    }
    let (rest, summary) = writer.finish();
    part.extend_from_slice(&rest);
    (part, summary)
}

fn read(part: &[u8], piece: usize) -> Result<(Vec<ManifestEntry>, PartSummary), Fault> {
    let mut reader = PartReader::new();
    let mut entries = Vec::new();
    for piece in part.chunks(piece) {
        reader.feed(piece);
        while let Some(block) = reader.next_block()? {
            entries.extend(block);
        }
    }
    Ok((entries, reader.finish()?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_manifest_is_read_as_it_was_written(manifest in manifest()) {
        let bytes = manifest.encode().expect("encodable");
        prop_assert_eq!(Manifest::decode(&bytes).expect("sound"), manifest);
    }

    #[test]
    fn a_hostile_manifest_is_an_error_or_another_manifest(
        manifest in manifest(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = manifest.encode().expect("encodable").to_vec();
        let body = bytes.len() - 32;
        bytes[at.index(body)] = value;
        let digest = Digest::of(&bytes[..body]);
        bytes[body..].copy_from_slice(&digest.0);
        if let Ok(found) = Manifest::decode(&bytes) {
            prop_assert_eq!(found.encode().expect("encodable"), bytes);
        }
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::decode(&bytes).is_err());
        prop_assert!(read(&bytes, 64).is_err());
    }

    #[test]
    fn a_part_is_read_as_it_was_written(
        entries in prop::collection::vec(entry(), 0..30),
        piece in 1..400usize,
    ) {
        let (part, written) = write(&entries);
        let (found, summary) = read(&part, piece).expect("sound");
        prop_assert_eq!(found, entries);
        prop_assert_eq!(&summary, &written);
        prop_assert_eq!(summary.digest, Digest::of(&part));
    }

    #[test]
    fn a_reader_that_rewinds_loses_and_repeats_nothing(
        entries in prop::collection::vec(entry(), 1..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let (part, _) = write(&entries);
        let cut = cut.index(part.len());
        let mut reader = PartReader::new();
        let mut found = Vec::new();
        reader.feed(&part[..cut]);
        while let Some(block) = reader.next_block().expect("sound so far") {
            found.extend(block);
        }
        // Garbage comes over the line, is noticed, and is asked for again.
        reader.feed(&[0xff; 200]);
        let _ = reader.next_block();
        let from = usize::try_from(reader.rewind()).expect("small");
        reader.feed(&part[from..]);
        while let Some(block) = reader.next_block().expect("sound") {
            found.extend(block);
        }
        prop_assert_eq!(found, entries);
        reader.finish().expect("complete");
    }
}

fn sample() -> Vec<ManifestEntry> {
    let entry = |n: u8| ManifestEntry {
        member: 1,
        relation: RelationId(3),
        range: KeyRange {
            start: vec![n].into(),
            end: vec![n + 1].into(),
        },
        object: ObjectRef {
            name: format!("1-0-1-{n}.hfs"),
            length: ByteCount(1000),
            digest: Digest::of(&[n]),
            rows: RowCount(10),
            logical: ByteCount(2000),
        },
    };
    (0..6).map(entry).collect()
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_part_is_an_error() {
    let (part, _) = write(&sample());
    for length in 0..part.len() {
        assert!(read(&part[..length], 50).is_err(), "{length}");
    }
    for bit in 0..part.len() * 8 {
        let mut bytes = part.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes, 50).is_err(), "{bit}");
    }
}

#[test]
fn many_entries_stream_through_little_memory() {
    let mut writer = PartWriter::new();
    let mut reader = PartReader::new();
    let mut found = 0u64;
    for n in 0..20_000u64 {
        let mut entry = sample().remove(0);
        entry.object.name = format!("1-{n}-1-0.hfs");
        writer.push(&entry).expect("within limits");
        let ready = writer.take();
        assert!(ready.len() < 70 << 10);
        reader.feed(&ready);
        while let Some(block) = reader.next_block().expect("sound") {
            found += block.len() as u64;
        }
    }
    let (rest, summary) = writer.finish();
    reader.feed(&rest);
    while let Some(block) = reader.next_block().expect("sound") {
        found += block.len() as u64;
    }
    assert_eq!((found, summary.entries), (20_000, 20_000));
    // Names and ranges that go on from the entry before cost little: mostly it is digests.
    assert!(
        summary.length.0 / 20_000 < 60,
        "{}",
        summary.length.0 / 20_000
    );
    assert_eq!(reader.finish().expect("complete"), summary);
}

#[test]
fn a_newer_version_says_so() {
    let (mut part, _) = write(&sample());
    part[8] = 2;
    assert_eq!(
        read(&part, 50).expect_err("newer").code,
        ErrorCode::Unsupported
    );
}

#[test]
fn an_object_is_of_the_kind_that_its_name_says() {
    let mut entry = sample().remove(0);
    entry.object.name = "1-0-1-0.hft".to_owned();
    let (mut part, _) = write(std::slice::from_ref(&entry));
    assert_eq!(read(&part, 50).expect("sound").0, [entry]);
    // The kind is the first byte of the first entry; the block is digested anew.
    assert_eq!(part[20], 2);
    for kind in [0, 1, 3] {
        part[20] = kind;
        let end = part.len() - 48 - 32;
        let digest = Digest::of(&part[12..end]);
        part[end..end + 32].copy_from_slice(&digest.0);
        let fault = read(&part, 50).expect_err("another kind");
        assert_eq!(fault.code, ErrorCode::Corrupted);
        assert!(fault.message.contains("kind"), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn a_manifest_has_positions_of_its_source_and_no_others(
        mut manifest in manifest(),
        stray in any::<u64>(),
    ) {
        prop_assume!(!manifest.members.is_empty());
        let bytes = manifest.encode().expect("encodable");
        let is_mvcc = manifest.kind == SourceKind::Mvcc;
        prop_assert_eq!(bytes[8], if is_mvcc { 1 } else { 2 });
        manifest.members[0].window.upto = if is_mvcc {
            Lsn::at(stray).into()
        } else {
            Hlc::ZERO.into()
        };
        prop_assert_eq!(manifest.encode().expect_err("mixed").code, ErrorCode::Internal);
    }
}
