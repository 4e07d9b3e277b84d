//! Everything that a run varies, drawn from its seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;

use crate::mutant::Mutant;
use crate::places::{
    COLLECTION, LOG_COLLECTION, LOG_TIMETABLE, REGIONS, SOURCE, SPARE, TIMETABLE, USER, ZONES,
    coordinator, local_store, member, teller, worker,
};
use crate::scenario::Scenario;

/// The parameters of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Everything else follows from it.
    pub(crate) seed: u64,
    /// The promise that this world breaks, to test the simulator.
    pub(crate) mutant: Option<Mutant>,
    /// The script that is played in the place of drawn faults.
    pub(crate) scenario: Option<Scenario>,
    /// How many coordinators there are: 3 or 5.
    pub(crate) coordinators: u64,
    /// How many more wait to be added: none where the members stay.
    pub(crate) spares: u64,
    /// The localities, 2 to 4.
    pub(crate) regions: Vec<&'static str>,
    /// In which of them the sources have a member, 1 to 4.
    pub(crate) members: Vec<&'static str>,
    /// Workers in each locality, 1 or 2.
    pub(crate) zones: Vec<&'static str>,
    /// How many operators work at once, 1 to 3.
    pub(crate) operators: usize,
    /// Whether there is a source whose history is a log as well.
    pub(crate) log_source: bool,
    /// Whether collections have a store of their own in each locality but the first, beside the default one.
    pub(crate) local_stores: bool,
    /// Whether somebody keeps schedules.
    pub(crate) schedules: bool,
    /// How long after the full minute the run starts: schedules are due by the minute.
    pub(crate) started: Duration,
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
    /// Whether operators, once there are jobs, do nothing but pause and resume them.
    pub(crate) pauses_only: bool,
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
    /// What a host says and hears is held back for longer than a lease, and then delivered: the zombie.
    pub(crate) pauses: bool,
    /// A locality neither hears nor is heard.
    pub(crate) region_cuts: bool,
    /// A link is slow and jitters.
    pub(crate) slow_links: bool,
    /// A link loses messages.
    pub(crate) loss: bool,
    /// Coordinators are restarted, one after the other.
    pub(crate) rolling_restarts: bool,
    /// The object store answers some requests only when everybody has given them up.
    pub(crate) store_holds: bool,
    /// The object store refuses what goes beyond so many requests a second.
    pub(crate) store_throttling: bool,
    /// A bit of what is read from the object store is flipped.
    pub(crate) store_flipped_bits: bool,
    /// Nothing happens for a while.
    pub(crate) quiet_windows: bool,
    /// Connections to servers whose history is a log are lost in the middle.
    pub(crate) source_connections: bool,
    /// Such a server loses its slots, as in a failover.
    pub(crate) lost_slots: bool,
    /// Coordinators are added, replaced and removed.
    pub(crate) membership: bool,
    /// Disks of coordinators and members take long for everything, for a while.
    pub(crate) slow_disks: bool,
    /// Columns come and go on servers whose history is a log.
    pub(crate) schema_changes: bool,
}

impl Config {
    /// The parameters that belong to a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let min_latency = millis(rng, 1, 3);
        let part_size = 1 << rng.random_range(10..=13);
        // What came later is drawn from a generator of its own, so that a seed still means what it meant.
        let mut later = StdRng::seed_from_u64(seed ^ 0x51de_7a1e);
        let later = &mut later;
        let mut latest = StdRng::seed_from_u64(seed ^ 0x0a11_ce5e);
        let latest = &mut latest;
        let regions = REGIONS[..later.random_range(2..=REGIONS.len())].to_vec();
        Self {
            seed,
            mutant: None,
            scenario: None,
            coordinators: if later.random_bool(0.25) { 5 } else { 3 },
            spares: 0,
            members: regions[..later.random_range(1..=regions.len())].to_vec(),
            regions,
            zones: ZONES[..later.random_range(1..=ZONES.len())].to_vec(),
            operators: later.random_range(1..=3),
            log_source: later.random_bool(0.6),
            local_stores: latest.random_bool(0.4),
            schedules: latest.random_bool(0.4),
            started: millis(latest, 0, 59_999),
            tick: Duration::from_millis([5, 10][rng.random_range(0..2)]),
            min_latency,
            max_latency: min_latency + millis(rng, 1, 25),
            chaos: millis(rng, 15_000, 40_000),
            fault_interval: millis(rng, 300, 3_000),
            faults: Faults::draw(rng, later),
            store_latency: millis(rng, 0, 150),
            accounts: rng.random_range(50..=500),
            ballast: rng.random_range(0..=400),
            transfer_interval: millis(rng, 20, 400),
            part_size,
            span_size: part_size * rng.random_range(1..=6),
            operator_pause: millis(rng, 300, 3_000),
            pauses_only: false,
        }
    }
}

impl Config {
    /// The hosts of a locality: workers, members, tellers.
    pub(crate) fn hosts_of(&self, region: &str) -> Vec<String> {
        let mut hosts: Vec<_> = self.zones.iter().map(|zone| worker(region, zone)).collect();
        if self.members.contains(&region) {
            hosts.extend([
                member(SOURCE, region),
                member(SPARE, region),
                teller(region),
            ]);
        }
        hosts
    }

    /// The localities that have a store of their own.
    pub(crate) fn tiers(&self) -> &[&'static str] {
        match self.local_stores {
            true => &self.regions[1..],
            false => &[],
        }
    }

