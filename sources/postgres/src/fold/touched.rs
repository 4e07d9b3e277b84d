//! Whether a key was touched, in bounded memory.

use holdfast_types::Fault;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::record::Op;
use super::run::{Run, RunReader};
use crate::key::Key;
use crate::layout::Oid;

/// Bytes of keys that the index over a fold's file holds; with more, it becomes coarser.
pub const TOUCHED_INDEX_MEMORY: usize = 8 << 20;

/// The most bytes of the filter that answers most questions without the file: ten bits a key, for 13 million keys.
pub const TOUCHED_FILTER_MEMORY: u64 = 16 << 20;

/// Bytes of the file between two index entries, at least.
const STRIDE: u64 = 64 << 10;

/// Blocks whose keys are kept.
const CACHED_BLOCKS: usize = 16;

/// Bits of the filter for each key.
const BITS_PER_KEY: u64 = 10;

/// Places of the filter that each key marks.
const PROBES: u64 = 6;

/// Answers whether a key was touched: a filter in memory, and behind it the fold's file, with an index.
#[derive(Debug)]
pub struct Touched {
    run: Arc<Run>,
    truncated: BTreeSet<Oid>,
    filter: Vec<u64>,
    /// The first key of each block and where it begins.
    index: Vec<(Oid, Key, u64)>,
    /// Blocks by their number in the index, with their keys, least recently read first.
    cache: VecDeque<(usize, Vec<(Oid, Key)>)>,
}

impl Touched {
    pub(super) fn build(run: Arc<Run>, truncated: BTreeSet<Oid>) -> Result<Self, Fault> {
        let words = (run.entries() * BITS_PER_KEY / 64 + 1).min(TOUCHED_FILTER_MEMORY / 8);
        let mut touched = Self {
            truncated,
            filter: vec![0; usize::try_from(words).unwrap_or(usize::MAX)],
            index: Vec::new(),
            cache: VecDeque::new(),
            run: Arc::clone(&run),
        };
        let mut reader = RunReader::new(run, 0);
        let (mut stride, mut next_block, mut index_bytes) = (STRIDE, 0, 0);
        loop {
            let offset = reader.position();
            let Some(entry) = reader.next()? else {
                return Ok(touched);
            };
            let (relation, key) = (entry.version.relation, entry.version.key);
            for place in touched.places(relation, &key) {
                if let Some(word) = touched.filter.get_mut(place.0) {
                    *word |= place.1;
                }
            }
            if offset >= next_block {
                index_bytes += key.bytes().len() + size_of::<(Oid, Key, u64)>();
                touched.index.push((relation, key, offset));
                if index_bytes > TOUCHED_INDEX_MEMORY {
                    index_bytes = touched.thin_out();
                    stride *= 2;
                }
                next_block = offset + stride;
            }
        }
    }

    /// Whether a row of an older layer is no longer valid: its key was touched, or its relation truncated. Blocking.
    ///
    /// # Errors
    /// A failing disk.
    pub fn contains(&mut self, relation: Oid, key: &Key) -> Result<bool, Fault> {
        if self.truncated.contains(&relation) {
            return Ok(true);
        }
        let Some(block) = self.block_of(relation, key) else {
            return Ok(false);
        };
        let wanted = (relation, key);
        let find = |keys: &[(Oid, Key)]| {
            keys.binary_search_by(|(relation, key)| (*relation, key).cmp(&wanted))
                .is_ok()
        };
        if let Some((_, keys)) = self.cache.iter().find(|(number, _)| *number == block) {
            return Ok(find(keys));
        }
        let keys = self.read_block(block)?;
        let is_in = find(&keys);
        if self.cache.len() >= CACHED_BLOCKS {
            self.cache.pop_front();
        }
        self.cache.push_back((block, keys));
        Ok(is_in)
    }

    /// What became of the row with a key; `None` if the key was not touched. Blocking.
    ///
    /// # Errors
    /// A failing disk.
    pub fn find(&self, relation: Oid, key: &Key) -> Result<Option<Op>, Fault> {
        let Some(block) = self.block_of(relation, key) else {
            return Ok(None);
        };
        let (mut reader, end) = self.block(block);
        while reader.position() < end {
            let Some(entry) = reader.next()? else {
                break;
            };
            if entry.version.relation == relation && entry.version.key == *key {
                return Ok(Some(entry.op));
            }
        }
        Ok(None)
    }

    /// The block in which a key is, if it is anywhere.
    fn block_of(&self, relation: Oid, key: &Key) -> Option<usize> {
        let is_marked =
            |(place, bit): (usize, u64)| self.filter.get(place).is_some_and(|word| word & bit != 0);
        if !self.places(relation, key).into_iter().all(is_marked) {
            return None;
        }
        let wanted = (relation, key);
        let after = self
            .index
            .partition_point(|(relation, key, _)| (*relation, key) <= wanted);
        after.checked_sub(1)
    }

    /// A reader at the start of a block, and where the block ends.
    fn block(&self, block: usize) -> (RunReader, u64) {
        let start = self.index.get(block).map_or(0, |(.., offset)| *offset);
        let end = self
            .index
            .get(block + 1)
            .map_or(self.run.length(), |(.., offset)| *offset);
        (RunReader::new(Arc::clone(&self.run), start), end)
    }

    fn read_block(&self, block: usize) -> Result<Vec<(Oid, Key)>, Fault> {
        let (mut reader, end) = self.block(block);
        let mut keys = Vec::new();
        while reader.position() < end {
            let Some(entry) = reader.next()? else {
                break;
            };
            keys.push((entry.version.relation, entry.version.key));
        }
        Ok(keys)
    }

    /// Drops every second block's entry; gives the bytes that the rest takes.
    fn thin_out(&mut self) -> usize {
        let mut is_kept = false;
        self.index.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
        let entry = size_of::<(Oid, Key, u64)>();
        self.index
            .iter()
            .map(|(_, key, _)| key.bytes().len() + entry)
            .sum()
    }

    /// The words and bits of the filter that belong to a key.
    fn places(&self, relation: Oid, key: &Key) -> Vec<(usize, u64)> {
        let mut hasher = DefaultHasher::new();
        (relation, key).hash(&mut hasher);
        let hash = hasher.finish();
        let step = hash.rotate_left(32) | 1;
        let bits = self.filter.len() as u64 * 64;
        (0..PROBES)
            .map(|probe| hash.wrapping_add(step.wrapping_mul(probe)) % bits)
            .map(|bit| {
                (
                    usize::try_from(bit / 64).unwrap_or_default(),
                    1 << (bit % 64),
                )
            })
            .collect()
    }
}
