//! The order-independent digest of a set of rows: what a restore is compared with its source by.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::units::{ByteCount, RowCount};

/// Count, bytes and digest of a set of rows, added up in any order and over any split into spans.
///
/// The digest is the sum modulo 2^256, both read little endian, of BLAKE3 over `key length (u32 LE) ‖ key ‖ value` of every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RowSum {
    /// Rows added.
    pub rows: RowCount,
    /// Bytes of their keys and values.
    pub bytes: ByteCount,
    /// Sum of their digests.
    pub digest: Digest,
}

impl RowSum {
    /// Adds one row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        // A key beyond 4 GiB cannot occur: every source and the format bound keys far below.
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let digest = Hasher::new()
            .update(&length.to_le_bytes())
            .update(key)
            .update(value)
            .finish();
        self.merge(&Self {
            rows: RowCount(1),
            bytes: ByteCount((key.len() + value.len()) as u64),
            digest,
        });
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        let mut carry = 0u16;
        for (byte, addend) in self.digest.0.iter_mut().zip(other.digest.0) {
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_depends_on_rows_and_not_on_their_order() {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..100u8).map(|n| (vec![n], vec![n; 3])).collect();
        let mut forward = RowSum::default();
        rows.iter().for_each(|(key, value)| forward.add(key, value));
        let mut backward = RowSum::default();
        let mut half = RowSum::default();
        for (index, (key, value)) in rows.iter().rev().enumerate() {
            if index % 2 == 0 {
                &mut backward
            } else {
                &mut half
            }
            .add(key, value);
        }
        backward.merge(&half);
        assert_eq!(forward, backward);
        assert_eq!(forward.rows, RowCount(100));
        assert_eq!(forward.bytes, ByteCount(400));
    }

    #[test]
    fn the_split_between_key_and_value_counts() {
        let (mut left, mut right) = (RowSum::default(), RowSum::default());
        left.add(b"ab", b"c");
        right.add(b"a", b"bc");
        assert_ne!(left.digest, right.digest);
    }

    #[test]
    fn carries_run_through_all_bytes() {
        let mut sum = RowSum {
            digest: Digest([0xff; 32]),
            ..RowSum::default()
        };
        let mut one = [0u8; 32];
        one[0] = 1;
        sum.merge(&RowSum {
            digest: Digest(one),
            ..RowSum::default()
        });
        assert_eq!(sum.digest, Digest([0; 32]));
    }
}
