//! The member's hybrid logical clock.
//!
//! # Invariants
//! * Positions given out only grow, whatever the wall clock does, also across restarts: every position that was ever shown lies before a
//!   *bound* that was durable first, and a restarted clock starts at the bound.
//! * Nobody from outside can push the clock further than [`MAX_CLOCK_OFFSET`] ahead of the local wall clock.

use holdfast_types::{ErrorCode, Fault, Hlc, Millis, Timestamp};

/// How far ahead of the local wall clock a caller may push the member's clock. The model system tolerates the same offset
/// between its nodes.
pub const MAX_CLOCK_OFFSET: Millis = Millis(500);

/// How far ahead of the last position the durable bound is put. Larger means fewer writes of the bound, but also that a restarted
/// member runs ahead of its wall clock by up to this much.
const BOUND_SLACK: Millis = Millis(200);

const _: () = assert!(
    BOUND_SLACK.0 < MAX_CLOCK_OFFSET.0,
    "a restarted member must not be refused as too far ahead"
);

/// The clock's arithmetic, without a clock or a disk: the caller reads the wall clock and makes the bound durable.
#[derive(Debug, Clone)]
pub(crate) struct HybridClock {
    last: Hlc,
    bound: Timestamp,
}

impl HybridClock {
    /// The clock of a member whose durable bound is this.
    pub(crate) fn recover(bound: Timestamp) -> Self {
        Self {
            last: Hlc::at(bound),
            bound,
        }
    }

    /// The last position given out.
    pub(crate) fn last(&self) -> Hlc {
        self.last
    }

    /// The next position: after every earlier one, not before the wall clock, and not before `at_least`.
    pub(crate) fn tick(&mut self, wall: Timestamp, at_least: Hlc) -> Hlc {
        self.last = self.last.next().max(Hlc::at(wall)).max(at_least);
        self.last
    }

    /// The bound that must become durable before the last position is shown to anybody; `None` if the present one suffices.
    pub(crate) fn owed_bound(&self) -> Option<Timestamp> {
        (self.last.wall >= self.bound).then(|| self.last.wall.plus(BOUND_SLACK))
    }

    /// Notes that a bound is durable.
    pub(crate) fn bound_is_durable(&mut self, bound: Timestamp) {
        self.bound = self.bound.max(bound);
    }

    /// Refuses to move to a position that is too far ahead of the wall clock.
    pub(crate) fn check_offset(&self, wall: Timestamp, at_least: Hlc) -> Result<(), Fault> {
        if at_least <= self.last || at_least.wall <= wall.plus(MAX_CLOCK_OFFSET) {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "position {at_least} is {} ahead of the member's clock, which shows {wall}",
                at_least.wall.since(wall)
            ),
        )
        .hint(format!(
            "synchronise the clocks to within {MAX_CLOCK_OFFSET}, or choose a time that has passed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn positions_grow_whatever_the_wall_clock_does() {
        let mut clock = HybridClock::recover(wall(0));
        let mut last = Hlc::ZERO;
        for now in [1_000, 1_000, 900, 5, 2_000, 1_999, 1_000_000, 3] {
            let next = clock.tick(wall(now), Hlc::ZERO);
            assert!(next > last && next.wall >= wall(now));
            last = next;
        }
    }

    #[test]
    fn a_restarted_clock_starts_after_everything_that_was_shown() {
        let mut clock = HybridClock::recover(wall(0));
        let mut durable = wall(0);
        let mut shown = Hlc::ZERO;
        for now in (0..5_000).step_by(37) {
            shown = clock.tick(wall(now), Hlc::ZERO);
            if let Some(bound) = clock.owed_bound() {
                durable = bound;
                clock.bound_is_durable(bound);
            }
            assert!(shown.wall < durable);
        }
        let mut restarted = HybridClock::recover(durable);
        assert!(restarted.tick(wall(0), Hlc::ZERO) > shown);
    }

    #[test]
    fn a_jump_beyond_the_offset_is_refused_unless_the_clock_is_there_already() {
        let mut clock = HybridClock::recover(wall(0));
        let far = Hlc::at(wall(10_501));
        let error = clock
            .check_offset(wall(10_000), far)
            .expect_err("501 ms ahead");
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(clock.check_offset(wall(10_001), far).is_ok());
        clock.tick(wall(20_000), Hlc::ZERO);
        assert!(clock.check_offset(wall(1), far).is_ok(), "already past it");
    }
}
