//! Tuple files against the rows that went in, and against hostile bytes.

use bytes::Bytes;
use holdfast_format::{
    TupleDecoder, TupleFileOptions, TupleFileReader, TupleFileSummary, TupleFileWriter, TupleRow,
};
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, ObjectKind, RowCount};
use proptest::prelude::*;

type Row = Vec<Option<Vec<u8>>>;

/// A row as binary COPY has it.
fn copy_row(row: &Row) -> Vec<u8> {
    let mut bytes = (row.len() as i16).to_be_bytes().to_vec();
    for field in row {
        match field {
            None => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(field) => {
                bytes.extend_from_slice(&(field.len() as i32).to_be_bytes());
                bytes.extend_from_slice(field);
            }
        }
    }
    bytes
}

fn copy_rows(rows: &[Row]) -> Vec<u8> {
    rows.iter().flat_map(copy_row).collect()
}

fn write(columns: u16, bytes: &[u8], options: TupleFileOptions) -> (Bytes, TupleFileSummary) {
    let mut writer = TupleFileWriter::new(columns, options).expect("a level");
    assert_eq!(writer.push(bytes).expect("rows"), bytes.len());
    let (file, summary) = writer.finish().expect("closes");
    (file, summary)
}

fn read(file: &Bytes) -> Result<Vec<u8>, Fault> {
    let reader = TupleFileReader::open(file.clone())?;
    let mut all = Vec::new();
    for rows in reader.read() {
        all.extend_from_slice(rows?.bytes());
    }
    Ok(all)
}

fn small(level: Option<i32>, block_rows: u32) -> TupleFileOptions {
    TupleFileOptions {
        level,
        block_size: 700,
        block_rows,
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// One length for all, if there is one.
    width: Option<usize>,
    longest: usize,
    nulls: u8,
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = (
        prop::option::of(prop_oneof![0..40usize, Just(4), Just(8), Just(16)]),
        prop_oneof![Just(3usize), Just(20), Just(300)],
        prop_oneof![Just(0u8), Just(0), Just(2), Just(4)],
    );
    let kind = kind.prop_map(|(width, longest, nulls)| Kind {
        width,
        longest,
        nulls,
    });
    prop::collection::vec(kind, 0..6)
}

/// Rows of some columns; few different bytes, so that some of it compresses.
fn rows() -> impl Strategy<Value = (u16, Vec<Row>)> {
    (kinds(), 0..60usize).prop_flat_map(|(kinds, count)| {
        let fields: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let length = kind.width.map_or(0..=kind.longest, |width| width..=width);
                let nulls = kind.nulls;
                (0..4u8, prop::collection::vec(0..5u8, length))
                    .prop_map(move |(null, bytes)| (null >= nulls).then_some(bytes))
            })
            .collect();
        let columns = kinds.len() as u16;
        prop::collection::vec(fields, count).prop_map(move |rows| (columns, rows))
    })
}

/// Recomputes the digest over header, footer and trailer.
fn reseal(bytes: &mut [u8]) {
    let trailer = bytes.len() - 56;
    let footer = footer_of(bytes);
    let sealed = [&bytes[..16], &bytes[footer..trailer + 16]].concat();
    bytes[trailer + 16..trailer + 48].copy_from_slice(&Digest::of(&sealed).0);
}

