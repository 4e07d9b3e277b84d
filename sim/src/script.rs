//! A run as its user lives it: make a cluster, fill the sources, work while everything fails, bring everything to its end when the faults
//! have ended, and then prove that nothing was lost.

use holdfast_client::{ClientOptions, ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::audit::Audit;
use crate::bank::Teller;
use crate::config::Config;
use crate::membership::Registrar;
use crate::model::ModelServer;
use crate::operator::Operator;
use crate::oracle::{Oracle, is_terminal, judge};
use crate::outcome::Failure;
use crate::places::{
    COLLECTION, LOG_COLLECTION, LOG_SOURCE, LOG_SPARE, SOURCE, SPARE, coordinator_address,
    coordinator_addresses, member_address, server_address,
};
use crate::stage::{Progress, Stage};
use crate::store::Vault;
use crate::timekeeper::{self, Timekeeper};

/// How often something that is waited for is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Attempts at something that must succeed once nothing fails any more.
const ATTEMPTS: u32 = 40;

/// The operators that there may be.
const OPERATORS: [&str; 3] = ["ann", "bob", "cid"];

/// Everything that the script acts with.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) client: GrpcClient,
    pub(crate) oracle: Oracle,
    pub(crate) progress: Progress,
    pub(crate) vault: Vault,
    pub(crate) servers: BTreeMap<String, ModelServer>,
}

impl Script {
    /// A user with a client of all coordinators.
    pub(crate) fn new(
        config: Config,
        env: Env,
        progress: Progress,
        oracle: Oracle,
        vault: Vault,
        servers: BTreeMap<String, ModelServer>,
    ) -> Result<Self, Fault> {
        let options = ClientOptions {
            call_timeout: Duration::from_secs(8),
            long_call_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            ..ClientOptions::default()
        };
        let client = GrpcClient::new(
            env.clone(),
            &coordinator_addresses(config.coordinators + config.spares),
            options,
        )?;
        Ok(Self {
            config,
            env,
            client,
            oracle,
            progress,
            vault,
            servers,
        })
    }

