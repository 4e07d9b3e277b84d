//! What goes wrong, and when. Faults stay within what the design must survive, and all of them end when the chaos ends.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::store::StoreFaults;

/// Something for the driver to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// Kill a host; its disk loses what was not synced.
    Crash(String),
    /// Start it again.
    Bounce(String),
    /// From now on nothing gets from the first host to the second.
    Cut(String, String),
    /// It does again.
    Mend(String, String),
    /// A host's disk has nearly no room, or has room again.
    Full(String, bool),
    /// A host's wall clock is wrong by this many microseconds.
    Skew(String, i64),
    /// The store misbehaves like this.
    Store(StoreFaults),
}

/// The hosts, by what they may suffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    /// Coordinators.
    pub(crate) coordinators: Vec<String>,
    /// Workers.
    pub(crate) workers: Vec<String>,
    /// Members of sources.
    pub(crate) members: Vec<String>,
    /// Everybody whose links may be cut, clients included.
    pub(crate) all: Vec<String>,
}

/// Skew of a wall clock, either way, in microseconds. Members refuse positions that are further ahead than their bound; this stays below it.
const MOST_SKEW: i64 = 100_000;
/// How long one cut or outage lasts at the most.
const LONGEST_OUTAGE: u64 = 9_000;

/// Draws faults and remembers what must be undone.
#[derive(Debug)]
pub(crate) struct Atlas {
    config: Config,
    hosts: Hosts,
    rng: StdRng,
    next: Duration,
    /// Hosts that are down, and when they come back.
    down: BTreeMap<String, Duration>,
    /// Links that are cut, and until when: the latest of all cuts that cover one.
    cuts: BTreeMap<(String, String), Duration>,
    store_until: Option<Duration>,
    /// Hosts whose disks are full, and until when.
    full: BTreeMap<String, Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    CoordinatorCrash,
    WorkerCrash,
    MemberCrash,
    Blackout,
    Partition,
    OneWayPartition,
    Isolation,
    ClockSkew,
    Store,
    FullDisk,
}

impl Atlas {
    /// Faults for these hosts, the first of them soon after `start`.
    pub(crate) fn new(config: &Config, hosts: Hosts, start: Duration) -> Self {
        Self {
            config: config.clone(),
            hosts,
            rng: StdRng::seed_from_u64(config.seed ^ 0xfa17),
            next: start,
            down: BTreeMap::new(),
            cuts: BTreeMap::new(),
            store_until: None,
            full: BTreeMap::new(),
        }
    }

