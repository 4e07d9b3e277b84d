//! The simulated world: hosts, their disks, the network between them, and the driver that turns time, breaks things, and looks.

mod coordinators;
mod hosts;
mod members;
mod workers;

use holdfast_env::Disk;
use holdfast_node::ClusterKey;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use turmoil::Sim;

use crate::bank::Teller;
use crate::checks::Checker;
use crate::config::Config;
use crate::door;
use crate::faults::{Act, Atlas, Hosts};
use crate::libc_override;
use crate::mutant::{LyingDisk, Mutant};
use crate::oracle::Oracle;
use crate::outcome::Failure;
use crate::places::{
    COORDINATORS, REGIONS, SOURCE, SPARE, ZONES, coordinator, member, member_address, worker,
};
use crate::script::Script;
use crate::stage::{Progress, Stage};
use crate::store::{StoreFaults, Vault};
use crate::trace;
use hosts::Host;

/// The invariant of `docs/INVARIANTS.md` that the bounds of the stages are.
const ENDS_IN_TIME: &str = "L1";

/// Simulated time between two looks at the coordinators.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Simulated time that each stage may take.
const START_BOUND: Duration = Duration::from_secs(60);
const HEAL_BOUND: Duration = Duration::from_secs(240);
const AUDIT_BOUND: Duration = Duration::from_secs(900);
/// Segments that may wait for a host: above what any of them is ever sent at once.
const TCP_CAPACITY: usize = 4096;

/// What a run amounted to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Simulated time.
    pub(crate) elapsed: Duration,
    /// What was counted.
    pub(crate) marks: BTreeMap<&'static str, u64>,
}

/// One run's world.
struct World<'a> {
    config: Config,
    sim: Sim<'a>,
    hosts: BTreeMap<String, Host>,
    coordinators: Vec<coordinators::Watched>,
    checker: Checker,
    atlas: Option<Atlas>,
    progress: Progress,
    vault: Vault,
    rng: StdRng,
    /// When the present stage began.
    since: Duration,
}

/// Runs a seed in this thread, whose clocks and entropy are simulated.
pub(crate) fn run(config: &Config) -> Result<Report, Failure> {
    let mut world = World::build(config);
    let result = world.drive();
    let (puts, deletions) = world.vault.counts();
    let mut marks = world.progress.marks();
    marks.insert("terms", world.checker.terms());
    marks.insert("objects put", puts);
    marks.insert("objects deleted", deletions);
    let report = Report {
        elapsed: world.sim.elapsed(),
        marks,
    };
    // Nothing of this world is worth taking down in order.
    std::mem::forget(world);
    result.map(|()| report)
}

