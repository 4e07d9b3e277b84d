//! Merging the layers of a chain into final rows, newest first, in bounded memory.

use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault, Position, PositionKind};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;

use crate::entry::{Change, Entry, order};

/// What a [`Merger`] has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeStep {
    /// The next row, as of the position: a `Put`.
    Row(Entry),
    /// Nothing can be said before this layer's next entries are fed, or its end.
    Need(usize),
    /// All layers have ended.
    Done,
}

/// One layer's entries that were fed and not used.
#[derive(Default)]
struct Cursor {
    fed: VecDeque<Entry>,
    ended: bool,
    /// The last entry that was taken, to see that the layer is in order.
    last: Option<(Bytes, Position)>,
}

/// The first unused entry of a layer.
struct Head {
    entry: Entry,
    layer: usize,
}

impl Ord for Head {
    /// The heap's greatest comes first: smallest key, then newest position, then newest layer.
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.entry.file_order(&other.entry);
        order.then(self.layer.cmp(&other.layer)).reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Merges sorted layers: for every key the newest version not after a position, unless that is a deletion.
///
/// Layers are numbered from the newest, 0. The caller asks for steps, and feeds a layer when it is asked to; memory is what it feeds.
/// Of two versions with one key and position, that of the newer layer wins.
pub struct Merger {
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Head>,
    /// Layers that have no entry in the heap and may still get one.
    headless: Vec<usize>,
    as_of: Option<Position>,
    /// What positions there are: those of another kind cannot be compared with them.
    kind: Option<PositionKind>,
    /// The key that was last decided; its older versions are passed over.
    decided: Option<Bytes>,
}

impl fmt::Debug for Merger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merger")
            .field("layers", &self.cursors.len())
            .field("as_of", &self.as_of)
            .finish_non_exhaustive()
    }
}

impl Merger {
    /// A merge of so many layers, as of a position (`None`: of everything).
    #[must_use]
    pub fn new(layers: usize, as_of: Option<Position>) -> Self {
        Self {
            cursors: (0..layers).map(|_| Cursor::default()).collect(),
            heads: BinaryHeap::with_capacity(layers),
            headless: (0..layers).rev().collect(),
            as_of,
            kind: as_of.map(Position::kind),
            decided: None,
        }
    }

    /// Gives a layer its next entries, in file order. Batches may be of any size, also empty.
    pub fn feed(&mut self, layer: usize, entries: Vec<Entry>) {
        if let Some(cursor) = self.cursors.get_mut(layer) {
            cursor.fed.extend(entries);
        }
    }

    /// Says that a layer has no more entries than were fed.
    pub fn end(&mut self, layer: usize) {
        if let Some(cursor) = self.cursors.get_mut(layer) {
            cursor.ended = true;
        }
    }

    /// The next row, or what is needed to find it.
    ///
    /// # Errors
    /// `Corrupted` if a layer is out of order, or has positions of another kind than the rest.
    pub fn step(&mut self) -> Result<MergeStep, Fault> {
        loop {
            // Only layers whose head was used have to be looked at: a row costs the logarithm of the number of layers.
            while let Some(layer) = self.headless.last().copied() {
                if !self.advance(layer)? {
                    return Ok(MergeStep::Need(layer));
                }
                self.headless.pop();
            }
            let Some(Head { entry, layer }) = self.heads.pop() else {
                return Ok(MergeStep::Done);
            };
            self.headless.push(layer);
            if self.decided.as_ref() != Some(&entry.key) {
                self.decided = Some(entry.key.clone());
                if matches!(entry.change, Change::Put(_)) {
                    return Ok(MergeStep::Row(entry));
                }
            }
        }
    }