fn footer_of(bytes: &[u8]) -> usize {
    let trailer = bytes.len() - 56;
    let offset = bytes[trailer..trailer + 8].try_into().expect("8");
    usize::try_from(u64::from_le_bytes(offset)).expect("small")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_written_is_read(
        (columns, rows) in rows(),
        level in prop::option::of(1..3i32),
        block_rows in 1..70u32,
        piece in 1..500usize,
    ) {
        let bytes = copy_rows(&rows);
        let mut writer = TupleFileWriter::new(columns, small(level, block_rows)).expect("a level");
        let mut file = Vec::new();
        let mut pending = Vec::new();
        // Pieces are cut anywhere; what was not taken is pushed again with more behind it.
        for piece in bytes.chunks(piece) {
            pending.extend_from_slice(piece);
            let taken = writer.push(&pending).expect("rows");
            pending.drain(..taken);
            file.extend_from_slice(&writer.take());
            prop_assert_eq!(file.len() as u64, writer.stored().0);
        }
        prop_assert!(pending.is_empty());
        prop_assert_eq!(writer.rows(), RowCount(rows.len() as u64));
        prop_assert_eq!(writer.logical(), ByteCount(bytes.len() as u64));
        let (rest, summary) = writer.finish().expect("closes");
        file.extend_from_slice(&rest);
        let file = Bytes::from(file);
        prop_assert_eq!(&TupleFileReader::check(&file).expect("sound"), &summary);
        prop_assert_eq!(summary.digest, Digest::of(&file));
        prop_assert_eq!(summary.rows, RowCount(rows.len() as u64));
        prop_assert_eq!(summary.logical, ByteCount(bytes.len() as u64));

        let reader = TupleFileReader::open(file).expect("sound");
        prop_assert_eq!(reader.index().columns(), columns);
        let mut expected = rows.iter();
        for block in reader.read() {
            let block = block.expect("sound");
            prop_assert!(block.count().0 <= u64::from(block_rows));
            let mut seen = 0;
            for (range, row) in block.ranges().zip(block.iter()) {
                let expected = expected.next().expect("no more rows than went in");
                prop_assert_eq!(&block.bytes()[range.clone()], row.bytes());
                prop_assert_eq!(row.bytes(), copy_row(expected));
                let fields: Row = row.fields().map(|field| field.map(<[u8]>::to_vec)).collect();
                prop_assert_eq!(&fields, expected);
                prop_assert_eq!(range.start, seen);
                seen = range.end;
            }
            prop_assert_eq!(seen, block.bytes().len());
        }
        prop_assert_eq!(expected.next(), None);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes.into()).is_err());
    }

    /// Resealed, so that the digest of the index does not save the parser from a hostile footer or header.
    #[test]
    fn a_hostile_index_is_an_error_or_harmless(
        (columns, rows) in rows(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let bytes = copy_rows(&rows);
        let (file, _) = write(columns, &bytes, small(Some(1), 9));
        let mut hostile = file.to_vec();
        let (trailer, footer) = (hostile.len() - 56, footer_of(&hostile));
        let at = at.index(16 + trailer - footer);
        hostile[if at < 16 { at } else { footer + at - 16 }] = value;
        reseal(&mut hostile);
        // Blocks carry checksums: the rows are those that went in, or none. (Without columns a row is a number in the index only, and without
        // blocks a column is.)
        if let Ok(found) = read(&hostile.into()) {
            prop_assert!(found == bytes || columns == 0 || found.is_empty());
        }
    }

    /// Resealed to the last checksum, so that nothing saves the decoder.
    #[test]
    fn a_hostile_block_is_an_error_or_rows(
        (columns, rows) in rows(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        level in prop::option::of(1..3i32),
    ) {
        prop_assume!(!rows.is_empty() && columns > 0);
        let bytes = copy_rows(&rows);
        let (file, _) = write(columns, &bytes, TupleFileOptions { level, ..Default::default() });
        let mut hostile = file.to_vec();
        let footer = footer_of(&hostile);
        for (at, value) in changes {
            hostile[16 + at.index(footer - 16)] = value;
        }
        let digest = Digest::of(&hostile[16..footer]);
        hostile[footer + 16..footer + 32].copy_from_slice(&digest.0[..16]);
        reseal(&mut hostile);
        if let Ok(found) = read(&hostile.into()) {
            prop_assert_eq!(found.len(), bytes.len());
        }
    }
}

fn sample_rows() -> Vec<Row> {
    (0..24u8)
        .map(|n| {
            vec![
                Some(u32::from(n).to_be_bytes().to_vec()),
                (n % 3 != 0).then(|| vec![n; usize::from(n % 5)]),
                None,
                Some(vec![7, n, 7, n, 7, n, 7, n]),
                (n % 4 != 1).then(|| vec![n, 0]),
                Some(vec![b'x'; 20]),
            ]
        })
        .collect()
}

/// A `numeric` of two places.
fn decimal(hundredths: i32) -> Vec<u8> {
    let sign = if hundredths < 0 { 0x4000 } else { 0 };
    let hundredths = hundredths.unsigned_abs();
    let mut digits = vec![(hundredths / 100) as u16, (hundredths % 100 * 100) as u16];
    let weight = if digits[0] == 0 { u16::MAX } else { 0 };
    digits.retain(|digit| *digit != 0);
    let weight = if digits.is_empty() { 0 } else { weight };
    let head = [digits.len() as u16, weight, sign, 2];
    let parts = head.iter().chain(&digits);
    parts.flat_map(|part| part.to_be_bytes()).collect()
}

/// Rows whose columns are recoded: a time, a counter, decimals, few different texts and numbers.
fn recoded_rows() -> Vec<Row> {
    (0..40i64)
        .map(|n| {
            let scattered = (n * 7919) % 1009;
            vec![
                Some((-5_000_000 + scattered * 1000).to_be_bytes().to_vec()),
                (n % 5 != 0).then(|| (n as i32 - 9).to_be_bytes().to_vec()),
                Some(decimal(scattered as i32 * 31 - 9000)),
                (n % 4 != 0).then(|| decimal(scattered as i32)),
                (n % 3 != 0).then(|| ["open", "", "shipped"][n as usize % 7 % 3].into()),
                Some(["EUR", "USD"][usize::from(n % 3 == 0)].into()),
            ]
        })
        .collect()
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let rows = [sample_rows(), recoded_rows()];
    for (rows, level) in rows.iter().flat_map(|rows| [(rows, None), (rows, Some(1))]) {
        let block_rows = if rows.len() < 40 { 13 } else { 20 };
        let (file, _) = write(6, &copy_rows(rows), small(level, block_rows));
        assert_eq!(read(&file).expect("sound"), copy_rows(rows));
        for length in 0..file.len() {
            assert!(read(&file.slice(..length)).is_err(), "{length}");
            assert!(
                read(&file.slice(file.len() - length..)).is_err(),
                "{length}"
            );
        }
        for bit in 0..file.len() * 8 {
            let mut bytes = file.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let fault = read(&bytes.into()).expect_err("a flipped bit");
            assert!(
                matches!(fault.code, ErrorCode::Corrupted | ErrorCode::Unsupported),
                "{bit}: {fault}"
            );
        }
    }
}

/// Every byte of a block takes many values, under checksums that are right: the decoder alone must hold.
#[test]
fn every_byte_of_a_block_may_be_anything() {
    let rows = [copy_rows(&sample_rows()), copy_rows(&recoded_rows())];
    for (rows, level) in rows.iter().flat_map(|rows| [(rows, None), (rows, Some(1))]) {
        let (file, _) = write(
            6,
            rows,
            TupleFileOptions {
                level,
                ..Default::default()
            },
        );
        let reader = TupleFileReader::open(file.clone()).expect("sound");
        let stored = file.slice(16..footer_of(&file)).to_vec();
        for at in 0..stored.len() {
            let kept = stored[at];
            let bits = (0..8).map(|bit| kept ^ 1 << bit);
            for value in bits.chain([0, 1, 2, 0x7f, 0xff]) {
                let mut hostile = file.to_vec();
                hostile[16 + at] = value;
                let footer = footer_of(&hostile);
                let digest = Digest::of(&hostile[16..footer]);
                hostile[footer + 16..footer + 32].copy_from_slice(&digest.0[..16]);
                reseal(&mut hostile);
                if let Ok(found) = read(&hostile.into()) {
                    assert_eq!(found.len() as u64, reader.index().logical().0);
                }
            }
        }
    }
}

#[test]
fn numbers_decimals_and_few_values_are_recoded_and_only_in_version_2() {
    let rows = copy_rows(&recoded_rows());
    let options = TupleFileOptions::default();
    let (file, _) = write(6, &rows, options);
    let (plain, _) = write(
        6,
        &rows,
        TupleFileOptions {
            level: None,
            ..options
        },
    );
    assert_eq!((plain[8], file[8]), (1, 2));
    assert_eq!(read(&file).expect("sound"), rows);
    // The first column: numbers of eight bytes, two bytes each, in steps of a thousand.
    let step = 1000u64.to_le_bytes();
    assert_eq!((file[16], file[17], file[18]), (1 << 5, 8, 2));
    assert_eq!(file[27..35], step);
    let recoded = |of: &Bytes| of.len() - (of.len() - footer_of(of)) - 16;
    assert!(recoded(&file) * 3 < recoded(&plain), "{}", recoded(&file));
    // Version 1 knows nothing of it.
    let mut older = file.to_vec();
    older[8] = 1;
    let trailer = older.len() - 56;
    older[trailer + 12] = 1;
    reseal(&mut older);
    let fault = read(&older.into()).expect_err("unknown to version 1");
    assert_eq!(fault.code, ErrorCode::Corrupted);
    let mut newer = file.to_vec();
    newer[8] = 3;
    newer[trailer + 12] = 3;
    reseal(&mut newer);
    let fault = read(&newer.into()).expect_err("unknown version");
    assert_eq!(fault.code, ErrorCode::Unsupported);
}

#[test]
fn a_decoder_goes_on_after_damage() {
    let (one, _) = write(6, &copy_rows(&sample_rows()), small(Some(1), 100));
    let (other, _) = write(
        1,
        &copy_rows(&[vec![Some(vec![1; 5000])]]),
        small(Some(1), 100),
    );
    let mut decoder = TupleDecoder::default();
    for _ in 0..2 {
        for file in [&one, &other] {
            let reader = TupleFileReader::open(file.clone()).expect("sound");
            let block = &reader.index().blocks()[0];
            let stored = file.slice(block.bytes.start as usize..block.bytes.end as usize);
            let index = reader.index();
            let cut = index.decode(block, &stored[1..], &mut decoder);
            assert_eq!(cut.expect_err("cut").code, ErrorCode::Corrupted);
            let rows = index.decode(block, &stored, &mut decoder).expect("sound");
            assert_eq!(rows.bytes(), &read_block(file)[..]);
        }
    }
}

fn read_block(file: &Bytes) -> Bytes {
    let reader = TupleFileReader::open(file.clone()).expect("sound");
    let first = reader.read().next().expect("a block").expect("sound");
    first.bytes().clone()
}

#[test]
fn rows_without_columns_files_without_rows_and_columns_without_values() {
    let empty = write(3, &[], TupleFileOptions::default()).0;
    assert_eq!(read(&empty).expect("sound"), b"");
    let reader = TupleFileReader::open(empty).expect("sound");
    assert!(reader.index().blocks().is_empty());
    assert_eq!(reader.index().columns(), 3);

    let bare = vec![Vec::new(); 70_000];
    let (file, summary) = write(0, &copy_rows(&bare), TupleFileOptions::default());
    assert_eq!(read(&file).expect("sound"), copy_rows(&bare));
    assert!(summary.length.0 < 200, "{}", summary.length);
    let reader = TupleFileReader::open(file).expect("sound");
    assert_eq!(reader.index().blocks().len(), 2);

    let nulls = vec![vec![None; 100]; 3000];
    let (file, summary) = write(100, &copy_rows(&nulls), TupleFileOptions::default());
    assert_eq!(read(&file).expect("sound"), copy_rows(&nulls));
    assert!(summary.length.0 < 400, "{}", summary.length);
}

#[test]
fn the_most_columns_and_one_too_many() {
    let row: Row = (0..i16::MAX as usize)
        .map(|n| (n % 2 == 0).then(|| vec![n as u8]))
        .collect();
    let columns = i16::MAX as u16;
    let (file, _) = write(
        columns,
        &copy_rows(&[row.clone(), row.clone()]),
        small(Some(1), 9),
    );
    assert_eq!(read(&file).expect("sound"), copy_rows(&[row.clone(), row]));
    let fault = TupleFileWriter::new(columns + 1, TupleFileOptions::default());
    assert_eq!(
        fault.expect_err("too many").code,
        ErrorCode::InvalidArgument
    );
}

/// The name of a file's object says what it is.
#[test]
fn a_tuple_file_is_named_as_one() {
    let (_, summary) = write(0, &[], TupleFileOptions::default());
    let object = summary.object_ref(format!("1-2-3-4{}", ObjectKind::Tuples.suffix()));
    assert_eq!(object.kind(), ObjectKind::Tuples);
    assert_eq!(object.length, summary.length);
}

fn noise(length: usize) -> Vec<u8> {
    let bytes = (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    bytes.collect()
}

#[test]
fn a_row_may_be_longer_than_a_block() {
    let rows: Vec<Row> = [20, 17_000_000, 3, 9_000_000]
        .map(|length| vec![Some(vec![1, 2]), Some(noise(length))])
        .into();
    for level in [None, Some(1)] {
        let options = TupleFileOptions {
            level,
            ..Default::default()
        };
        let bytes = copy_rows(&rows);
        let (file, _) = write(2, &bytes, options);
        assert!(read(&file).expect("sound") == bytes);
        let reader = TupleFileReader::open(file).expect("sound");
        let counts = reader.index().blocks().iter().map(|block| block.rows.0);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2]);
    }
}