impl World<'_> {
    fn build(config: &Config) -> Self {
        let mut rng = StdRng::seed_from_u64(config.seed ^ 0x0dd5_eed5);
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.next_u64())
            .tick_duration(config.tick)
            .min_message_latency(config.min_latency)
            .max_message_latency(config.max_latency)
            .tcp_capacity(TCP_CAPACITY)
            .simulation_duration(Duration::MAX)
            .build();
        let vault = Vault::new(rng.next_u64(), config.mutant);
        vault.set_faults(StoreFaults {
            delay: config.store_latency,
            ..StoreFaults::default()
        });
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let key = ClusterKey::from_bytes(&key);
        let progress = Progress::new();
        let mut hosts = BTreeMap::new();
        let mut watched = Vec::new();
        for node in 1..=COORDINATORS {
            let host = Host::new(&coordinator(node), rng.next_u64(), &vault, config.mutant);
            watched.push(coordinators::start(&mut sim, node, &host, &key));
            hosts.insert(coordinator(node), host);
        }
        for region in REGIONS {
            for source in [SOURCE, SPARE] {
                let host = Host::new(
                    &member(source, region),
                    rng.next_u64(),
                    &vault,
                    config.mutant,
                );
                members::start(&mut sim, &host, &member_address(source, region));
                hosts.insert(member(source, region), host);
            }
            for zone in ZONES {
                let host = Host::new(&worker(region, zone), rng.next_u64(), &vault, config.mutant);
                workers::start(&mut sim, (region, zone), &host, &key);
                hosts.insert(worker(region, zone), host);
            }
        }
        let mut world = Self {
            config: config.clone(),
            sim,
            hosts,
            coordinators: watched,
            checker: Checker::default(),
            atlas: None,
            progress,
            vault,
            rng,
            since: Duration::ZERO,
        };
        world.people();
        world
    }

    /// The clients: the user with the script, and a teller at each member.
    fn people(&mut self) {
        let host = Host::new("user", self.rng.next_u64(), &self.vault, self.config.mutant);
        let (control, progress) = (host.clone(), self.progress.clone());
        let (config, vault) = (self.config.clone(), self.vault.clone());
        self.sim.client("user", async move {
            let oracle = Oracle::default();
            let script = Script::new(config, control.env(), progress.clone(), oracle, vault)?;
            if let Err(failure) = script.run().await {
                progress.fail(failure);
            }
            Ok(())
        });
        self.hosts.insert("user".to_owned(), host);
        for region in REGIONS {
            let name = format!("teller-{region}");
            let host = Host::new(&name, self.rng.next_u64(), &self.vault, self.config.mutant);
            let (control, progress) = (host.clone(), self.progress.clone());
            let config = self.config.clone();
            self.sim.client(name.clone(), async move {
                let address = member_address(SOURCE, region);
                let teller = Teller::new(control.env(), config, control.name(), &address)?;
                teller.work(progress).await;
                Ok(())
            });
            self.hosts.insert(name, host);
        }
    }

    /// Turns time until the run is over.
    fn drive(&mut self) -> Result<(), Failure> {
        let mut next_look = Duration::ZERO;
        let mut stage = Stage::Start;
        loop {
            let now = self.sim.elapsed();
            libc_override::set_elapsed(now);
            self.sim
                .step()
                .map_err(|error| Failure::Crash(format!("a host ended: {error}")))?;
            if let Some(failure) = self.progress.failure() {
                return Err(failure);
            }
            let now = self.sim.elapsed();
            libc_override::set_elapsed(now);
            if now >= next_look {
                next_look = now + LOOK_INTERVAL;
                self.look()?;
            }
            if self.progress.stage() != stage {
                stage = self.progress.stage();
                self.since = now;
                if stage == Stage::Audit {
                    // What is judged now is what is there, not how fast it is read.
                    self.vault.set_faults(StoreFaults::default());
                }
            }
            match stage {
                Stage::Start => self.bound(now, START_BOUND)?,
                Stage::Chaos => self.chaos(now),
                Stage::Heal => self.bound(now, HEAL_BOUND)?,
                Stage::Audit => self.bound(now, AUDIT_BOUND)?,
                Stage::Done => return self.look(),
            }
        }
    }

    fn bound(&self, now: Duration, bound: Duration) -> Result<(), Failure> {
        if now.saturating_sub(self.since) <= bound {
            return Ok(());
        }
        Err(Failure::Liveness(format!(
            "{ENDS_IN_TIME}: stage {:?} takes more than {bound:?}; {}",
            self.progress.stage(),
            self.progress.wait()
        )))
    }

    fn look(&mut self) -> Result<(), Failure> {
        let seen: Vec<_> = self
            .coordinators
            .iter()
            .filter_map(coordinators::Watched::look)
            .collect();
        self.checker.check(&seen)?;
        match self.vault.overwrites().into_iter().next() {
            Some(key) => Err(Failure::safety(
                "C2",
                "no key is ever written twice with different bytes, and nothing is ever overwritten",
                key,
            )),
            None => Ok(()),
        }
    }

    fn chaos(&mut self, now: Duration) {
        if self.atlas.is_none() {
            self.atlas = Some(Atlas::new(&self.config, fault_hosts(&self.hosts), now));
        }
        let over = now.saturating_sub(self.since) >= self.config.chaos;
        let acts = match &mut self.atlas {
            Some(atlas) if over => atlas.heal(),
            Some(atlas) => atlas.due(now),
            None => Vec::new(),
        };
        for act in acts {
            self.perform(act);
        }
        if over {
            self.progress.enter(Stage::Heal);
        }
    }

    fn perform(&mut self, act: Act) {
        trace::event("driver", format_args!("{act:?}"));
        match act {
            Act::Crash(host) => {
                self.progress.mark("crashes");
                for watched in &self.coordinators {
                    watched.forget(&host);
                }
                if let Some(control) = self.hosts.get(&host) {
                    control.crash(self.rng.next_u64());
                }
                self.sim.crash(host);
            }
            Act::Bounce(host) => self.sim.bounce(host),
            Act::Cut(from, to) => {
                self.progress.mark("cuts");
                self.sim.partition_oneway(from, to);
            }
            Act::Mend(from, to) => self.sim.repair_oneway(from, to),
            Act::Full(host, full) => {
                if let Some(control) = self.hosts.get(&host) {
                    control.fill(full);
                }
            }
            Act::Skew(host, micros) => {
                if let Some(control) = self.hosts.get(&host) {
                    control.skew().set_micros(micros);
                }
            }
            Act::Store(faults) => self.vault.set_faults(faults),
        }
    }
}

fn fault_hosts(hosts: &BTreeMap<String, Host>) -> Hosts {
    let of = |prefixes: &[&str]| {
        hosts
            .keys()
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .cloned()
            .collect()
    };
    Hosts {
        coordinators: of(&["coord-"]),
        workers: of(&["work-"]),
        members: of(&[SOURCE, SPARE]),
        all: hosts.keys().cloned().collect(),
    }
}

/// An outside for a host's present life.
fn outside(host: &Host) -> holdfast_env::Env {
    let disk: Arc<dyn Disk> = match host.mutant() {
        Some(Mutant::LyingDisk) => Arc::new(LyingDisk(host.disk())),
        _ => Arc::new(host.disk()),
    };
    door::env(host.name(), host.seed(), host.skew(), disk)
}