    /// The whole run.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.start().await?;
        self.progress.enter(Stage::Chaos);
        let operators: Vec<_> = OPERATORS[..self.config.operators]
            .iter()
            .map(|name| (self.operator(name), self.env.entropy.next_u64()))
            .collect();
        let work = async {
            let shifts = operators
                .iter()
                .map(|(operator, seed)| operator.work(*seed));
            futures::future::try_join_all(shifts).await?;
            self.converge().await
        };
        let watcher = self.operator("eve");
        let seed = self.env.entropy.next_u64();
        let registrar = async {
            match self.config.spares {
                0 => Ok(()),
                _ => self.registrar(seed).work().await,
            }
        };
        let seed = self.env.entropy.next_u64();
        let timekeeper = async {
            match self.config.schedules {
                true => self.timekeeper(seed).work().await,
                false => Ok(()),
            }
        };
        tokio::try_join!(work, watcher.watch(), registrar, timekeeper)?;
        for job in self.oracle.jobs() {
            self.progress.count("bytes redone", job.bytes_redone);
            if let Some(time) = self.oracle.took(job.id) {
                self.progress.took("job", time);
            }
            if job.kind == "RESTORE" && job.state == "succeeded" && self.oracle.was_resumed(job.id)
            {
                self.progress.mark("restores resumed");
            }
            self.progress
                .mark(match (job.kind.as_str(), job.state.as_str()) {
                    ("BACKUP", "succeeded") => "backups",
                    ("RESTORE", "succeeded") => "restores",
                    ("VERIFY", "succeeded") => "verifications",
                    (_, "failed") => "jobs failed",
                    _ => "jobs canceled",
                });
            if job.bytes_redone > 0 {
                self.progress.mark("jobs that redid something");
            }
        }
        Audit::new(&self).run().await?;
        self.progress.enter(Stage::Done);
        Ok(())
    }

    fn registrar(&self, seed: u64) -> Registrar {
        let (client, config) = (self.client.clone(), self.config.clone());
        Registrar::new(client, config, self.progress.clone(), seed)
    }

    fn timekeeper(&self, seed: u64) -> Timekeeper {
        let (client, config) = (self.client.clone(), self.config.clone());
        let progress = self.progress.clone();
        Timekeeper::new(client, self.env.clone(), config, progress, seed)
    }

    fn operator(&self, name: &'static str) -> Operator {
        Operator {
            client: self.client.clone(),
            config: self.config.clone(),
            oracle: self.oracle.clone(),
            progress: self.progress.clone(),
            name,
        }
    }

    /// Nothing fails yet: everything must succeed, once the processes are up.
    async fn start(&self) -> Result<(), Failure> {
        self.progress.doing("init");
        let members = (1..=self.config.coordinators)
            .map(|node| v1::MemberAddress {
                node,
                address: coordinator_address(node),
            })
            .collect();
        let request = v1::InitClusterRequest { members };
        // Asked of the first alone, as an operator would.
        let first = GrpcClient::new(
            self.env.clone(),
            &[coordinator_address(1)],
            ClientOptions::default(),
        )
        .map_err(Failure::harness)?;
        surely(|| first.init_cluster(request.clone())).await?;
        for (name, value) in [
            ("part_size_bytes", self.config.part_size),
            ("span_size_bytes", self.config.span_size),
            ("task_backoff_ms", 200),
            ("lease_ttl_ms", 3_000),
            ("max_task_attempts", 1_000),
            ("part_list_threshold", 16),
        ] {
            surely(|| self.client.set_setting(name, value)).await?;
        }
        for source in [SOURCE, SPARE] {
            let members = self
                .config
                .members
                .iter()
                .map(|region| v1::Member {
                    name: (*region).to_owned(),
                    locality: format!("region={region}"),
                    address: member_address(source, region),
                    ..v1::Member::default()
                })
                .collect();
            let request = v1::RegisterSourceRequest {
                name: source.to_owned(),
                kind: "mvcc".to_owned(),
                members,
            };
            surely(|| self.client.register_source(request.clone())).await?;
        }
        if self.config.log_source {
            self.register_servers().await?;
        }
        for region in self.config.members.clone() {
            self.progress.doing(format!("opening accounts in {region}"));
            let address = member_address(SOURCE, region);
            let mut teller = Teller::new(self.env.clone(), self.config.clone(), region, &address)
                .map_err(Failure::harness)?;
            teller.open_accounts().await.map_err(Failure::harness)?;
        }
        Ok(())
    }

    /// Registers the source whose history is a log, and the one that it is restored into.
    async fn register_servers(&self) -> Result<(), Failure> {
        for source in [LOG_SOURCE, LOG_SPARE] {
            let member = |region: &&str| v1::Member {
                name: (*region).to_owned(),
                locality: format!("region={region}"),
                address: server_address(source, region),
                ..v1::Member::default()
            };
            let request = v1::RegisterSourceRequest {
                name: source.to_owned(),
                kind: "postgres".to_owned(),
                members: self.config.members.iter().map(member).collect(),
            };
            surely(|| self.client.register_source(request.clone())).await?;
        }
        Ok(())
    }

    /// Waits for the end of the faults, resumes what is paused, and waits for the end of every job; then serves fresh requests.
    async fn converge(&self) -> Result<(), Failure> {
        while self.progress.stage() < Stage::Heal {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.end_all().await?;
        self.serve().await?;
        timekeeper::run_each_and_drop(self).await?;
        // What schedules have begun meanwhile.
        self.end_all().await?;
        self.progress.enter(Stage::Audit);
        Ok(())
    }

    /// Resumes what is paused, and waits for the end of every job.
    async fn end_all(&self) -> Result<(), Failure> {
        let operator = self.operator("eve");
        loop {
            self.progress
                .doing(format!("unfinished: {}", self.oracle.unfinished()));
            let looked = operator.look().await?;
            let unfinished: Vec<_> = self
                .oracle
                .jobs()
                .into_iter()
                .filter(|job| !is_terminal(job))
                .collect();
            if looked.is_ok() && unfinished.is_empty() {
                return Ok(());
            }
            for job in unfinished.iter().filter(|job| job.state == "paused") {
                self.resume(job.id).await?;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn resume(&self, job: u64) -> Result<(), Failure> {
        let request = v1::ControlJobRequest {
            job,
            verb: "resume".to_owned(),
            reason: String::new(),
        };
        match self.client.control_job(request).await {
            Ok(_) => Ok(()),
            Err(fault) => judge(&fault),
        }
    }

    /// A fresh full, an incremental on it with history.
    async fn serve(&self) -> Result<(), Failure> {
        use v1::submit_backup_request::Layer;
        let mut layers = vec![
            (SOURCE, COLLECTION, Layer::Full(true), false, "serve-full"),
            (
                SOURCE,
                COLLECTION,
                Layer::AppendToLatest(true),
                true,
                "serve-incremental",
            ),
        ];
        if self.config.log_source {
            let append = Layer::AppendToLatest(true);
            layers.push((
                LOG_SOURCE,
                LOG_COLLECTION,
                Layer::Full(true),
                false,
                "serve-base",
            ));
            layers.push((LOG_SOURCE, LOG_COLLECTION, append, false, "serve-changes"));
        }
        for (source, into, layer, history, key) in layers {
            let (into, more_into) = self.config.stores_to_write(into);
            let request = v1::SubmitBackupRequest {
                request_key: key.to_owned(),
                source: source.to_owned(),
                into,
                more_into,
                revision_history: history,
                layer: Some(layer),
                ..v1::SubmitBackupRequest::default()
            };
            self.progress.doing(format!("submitting {key}"));
            let answer = surely(|| self.client.submit_backup(request.clone())).await?;
            self.succeed(answer.job, key).await?;
        }
        Ok(())
    }

    /// Waits for a job that must succeed.
    pub(crate) async fn succeed(&self, job: u64, what: &str) -> Result<v1::Job, Failure> {
        loop {
            let seen = surely(|| self.client.get_job(job)).await?;
            self.progress.doing(format!(
                "{what}: job {job} {} {:?}",
                seen.state, seen.waiting
            ));
            self.oracle.note(seen.clone())?;
            if seen.state == "succeeded" {
                return Ok(seen);
            }
            if is_terminal(&seen) {
                return Err(Failure::Liveness(format!(
                    "L1: {what}, with nothing failing any more, ended {}: {:?} {:?}",
                    seen.state, seen.error, seen.execution_errors
                )));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Does something that must succeed now, give or take a change of leaders.
pub(crate) async fn surely<T, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut attempt = 0;
    loop {
        attempt += 1;
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(fault) => {
                judge(&fault)?;
                let passing = fault.is_retryable() || fault.code == ErrorCode::Unknown;
                if !passing || attempt == ATTEMPTS {
                    return Err(Failure::Liveness(format!(
                        "L1: a request fails although nothing else does: {fault}"
                    )));
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