    /// The stores of a collection, as a backup into it names them: the default one, and the others.
    pub(crate) fn stores_to_write(&self, collection: &str) -> (String, Vec<String>) {
        let whose = |place: &str, locality: &str| format!("{place}?HOLDFAST_LOCALITY={locality}");
        let others: Vec<String> = self
            .tiers()
            .iter()
            .map(|region| {
                whose(
                    &local_store(collection, region),
                    &format!("region%3D{region}"),
                )
            })
            .collect();
        match others.is_empty() {
            true => (collection.to_owned(), others),
            false => (whose(collection, "default"), others),
        }
    }

    /// The stores of a collection beside the default one, as what reads it names them.
    pub(crate) fn further_stores(&self, collection: &str) -> Vec<String> {
        let regions = self.tiers().iter();
        regions
            .map(|region| local_store(collection, region))
            .collect()
    }

    /// The collections of a run.
    pub(crate) fn collections(&self) -> Vec<&'static str> {
        let all = [
            (COLLECTION, true),
            (LOG_COLLECTION, self.log_source),
            (TIMETABLE, self.schedules),
            (LOG_TIMETABLE, self.schedules && self.log_source),
        ];
        let used = all.into_iter().filter(|(_, is_used)| *is_used);
        used.map(|(collection, _)| collection).collect()
    }

    /// All hosts that are not of a locality.
    pub(crate) fn hosts_but(&self, region: &str) -> Vec<String> {
        let others = self.regions.iter().filter(|other| **other != region);
        (1..=self.coordinators + self.spares)
            .map(coordinator)
            .chain(others.flat_map(|other| self.hosts_of(other)))
            .chain([USER.to_owned()])
            .collect()
    }
}

impl Faults {
    /// No faults at all.
    pub(crate) const NONE: Self = Self {
        coordinator_crashes: false,
        worker_crashes: false,
        member_crashes: false,
        blackouts: false,
        partitions: false,
        one_way_partitions: false,
        isolations: false,
        clock_skew: false,
        store_rejections: false,
        store_lost_answers: false,
        store_delays: false,
        store_cut_reads: false,
        full_disks: false,
        pauses: false,
        region_cuts: false,
        slow_links: false,
        loss: false,
        rolling_restarts: false,
        store_holds: false,
        store_throttling: false,
        store_flipped_bits: false,
        quiet_windows: false,
        source_connections: false,
        lost_slots: false,
        membership: false,
        slow_disks: false,
        schema_changes: false,
    };

    /// All of them.
    pub(crate) const ALL: Self = Self {
        coordinator_crashes: true,
        worker_crashes: true,
        member_crashes: true,
        blackouts: true,
        partitions: true,
        one_way_partitions: true,
        isolations: true,
        clock_skew: true,
        store_rejections: true,
        store_lost_answers: true,
        store_delays: true,
        store_cut_reads: true,
        full_disks: true,
        pauses: true,
        region_cuts: true,
        slow_links: true,
        loss: true,
        rolling_restarts: true,
        store_holds: true,
        store_throttling: true,
        store_flipped_bits: true,
        quiet_windows: true,
        source_connections: true,
        lost_slots: true,
        membership: true,
        slow_disks: true,
        schema_changes: true,
    };

    fn draw(rng: &mut StdRng, later: &mut StdRng) -> Self {
        let mut often = || rng.random_bool(0.6);
        let mut now_and_then = || later.random_bool(0.4);
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
            pauses: now_and_then(),
            region_cuts: now_and_then(),
            slow_links: now_and_then(),
            loss: now_and_then(),
            rolling_restarts: now_and_then(),
            store_holds: now_and_then(),
            store_throttling: now_and_then(),
            store_flipped_bits: now_and_then(),
            quiet_windows: now_and_then(),
            source_connections: now_and_then(),
            lost_slots: now_and_then(),
            membership: now_and_then(),
            slow_disks: now_and_then(),
            schema_changes: now_and_then(),
        }
    }

    /// Each kind with its name.
    pub(crate) fn named(self) -> [(&'static str, bool); 27] {
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
            ("pauses", self.pauses),
            ("region-cuts", self.region_cuts),
            ("slow-links", self.slow_links),
            ("loss", self.loss),
            ("rolling-restarts", self.rolling_restarts),
            ("store-holds", self.store_holds),
            ("store-throttling", self.store_throttling),
            ("store-flipped-bits", self.store_flipped_bits),
            ("quiet-windows", self.quiet_windows),
            ("source-connections", self.source_connections),
            ("lost-slots", self.lost_slots),
            ("membership", self.membership),
            ("slow-disks", self.slow_disks),
            ("schema-changes", self.schema_changes),
        ]
    }

    /// Whether the object store ever misbehaves.
    pub(crate) fn of_the_store(self) -> bool {
        self.store_rejections
            || self.store_lost_answers
            || self.store_delays
            || self.store_cut_reads
            || self.store_holds
            || self.store_throttling
            || self.store_flipped_bits
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
            "seed {}: {} coordinators, {} workers in {}, members in {}, {} operators, {}, {}, {}, tick {:?}, latency {:?}..{:?}, store {:?}, chaos {:?} with a fault every {:?}, {} accounts of {} bytes a member, \
             a transfer every {:?}, parts of {} bytes, spans of {} bytes, operators pause up to {:?}, faults: {}",
            self.seed,
            self.coordinators,
            self.regions.len() * self.zones.len(),
            self.regions.join(" "),
            self.members.join(" "),
            self.operators,
            match self.log_source {
                true => "two sources",
                false => "one source",
            },
            match self.local_stores {
                true => "a store in each locality",
                false => "one store",
            },
            match self.schedules {
                true => format!("schedules from {:?} after the minute", self.started),
                false => "no schedules".to_owned(),
            },
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
        )?;
        match self.scenario {
            Some(scenario) => write!(f, ", scenario {}", scenario.name()),
            None => Ok(()),
        }
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
