//! Encrypted objects: what was sealed is read back, and whatever is changed is noticed.

use bytes::Bytes;
use holdfast_format::{DataKey, Envelope, Kdf, KeyInfo, KeyInfoName, KeyWrap, WrapKind};
use holdfast_types::{Digest, ErrorCode, Fault};
use proptest::prelude::*;
use std::ops::Range;

const CHUNK: usize = 64 << 10;
const STORED_CHUNK: usize = CHUNK + 16;
const HEAD: usize = 64;
const PATH: &str = "2026/11/23-190800.50/data/1-0-1-0.hfs";

fn key(byte: u8) -> DataKey {
    DataKey::from_slice(&[byte; 32]).expect("32 bytes")
}

fn envelope(byte: u8) -> Envelope {
    Envelope::Sealed(key(byte))
}

/// Bytes that no two places share.
fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(0x9e37_79b9).to_le_bytes()[3])
        .collect()
}

fn seal(envelope: &Envelope, path: &str, clear: &[u8]) -> Vec<u8> {
    let pieces = clear.chunks(10_007).map(Bytes::copy_from_slice).collect();
    let sealed = envelope.seal(path, pieces, &Digest::of(clear));
    sealed.expect("seals").concat()
}

fn open(envelope: &Envelope, path: &str, stored: &[u8]) -> Result<Bytes, Fault> {
    envelope.open(path, Bytes::copy_from_slice(stored))
}

/// Reads a range as a reader of a store does: the start, and then what covers the range.
fn open_range(
    envelope: &Envelope,
    path: &str,
    stored: &[u8],
    range: Range<u64>,
) -> Result<Bytes, Fault> {
    let start = stored.len().min(envelope.start_length() as usize);
    let start = Bytes::copy_from_slice(&stored[..start]);
    let (frame, _) = envelope.open_start(path, &start, stored.len() as u64)?;
    let cover = frame.cover(&range);
    let (from, to) = (cover.start as usize, cover.end as usize);
    if to > stored.len() || from > to {
        return Err(Fault::new(ErrorCode::Corrupted, "it ends too early"));
    }
    frame.open(&range, Bytes::copy_from_slice(&stored[from..to]))
}

const LENGTHS: [usize; 8] = [
    0,
    1,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    2 * CHUNK,
    3 * CHUNK + 5,
    20 * CHUNK,
];

#[test]
fn what_was_sealed_is_read_back_whole_and_in_ranges() {
    for length in LENGTHS {
        let clear = content(length);
        let stored = seal(&envelope(1), PATH, &clear);
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(stored.len(), HEAD + length + 16 * chunks);
        let opened = open(&envelope(1), PATH, &stored).expect("opens");
        assert_eq!(opened, clear);
        let ends = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, length / 2, length];
        for from in ends {
            for to in ends {
                if from < to && to <= length {
                    let range = from as u64..to as u64;
                    let part = open_range(&envelope(1), PATH, &stored, range).expect("opens");
                    assert_eq!(part, &clear[from..to], "{from}..{to} of {length}");
                }
            }
        }
    }
}

#[test]
fn sealing_is_a_function_of_key_path_and_content() {
    let clear = content(CHUNK + 9);
    let stored = seal(&envelope(1), PATH, &clear);
    assert_eq!(
        stored,
        seal(&envelope(1), PATH, &clear),
        "racing writers agree"
    );
    let salt = |stored: &[u8]| stored[16..48].to_vec();
    let mut other = clear.clone();
    other[CHUNK + 8] ^= 1;
    // Another salt is another key, so that no key and nonce ever meet two contents.
    assert_ne!(salt(&stored), salt(&seal(&envelope(1), PATH, &other)));
    assert_ne!(salt(&stored), salt(&seal(&envelope(1), "other", &clear)));
    assert_ne!(salt(&stored), salt(&seal(&envelope(2), PATH, &clear)));
    assert!(!stored.windows(16).any(|part| part == &clear[..16]));
    assert!(
        !stored.windows(16).any(|part| part == [1; 16]),
        "no key in it"
    );
}

/// Every reader must find a change somewhere in what it reads.
fn assert_noticed(path: &str, stored: &[u8], length: usize, what: &str) {
    let whole = open(&envelope(1), path, stored);
    assert!(whole.is_err(), "{what}: opened whole");
    let code = whole.expect_err("refused").code;
    assert!(
        matches!(code, ErrorCode::Corrupted | ErrorCode::Unsupported),
        "{what}: {code:?}"
    );
    // Chunk by chunk: at least one is refused.
    let chunks = length.div_ceil(CHUNK).max(1);
    let all = (0..chunks).all(|chunk| {
        let range = chunk * CHUNK..length.min((chunk + 1) * CHUNK);
        let range = range.start as u64..range.end as u64;
        open_range(&envelope(1), path, stored, range).is_ok()
    });
    assert!(!all, "{what}: opened in ranges");
}

