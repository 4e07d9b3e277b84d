//! The order-independent digest of a set of rows: what a restore is compared with its source by.

use serde::{Deserialize, Serialize};
use twox_hash::{XxHash3_64, XxHash3_128};

use crate::digest::Digest;
use crate::units::{ByteCount, RowCount};

/// Count, bytes and digest of a set of rows, added up in any order and over any split into spans.
///
/// The digest is the sum modulo 2^256, read little endian, of a number for every row: XXH3-128 of its value, seeded by XXH3-64 of its key, which is
/// seeded by zero. It finds what went wrong, and not what somebody made to look right: that is what digests of objects are for. A BLAKE3 of each
/// row cost more than all else that a restore does with it.
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
        let seed = XxHash3_64::oneshot(key);
        let number = XxHash3_128::oneshot_with_seed(seed, value);
        let mut digest = Digest::default();
        if let Some(low) = digest.0.first_chunk_mut() {
            *low = number.to_le_bytes();
        }
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
        let (own, _) = self.digest.0.as_chunks_mut::<8>();
        let (others, _) = other.digest.0.as_chunks::<8>();
        let mut carry = false;
        for (word, addend) in own.iter_mut().zip(others) {
            let (sum, over) =
                u64::from_le_bytes(*word).overflowing_add(u64::from_le_bytes(*addend));
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *word = sum.to_le_bytes();
            carry = over || over_again;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_carry_over_from_byte_to_byte_and_wrap_around() {
        let of = |bytes: [u8; 32]| RowSum {
            digest: Digest(bytes),
            ..RowSum::default()
        };
        let bytewise = |left: [u8; 32], right: [u8; 32]| {
            let mut carry = 0u16;
            std::array::from_fn(|at| {
                let sum = u16::from(left[at]) + u16::from(right[at]) + carry;
                carry = sum >> 8;
                sum as u8
            })
        };
        let mut one = [0; 32];
        one[0] = 1;
        let mut samples = vec![[0; 32], [0xff; 32], one];
        samples.extend((0..20u8).map(|n| Digest::of(&[n]).0));
        // Ends of words that carry over, and do not.
        samples
            .extend((0..32).map(|at| std::array::from_fn(|byte| if byte < at { 0xff } else { 0 })));
        for (left, right) in samples
            .iter()
            .flat_map(|left| samples.iter().map(move |right| (*left, *right)))
        {
            let mut sum = of(left);
            sum.merge(&of(right));
            assert_eq!(sum.digest.0, bytewise(left, right));
        }
    }

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
