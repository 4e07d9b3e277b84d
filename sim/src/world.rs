//! The simulated world: hosts, their disks, the network between them, and the driver that turns time, breaks things, and looks.

mod coordinators;
mod hosts;
mod members;
mod standing;
mod workers;

use holdfast_env::Disk;
use holdfast_node::ClusterKey;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use turmoil::Sim;

use crate::audit::RESIDENT;
use crate::bank::Teller;
use crate::checks::{Checker, Seen};
use crate::config::Config;
use crate::door;
use crate::faults::{Act, Atlas, Hosts};
use crate::latencies::Latencies;
use crate::libc_override;
use crate::marks;
use crate::model::{ModelServer, Shop, shop};
use crate::mutant::{LyingDisk, Mutant};
use crate::oracle::Oracle;
use crate::outcome::Failure;
use crate::places::{
    LOG_SOURCE, LOG_SPARE, SOURCE, SPARE, USER, coordinator, member, member_address,
    server_address, teller, worker,
};
use crate::scenario::Scenario;
use crate::script::Script;
use crate::stage::{Progress, Stage};
use crate::steps::Steps;
use crate::store::{StoreFaults, Vault};
use crate::trace;
use coordinators::Watched;
use hosts::Host;

/// The invariant of `docs/INVARIANTS.md` that the bounds of the stages are.
const ENDS_IN_TIME: &str = "L1";

/// Simulated time between two looks at the coordinators.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Simulated time that each stage may take.
const START_BOUND: Duration = Duration::from_secs(60);
const HEAL_BOUND: Duration = Duration::from_secs(240);
const AUDIT_BOUND: Duration = Duration::from_secs(900);
/// Until the catalogue knows what the collections hold: a sweep that looks for a manifest waits first.
const CATALOGUE_BOUND: Duration = Duration::from_secs(60);
/// The sentence of C7.
const CATALOGUED: &str =
    "a layer's manifest is in its collection exactly when the catalogue names the layer";
/// Segments that may wait for a host: above what any of them is ever sent at once.
const TCP_CAPACITY: usize = 4096;

/// What a run amounted to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Simulated time.
    pub(crate) elapsed: Duration,
    /// What was counted.
    pub(crate) marks: BTreeMap<&'static str, u64>,
    /// Faults by class.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// How long things took.
    pub(crate) latencies: Latencies,
}

/// One run's world.
struct World<'a> {
    config: Config,
    sim: Sim<'a>,
    hosts: BTreeMap<String, Host>,
    coordinators: Vec<Watched>,
    checker: Checker,
    steps: Steps,
    atlas: Option<Atlas>,
    progress: Progress,
    vault: Vault,
    /// Servers whose history is a log, by address.
    servers: BTreeMap<String, ModelServer>,
    rng: StdRng,
    /// When the present stage began.
    since: Duration,
    /// Runs of schedules that were submitted when it was last looked.
    runs_seen: u64,
    /// Since when nobody leads, if nobody does.
    leaderless: Option<Duration>,
}

/// Runs a seed in this thread, whose clocks and entropy are simulated.
pub(crate) fn run(config: &Config) -> Result<Report, Failure> {
    let mut world = World::build(config);
    let result = world.drive();
    let (puts, deletions) = world.vault.counts();
    let mut marks = world.progress.marks();
    marks.insert("terms", world.checker.terms());
    marks.insert("commands judged", world.steps.judged());
    marks.insert("objects put", puts);
    marks.insert("objects deleted", deletions);
    marks.insert("scheduled runs", world.steps.runs_submitted());
    marks.insert("data in stores of localities", world.vault.local_puts());
    let moves = world.servers.values().map(ModelServer::moves).sum();
    marks.insert("rows moved between pages", moves);
    marks.extend(marks::seen());
    let mut faults = world.vault.injected();
    if let Some(atlas) = &world.atlas {
        faults.extend(atlas.struck());
    }
    let result = result.and_then(|()| match config.scenario {
        Some(scenario) => {
            let mut met = marks.clone();
            met.extend(&faults);
            scenario.judge(&met)
        }
        None => Ok(()),
    });
    let mut latencies = world.progress.latencies();
    latencies.merge(&world.steps.latencies());
    let report = Report {
        elapsed: world.sim.elapsed(),
        marks,
        faults,
        latencies,
    };
    if result.is_err() {
        trace::show(world.standing());
    }
    // Nothing of this world is worth taking down in order.
    std::mem::forget(world);
    result.map(|()| report)
}