#[test]
fn every_flipped_bit_is_noticed() {
    for length in [0, 1, 1000] {
        let stored = seal(&envelope(1), PATH, &content(length));
        for at in 0..stored.len() {
            for bit in 0..8 {
                let mut changed = stored.clone();
                changed[at] ^= 1 << bit;
                assert_noticed(PATH, &changed, length, &format!("bit {bit} of byte {at}"));
            }
        }
    }
    let length = 3 * CHUNK + 5;
    let stored = seal(&envelope(1), PATH, &content(length));
    let ends = (0..5).map(|chunk| HEAD + chunk * STORED_CHUNK);
    let around = ends.flat_map(|end| end.saturating_sub(18)..end + 18);
    for at in around
        .chain((0..stored.len()).step_by(997))
        .filter(|at| *at < stored.len())
    {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        assert_noticed(PATH, &changed, length, &format!("byte {at}"));
    }
}

#[test]
fn every_cut_and_every_added_byte_is_noticed() {
    for length in [0, 1, CHUNK, 3 * CHUNK + 5, 4 * CHUNK] {
        let stored = seal(&envelope(1), PATH, &content(length));
        let boundaries = (0..=4).map(|chunk| HEAD + chunk * STORED_CHUNK);
        let cuts = boundaries
            .flat_map(|end| end.saturating_sub(17)..=end + 17)
            .chain(0..HEAD)
            .chain((0..stored.len()).step_by(1009));
        for cut in cuts.filter(|cut| *cut < stored.len()) {
            let whole = open(&envelope(1), PATH, &stored[..cut]);
            assert!(whole.is_err(), "{length} cut at {cut}");
        }
        for more in [1, 16, 17, STORED_CHUNK] {
            let longer = [stored.as_slice(), &vec![0; more]].concat();
            assert!(open(&envelope(1), PATH, &longer).is_err(), "{more} more");
        }
    }
}

#[test]
fn chunks_cannot_change_places_be_repeated_or_left_out() {
    let length = 3 * CHUNK + 5;
    let stored = seal(&envelope(1), PATH, &content(length));
    let chunk = |index: usize| {
        let from = HEAD + index * STORED_CHUNK;
        stored[from..stored.len().min(from + STORED_CHUNK)].to_vec()
    };
    let head = stored[..HEAD].to_vec();
    let orders: [&[usize]; 8] = [
        &[1, 0, 2, 3],
        &[0, 2, 1, 3],
        &[0, 0, 2, 3],
        &[0, 1, 2],
        &[0, 1, 3],
        &[3],
        &[0, 1, 2, 2, 3],
        &[0, 1, 2, 3, 3],
    ];
    for order in orders {
        let chunks = order.iter().flat_map(|index| chunk(*index));
        let changed: Vec<u8> = head.iter().copied().chain(chunks).collect();
        assert!(open(&envelope(1), PATH, &changed).is_err(), "{order:?}");
    }
    // A chunk of another object of the chain, at its own place.
    let other = seal(&envelope(1), PATH, &content(length + 1));
    for index in 0..4 {
        let from = HEAD + index * STORED_CHUNK;
        let to = stored.len().min(from + STORED_CHUNK);
        let mut changed = stored.clone();
        changed[from..to].copy_from_slice(&other[from..to]);
        assert!(open(&envelope(1), PATH, &changed).is_err(), "chunk {index}");
    }
}

#[test]
fn an_object_opens_with_its_key_and_under_its_path_only() {
    let clear = content(1000);
    let stored = seal(&envelope(1), PATH, &clear);
    let of_other = open(&envelope(2), PATH, &stored).expect_err("another key");
    assert!(of_other.message.contains("another key"), "{of_other}");
    assert!(
        open(
            &envelope(1),
            "2026/11/23-190800.50/data/1-0-1-1.hfs",
            &stored
        )
        .is_err()
    );
    let missing = open(&Envelope::Clear, PATH, &stored).expect_err("no key");
    assert_eq!(missing.code, ErrorCode::FailedPrecondition);
    assert!(missing.message.contains("encrypted"), "{missing}");
    assert!(missing.hint.is_some());
    let plain = open(&envelope(1), PATH, &clear).expect_err("not encrypted");
    assert!(plain.message.contains("not encrypted"), "{plain}");
}

