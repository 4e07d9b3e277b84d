//! How a record looks on disk: `version | checksum | body`. The checksum covers the record's key as well, so a record
//! that was written to, or read from, the wrong place is found out like a damaged one.

use holdfast_types::Hasher;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// The version that is written. Readers know every version that was ever written.
const RECORD_VERSION: u8 = 1;

/// Bytes of the checksum: a prefix of BLAKE3. Enough against accidents, which is what it is for.
const CHECKSUM_LENGTH: usize = 8;

const HEADER_LENGTH: usize = 1 + CHECKSUM_LENGTH;

/// Encodes a value as the record of a key.
pub(crate) fn encode<T: Serialize>(key: &[u8], value: &T) -> io::Result<Vec<u8>> {
    let mut record = vec![0; HEADER_LENGTH];
    record = postcard::to_extend(value, record).map_err(io::Error::other)?;
    record[0] = RECORD_VERSION;
    let checksum = checksum(key, RECORD_VERSION, &record[HEADER_LENGTH..]);
    record[1..HEADER_LENGTH].copy_from_slice(&checksum);
    Ok(record)
}

/// Reads the record of a key back. `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(
    key: &[u8],
    record: &[u8],
    what: impl Fn() -> String,
) -> io::Result<T> {
    let damaged = |how: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged: {how}", what()),
        )
    };
    let Some((header, body)) = record.split_at_checked(HEADER_LENGTH) else {
        return Err(damaged("it is cut short"));
    };
    if checksum(key, header[0], body) != header[1..] {
        return Err(damaged("its checksum does not match"));
    }
    if header[0] != RECORD_VERSION {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is of version {}, and this program knows only version {RECORD_VERSION}",
                what(),
                header[0]
            ),
        ));
    }
    postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
}

fn checksum(key: &[u8], version: u8, body: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut hasher = Hasher::new();
    hasher.update(key).update(&[version]).update(body);
    let mut checksum = [0; CHECKSUM_LENGTH];
    checksum.copy_from_slice(&hasher.finish().0[..CHECKSUM_LENGTH]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let record = encode(b"key", &(7u64, "text".to_owned())).expect("encodes");
        let read = |record: &[u8]| decode::<(u64, String)>(b"key", record, || "it".to_owned());
        assert_eq!(read(&record).expect("decodes"), (7, "text".to_owned()));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = read(&flipped).expect_err("flipped");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
        for length in 0..record.len() {
            assert!(read(&record[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_record_of_another_key_is_found() {
        let record = encode(b"1", &7u64).expect("encodes");
        assert!(decode::<u64>(b"2", &record, || "it".to_owned()).is_err());
    }
}
