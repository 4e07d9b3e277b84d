//! Everything that a run varies, drawn from its seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;

use crate::mutant::Mutant;

/// The parameters of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Everything else follows from it.
    pub(crate) seed: u64,
    /// The promise that this world breaks, to test the simulator.
    pub(crate) mutant: Option<Mutant>,
    /// Simulated time between two turns of a host.
    pub(crate) tick: Duration,
    /// The least time a message takes.
    pub(crate) min_latency: Duration,
    /// The most time a message takes.
    pub(crate) max_latency: Duration,
    /// How long faults are injected.
    pub(crate) chaos: Duration,
    /// Mean time between two faults.
    pub(crate) fault_interval: Duration,
    /// Which kinds of faults.
    pub(crate) faults: Faults,
    /// The most time that a request to the object store takes when nothing is wrong.
    pub(crate) store_latency: Duration,
    /// Accounts on each member.
    pub(crate) accounts: u64,
    /// Length of the ballast in each row, in bytes.
    pub(crate) ballast: usize,
    /// Time between two transfers on a member.
    pub(crate) transfer_interval: Duration,
    /// Logical bytes of a part.
    pub(crate) part_size: u64,
    /// Logical bytes of a span.
    pub(crate) span_size: u64,
    /// Most time between two requests of an operator.
    pub(crate) operator_pause: Duration,
}

/// Kinds of faults: each is on or off for a whole run, so that the rest is also seen without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Coordinators crash and come back, losing unsynced writes. Never so many at once that there is no majority for long.
    pub(crate) coordinator_crashes: bool,
    /// Workers crash and come back.
    pub(crate) worker_crashes: bool,
    /// Members crash and come back, losing unsynced writes.
    pub(crate) member_crashes: bool,
    /// All coordinators at once lose power.
    pub(crate) blackouts: bool,
    /// Two hosts do not hear each other.
    pub(crate) partitions: bool,
    /// One host does not hear another.
    pub(crate) one_way_partitions: bool,
    /// One host hears nobody.
    pub(crate) isolations: bool,
    /// Wall clocks are wrong and jump.
    pub(crate) clock_skew: bool,
    /// The object store rejects requests.
    pub(crate) store_rejections: bool,
    /// The object store does what it was asked and loses the answer.
    pub(crate) store_lost_answers: bool,
    /// The object store is slow.
    pub(crate) store_delays: bool,
    /// What is read from the object store ends early, or breaks off.
    pub(crate) store_cut_reads: bool,
    /// Disks of coordinators and members are nearly full for a while.
    pub(crate) full_disks: bool,
}

impl Config {
    /// The parameters that belong to a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let min_latency = millis(rng, 1, 3);
        let part_size = 1 << rng.random_range(10..=13);
        Self {
            seed,
            mutant: None,
            tick: Duration::from_millis([2, 5][rng.random_range(0..2)]),
            min_latency,
            max_latency: min_latency + millis(rng, 1, 25),
            chaos: millis(rng, 15_000, 40_000),
            fault_interval: millis(rng, 300, 3_000),
            faults: Faults::draw(rng),
            store_latency: millis(rng, 0, 150),
            accounts: rng.random_range(50..=500),
            ballast: rng.random_range(0..=400),
            transfer_interval: millis(rng, 20, 400),
            part_size,
            span_size: part_size * rng.random_range(1..=6),
            operator_pause: millis(rng, 300, 3_000),
        }
    }
}

impl Faults {
    fn draw(rng: &mut StdRng) -> Self {
        let mut often = || rng.random_bool(0.6);
        Self {
            coordinator_crashes: often(),
            worker_crashes: often(),
            member_crashes: often(),
            partitions: often(),
            one_way_partitions: often(),
            isolations: often(),
            clock_skew: often(),
            store_rejections: often(),
            store_lost_answers: often(),
            store_delays: often(),
            store_cut_reads: often(),
            full_disks: often(),
            blackouts: rng.random_bool(0.3),
        }
    }

    /// Each kind with its name.
    pub(crate) fn named(self) -> [(&'static str, bool); 13] {
        [
            ("coordinator-crashes", self.coordinator_crashes),
            ("worker-crashes", self.worker_crashes),
            ("member-crashes", self.member_crashes),
            ("blackouts", self.blackouts),
            ("partitions", self.partitions),
            ("one-way-partitions", self.one_way_partitions),
            ("isolations", self.isolations),
            ("clock-skew", self.clock_skew),
            ("store-rejections", self.store_rejections),
            ("store-lost-answers", self.store_lost_answers),
            ("store-delays", self.store_delays),
            ("store-cut-reads", self.store_cut_reads),
            ("full-disks", self.full_disks),
        ]
    }
}

fn millis(rng: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self
            .faults
            .named()
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
        write!(
            f,
            "seed {}: tick {:?}, latency {:?}..{:?}, store {:?}, chaos {:?} with a fault every {:?}, {} accounts of {} bytes a member, \
             a transfer every {:?}, parts of {} bytes, spans of {} bytes, operators pause up to {:?}, faults: {}",
            self.seed,
            self.tick,
            self.min_latency,
            self.max_latency,
            self.store_latency,
            self.chaos,
            self.fault_interval,
            self.accounts,
            self.ballast,
            self.transfer_interval,
            self.part_size,
            self.span_size,
            self.operator_pause,
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(" ")
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_configuration() {
        assert_eq!(Config::from_seed(5), Config::from_seed(5));
        assert_ne!(Config::from_seed(5), Config::from_seed(6));
    }

    #[test]
    fn every_fault_is_on_in_some_run_and_off_in_another() {
        let runs: Vec<_> = (0..100)
            .map(|seed| Config::from_seed(seed).faults.named())
            .collect();
        for kind in 0..runs[0].len() {
            assert!(runs.iter().any(|run| run[kind].1), "{}", runs[0][kind].0);
            assert!(runs.iter().any(|run| !run[kind].1), "{}", runs[0][kind].0);
        }
    }
}