#[test]
fn a_writer_holds_no_more_than_a_block() {
    let mut writer = TupleFileWriter::new(2, TupleFileOptions::default()).expect("a level");
    let row = copy_row(&vec![Some(noise(1000)), Some(vec![0; 8])]);
    let chunk = row.repeat(500);
    let mut taken = 0;
    for _ in 0..60 {
        assert_eq!(writer.push(&chunk).expect("rows"), chunk.len());
        let ready = writer.take().len();
        assert!(ready <= 9 << 20, "{ready}");
        taken += ready;
    }
    assert_eq!(taken as u64, writer.stored().0);
    let (rest, summary) = writer.finish().expect("closes");
    assert_eq!(
        taken + rest.len(),
        usize::try_from(summary.length.0).expect("small")
    );
}

#[test]
fn what_is_no_row_is_refused_and_leaves_nothing_behind() {
    let good = copy_row(&vec![Some(vec![1, 2, 3]), None]);
    let other_count = copy_row(&vec![Some(vec![1])]);
    let trailer = (-1i16).to_be_bytes().to_vec();
    let negative = [&good[..2], &(-2i32).to_be_bytes(), &[0; 9]].concat();
    let too_long = [&good[..2], &(1i32 << 30).to_be_bytes(), &[0; 9]].concat();
    let mut writer = TupleFileWriter::new(2, TupleFileOptions::default()).expect("a level");
    for bad in [other_count, trailer, negative, too_long] {
        let fault = writer
            .push(&[&good[..], &bad].concat())
            .expect_err("no row");
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{fault}");
    }
    for cut in 0..good.len() {
        assert_eq!(writer.push(&good[..cut]).expect("not whole"), 0);
    }
    let (file, _) = writer.finish().expect("closes");
    assert_eq!(read(&file).expect("sound"), good.repeat(4));
}

