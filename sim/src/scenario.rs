//! Scripts on the simulated world: one situation each, named for what it shows. What is drawn for a seed (sizes, latencies, what the
//! operators do) stays drawn; the faults are written down.

use clap::ValueEnum;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Config, Faults};
use crate::faults::Act;
use crate::outcome::Failure;
use crate::places::{SOURCE, coordinator, member, worker};
use crate::store::StoreFaults;

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing fails: nothing is done twice, and no job fails.
    Quiet,
    /// The leader dies again and again: another one goes on within seconds.
    LeaderLost,
    /// A worker is held back for longer than its lease, and then reports: it is fenced, and what it wrote is swept.
    Zombie,
    /// Every worker dies in the middle of its work: at most one part per stream is done again.
    WorkersDie,
    /// Half of all changes of the store take effect and lose their answer: nothing is overwritten, and no layer exists twice.
    LostAnswers,
    /// Every read may end early or have a flipped bit: it is noticed, and read again.
    BadReads,
    /// All coordinators lose power at once, three times: nothing that was acknowledged is lost.
    Blackouts,
    /// Coordinators are restarted one after the other: the cluster goes on.
    RollingRestart,
    /// A whole locality is cut off for longer than its leases: its work waits and goes on afterwards.
    RegionCut,
    /// Disks of two coordinators are full for a while: work is refused in good order.
    FullDisks,
    /// Wall clocks are wrong in both directions, and jump.
    Clocks,
    /// Operators do nothing but pause and resume.
    PauseStorm,
    /// Rows move, keys change and tables are emptied while a source whose history is a log is read: every layer is exact at its end.
    FuzzyBase,
    /// Columns of such a source come and go while it is read.
    SchemaChanges,
    /// Coordinators are added, replaced and removed while jobs run.
    MembersChange,
    /// Disks of coordinators and members take long for everything: elections and writes are slow, and nothing is lost.
    SlowDisks,
    /// The leader dies when it has submitted the run of a schedule, before it can tell so: each run is one backup, and none is forgotten.
    Schedules,
    /// Each locality has a store of its own, and workers die: no byte lies in the store of another one.
    Localities,
    /// Such a source loses its slots: chains are said to be broken, and the next full backup is exact.
    LostSlots,
}