proptest! {
    #[test]
    fn hostile_objects_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0usize..70) {
        // With and without a sound start.
        let mut stored = seal(&envelope(1), PATH, b"x")[..start].to_vec();
        stored.extend(bytes);
        prop_assert!(open(&envelope(1), PATH, &stored).is_err());
        prop_assert!(KeyInfo::decode(&stored).is_err());
    }

    #[test]
    fn any_pieces_give_the_same_object(length in 0usize..200_000, cut in 1usize..70_000) {
        let clear = content(length);
        let pieces = clear.chunks(cut).map(Bytes::copy_from_slice).collect();
        let sealed = envelope(1).seal(PATH, pieces, &Digest::of(&clear)).expect("seals").concat();
        prop_assert_eq!(&sealed, &seal(&envelope(1), PATH, &clear));
        prop_assert_eq!(open(&envelope(1), PATH, &sealed).expect("opens"), clear);
    }
}

fn wraps() -> Vec<KeyWrap> {
    vec![
        KeyWrap {
            kind: WrapKind::Passphrase,
            label: "passphrase".into(),
            kdf: Some((Kdf::ARGON2ID, [7; 16])),
            wrapped: Bytes::from_static(&[3; 48]),
        },
        KeyWrap {
            kind: WrapKind::Passphrase,
            label: "passphrase".into(),
            kdf: Some((Kdf::PBKDF2, [8; 16])),
            wrapped: Bytes::from_static(&[4; 48]),
        },
        KeyWrap {
            kind: WrapKind::Aws,
            label: "aws:///alias/backup?REGION=eu-west-1".into(),
            kdf: None,
            wrapped: Bytes::from_static(&[5; 150]),
        },
    ]
}

fn info() -> KeyInfo {
    KeyInfo::new(&key(1), "2026/11/23-190800.50", 3, wraps()).expect("legal")
}

#[test]
fn key_info_is_read_back_and_proves_who_wrote_it() {
    let info = info();
    let read = KeyInfo::decode(&info.encode().expect("legal")).expect("sound");
    assert_eq!(read, info);
    assert_eq!(read.check(&key(1)), Ok(()));
    assert!(read.check(&key(2)).is_err());
    // Wraps that somebody left out, who does not have the key.
    let mut forged = info.clone();
    forged.wraps.pop();
    let forged = KeyInfo::decode(&forged.encode().expect("legal")).expect("reads");
    assert!(forged.check(&key(1)).is_err());
    let mut moved = info;
    moved.full = "2026/11/24-190800.50".into();
    assert!(moved.check(&key(1)).is_err());
}

#[test]
fn every_flipped_bit_and_every_cut_of_key_info_is_noticed() {
    let bytes = info().encode().expect("legal");
    for at in 0..bytes.len() {
        assert!(KeyInfo::decode(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            assert!(KeyInfo::decode(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_a_passphrase_may_cost_is_bounded() {
    let with = |kdf| {
        let wrap = KeyWrap {
            kdf: Some((kdf, [0; 16])),
            ..wraps().swap_remove(0)
        };
        let info = KeyInfo::new(&key(1), "f", 1, vec![wrap]).expect("legal");
        KeyInfo::decode(&info.encode().expect("legal"))
    };
    assert!(with(Kdf::ARGON2ID).is_ok() && with(Kdf::PBKDF2).is_ok());
    let argon = |memory_kib, passes, lanes| Kdf::Argon2id {
        memory_kib,
        passes,
        lanes,
    };
    for kdf in [
        argon(u32::MAX, 1, 1),
        argon(64, u32::MAX, 1),
        argon(64, 1, u32::MAX),
        argon(64, 0, 1),
        argon(64, 1, 0),
        argon(0, 1, 1),
        Kdf::Pbkdf2Sha256 { iterations: 0 },
        Kdf::Pbkdf2Sha256 {
            iterations: u32::MAX,
        },
    ] {
        let fault = with(kdf).expect_err("beyond the bounds");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{kdf}");
    }
    assert!(KeyInfo::new(&key(1), "f", 1, Vec::new()).is_err());
    let many = vec![wraps().swap_remove(2); KeyInfo::MAX_WRAPS + 1];
    assert!(KeyInfo::new(&key(1), "f", 1, many).is_err());
}

#[test]
fn names_of_key_info_have_one_spelling() {
    assert_eq!("12.hfk".parse(), Ok(KeyInfoName(12)));
    assert_eq!(KeyInfoName(12).to_string(), "12.hfk");
    for text in [
        "",
        "0.hfk",
        "01.hfk",
        "+1.hfk",
        "1",
        "1.hfs",
        "4294967296.hfk",
    ] {
        assert!(text.parse::<KeyInfoName>().is_err(), "{text}");
    }
}

#[test]
fn a_key_is_not_shown() {
    let shown = format!("{:?} {:?}", key(0xab), envelope(0xab));
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}
