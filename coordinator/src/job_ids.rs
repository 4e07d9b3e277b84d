//! New ids for jobs and holds: they grow with time and never repeat.

use holdfast_types::{JobId, NodeId, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};

/// Low bits that count within one millisecond of one node.
const COUNTER_BITS: u32 = 12;
/// Bits of the node's id.
const NODE_BITS: u32 = 8;
/// All bits below the time.
const LOW_BITS: u32 = COUNTER_BITS + NODE_BITS;

/// Makes ids of one node: milliseconds, then the node, then a counter.
///
/// They stay unique if the clock stands still or goes back, because the next id is always above the last one in time or counter. Over a restart
/// they rely on the clock; the ledger refuses an id that it has seen, and the caller draws another.
#[derive(Debug)]
pub(crate) struct JobIds {
    node: u64,
    /// Milliseconds and counter of the last id, as `millis << COUNTER_BITS | counter`.
    last: AtomicU64,
}

impl JobIds {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node: node.0 & ((1 << NODE_BITS) - 1),
            last: AtomicU64::new(0),
        }
    }

    /// The next id.
    pub(crate) fn next(&self, now: Timestamp) -> JobId {
        let floor = now.as_millis() << COUNTER_BITS;
        let step = |last: u64| floor.max(last + 1);
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(step(last))
            });
        let own = step(last.unwrap_or_else(|last| last));
        let (millis, counter) = (own >> COUNTER_BITS, own & ((1 << COUNTER_BITS) - 1));
        JobId(millis << LOW_BITS | self.node << COUNTER_BITS | counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let ids = JobIds::new(NodeId(3));
        let mut last = JobId(0);
        for millis in [1000, 1000, 999, 5, 2000, 1, 1] {
            let next = ids.next(Timestamp::from_millis(millis));
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn two_nodes_never_meet_even_beyond_a_millisecond_s_worth_of_ids() {
        let nodes = [JobIds::new(NodeId(1)), JobIds::new(NodeId(2))];
        let now = Timestamp::from_millis(1_763_924_880_500);
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            for node in &nodes {
                assert!(seen.insert(node.next(now)));
            }
        }
        let last = *seen.last().expect("ids");
        assert!(last.0 < i64::MAX as u64, "fits a signed column");
    }
}