    /// What is to be done by now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = self.expired(now);
        if now >= self.next {
            let mean = self.config.fault_interval.as_millis() as u64;
            self.next = now + Duration::from_millis(self.rng.random_range(mean / 4..=2 * mean));
            let kinds = self.kinds();
            if !kinds.is_empty() {
                let kind = kinds[self.rng.random_range(0..kinds.len())];
                self.strike(kind, now, &mut acts);
            }
        }
        acts
    }

    /// Ends everything that is still wrong.
    pub(crate) fn heal(&mut self) -> Vec<Act> {
        let mut acts: Vec<Act> = std::mem::take(&mut self.cuts)
            .into_keys()
            .map(|(from, to)| Act::Mend(from, to))
            .collect();
        acts.extend(std::mem::take(&mut self.down).into_keys().map(Act::Bounce));
        let full = std::mem::take(&mut self.full);
        acts.extend(full.into_keys().map(|host| Act::Full(host, false)));
        acts.push(Act::Store(self.healthy_store()));
        acts
    }

    /// A store with which nothing is wrong.
    fn healthy_store(&self) -> StoreFaults {
        StoreFaults {
            delay: self.config.store_latency,
            ..StoreFaults::default()
        }
    }

    fn expired(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        self.down.retain(|host, until| {
            let over = *until <= now;
            if over {
                acts.push(Act::Bounce(host.clone()));
            }
            !over
        });
        self.cuts.retain(|(from, to), until| {
            let over = *until <= now;
            if over {
                acts.push(Act::Mend(from.clone(), to.clone()));
            }
            !over
        });
        self.full.retain(|host, until| {
            let over = *until <= now;
            if over {
                acts.push(Act::Full(host.clone(), false));
            }
            !over
        });
        if self.store_until.is_some_and(|until| until <= now) {
            self.store_until = None;
            acts.push(Act::Store(self.healthy_store()));
        }
        acts
    }

    fn kinds(&self) -> Vec<Kind> {
        let faults = self.config.faults;
        let store = faults.store_rejections
            || faults.store_lost_answers
            || faults.store_delays
            || faults.store_cut_reads;
        [
            (faults.coordinator_crashes, Kind::CoordinatorCrash),
            (faults.worker_crashes, Kind::WorkerCrash),
            (faults.member_crashes, Kind::MemberCrash),
            (faults.blackouts, Kind::Blackout),
            (faults.partitions, Kind::Partition),
            (faults.one_way_partitions, Kind::OneWayPartition),
            (faults.isolations, Kind::Isolation),
            (faults.clock_skew, Kind::ClockSkew),
            (store, Kind::Store),
            (faults.full_disks, Kind::FullDisk),
        ]
        .into_iter()
        .filter_map(|(on, kind)| on.then_some(kind))
        .collect()
    }

    fn strike(&mut self, kind: Kind, now: Duration, acts: &mut Vec<Act>) {
        match kind {
            Kind::CoordinatorCrash => {
                let hosts = self.hosts.coordinators.clone();
                let down = hosts.iter().filter(|host| self.down.contains_key(*host));
                // A majority stays up: only a blackout, which is short, takes more.
                if (down.count() + 1) * 2 < hosts.len() {
                    self.crash(&hosts, now, acts);
                }
            }
            Kind::WorkerCrash => self.crash(&self.hosts.workers.clone(), now, acts),
            Kind::MemberCrash => self.crash(&self.hosts.members.clone(), now, acts),
            Kind::Blackout => {
                for host in self.hosts.coordinators.clone() {
                    self.crash(&[host], now, acts);
                }
            }
            Kind::Partition => {
                let (one, two) = self.pair();
                let until = self.until(now);
                self.cut(&one, &two, until, acts);
                self.cut(&two, &one, until, acts);
            }
            Kind::OneWayPartition => {
                let (one, two) = self.pair();
                let until = self.until(now);
                self.cut(&one, &two, until, acts);
            }
            Kind::Isolation => {
                let one = self.pick(&self.hosts.all.clone());
                let until = self.until(now);
                for other in self.hosts.all.clone() {
                    if other != one {
                        self.cut(&one, &other, until, acts);
                        self.cut(&other, &one, until, acts);
                    }
                }
            }
            Kind::ClockSkew => {
                let host = self.pick(&self.hosts.all.clone());
                acts.push(Act::Skew(
                    host,
                    self.rng.random_range(-MOST_SKEW..=MOST_SKEW),
                ));
            }
            Kind::FullDisk => {
                let (coordinators, members) = (&self.hosts.coordinators, &self.hosts.members);
                let host = self.pick(&[coordinators.as_slice(), members].concat());
                let until = self.until(now);
                self.full.entry(host.clone()).or_insert_with(|| {
                    acts.push(Act::Full(host, true));
                    until
                });
            }
            Kind::Store => {
                let faults = self.config.faults;
                let wrong = self.rng.random_range(0.05..0.4);
                let part = |on: bool| if on { wrong } else { 0.0 };
                self.store_until = Some(self.until(now));
                acts.push(Act::Store(StoreFaults {
                    reject: part(faults.store_rejections),
                    lose_answer: part(faults.store_lost_answers),
                    cut_read: part(faults.store_cut_reads),
                    delay: if faults.store_delays {
                        Duration::from_millis(self.rng.random_range(150..1_500))
                    } else {
                        self.config.store_latency
                    },
                }));
            }
        }
    }

    fn crash(&mut self, hosts: &[String], now: Duration, acts: &mut Vec<Act>) {
        let host = self.pick(hosts);
        let until = self.until(now);
        if !self.down.contains_key(&host) {
            self.down.insert(host.clone(), until);
            acts.push(Act::Crash(host));
        }
    }

    fn cut(&mut self, from: &str, to: &str, until: Duration, acts: &mut Vec<Act>) {
        let link = (from.to_owned(), to.to_owned());
        match self.cuts.get_mut(&link) {
            Some(known) => *known = until.max(*known),
            None => {
                acts.push(Act::Cut(link.0.clone(), link.1.clone()));
                self.cuts.insert(link, until);
            }
        }
    }

    fn until(&mut self, now: Duration) -> Duration {
        // Most are short; a few are longer than a lease.
        let longest = if self.rng.random_bool(0.7) {
            2_500
        } else {
            LONGEST_OUTAGE
        };
        now + Duration::from_millis(self.rng.random_range(50..=longest))
    }

    fn pick(&mut self, hosts: &[String]) -> String {
        hosts[self.rng.random_range(0..hosts.len())].clone()
    }

    fn pair(&mut self) -> (String, String) {
        let count = self.hosts.all.len();
        let one = self.rng.random_range(0..count);
        let two = (one + self.rng.random_range(1..count)) % count;
        (self.hosts.all[one].clone(), self.hosts.all[two].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hosts() -> Hosts {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Hosts {
            coordinators: named(&["c1", "c2", "c3"]),
            workers: named(&["w1", "w2"]),
            members: named(&["m1"]),
            all: named(&["c1", "c2", "c3", "w1", "w2", "m1"]),
        }
    }

    /// Plays a whole chaos, and gives what is wrong at its end, after healing.
    fn play(seed: u64) -> (BTreeSet<String>, usize) {
        let config = Config::from_seed(seed);
        let mut atlas = Atlas::new(&config, hosts(), Duration::ZERO);
        let mut wrong = BTreeSet::new();
        let mut acts = 0;
        let mut apply = |act: Act| {
            acts += 1;
            match act {
                Act::Crash(host) => assert!(wrong.insert(host)),
                Act::Bounce(host) => assert!(wrong.remove(&host)),
                Act::Cut(from, to) => assert!(wrong.insert(format!("{from}>{to}"))),
                Act::Mend(from, to) => assert!(wrong.remove(&format!("{from}>{to}"))),
                Act::Full(host, true) => assert!(wrong.insert(format!("{host} full"))),
                Act::Full(host, false) => assert!(wrong.remove(&format!("{host} full"))),
                Act::Skew(..) | Act::Store(_) => {}
            }
        };
        for millis in (0..60_000).step_by(10) {
            atlas
                .due(Duration::from_millis(millis))
                .into_iter()
                .for_each(&mut apply);
        }
        atlas.heal().into_iter().for_each(&mut apply);
        (wrong, acts)
    }

    #[test]
    fn everything_that_breaks_is_mended() {
        let mut most = 0;
        for seed in 0..50 {
            let (wrong, acts) = play(seed);
            assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
            most = most.max(acts);
        }
        assert!(most > 20, "{most}");
    }
}