impl World<'_> {
    fn build(config: &Config) -> Self {
        libc_override::set_start(config.started);
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
        vault.set_tiers(config.tiers());
        vault.set_faults(StoreFaults {
            delay: config.store_latency,
            ..StoreFaults::default()
        });
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let key = ClusterKey::from_bytes(&key);
        let progress = Progress::new();
        let servers = model_servers(config, &mut rng);
        let mut hosts = BTreeMap::new();
        let mut watched = Vec::new();
        let steps = Steps::new(vault.clone());
        for node in 1..=config.coordinators + config.spares {
            let host = Host::new(&coordinator(node), rng.next_u64(), &vault, config.mutant);
            watched.push(coordinators::start(&mut sim, node, &host, &key, &steps));
            hosts.insert(coordinator(node), host);
        }
        for region in config.regions.iter().copied() {
            let sources = match config.members.contains(&region) {
                true => &[SOURCE, SPARE][..],
                false => &[],
            };
            for source in sources.iter().copied() {
                let host = Host::new(
                    &member(source, region),
                    rng.next_u64(),
                    &vault,
                    config.mutant,
                );
                members::start(&mut sim, &host, &member_address(source, region));
                hosts.insert(member(source, region), host);
            }
            for zone in config.zones.iter().copied() {
                let host = Host::new(&worker(region, zone), rng.next_u64(), &vault, config.mutant);
                let place = (region, zone);
                let nodes = config.coordinators + config.spares;
                workers::start(&mut sim, place, &host, &key, nodes, &servers);
                hosts.insert(worker(region, zone), host);
            }
        }
        let mut world = Self {
            config: config.clone(),
            sim,
            hosts,
            coordinators: watched,
            checker: Checker::default(),
            steps,
            atlas: None,
            progress,
            vault,
            servers,
            rng,
            since: Duration::ZERO,
            runs_seen: 0,
            leaderless: None,
        };
        world.people();
        world.shops();
        world
    }

    /// The clients: the user with the script, and a teller at each member.
    fn people(&mut self) {
        let host = Host::new(USER, self.rng.next_u64(), &self.vault, self.config.mutant);
        let (control, progress) = (host.clone(), self.progress.clone());
        let (config, vault) = (self.config.clone(), self.vault.clone());
        let servers = self.servers.clone();
        self.sim.client(USER, async move {
            let oracle = Oracle::default();
            let script = Script::new(
                config,
                control.env(),
                progress.clone(),
                oracle,
                vault,
                servers,
            )?;
            if let Err(failure) = script.run().await {
                progress.fail(failure);
            }
            Ok(())
        });
        self.hosts.insert(USER.to_owned(), host);
        for region in self.config.members.clone() {
            let name = teller(region);
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

    /// The applications of servers whose history is a log. They use no network, so one host is enough for all: every host costs in every tick.
    fn shops(&mut self) {
        let mut shops = Vec::new();
        for region in self.config.members.clone() {
            let address = server_address(LOG_SOURCE, region);
            if let Some(server) = self.servers.get(&address).cloned() {
                shops.push((server, self.rng.next_u64()));
            }
        }
        if shops.is_empty() {
            return;
        }
        let (config, progress) = (self.config.clone(), self.progress.clone());
        self.sim.client("shops", async move {
            let work = shops.into_iter().map(|(server, seed)| {
                Shop::open(server, config.clone(), seed).work(progress.clone())
            });
            futures::future::join_all(work).await;
            Ok(())
        });
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
            self.vault.arrive(now);
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
                Stage::Done => match self.catalogue_gap() {
                    None => return self.look(),
                    Some(_) if now.saturating_sub(self.since) <= CATALOGUE_BOUND => {}
                    Some(gap) => return Err(Failure::safety("C7", CATALOGUED, gap)),
                },
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
        let seen: Vec<_> = self.coordinators.iter().filter_map(Watched::look).collect();
        if let Some(failure) = self.steps.violation() {
            return Err(failure);
        }
        self.checker.check(&seen)?;
        self.time_failover(&seen);
        for (address, server) in &self.servers {
            if let Some(what) = server.violation() {
                let holds = "a backup that is not terminal has its hold, at the position it reads from or before it";
                return Err(Failure::safety("H1", holds, format!("{address}: {what}")));
            }
        }
        if let Some(key) = self.vault.late().into_iter().next() {
            let holds = "a job that is pending, paused or terminal has no lease, and no worker writes for it while it is paused";
            return Err(Failure::safety("J9", holds, format!("{key} was written")));
        }
        if let Some(stray) = self.vault.strays().into_iter().next() {
            return Err(Failure::safety("Z1", RESIDENT, stray));
        }
        match self.vault.overwrites().into_iter().next() {
            Some(key) => Err(Failure::safety(
                "C2",
                "no key is ever written twice with different bytes, and nothing is ever overwritten",
                key,
            )),
            None => Ok(()),
        }
    }

    /// What the collections hold and the catalogue does not name, or the other way round.
    fn catalogue_gap(&self) -> Option<String> {
        let seen = self.coordinators.iter().filter_map(Watched::look);
        let newest = seen.max_by_key(|node| node.ledger.applied().index)?;
        let manifests = self.vault.manifests();
        let layers: BTreeSet<String> = newest
            .ledger
            .catalogue()
            .iter()
            .map(|layer| {
                let place = layer.collection.split("://").last().unwrap_or_default();
                format!("{place}/{}/MANIFEST", layer.path)
            })
            .collect();
        let gap = manifests.symmetric_difference(&layers).next()?;
        Some(match manifests.contains(gap) {
            true => format!("{gap} is there, and the catalogue does not know the layer"),
            false => format!("the catalogue names the layer of {gap}, which is not there"),
        })
    }

    /// How long nobody leads, once somebody did.
    fn time_failover(&mut self, seen: &[Seen]) {
        let now = self.sim.elapsed();
        if seen.iter().any(|node| node.leads.is_some()) {
            if let Some(since) = self.leaderless.take() {
                self.progress.mark("failovers");
                self.progress.took("failover", now.saturating_sub(since));
            }
        } else if self.checker.terms() > 0 {
            self.leaderless.get_or_insert(now);
        }
    }

    fn chaos(&mut self, now: Duration) {
        if self.atlas.is_none() {
            let hosts = fault_hosts(&self.config, &self.hosts);
            self.atlas = Some(Atlas::new(&self.config, hosts, now));
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
        if self.config.scenario == Some(Scenario::Schedules) {
            self.crash_at_runs();
        }
        if over {
            self.progress.enter(Stage::Heal);
        }
    }

    /// The worst moment for a schedule: its run is submitted, and the leader dies before it can tell so.
    fn crash_at_runs(&mut self) {
        let runs = self.steps.runs_submitted();
        if runs > self.runs_seen {
            if self.runs_seen.is_multiple_of(2) {
                self.perform(Act::CrashLeader(Duration::from_secs(3)));
                self.progress.mark("leaders lost at a run");
            }
            self.runs_seen = runs;
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
            Act::SlowDisk(host, lag) => {
                if let Some(control) = self.hosts.get(&host) {
                    control.lag().set(lag);
                }
            }
            Act::Skew(host, micros) => {
                if let Some(control) = self.hosts.get(&host) {
                    control.skew().set_micros(micros);
                }
            }
            Act::Store(faults) => self.vault.set_faults(faults),
            Act::LoseConnections(per_mille) => {
                for server in self.servers.values() {
                    server.lose_connections(f64::from(per_mille) / 1_000.0);
                }
            }
            Act::DropSlots(number) => {
                let region = self.config.members[number % self.config.members.len()];
                if let Some(server) = self.servers.get(&server_address(LOG_SOURCE, region)) {
                    server.drop_slots();
                }
            }
            Act::Hold(host) => {
                self.progress.mark("pauses of hosts");
                for other in self.others(&host) {
                    self.sim.hold(host.as_str(), other);
                }
            }
            Act::Release(host) => {
                for other in self.others(&host) {
                    self.sim.release(host.as_str(), other);
                }
            }
            Act::Slow(from, to, most) => self.sim.set_link_max_message_latency(from, to, most),
            Act::Lose(from, to, per_mille) => {
                let rate = f64::from(per_mille) / 1_000.0;
                self.sim.set_link_fail_rate(from, to, rate);
            }
            Act::CrashLeader(time) => {
                let seen = self.coordinators.iter().filter_map(Watched::look);
                let leader = seen
                    .filter(|node| node.leads.is_some())
                    .max_by_key(|node| node.leads);
                if let Some(leader) = leader {
                    self.choose(Act::Crash(leader.host), time);
                }
            }
            Act::HoldBusiestWorker(time) => {
                let seen = self.coordinators.iter().filter_map(Watched::look);
                let newest = seen.max_by_key(|node| node.ledger.applied().index);
                let worker = newest.and_then(|node| {
                    let mut tasks = node.ledger.jobs().flat_map(|job| job.leased_tasks());
                    tasks.find_map(|task| task.lease.map(|lease| lease.worker.to_string()))
                });
                if let Some(worker) = worker {
                    self.choose(Act::Hold(worker), time);
                }
            }
        }
    }

    /// Does what a script left to the driver to choose, and remembers to undo it.
    fn choose(&mut self, act: Act, time: Duration) {
        let until = self.sim.elapsed() + time;
        let Some(atlas) = &mut self.atlas else { return };
        let is_so = match &act {
            Act::Crash(host) => atlas.is_down(host),
            Act::Hold(host) => atlas.is_held(host),
            _ => false,
        };
        if !is_so {
            atlas.note_until(&act, until);
            self.perform(act);
        }
    }

    fn others(&self, host: &str) -> Vec<String> {
        let others = self.hosts.keys().filter(|other| *other != host);
        others.cloned().collect()
    }
}

fn model_servers(config: &Config, rng: &mut StdRng) -> BTreeMap<String, ModelServer> {
    let mut servers = BTreeMap::new();
    if config.log_source {
        for region in &config.members {
            for source in [LOG_SOURCE, LOG_SPARE] {
                let server = ModelServer::new(rng.next_u64(), &shop::TABLES);
                servers.insert(server_address(source, region), server);
            }
        }
    }
    servers
}

fn fault_hosts(config: &Config, hosts: &BTreeMap<String, Host>) -> Hosts {
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
        regions: config
            .regions
            .iter()
            .map(|region| config.hosts_of(region))
            .collect(),
    }
}

/// An outside for a host's present life.
fn outside(host: &Host) -> holdfast_env::Env {
    let disk: Arc<dyn Disk> = match host.mutant() {
        Some(Mutant::LyingDisk) => Arc::new(LyingDisk(host.disk())),
        _ => Arc::new(host.disk()),
    };
    door::env(host.name(), host.seed(), host.skew(), host.lag(), disk)
}
