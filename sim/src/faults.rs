//! What goes wrong, and when. Faults stay within what the design must survive, and all of them end when the chaos ends.

mod hosts;
mod kind;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::Config;
use crate::store::StoreFaults;
pub(crate) use hosts::Hosts;
use kind::Kind;

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
    /// A host's disk takes so long for everything; zero: it is as fast as any.
    SlowDisk(String, Duration),
    /// A host's wall clock is wrong by this many microseconds.
    Skew(String, i64),
    /// The store misbehaves like this.
    Store(StoreFaults),
    /// What a host says and hears is held back.
    Hold(String),
    /// It is delivered now.
    Release(String),
    /// A link's messages take up to so long.
    Slow(String, String, Duration),
    /// Part of a link's messages, in per mille, is lost.
    Lose(String, String, u32),
    /// Part, in per mille, of the statements to servers whose history is a log loses its connection.
    LoseConnections(u32),
    /// One of these servers, by its number, loses all its slots.
    DropSlots(usize),
    /// Kill whichever coordinator leads now, and start it again after a while. Scripts only.
    CrashLeader(Duration),
    /// Hold back whatever the workers with leases say and hear, for a while. Scripts only.
    HoldBusiestWorker(Duration),
}

/// Skew of a wall clock, either way, in microseconds. Members refuse positions that are further ahead than their bound; this stays below it.
const MOST_SKEW: i64 = 100_000;
/// How long one cut or outage lasts at the most.
const LONGEST_OUTAGE: u64 = 9_000;
/// How long a paused host is held back: longer than a lease of the simulation's settings, shorter than the time after which TCP and calls
/// give up altogether.
const PAUSE: std::ops::RangeInclusive<u64> = 3_500..=9_000;
/// How long a coordinator is down when all are restarted in turn, and how long the next one waits.
const ROLLING: (u64, u64) = (1_000, 4_000);
/// How long a slow disk takes for everything, in milliseconds: up to longer than an election.
const SLOW_DISK: std::ops::RangeInclusive<u64> = 20..=1_200;
/// How long nothing happens in a quiet window.
const QUIET: std::ops::RangeInclusive<u64> = 4_000..=10_000;

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
    /// Hosts whose disks are slow, and until when.
    slow_disks: BTreeMap<String, Duration>,
    /// Hosts that are held back, and until when.
    held: BTreeMap<String, Duration>,
    /// Links that are slow or lose messages, and until when.
    bad_links: BTreeMap<(String, String), Duration>,
    /// Hosts that are still to be restarted in turn, and when.
    rolling: Vec<(Duration, String)>,
    /// What a script does, and when; drawn faults otherwise.
    script: Option<VecDeque<(Duration, Act)>>,
    connections_until: Option<Duration>,
    struck: BTreeMap<&'static str, u64>,
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
            slow_disks: BTreeMap::new(),
            held: BTreeMap::new(),
            bad_links: BTreeMap::new(),
            rolling: Vec::new(),
            script: config.scenario.map(|scenario| {
                let acts = scenario.acts(config);
                acts.into_iter()
                    .map(|(at, act)| (start + at, act))
                    .collect()
            }),
            connections_until: None,
            struck: BTreeMap::new(),
        }
    }

    /// How many faults of each class there were.
    pub(crate) fn struck(&self) -> &BTreeMap<&'static str, u64> {
        &self.struck
    }

    /// What is to be done by now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = self.expired(now);
        if self.script.is_some() {
            while let Some(act) = self.next_of_script(now) {
                self.note(&act);
                acts.push(act);
            }
            return acts;
        }
        let turn = self.rolling.iter().position(|(at, _)| *at <= now);
        if let Some((_, host)) = turn.map(|index| self.rolling.remove(index)) {
            self.crash_until(&host, now + Duration::from_millis(ROLLING.0), &mut acts);
        }
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

    /// What the script does by now.
    fn next_of_script(&mut self, now: Duration) -> Option<Act> {
        let script = self.script.as_mut()?;
        let (at, _) = script.front()?;
        if *at > now {
            return None;
        }
        script.pop_front().map(|(_, act)| act)
    }

    /// Remembers what must be undone, of an act that was not drawn here.
    pub(crate) fn note(&mut self, act: &Act) {
        let forever = Duration::MAX;
        let class = match act {
            Act::Crash(host) => {
                self.down.insert(host.clone(), forever);
                "crash"
            }
            Act::Bounce(host) => {
                self.down.remove(host);
                return;
            }
            Act::Cut(from, to) => {
                self.cuts.insert((from.clone(), to.clone()), forever);
                "cut"
            }
            Act::Mend(from, to) => {
                self.cuts.remove(&(from.clone(), to.clone()));
                return;
            }
            Act::Full(host, true) => {
                self.full.insert(host.clone(), forever);
                "full disk"
            }
            Act::Full(host, false) => {
                self.full.remove(host);
                return;
            }
            Act::SlowDisk(host, lag) if !lag.is_zero() => {
                self.slow_disks.insert(host.clone(), forever);
                "slow disk"
            }
            Act::SlowDisk(host, _) => {
                self.slow_disks.remove(host);
                return;
            }
            Act::Hold(host) => {
                self.held.insert(host.clone(), forever);
                "pause"
            }
            Act::Release(host) => {
                self.held.remove(host);
                return;
            }
            Act::Slow(from, to, _) | Act::Lose(from, to, _) => {
                self.bad_links.insert((from.clone(), to.clone()), forever);
                "bad link"
            }
            Act::Skew(..) => "clock skew",
            Act::Store(_) => "store",
            Act::LoseConnections(_) => "lost connections to a source",
            Act::DropSlots(_) => "lost slots",
            Act::CrashLeader(_) => "leader crash",
            Act::HoldBusiestWorker(_) => "pause",
        };
        *self.struck.entry(class).or_default() += 1;
    }

    /// A host that the driver chose is down, or held back, until then.
    pub(crate) fn note_until(&mut self, act: &Act, until: Duration) {
        match act {
            Act::Crash(host) => drop(self.down.insert(host.clone(), until)),
            Act::Hold(host) => drop(self.held.insert(host.clone(), until)),
            _ => {}
        }
    }

    /// Whether a host is down.
    pub(crate) fn is_down(&self, host: &str) -> bool {
        self.down.contains_key(host)
    }

    /// Whether a host is held back.
    pub(crate) fn is_held(&self, host: &str) -> bool {
        self.held.contains_key(host)
    }

    /// Ends everything that is still wrong.
    pub(crate) fn heal(&mut self) -> Vec<Act> {
        self.rolling.clear();
        if let Some(script) = &mut self.script {
            script.clear();
        }
        // Before links are mended: both end what the other one did to a link.
        let held = std::mem::take(&mut self.held);
        let mut acts: Vec<Act> = held.into_keys().map(Act::Release).collect();
        let cuts = std::mem::take(&mut self.cuts).into_keys();
        acts.extend(cuts.map(|(from, to)| Act::Mend(from, to)));
        for (from, to) in std::mem::take(&mut self.bad_links).into_keys() {
            acts.extend(self.good_link(from, to));
        }
        acts.extend(std::mem::take(&mut self.down).into_keys().map(Act::Bounce));
        let full = std::mem::take(&mut self.full);
        acts.extend(full.into_keys().map(|host| Act::Full(host, false)));
        let slow = std::mem::take(&mut self.slow_disks);
        acts.extend(
            slow.into_keys()
                .map(|host| Act::SlowDisk(host, Duration::ZERO)),
        );
        acts.push(Act::Store(self.healthy_store()));
        acts.push(Act::LoseConnections(0));
        acts
    }

    /// A store with which nothing is wrong.
    fn healthy_store(&self) -> StoreFaults {
        StoreFaults {
            delay: self.config.store_latency,
            ..StoreFaults::default()
        }
    }

    /// What makes a link as good as any.
    fn good_link(&self, from: String, to: String) -> [Act; 2] {
        let slow = Act::Slow(from.clone(), to.clone(), self.config.max_latency);
        [slow, Act::Lose(from, to, 0)]
    }

    fn expired(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        self.held.retain(|host, until| {
            let over = *until <= now;
            if over {
                acts.push(Act::Release(host.clone()));
            }
            !over
        });
        let over: Vec<_> = self
            .bad_links
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(link, _)| link.clone())
            .collect();
        for link in over {
            self.bad_links.remove(&link);
            acts.extend(self.good_link(link.0, link.1));
        }
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
        self.slow_disks.retain(|host, until| {
            let over = *until <= now;
            if over {
                acts.push(Act::SlowDisk(host.clone(), Duration::ZERO));
            }
            !over
        });
        if self.connections_until.is_some_and(|until| until <= now) {
            self.connections_until = None;
            acts.push(Act::LoseConnections(0));
        }
        if self.store_until.is_some_and(|until| until <= now) {
            self.store_until = None;
            acts.push(Act::Store(self.healthy_store()));
        }
        acts
    }

    fn kinds(&self) -> Vec<Kind> {
        let faults = self.config.faults;
        [
            (faults.coordinator_crashes, Kind::CoordinatorCrash),
            (faults.worker_crashes, Kind::WorkerCrash),
            (faults.member_crashes, Kind::MemberCrash),
            (faults.blackouts, Kind::Blackout),
            (faults.partitions, Kind::Partition),
            (faults.one_way_partitions, Kind::OneWayPartition),
            (faults.isolations, Kind::Isolation),
            (faults.clock_skew, Kind::ClockSkew),
            (faults.of_the_store(), Kind::Store),
            (faults.full_disks, Kind::FullDisk),
            (faults.slow_disks, Kind::SlowDisk),
            (faults.pauses, Kind::Pause),
            (faults.region_cuts, Kind::RegionCut),
            (faults.slow_links, Kind::SlowLink),
            (faults.loss, Kind::Loss),
            (faults.rolling_restarts, Kind::RollingRestart),
            (faults.quiet_windows, Kind::Quiet),
            (
                faults.source_connections && self.config.log_source,
                Kind::SourceConnections,
            ),
            (faults.lost_slots && self.config.log_source, Kind::LostSlots),
        ]
        .into_iter()
        .filter_map(|(on, kind)| on.then_some(kind))
        .collect()
    }

    fn strike(&mut self, kind: Kind, now: Duration, acts: &mut Vec<Act>) {
        *self.struck.entry(kind.name()).or_default() += 1;
        match kind {
            Kind::SourceConnections => {
                self.connections_until = Some(self.until(now));
                acts.push(Act::LoseConnections(self.rng.random_range(20..=300)));
            }
            Kind::LostSlots => {
                let server = self.rng.random_range(0..self.config.members.len());
                acts.push(Act::DropSlots(server));
            }
            Kind::Pause => self.pause(now, acts),
            Kind::RegionCut => {
                let inside =
                    self.hosts.regions[self.rng.random_range(0..self.hosts.regions.len())].clone();
                let until = self.until(now);
                for one in &inside {
                    for other in self.hosts.all.clone() {
                        if !inside.contains(&other) {
                            self.cut(one, &other, until, acts);
                            self.cut(&other, one, until, acts);
                        }
                    }
                }
            }
            Kind::SlowLink => {
                let slowest = Duration::from_millis(self.rng.random_range(100..=800));
                let (one, two) = self.pair();
                self.spoil(one, two, now, acts, |from, to| Act::Slow(from, to, slowest));
            }
            Kind::Loss => {
                let lost = self.rng.random_range(5..=100);
                let (one, two) = self.pair();
                self.spoil(one, two, now, acts, |from, to| Act::Lose(from, to, lost));
            }
            Kind::RollingRestart => {
                // One that is down anyway could make two at once.
                let hosts = &self.hosts.coordinators;
                if self.rolling.is_empty() && !hosts.iter().any(|host| self.down.contains_key(host))
                {
                    self.rolling = hosts
                        .iter()
                        .zip(0..)
                        .map(|(host, turn)| {
                            (now + Duration::from_millis(ROLLING.1) * turn, host.clone())
                        })
                        .collect();
                }
            }
            Kind::Quiet => self.next = now + Duration::from_millis(self.rng.random_range(QUIET)),
            Kind::CoordinatorCrash => {
                let hosts = self.hosts.coordinators.clone();
                let down = hosts.iter().filter(|host| self.down.contains_key(*host));
                // A majority stays up: only a blackout, which is short, takes more.
                let members = self.config.coordinators as usize;
                if self.rolling.is_empty() && (down.count() + 1) * 2 < members {
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
            Kind::SlowDisk => {
                let (coordinators, members) = (&self.hosts.coordinators, &self.hosts.members);
                let host = self.pick(&[coordinators.as_slice(), members].concat());
                let lag = Duration::from_millis(self.rng.random_range(SLOW_DISK));
                let until = self.until(now);
                self.slow_disks.entry(host.clone()).or_insert_with(|| {
                    acts.push(Act::SlowDisk(host, lag));
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
                    flip: part(faults.store_flipped_bits),
                    hold: part(faults.store_holds) / 4.0,
                    throttle: faults
                        .store_throttling
                        .then(|| self.rng.random_range(2..=20)),
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
        self.crash_until(&host, until, acts);
    }

    fn crash_until(&mut self, host: &str, until: Duration, acts: &mut Vec<Act>) {
        self.down.entry(host.to_owned()).or_insert_with(|| {
            acts.push(Act::Crash(host.to_owned()));
            until
        });
    }

    /// Holds back what a host says and hears. A link is either held or cut, never both.
    fn pause(&mut self, now: Duration, acts: &mut Vec<Act>) {
        let candidates = [self.hosts.workers.as_slice(), &self.hosts.coordinators].concat();
        let host = self.pick(&candidates);
        let is_cut = self
            .cuts
            .keys()
            .any(|(from, to)| *from == host || *to == host);
        if !is_cut && self.held.is_empty() {
            let until = now + Duration::from_millis(self.rng.random_range(PAUSE));
            self.held.insert(host.clone(), until);
            acts.push(Act::Hold(host));
        }
    }

    /// Makes a link bad in both directions.
    fn spoil(
        &mut self,
        one: String,
        two: String,
        now: Duration,
        acts: &mut Vec<Act>,
        act: impl FnOnce(String, String) -> Act,
    ) {
        let until = self.until(now);
        let link = if one < two { (one, two) } else { (two, one) };
        let (one, two) = link.clone();
        self.bad_links.entry(link).or_insert_with(|| {
            acts.push(act(one, two));
            until
        });
    }

    fn cut(&mut self, from: &str, to: &str, until: Duration, acts: &mut Vec<Act>) {
        if self.held.contains_key(from) || self.held.contains_key(to) {
            return;
        }
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
            regions: vec![named(&["w1", "m1"]), named(&["w2"])],
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
            match act.clone() {
                Act::Crash(host) => assert!(wrong.insert(host)),
                Act::Bounce(host) => assert!(wrong.remove(&host)),
                Act::Cut(from, to) => assert!(wrong.insert(format!("{from}>{to}"))),
                Act::Mend(from, to) => assert!(wrong.remove(&format!("{from}>{to}"))),
                Act::Full(host, true) => assert!(wrong.insert(format!("{host} full"))),
                Act::Full(host, false) => assert!(wrong.remove(&format!("{host} full"))),
                Act::SlowDisk(host, lag) if lag.is_zero() => {
                    assert!(wrong.remove(&format!("{host} slow disk")));
                }
                Act::SlowDisk(host, _) => assert!(wrong.insert(format!("{host} slow disk"))),
                Act::Hold(host) => {
                    let cut = |link: &String| {
                        link.split_once('>')
                            .is_some_and(|(from, to)| from == host || to == host)
                    };
                    assert!(!wrong.iter().any(cut), "{host} is held and cut");
                    assert!(wrong.insert(format!("{host} held")));
                }
                Act::Release(host) => assert!(wrong.remove(&format!("{host} held"))),
                Act::Slow(from, to, latency) if latency > config.max_latency => {
                    assert!(wrong.insert(format!("{from}-{to} slow")));
                }
                Act::Slow(from, to, _) => drop(wrong.remove(&format!("{from}-{to} slow"))),
                Act::Lose(from, to, 0) => drop(wrong.remove(&format!("{from}-{to} loses"))),
                Act::Lose(from, to, _) => assert!(wrong.insert(format!("{from}-{to} loses"))),
                Act::Skew(..) | Act::Store(_) | Act::LoseConnections(_) | Act::DropSlots(_) => {}
                Act::CrashLeader(_) | Act::HoldBusiestWorker(_) => {
                    panic!("only scripts do {act:?}")
                }
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
