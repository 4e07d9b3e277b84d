//! How good a worker is for a task.

use holdfast_types::{Locality, WorkerId};
use std::cmp::Reverse;

/// The merit of a worker for a task: the smallest is the best. The order of the fields is the order of what matters, and the
/// id is last, so that equal workers are told apart in the same way every time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score<'a> {
    /// Leading locality tiers shared with the member: the nearest first.
    nearness: Reverse<usize>,
    /// Leases held, in thousandths of the worker's slots: the idlest first.
    busy_permille: u32,
    /// Tie-break.
    worker: &'a WorkerId,
}

impl<'a> Score<'a> {
    /// Scores a worker at `locality` that has `busy` of `slots` in use, for a member at `place`.
    #[must_use]
    pub fn new(
        worker: &'a WorkerId,
        locality: &Locality,
        busy: u32,
        slots: u32,
        place: &Locality,
    ) -> Self {
        let permille = u64::from(busy) * 1000 / u64::from(slots.max(1));
        Self {
            nearness: Reverse(locality.shared_prefix(place)),
            busy_permille: u32::try_from(permille).unwrap_or(u32::MAX),
            worker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        text.parse().expect("a legal locality")
    }

    fn id(text: &str) -> WorkerId {
        WorkerId::new(text).expect("a legal id")
    }

    #[test]
    fn nearness_beats_idleness_beats_name() {
        let (a, b, c) = (id("a"), id("b"), id("c"));
        let place = at("region=eu,zone=b");
        let near_busy = Score::new(&c, &at("region=eu,zone=b"), 3, 4, &place);
        let near_idle = Score::new(&b, &at("region=eu,zone=b"), 0, 4, &place);
        let far_idle = Score::new(&a, &at("region=eu,zone=a"), 0, 4, &place);
        let mut scores = [&far_idle, &near_busy, &near_idle];
        scores.sort();
        assert_eq!(scores, [&near_idle, &near_busy, &far_idle]);
        assert!(
            Score::new(&a, &at("region=eu"), 1, 4, &place)
                < Score::new(&b, &at("region=eu"), 1, 4, &place)
        );
    }

    #[test]
    fn a_larger_worker_with_the_same_share_is_equally_busy() {
        let (a, b) = (id("a"), id("b"));
        let place = Locality::default();
        assert!(Score::new(&a, &place, 2, 4, &place) < Score::new(&b, &place, 8, 16, &place));
        assert!(Score::new(&b, &place, 7, 16, &place) < Score::new(&a, &place, 2, 4, &place));
    }
}
