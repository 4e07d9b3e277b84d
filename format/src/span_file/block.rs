//! The inside of a block: entries with prefix-compressed keys and delta-coded positions.

use bytes::Bytes;
use holdfast_types::{Fault, Position, PositionKind};
use std::ops::Range;

use super::WHAT;
use crate::entry::{Change, Entry};
use crate::wire::{Decoder, Encoder, corrupted};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// Entries of one block, being written.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    encoder: Encoder,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Wall time or log sequence number of the entry before.
    last_major: u64,
    entries: u32,
}

impl BlockBuilder {
    /// Adds an entry; its position comes taken apart ([`crate::wire::split_position`]).
    pub(super) fn push(&mut self, key: &[u8], (major, minor): (u64, u32), value: Option<&[u8]>) {
        let shared = if self.entries == 0 {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
            0
        } else {
            let pairs = self.last_key.iter().zip(key);
            pairs.take_while(|(left, right)| left == right).count()
        };
        let (_, suffix) = key.split_at_checked(shared).unwrap_or((&[], key));
        self.encoder
            .varint(shared as u64)
            .bytes(suffix)
            .varint(zigzag(major.wrapping_sub(self.last_major)))
            .varint(u64::from(minor));
        match value {
            None => self.encoder.varint(0),
            Some(value) => self
                .encoder
                .varint((value.len() as u64).saturating_add(1))
                .raw(value),
        };
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
        self.last_major = major;
        self.entries = self.entries.saturating_add(1);
    }

    pub(super) fn len(&self) -> usize {
        self.encoder.0.len()
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.encoder.0
    }

    pub(super) fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// Makes the builder ready for the next block, keeping its buffers.
    pub(super) fn clear(&mut self) {
        self.encoder.0.clear();
        self.last_major = 0;
        self.entries = 0;
    }
}

/// Maps a difference to an unsigned number that is small when the difference is, of either sign.
fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

fn unzigzag(coded: u64) -> u64 {
    (coded >> 1) ^ (coded & 1).wrapping_neg()
}

/// Reads the entries of a decompressed block, and checks that they are in order and as many as the index says. Values are
/// slices of the block, not copies.
pub(super) fn decode(
    block: &Bytes,
    expected: u32,
    positions: PositionKind,
) -> Result<Vec<Entry>, Fault> {
    let total = block.len();
    let mut decoder = Decoder::new(block, WHAT);
    let mut keys = KeyBuffer::default();
    let mut versions: Vec<(Range<usize>, Position, Option<Range<usize>>)> = Vec::new();
    let mut major = 0u64;
    while decoder.remaining() > 0 {
        let shared = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
        let suffix = decoder.bytes(MAX_KEY_LENGTH)?;
        let key = keys.append(shared, suffix)?;
        major = major.wrapping_add(unzigzag(decoder.varint()?));
        let minor = u32::try_from(decoder.varint()?)
            .map_err(|_| decoder.damaged("a position's counter is too large"))?;
        let position = decoder.position_from(positions, major, minor)?;
        let value = match decoder.varint()?.checked_sub(1) {
            None => None,
            Some(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > MAX_VALUE_LENGTH {
                    return Err(decoder.damaged("a value is too long"));
                }
                let start = total.saturating_sub(decoder.remaining());
                decoder.raw(length)?;
                Some(start..start.saturating_add(length))
            }
        };
        versions.push((key, position, value));
    }
    if versions.len() as u64 != u64::from(expected) {
        return Err(decoder.damaged("a block does not hold as many rows as the index says"));
    }
    let keys = Bytes::from(keys.buffer);
    let entries: Vec<Entry> = versions
        .into_iter()
        .map(|(key, position, value)| Entry {
            key: keys.slice(key),
            position,
            change: value.map_or(Change::Delete, |range| Change::Put(block.slice(range))),
        })
        .collect();
    if entries.is_sorted_by(|left, right| left.file_order(right).is_lt()) {
        Ok(entries)
    } else {
        Err(corrupted(WHAT, "rows of a block are out of order"))
    }
}

/// All keys of a block in one allocation.
#[derive(Default)]
struct KeyBuffer {
    buffer: Vec<u8>,
    last: Range<usize>,
}

impl KeyBuffer {
    /// Adds the key that shares its first bytes with the one before; a key that repeats the one before costs nothing.
    fn append(&mut self, shared: usize, suffix: &[u8]) -> Result<Range<usize>, Fault> {
        if shared > self.last.len() || shared.saturating_add(suffix.len()) > MAX_KEY_LENGTH {
            return Err(corrupted(
                WHAT,
                "a key's prefix is longer than the key before",
            ));
        }
        if suffix.is_empty() && shared == self.last.len() && !self.buffer.is_empty() {
            return Ok(self.last.clone());
        }
        let start = self.buffer.len();
        let prefix = self.last.start..self.last.start.saturating_add(shared);
        self.buffer.extend_from_within(prefix);
        self.buffer.extend_from_slice(suffix);
        self.last = start..self.buffer.len();
        Ok(self.last.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_is_its_own_inverse() {
        for value in [0u64, 1, 2, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