#[test]
fn typical_columns_shrink() {
    let rows: Vec<Row> = (0..5000u64)
        .map(|n| {
            vec![
                Some((1_000_000 + n).to_be_bytes().to_vec()),
                Some((n % 7).to_be_bytes().to_vec()),
                Some(b"pending".to_vec()),
            ]
        })
        .collect();
    let bytes = copy_rows(&rows);
    let (file, _) = write(3, &bytes, TupleFileOptions::default());
    assert!(
        file.len() * 20 < bytes.len(),
        "{} of {}",
        file.len(),
        bytes.len()
    );
    let first: Vec<_> = copy_row(&rows[0]);
    assert_eq!(
        TupleFileReader::open(file)
            .expect("sound")
            .read()
            .next()
            .expect("a block")
            .expect("sound")
            .iter()
            .next()
            .map(TupleRow::bytes)
            .map(<[u8]>::to_vec),
        Some(first)
    );
}

/// The longest row that PostgreSQL can send, behind a block that is nearly full, and one byte more.
#[test]
#[ignore = "takes 4 GiB of memory: run it with `cargo test --release -p holdfast-format -- --ignored`"]
fn the_longest_row_and_one_that_is_longer() {
    const LONGEST: usize = 1 << 30;
    let mut row = vec![b'x'; LONGEST];
    row[..2].copy_from_slice(&1i16.to_be_bytes());
    row[2..6].copy_from_slice(&(LONGEST as i32 - 6).to_be_bytes());
    let before = copy_row(&vec![Some(noise(7 << 20))]);
    for level in [Some(1), None] {
        let options = TupleFileOptions {
            level,
            ..Default::default()
        };
        let mut writer = TupleFileWriter::new(1, options).expect("a level");
        assert_eq!(writer.push(&before).expect("a row"), before.len());
        // What is cut off is waited for.
        assert_eq!(writer.push(&row[..LONGEST - 1]).expect("not whole"), 0);
        assert_eq!(writer.push(&row).expect("a row"), LONGEST);
        let (file, _) = writer.finish().expect("closes");
        let reader = TupleFileReader::open(file).expect("sound");
        assert_eq!(reader.index().blocks().len(), 1);
        let rows = reader.read().next().expect("a block").expect("sound");
        let parts = rows.bytes().split_at(before.len());
        assert!(parts == (&before[..], &row[..]));
    }
    row[2..6].copy_from_slice(&(LONGEST as i32 - 5).to_be_bytes());
    row.push(0);
    let mut writer = TupleFileWriter::new(1, TupleFileOptions::default()).expect("a level");
    for cut in [6, LONGEST, LONGEST + 1] {
        let fault = writer.push(&row[..cut]).expect_err("too long");
        assert_eq!(fault.code, ErrorCode::InvalidArgument);
    }
}
