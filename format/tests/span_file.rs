//! Span files against a model, and against hostile bytes.

use bytes::Bytes;
use holdfast_format::{
    Change, Entry, SpanFileOptions, SpanFileReader, SpanFileSummary, SpanFileWriter,
};
use holdfast_types::{
    ByteCount, Digest, ErrorCode, Fault, Hlc, KeyRange, Lsn, Position, PositionKind, RowCount,
    Timestamp,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Key, wall time and counter of each version, and its value.
type Rows = BTreeMap<(Vec<u8>, u64, u32), Option<Vec<u8>>>;

fn entries(rows: &Rows) -> Vec<Entry> {
    entries_of(PositionKind::Hlc, rows)
}

fn entries_of(kind: PositionKind, rows: &Rows) -> Vec<Entry> {
    let mut entries: Vec<Entry> = rows
        .iter()
        .map(|((key, wall, logical), value)| Entry {
            key: key.clone().into(),
            position: match kind {
                PositionKind::Lsn => Position::Lsn(Lsn {
                    lsn: wall.wrapping_mul(72),
                    ordinal: *logical,
                }),
                _ => Position::Hlc(Hlc {
                    wall: Timestamp::from_micros(*wall),
                    logical: *logical,
                }),
            },
            change: value
                .clone()
                .map_or(Change::Delete, |value| Change::Put(value.into())),
        })
        .collect();
    entries.sort_by(Entry::file_order);
    entries
}

fn write(entries: &[Entry], options: SpanFileOptions) -> (Bytes, SpanFileSummary) {
    let mut writer = SpanFileWriter::new(options).expect("a level");
    let mut file = Vec::new();
    for entry in entries {
        writer.push(entry).expect("in order");
        file.extend_from_slice(&writer.take());
        assert_eq!(file.len() as u64, writer.stored().0);
    }
    let (rest, summary) = writer.finish().expect("closes");
    file.extend_from_slice(&rest);
    (file.into(), summary)
}

fn read(file: &Bytes, range: KeyRange) -> Result<Vec<Entry>, Fault> {
    let reader = SpanFileReader::open(file.clone())?;
    let mut all = Vec::new();
    for block in reader.read(range) {
        all.extend(block?);
    }
    Ok(all)
}

fn small(level: Option<i32>) -> SpanFileOptions {
    SpanFileOptions {
        level,
        block_size: 64,
    }
}

fn rows() -> impl Strategy<Value = Rows> {
    let key = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::collection::vec(0..3u8, 0..4),
    ];
    let wall = prop_oneof![0..20u64, Just(0), Just(253_402_200_000_000_000)];
    let logical = prop_oneof![0..3u32, Just(u32::MAX)];
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::btree_map((key, wall, logical), value, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_written_is_read(
        rows in rows(),
        level in prop::option::of(1..4i32),
        kind in prop_oneof![Just(PositionKind::Hlc), Just(PositionKind::Lsn)],
    ) {
        let entries = entries_of(kind, &rows);
        let (file, summary) = write(&entries, small(level));
        let version = if kind == PositionKind::Lsn && !entries.is_empty() { 2 } else { 1 };
        prop_assert_eq!(file[8], version);
        prop_assert_eq!(file[file.len() - 44], version);
        prop_assert_eq!(read(&file, KeyRange::all()).expect("sound"), entries.clone());
        prop_assert_eq!(&SpanFileReader::check(&file).expect("sound"), &summary);
        prop_assert_eq!(summary.rows, RowCount(entries.len() as u64));
        let logical = entries.iter().map(|entry| entry.logical_len() as u64).sum();
        prop_assert_eq!(summary.logical, ByteCount(logical));
        prop_assert_eq!(summary.digest, Digest::of(&file));
        prop_assert_eq!(summary.positions, entries
            .iter()
            .map(|entry| entry.position)
            .fold(None, |found, at| match found {
                None => Some((at, at)),
                Some((low, high)) => Some((at.min(low), at.max(high))),
            }));
    }

    #[test]
    fn a_range_holds_its_keys_and_no_others(
        rows in rows(),
        start in prop::collection::vec(0..4u8, 0..4),
        end in prop::collection::vec(0..4u8, 0..4),
    ) {
        let entries = entries(&rows);
        let (file, _) = write(&entries, small(Some(1)));
        let range = KeyRange { start: start.into(), end: end.into() };
        let expected: Vec<Entry> =
            entries.into_iter().filter(|entry| range.contains(&entry.key)).collect();
        prop_assert_eq!(read(&file, range).expect("sound"), expected);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes.into(), KeyRange::all()).is_err());
    }

    /// Resealed, so that the digest of the index does not save the parser from a hostile footer.
    #[test]
    fn a_hostile_footer_is_an_error_or_harmless(
        rows in rows(),
        kind in prop_oneof![Just(PositionKind::Hlc), Just(PositionKind::Lsn)],
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let entries = entries_of(kind, &rows);
        let (file, _) = write(&entries, small(Some(1)));
        let mut bytes = file.to_vec();
        let trailer = bytes.len() - 56;
        let offset = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().expect("8"));
        let footer = usize::try_from(offset).expect("small");
        let at = footer + at.index(trailer - footer);
        bytes[at] = value;
        let sealed = [&bytes[..16], &bytes[footer..trailer + 16]].concat();
        bytes[trailer + 16..trailer + 48].copy_from_slice(&Digest::of(&sealed).0);
        // Whatever is read, its blocks carry checksums: rows may be missing from a range, but none is made up.
        if let Ok(found) = read(&bytes.into(), KeyRange::all()) {
            prop_assert!(found.iter().all(|entry| entries.contains(entry)));
        }
    }
}

