//! Self-fencing: a worker that cannot know that its leases are alive stops by itself.
//!
//! The leader ends a worker's leases when it has not heard from it for `lease_ttl`. A heartbeat that was acknowledged reached the leader no earlier
//! than it was sent, so the leader's patience lasts at least until (its sending + `lease_ttl`): up to then the worker works, from then on it
//! does not. Only this process's monotonic clock is read, so clocks need not agree, only run at nearly one speed.

use holdfast_env::Clock;
use holdfast_types::{ErrorCode, Fault};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bounds::HEARTBEATS_IN_FLIGHT;

/// Whether this worker may act, asked before every read of a source and every write. Core by all tasks.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    /// Microseconds on the monotonic clock until which the gate is open; 0: closed.
    until: Arc<AtomicU64>,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            until: Arc::default(),
        }
    }

    /// Opens the gate until an instant, or closes it.
    pub(crate) fn set(&self, until: Option<Duration>) {
        let micros = until.map_or(0, |until| {
            u64::try_from(until.as_micros()).unwrap_or(u64::MAX)
        });
        self.until.store(micros, Ordering::SeqCst);
    }

    /// Whether the gate is open.
    pub(crate) fn is_open(&self) -> bool {
        self.clock.monotonic().as_micros() < u128::from(self.until.load(Ordering::SeqCst))
    }

    /// Refuses when the gate is closed. Looking at the clock, and not only at what the agent last decided, also stops a process
    /// that was suspended and wakes up long after its leases ended.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.is_open() {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::StaleEpoch,
            "this worker has not heard from the leader for as long as a lease lasts, and has stopped",
        ))
    }
}

/// Until when the leases are surely alive.
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    lease_ttl: Duration,
    /// When the last message that the leader acknowledged was sent.
    confirmed: Option<Duration>,
    /// Heartbeats that were sent over the present stream and are not acknowledged.
    in_flight: VecDeque<(u64, Duration)>,
    last_sequence: u64,
}

impl LeaseClock {
    /// The leader has welcomed the Hello that was sent at `sent`.
    pub(crate) fn welcomed(&mut self, sent: Duration, lease_ttl: Duration) {
        self.in_flight.clear();
        self.lease_ttl = lease_ttl;
        self.confirmed = Some(self.confirmed.map_or(sent, |before| before.max(sent)));
    }

    /// A heartbeat is about to be sent; gives its sequence number.
    pub(crate) fn sending(&mut self, now: Duration) -> u64 {
        self.last_sequence += 1;
        if self.in_flight.len() == HEARTBEATS_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back((self.last_sequence, now));
        self.last_sequence
    }

    /// The leader has acknowledged a heartbeat. Whether it was one that this worker waits for.
    pub(crate) fn acknowledged(&mut self, sequence: u64) -> bool {
        let Some(&(_, sent)) = self.in_flight.iter().find(|(sent, _)| *sent == sequence) else {
            return false;
        };
        self.in_flight.retain(|(other, _)| *other > sequence);
        self.confirmed = self.confirmed.map(|before| before.max(sent));
        true
    }

    /// The instant at which all work must have stopped; `None` if no leader has taken this worker on.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.confirmed
            .map(|confirmed| confirmed.saturating_add(self.lease_ttl))
    }

    /// Whether that instant has come.
    pub(crate) fn is_past(&self, now: Duration) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Everything was stopped: nothing is known to be alive until the next Welcome.
    pub(crate) fn fenced(&mut self) {
        self.confirmed = None;
        self.in_flight.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::Timestamp;
    use std::sync::atomic::AtomicU64;

    const TTL: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_fence_counts_from_the_sending_and_not_from_the_acknowledgement() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.deadline(), None);
        clock.welcomed(at(100), TTL);
        assert_eq!(clock.deadline(), Some(at(5100)));
        let sequence = clock.sending(at(1000));
        assert!(!clock.is_past(at(5099)));
        assert!(clock.is_past(at(5100)));
        // The acknowledgement comes at 5050, but the leader may have heard the heartbeat at 1000 already.
        assert!(clock.acknowledged(sequence));
        assert_eq!(clock.deadline(), Some(at(6000)));
    }

    #[test]
    fn unknown_and_late_acknowledgements_count_for_nothing() {
        let mut clock = LeaseClock::default();
        clock.welcomed(at(0), TTL);
        let first = clock.sending(at(1000));
        let second = clock.sending(at(2000));
        assert!(!clock.acknowledged(second + 1));
        assert!(clock.acknowledged(second));
        assert!(!clock.acknowledged(first), "overtaken");
        assert_eq!(clock.deadline(), Some(at(7000)));
        let third = clock.sending(at(3000));
        clock.welcomed(at(2500), TTL);
        assert!(!clock.acknowledged(third), "it went over another stream");
        assert_eq!(clock.deadline(), Some(at(7500)));
    }

    #[test]
    fn after_the_fence_only_a_welcome_opens_again() {
        let mut clock = LeaseClock::default();
        clock.welcomed(at(0), TTL);
        let sequence = clock.sending(at(4000));
        assert!(clock.is_past(at(5000)));
        clock.fenced();
        clock.acknowledged(sequence);
        assert_eq!(clock.deadline(), None);
        clock.welcomed(at(6000), TTL);
        assert_eq!(clock.deadline(), Some(at(11_000)));
    }

    #[test]
    fn heartbeats_in_flight_are_bounded() {
        let mut clock = LeaseClock::default();
        clock.welcomed(at(0), TTL);
        for second in 0..1000 {
            clock.sending(at(second));
        }
        assert_eq!(clock.in_flight.len(), HEARTBEATS_IN_FLIGHT);
    }

    #[derive(Debug, Default)]
    struct Hands(AtomicU64);
    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }
        fn monotonic(&self) -> Duration {
            at(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_gate_closes_by_time_alone() {
        let hands = Arc::new(Hands::default());
        let clock: Arc<dyn Clock> = Arc::<Hands>::clone(&hands);
        let gate = Gate::new(clock);
        assert!(gate.check().is_err());
        gate.set(Some(at(5000)));
        assert!(gate.check().is_ok());
        hands.0.store(5000, Ordering::SeqCst);
        assert_eq!(
            gate.check().expect_err("closed").code,
            ErrorCode::StaleEpoch
        );
        gate.set(Some(at(6000)));
        assert!(gate.is_open());
        gate.set(None);
        assert!(!gate.is_open());
    }
}