    /// Puts a layer's first usable entry into the heap. `false` if the layer has to be fed for that.
    fn advance(&mut self, layer: usize) -> Result<bool, Fault> {
        let Some(cursor) = self.cursors.get_mut(layer) else {
            return Ok(true);
        };
        while let Some(entry) = cursor.fed.pop_front() {
            let in_order = cursor.last.as_ref().is_none_or(|(key, position)| {
                order(key, *position, &entry.key, entry.position).is_lt()
            });
            if !in_order {
                return Err(Fault::new(
                    ErrorCode::Corrupted,
                    "the rows of a layer are out of order",
                ));
            }
            if *self.kind.get_or_insert(entry.position.kind()) != entry.position.kind() {
                return Err(Fault::new(
                    ErrorCode::Corrupted,
                    "the layers have positions of different kinds",
                ));
            }
            cursor.last = Some((entry.key.clone(), entry.position));
            let is_visible = self.as_of.is_none_or(|as_of| entry.position <= as_of);
            if is_visible && self.decided.as_ref() != Some(&entry.key) {
                self.heads.push(Head { entry, layer });
                return Ok(true);
            }
        }
        Ok(cursor.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Hlc, Timestamp};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(time: u64) -> Position {
        Hlc::at(Timestamp::from_micros(time)).into()
    }

    fn merge(layers: &[Vec<Entry>], as_of: Option<Position>, batch: usize) -> Vec<Entry> {
        let mut merger = Merger::new(layers.len(), as_of);
        let mut chunks: Vec<_> = layers.iter().map(|layer| layer.chunks(batch)).collect();
        let mut rows = Vec::new();
        loop {
            match merger.step().expect("in order") {
                MergeStep::Row(row) => rows.push(row),
                MergeStep::Need(layer) => match chunks[layer].next() {
                    Some(chunk) => merger.feed(layer, chunk.to_vec()),
                    None => merger.end(layer),
                },
                MergeStep::Done => return rows,
            }
        }
    }

    /// All versions of a history, cut into layers: newest layer first.
    fn layers(
        history: &BTreeMap<(u8, u64), Option<u8>>,
        bounds: &[u64],
        keep_all: bool,
    ) -> Vec<Vec<Entry>> {
        let mut cuts = bounds.to_vec();
        cuts.sort_unstable();
        cuts.push(u64::MAX);
        let mut start = 0;
        let mut found = Vec::new();
        for end in cuts {
            let mut layer: Vec<Entry> = history
                .iter()
                .filter(|((_, time), _)| (start..end).contains(time))
                .map(|((key, time), value)| Entry {
                    key: vec![*key].into(),
                    position: at(*time),
                    change: value.map_or(Change::Delete, |v| Change::Put(vec![v].into())),
                })
                .collect();
            layer.sort_by(Entry::file_order);
            if !keep_all {
                layer.dedup_by(|later, first| later.key == first.key);
            }
            found.insert(0, layer);
            start = end;
        }
        found
    }

    fn model(history: &BTreeMap<(u8, u64), Option<u8>>, as_of: u64) -> BTreeMap<u8, u8> {
        let mut rows = BTreeMap::new();
        let mut versions: Vec<_> = history.iter().collect();
        versions.sort_by_key(|((_, time), _)| *time);
        for ((key, time), value) in versions {
            if *time <= as_of {
                match value {
                    Some(value) => rows.insert(*key, *value),
                    None => rows.remove(key),
                };
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn a_merge_equals_the_history(
            history in prop::collection::btree_map((0..20u8, 1..50u64), any::<Option<u8>>(), 0..120),
            bounds in prop::collection::vec(1..50u64, 0..5),
            as_of in 0..55u64,
            keep_all in any::<bool>(),
            batch in 1..9usize,
        ) {
            // Without history only the end is restorable.
            let as_of = if keep_all { as_of } else { 60 };
            let layers = layers(&history, &bounds, keep_all);
            let rows = merge(&layers, Some(at(as_of)), batch);
            prop_assert!(rows.is_sorted_by(|a, b| a.key < b.key));
            let found: BTreeMap<u8, u8> = rows
                .iter()
                .filter_map(|row| Some((row.key[0], row.change.value()?[0])))
                .collect();
            prop_assert_eq!(found.len(), rows.len());
            prop_assert_eq!(found, model(&history, as_of));
        }
    }

    #[test]
    fn a_layer_out_of_order_is_an_error_and_not_a_wrong_row() {
        let entry = |key: u8| Entry {
            key: vec![key].into(),
            position: at(1),
            change: Change::Delete,
        };
        let mut merger = Merger::new(1, None);
        merger.feed(0, vec![entry(2), entry(1)]);
        merger.end(0);
        assert!(merger.step().is_err());
    }

    #[test]
    fn the_newer_layer_wins_a_tie() {
        let entry = |value: u8| Entry {
            key: vec![1].into(),
            position: at(5),
            change: Change::Put(vec![value].into()),
        };
        assert_eq!(
            merge(&[vec![entry(1)], vec![entry(2)]], None, 1),
            [entry(1)]
        );
    }

    #[test]
    fn positions_of_different_kinds_are_never_compared() {
        let entry = |position: Position| Entry {
            key: Bytes::from_static(b"k"),
            position,
            change: Change::Delete,
        };
        let log = Position::from(holdfast_types::Lsn::at(5));
        let cases = [
            (None, vec![entry(at(5)), entry(log)]),
            (Some(log), vec![entry(at(5))]),
            (Some(at(5)), vec![entry(log)]),
        ];
        for (as_of, entries) in cases {
            let mut merger = Merger::new(entries.len(), as_of);
            for (layer, entry) in entries.into_iter().enumerate() {
                merger.feed(layer, vec![entry]);
                merger.end(layer);
            }
            assert_eq!(merger.step().expect_err("mixed").code, ErrorCode::Corrupted);
        }
    }
}