fn sample() -> (Bytes, Vec<Entry>) {
    sample_of(PositionKind::Hlc)
}

fn sample_of(kind: PositionKind) -> (Bytes, Vec<Entry>) {
    let rows = (0..40u8).map(|n| {
        (
            (vec![7, n / 4, n], 1000 + u64::from(n), 0),
            (n % 5 != 0).then(|| vec![n; 9]),
        )
    });
    let entries = entries_of(kind, &rows.collect());
    (write(&entries, small(Some(1))).0, entries)
}

#[test]
fn every_truncation_is_an_error() {
    let (file, _) = sample();
    for length in 0..file.len() {
        assert!(
            read(&file.slice(..length), KeyRange::all()).is_err(),
            "{length}"
        );
        assert!(
            read(&file.slice(file.len() - length..), KeyRange::all()).is_err(),
            "{length}"
        );
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for kind in [PositionKind::Hlc, PositionKind::Lsn] {
        let (file, entries) = sample_of(kind);
        assert_eq!(read(&file, KeyRange::all()).expect("sound"), entries);
        for bit in 0..file.len() * 8 {
            let mut bytes = file.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let fault = read(&bytes.into(), KeyRange::all()).expect_err("a flipped bit");
            assert!(
                matches!(fault.code, ErrorCode::Corrupted | ErrorCode::Unsupported),
                "{bit}: {fault}"
            );
        }
    }
}

#[test]
fn kinds_of_positions_are_not_mixed() {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    writer
        .push_row(b"a", Lsn::at(5).into(), None)
        .expect("the first says what the file holds");
    let fault = writer
        .push_row(b"b", Hlc::ZERO.into(), None)
        .expect_err("another kind");
    assert_eq!(fault.code, ErrorCode::Internal);
    writer
        .push_row(b"b", Lsn::at(4).into(), None)
        .expect("of its kind");
    let (file, _) = writer.finish().expect("closes");
    // A file of version 1 cannot hold them, even if its digest is right.
    let mut bytes = file.to_vec();
    let trailer = bytes.len() - 56;
    (bytes[8], bytes[trailer + 12]) = (1, 1);
    let footer = usize::try_from(u64::from_le_bytes(
        bytes[trailer..trailer + 8].try_into().expect("8"),
    ));
    let sealed = [&bytes[..16], &bytes[footer.expect("small")..trailer + 16]].concat();
    bytes[trailer + 16..trailer + 48].copy_from_slice(&Digest::of(&sealed).0);
    let fault = SpanFileReader::open(Bytes::from(bytes)).expect_err("too old");
    assert_eq!(fault.code, ErrorCode::Corrupted);
}

#[test]
fn a_writer_holds_no_more_than_a_block() {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    let value = vec![0u8; 1000];
    let mut taken = 0;
    for row in 0..10_000u32 {
        writer
            .push_row(&row.to_be_bytes(), Hlc::ZERO.into(), Some(&value))
            .expect("in order");
        let ready = writer.take().len();
        assert!(ready <= 80 << 10, "{ready}");
        taken += ready;
    }
    assert_eq!(taken as u64, writer.stored().0);
}

#[test]
fn rows_out_of_order_or_too_large_are_refused() {
    let at = |wall| Hlc::at(Timestamp::from_micros(wall)).into();
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    writer.push_row(b"b", at(5), None).expect("first");
    writer
        .push_row(b"b", at(4), None)
        .expect("an older version");
    for (key, wall) in [(&b"b"[..], 4), (b"b", 5), (b"a", 9)] {
        let fault = writer
            .push_row(key, at(wall), None)
            .expect_err("out of order");
        assert_eq!(fault.code, ErrorCode::Internal);
    }
    let long = vec![b'c'; holdfast_format::MAX_KEY_LENGTH + 1];
    let fault = writer.push_row(&long, at(1), None).expect_err("too long");
    assert_eq!(fault.code, ErrorCode::InvalidArgument);
}

#[test]
fn large_rows_get_blocks_of_their_own() {
    let value = (0..1_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<u8>>();
    let rows = (0..3u8).map(|n| ((vec![n], 1, 0), Some(value.clone())));
    let entries = entries(&rows.collect());
    let (file, _) = write(&entries, SpanFileOptions::default());
    assert_eq!(read(&file, KeyRange::all()).expect("sound"), entries);
    let reader = SpanFileReader::open(file).expect("sound");
    assert_eq!(reader.index().blocks().len(), 3);
}
