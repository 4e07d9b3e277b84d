//! Cutting what layers hold of a relation into spans of a restore.

use bytes::Bytes;
use holdfast_types::{ByteCount, KeyRange};

use crate::bounds::BOUND_LENGTH;

/// Pieces that a span consists of, about. More make spans more even and take more memory.
const GRAIN: u64 = 16;

/// Where something starts, and how much there is from there on.
#[derive(Debug)]
struct Piece {
    start: Bytes,
    weight: u64,
}

/// Gathers where the objects of all layers start, and cuts the key space there. Small neighbours of one layer count as one, so that memory goes
/// with the number of spans and not with that of objects.
#[derive(Debug)]
pub(crate) struct Cutter {
    span_size: u64,
    pieces: Vec<Piece>,
    /// Whether the last piece may still grow.
    growing: bool,
}

impl Cutter {
    /// For spans of about so many bytes.
    pub(crate) fn new(span_size: ByteCount) -> Self {
        Self {
            span_size: span_size.0.max(1),
            pieces: Vec::new(),
            growing: false,
        }
    }

    /// Adds an object of the present layer; they come in order.
    pub(crate) fn add(&mut self, start: &Bytes, weight: ByteCount) {
        if let Some(last) = self.pieces.last_mut()
            && self.growing
            && last.weight < self.span_size / GRAIN
        {
            last.weight = last.weight.saturating_add(weight.0);
            return;
        }
        self.growing = true;
        self.pieces.push(Piece {
            start: start.clone(),
            weight: weight.0,
        });
    }

    /// The present layer has no more objects.
    pub(crate) fn end_layer(&mut self) {
        self.growing = false;
    }

    /// Spans from the open start to the open end, without gap or overlap, each with its bytes. None if nothing was added.
    pub(crate) fn cut(mut self) -> Vec<(KeyRange, ByteCount)> {
        self.pieces
            .sort_by(|left, right| left.start.cmp(&right.start));
        let mut spans: Vec<(KeyRange, ByteCount)> = Vec::new();
        for piece in self.pieces {
            match spans.last_mut() {
                Some((range, weight)) => {
                    let cuttable = weight.0 >= self.span_size
                        && piece.start > range.start
                        && piece.start.len() <= BOUND_LENGTH;
                    if !cuttable {
                        weight.0 = weight.0.saturating_add(piece.weight);
                        continue;
                    }
                    range.end = piece.start.clone();
                    let range = KeyRange {
                        start: piece.start,
                        end: Bytes::new(),
                    };
                    spans.push((range, ByteCount(piece.weight)));
                }
                None => spans.push((KeyRange::all(), ByteCount(piece.weight))),
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_tile_the_key_space_and_keep_all_weight(
            layers in proptest::collection::vec(
                proptest::collection::btree_map(any::<u16>(), 0u64..500, 0..80),
                0..5,
            ),
            span_size in 1u64..3000,
        ) {
            let mut cutter = Cutter::new(ByteCount(span_size));
            for layer in &layers {
                for (start, weight) in layer {
                    cutter.add(&start.to_be_bytes().to_vec().into(), ByteCount(*weight));
                }
                cutter.end_layer();
            }
            let spans = cutter.cut();
            let total: u64 = layers.iter().flat_map(|layer| layer.values()).sum();
            prop_assert_eq!(spans.iter().map(|(_, weight)| weight.0).sum::<u64>(), total);
            if layers.iter().all(|layer| layer.is_empty()) {
                prop_assert!(spans.is_empty());
            } else {
                prop_assert!(spans.first().expect("a span").0.start.is_empty());
                prop_assert!(spans.last().expect("a span").0.end.is_empty());
            }
            for pair in spans.windows(2) {
                prop_assert_eq!(&pair[0].0.end, &pair[1].0.start);
                prop_assert!(pair[0].0.start < pair[0].0.end);
                prop_assert!(pair[0].1.0 >= span_size, "no span but the last is small");
                prop_assert!(pair[0].1.0 < span_size + 500 + span_size / GRAIN + 500);
            }
        }
    }

    #[test]
    fn memory_goes_with_spans_and_not_with_objects() {
        let mut cutter = Cutter::new(ByteCount(1 << 20));
        for object in 0u32..1_000_000 {
            cutter.add(&object.to_be_bytes().to_vec().into(), ByteCount(100));
        }
        assert!(cutter.pieces.len() < 2000, "{} pieces", cutter.pieces.len());
        let spans = cutter.cut();
        assert!((80..=100).contains(&spans.len()), "{} spans", spans.len());
    }

    #[test]
    fn a_key_that_is_too_long_for_a_bound_is_no_bound() {
        let mut cutter = Cutter::new(ByteCount(10));
        for key in [vec![1], vec![2; BOUND_LENGTH + 1], vec![3]] {
            cutter.add(&key.into(), ByteCount(100));
            cutter.end_layer();
        }
        let spans = cutter.cut();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[1].0.start.as_ref(), [3]);
    }
}