/// At how many seconds of the chaos.
fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What of a seed's parameters it needs otherwise.
    pub(crate) fn shape(self, config: Config) -> Config {
        let mut config = Config {
            scenario: Some(self),
            chaos: at(30),
            faults: Faults::NONE,
            operators: 2,
            // One situation each.
            local_stores: false,
            schedules: false,
            // Enough to read and write that there is something to disturb.
            accounts: config.accounts.max(200),
            ballast: config.ballast.max(200),
            part_size: config.part_size.min(4_096),
            operator_pause: config.operator_pause.min(at(1)),
            ..config
        };
        if self == Self::RegionCut {
            config.members = config.regions.clone();
        }
        if self == Self::Localities {
            config.local_stores = true;
            config.members = config.regions.clone();
        }
        if self == Self::Schedules {
            config.schedules = true;
            // The minute turns in the middle of it.
            config.started = Duration::from_secs(44);
        }
        config.faults.schema_changes = self == Self::SchemaChanges;
        config.faults.membership = self == Self::MembersChange;
        if matches!(
            self,
            Self::FuzzyBase | Self::LostSlots | Self::SchemaChanges
        ) {
            config.log_source = true;
            config.transfer_interval = config.transfer_interval.min(Duration::from_millis(40));
        }
        if self == Self::PauseStorm {
            config.pauses_only = true;
        }
        config
    }

    /// What is done, and when, from the beginning of the chaos.
    pub(crate) fn acts(self, config: &Config) -> Vec<(Duration, Act)> {
        let coordinators: Vec<_> = (1..=config.coordinators).map(coordinator).collect();
        let mut acts = Vec::new();
        match self {
            Self::Quiet
            | Self::Schedules
            | Self::PauseStorm
            | Self::FuzzyBase
            | Self::SchemaChanges
            | Self::MembersChange => {}
            Self::SlowDisks => {
                for (host, turn) in coordinators.iter().zip(0..) {
                    let lag = Duration::from_millis(100 + 400 * (turn % 2));
                    acts.push((at(3 + turn), Act::SlowDisk(host.clone(), lag)));
                    acts.push((at(20 + turn), Act::SlowDisk(host.clone(), Duration::ZERO)));
                }
                for region in &config.members {
                    let host = member(SOURCE, region);
                    let lag = Duration::from_millis(60);
                    acts.push((at(5), Act::SlowDisk(host.clone(), lag)));
                    acts.push((at(20), Act::SlowDisk(host, Duration::ZERO)));
                }
            }
            Self::LostSlots => {
                let members = 0..config.members.len();
                acts.extend(members.map(|member| (at(15), Act::DropSlots(member))));
            }
            Self::LeaderLost => {
                acts.extend((1..=4).map(|turn| (at(6 * turn), Act::CrashLeader(at(3)))));
            }
            Self::Zombie => {
                // The worker gives up after three seconds, the leader after four: one that comes back in between, and one that comes too late.
                acts.extend((0..6).map(|turn| {
                    let pause = Duration::from_millis(if turn % 2 == 0 { 3_900 } else { 6_000 });
                    (at(2 + 4 * turn), Act::HoldBusiestWorker(pause))
                }));
            }
            Self::WorkersDie | Self::Localities => {
                let workers = config
                    .regions
                    .iter()
                    .flat_map(|region| config.zones.iter().map(|zone| worker(region, zone)));
                for (host, turn) in workers.zip(1..) {
                    for round in [0, 14] {
                        acts.push((at(round + turn), Act::Crash(host.clone())));
                        // For longer than a lease: it is taken away.
                        acts.push((at(round + turn + 5), Act::Bounce(host.clone())));
                    }
                }
            }
            Self::LostAnswers => {
                let faults = StoreFaults {
                    lose_answer: 0.5,
                    delay: config.store_latency,
                    ..StoreFaults::default()
                };
                acts.push((at(0), Act::Store(faults)));
            }
            Self::BadReads => {
                let faults = StoreFaults {
                    cut_read: 0.1,
                    flip: 0.1,
                    delay: config.store_latency,
                    ..StoreFaults::default()
                };
                acts.push((at(0), Act::Store(faults)));
            }
            Self::Blackouts => {
                for turn in [5, 13, 21] {
                    for host in &coordinators {
                        acts.push((at(turn), Act::Crash(host.clone())));
                        acts.push((at(turn + 2), Act::Bounce(host.clone())));
                    }
                }
            }
            Self::RollingRestart => {
                for (host, turn) in coordinators.iter().zip(1..) {
                    acts.push((at(5 * turn), Act::Crash(host.clone())));
                    acts.push((at(5 * turn + 1), Act::Bounce(host.clone())));
                }
            }
            Self::RegionCut => {
                let cut = config.regions[0];
                let inside: Vec<_> = config.hosts_of(cut);
                for other in config.hosts_but(cut) {
                    for one in &inside {
                        for (from, to) in [(one, &other), (&other, one)] {
                            let (from, to) = (from.clone(), to.clone());
                            acts.push((at(5), Act::Cut(from.clone(), to.clone())));
                            acts.push((at(14), Act::Mend(from, to)));
                        }
                    }
                }
            }
            Self::FullDisks => {
                for host in coordinators.iter().take(2) {
                    acts.push((at(5), Act::Full(host.clone(), true)));
                    acts.push((at(15), Act::Full(host.clone(), false)));
                }
            }
            Self::Clocks => {
                for (host, turn) in coordinators.iter().zip(0..) {
                    let ahead = if turn % 2 == 0 { 100_000 } else { -100_000 };
                    acts.push((at(2 + turn), Act::Skew(host.clone(), ahead)));
                    acts.push((at(15 + turn), Act::Skew(host.clone(), -ahead)));
                }
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    /// What a run must have met, or may not have met, beside what every run is judged by.
    pub(crate) fn judge(self, marks: &BTreeMap<&'static str, u64>) -> Result<(), Failure> {
        let count = |what: &str| marks.get(what).copied().unwrap_or_default();
        let met = |what: &'static str| match count(what) {
            0 => Err(Failure::Harness(format!(
                "scenario {}: \"{what}\" never happened, so it shows nothing",
                self.name()
            ))),
            _ => Ok(()),
        };
        let never = |what: &'static str| match count(what) {
            0 => Ok(()),
            number => Err(Failure::safety(
                "J4",
                "checkpoints chain, and progress never goes back",
                format!("scenario {}: {number} {what}", self.name()),
            )),
        };
        met("backups")?;
        match self {
            Self::Quiet => {
                never("jobs failed")?;
                never("bytes redone")
            }
            Self::LeaderLost => met("failovers"),
            Self::Zombie => met("zombie fenced"),
            Self::WorkersDie => met("lease taken away"),
            Self::LostAnswers => met("answer lost"),
            Self::BadReads => met("flipped bit"),
            Self::Blackouts | Self::RollingRestart => met("crashes"),
            Self::RegionCut => met("cuts"),
            Self::PauseStorm => met("pauses"),
            Self::FuzzyBase => {
                met("rows moved between pages")?;
                met("logged restores compared")
            }
            Self::SchemaChanges => {
                met("schema changes")?;
                met("logged restores compared")
            }
            Self::MembersChange => met("coordinators replaced"),
            Self::SlowDisks => met("slow disk"),
            Self::Schedules => {
                met("leaders lost at a run")?;
                met("schedules served")
            }
            Self::Localities => met("data in stores of localities"),
            Self::LostSlots => met("logged restores compared"),
            Self::FullDisks | Self::Clocks => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_ends_with_its_chaos() {
        for scenario in Scenario::value_variants() {
            let config = scenario.shape(Config::from_seed(3));
            for (at, act) in scenario.acts(&config) {
                assert!(at < config.chaos, "{scenario:?}: {act:?} at {at:?}");
            }
        }
    }

    #[test]
    fn a_script_that_showed_nothing_is_told() {
        let marks = BTreeMap::from([("backups", 3)]);
        assert!(Scenario::Zombie.judge(&marks).is_err());
        assert!(Scenario::Clocks.judge(&marks).is_ok());
        let redone = BTreeMap::from([("backups", 3), ("bytes redone", 1)]);
        assert!(Scenario::Quiet.judge(&redone).is_err());
    }
}
