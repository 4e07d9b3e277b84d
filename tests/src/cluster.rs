//! A cluster of real processes on loopback, with one mvcc member and some workers in each of its zones.

use futures::StreamExt;
use holdfast_client::{ClientOptions, ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_types::Fault;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::process::{Process, free_ports, run};

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Coordinators.
    pub coordinators: usize,
    /// Zones, each with a member.
    pub zones: usize,
    /// Workers in each zone.
    pub workers_per_zone: usize,
    /// Tasks that a worker does at once.
    pub slots: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            coordinators: 3,
            zones: 3,
            workers_per_zone: 2,
            slots: 2,
        }
    }
}

/// A running cluster. Dropping it kills every process and removes every file.
#[derive(Debug)]
pub struct Cluster {
    /// The coordinators; index i has node id i + 1.
    pub coordinators: Vec<Process>,
    /// The workers, zone by zone.
    pub workers: Vec<Process>,
    /// The members, one a zone.
    pub members: Vec<Process>,
    coordinator_addresses: Vec<String>,
    member_addresses: Vec<String>,
    client: GrpcClient,
    shape: Shape,
    directory: TempDir,
}

/// How long anything in these tests may take: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(120);

impl Cluster {
    /// Starts a cluster, gives it its identity, and registers its members as the source `bank`.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start(shape: Shape) -> Self {
        Self::start_prepared(shape, |_| {}).await
    }

    /// The same, with something done in the cluster's directory first.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start_prepared(shape: Shape, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        prepare(directory.path());
        let ports = free_ports(shape.coordinators + shape.zones);
        let addresses: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let (coordinators, members) = addresses.split_at(shape.coordinators);
        let client = GrpcClient::new(Env::system(), coordinators, ClientOptions::default())
            .expect("addresses");
        let mut cluster = Self {
            coordinators: Vec::new(),
            workers: Vec::new(),
            members: Vec::new(),
            coordinator_addresses: coordinators.to_vec(),
            member_addresses: members.to_vec(),
            client,
            shape,
            directory,
        };
        let key = cluster.path("cluster.key");
        let made = run(&["init", "--key-file", &key]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        for (node, address) in (1..).zip(coordinators) {
            cluster.start_coordinator(node, address);
        }
        for zone in 0..shape.zones {
            let process = cluster.member_process(zone);
            cluster.members.push(process);
            for number in 0..shape.workers_per_zone {
                let process = cluster.worker_process(zone, number);
                cluster.workers.push(process);
            }
        }
        cluster.init().await;
        cluster.register("bank").await;
        cluster
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_string_lossy()
            .into_owned()
    }

    /// Where the cluster's files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts another coordinator process; it waits until it is initialised or added.
    pub fn start_coordinator(&mut self, node: u64, address: &str) {
        self.start_coordinator_with(node, address, "cluster.key");
    }

    /// The same with a key file in the cluster's directory.
    pub fn start_coordinator_with(&mut self, node: u64, address: &str, key_file: &str) {
        let arguments = [
            "start",
            "--role",
            "coordinator",
            "--node-id",
            &node.to_string(),
            "--listen",
            address,
            "--data-dir",
            &self.path(&format!("c{node}")),
            "--key-file",
            &self.path(key_file),
        ];
        let process = Process::start(
            &format!("c{node}"),
            self.directory.path(),
            arguments.map(ToOwned::to_owned).to_vec(),
        );
        self.coordinators.push(process);
    }

    fn member_process(&self, zone: usize) -> Process {
        let arguments = [
            "mvcc",
            "serve",
            "--data-dir",
            &self.path(&format!("m{zone}")),
            "--listen",
            &self.member_addresses[zone],
        ];
        Process::start(
            &format!("m{zone}"),
            self.directory.path(),
            arguments.map(ToOwned::to_owned).to_vec(),
        )
    }

    fn worker_process(&self, zone: usize, number: usize) -> Process {
        let name = format!("w{zone}-{number}");
        let arguments = [
            "start",
            "--role",
            "worker",
            "--worker-id",
            &name,
            "--join",
            &self.coordinator_addresses.join(","),
            "--key-file",
            &self.path("cluster.key"),
            "--locality",
            &format!("zone=z{zone}"),
            "--slots",
            &self.shape.slots.to_string(),
            "--work-dir",
            &self.path(&format!("work-{name}")),
        ];
        Process::start(
            &name,
            self.directory.path(),
            arguments.map(ToOwned::to_owned).to_vec(),
        )
    }

    async fn init(&self) {
        let members = self
            .coordinator_addresses
            .iter()
            .zip(1..)
            .map(|(address, node)| v1::MemberAddress {
                node,
                address: address.clone(),
            })
            .collect();
        let request = v1::InitClusterRequest { members };
        eventually("the cluster takes its identity", || async {
            match self.client.init_cluster(request.clone()).await {
                Ok(_) => Some(()),
                Err(fault) if fault.code == holdfast_types::ErrorCode::AlreadyExists => Some(()),
                Err(_) => None,
            }
        })
        .await;
        let expected = self.shape.zones * self.shape.workers_per_zone;
        eventually("all workers are registered", || async {
            let status = self.client.cluster_status().await.ok()?;
            (status.workers.len() == expected).then_some(())
        })
        .await;
    }

    /// Registers the members as a source.
    ///
    /// # Panics
    /// The cluster refuses.
    pub async fn register(&self, name: &str) {
        let members = self
            .member_addresses
            .iter()
            .enumerate()
            .map(|(zone, address)| v1::Member {
                name: format!("m{zone}"),
                locality: format!("zone=z{zone}"),
                address: address.clone(),
                ..v1::Member::default()
            })
            .collect();
        let request = v1::RegisterSourceRequest {
            name: name.to_owned(),
            kind: "mvcc".to_owned(),
            members,
        };
        self.client
            .register_source(request)
            .await
            .expect("a new source");
    }

    /// A client of all coordinators.
    #[must_use]
    pub fn client(&self) -> &GrpcClient {
        &self.client
    }

    /// The coordinators' addresses.
    #[must_use]
    pub fn coordinator_addresses(&self) -> &[String] {
        &self.coordinator_addresses
    }

    /// The members' addresses.
    #[must_use]
    pub fn member_addresses(&self) -> &[String] {
        &self.member_addresses
    }

    /// The collection of the tests, as a URI.
    #[must_use]
    pub fn collection(&self) -> String {
        format!("file://{}", self.path("backups"))
    }

    /// Index of the leader among the coordinators.
    pub async fn leader(&self) -> usize {
        eventually("there is a leader", || async {
            let status = self.client.cluster_status().await.ok()?;
            usize::try_from(status.leader).ok()?.checked_sub(1)
        })
        .await
    }

    /// Makes parts and spans small, so that jobs have many and kills land in the middle.
    pub async fn small_parts(&self, part: u64, span: u64) {
        self.client
            .set_setting("part_size_bytes", part)
            .await
            .expect("a legal setting");
        self.client
            .set_setting("span_size_bytes", span)
            .await
            .expect("a legal setting");
    }

    /// Starts a backup of the source `bank`; `append` makes it an incremental.
    pub async fn backup(&self, append: bool, history: bool) -> u64 {
        let request = self.backup_request(append, history);
        self.client
            .submit_backup(request)
            .await
            .expect("a backup job")
            .job
    }

    /// What [`Cluster::backup`] sends.
    #[must_use]
    pub fn backup_request(&self, append: bool, history: bool) -> v1::SubmitBackupRequest {
        use v1::submit_backup_request::Layer;
        v1::SubmitBackupRequest {
            source: "bank".to_owned(),
            into: self.collection(),
            layer: Some(if append {
                Layer::AppendToLatest(true)
            } else {
                Layer::Full(true)
            }),
            revision_history: history,
            ..Default::default()
        }
    }

    /// Starts a restore of the database `bank` under another name.
    pub async fn restore(&self, as_of: &str, new_name: &str) -> u64 {
        let request = self.restore_request(as_of, new_name);
        self.client
            .submit_restore(request)
            .await
            .expect("a restore job")
            .job
    }

    /// What [`Cluster::restore`] sends.
    #[must_use]
    pub fn restore_request(&self, as_of: &str, new_name: &str) -> v1::SubmitRestoreRequest {
        v1::SubmitRestoreRequest {
            from: self.collection(),
            subdir: "LATEST".to_owned(),
            target: Some(v1::Target {
                databases: vec!["bank".to_owned()],
                tables: Vec::new(),
            }),
            as_of: as_of.to_owned(),
            new_db_name: new_name.to_owned(),
            ..Default::default()
        }
    }

    /// Follows a job until it satisfies a condition.
    ///
    /// # Panics
    /// It ends, or time runs out, before.
    pub async fn until(&self, job: u64, what: &str, done: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            let Ok(Ok(mut stream)) =
                tokio::time::timeout(Duration::from_secs(10), self.client.watch_job(job)).await
            else {
                continue;
            };
            while let Ok(Some(Ok(now))) =
                tokio::time::timeout(Duration::from_secs(20), stream.next()).await
            {
                if done(&now) {
                    return now;
                }
                let over = matches!(
                    now.state.as_str(),
                    "succeeded" | "failed" | "canceled" | "revert-failed"
                );
                assert!(!over, "job {job} ended before {what}: {now:#?}");
                last = Some(now);
            }
        }
        panic!("job {job} did not reach \"{what}\" in time: {last:#?}");
    }

    /// Waits until a share of a job's bytes is done, so that what follows happens in the middle.
    pub async fn until_fraction(&self, job: u64, fraction: f64) -> v1::Job {
        self.until(job, &format!("{fraction} done"), |job| {
            job.fraction_completed >= fraction
        })
        .await
    }

    /// Waits for a job's success.
    pub async fn succeeded(&self, job: u64) -> v1::Job {
        self.until(job, "success", |job| job.state == "succeeded")
            .await
    }

    /// Waits for a job's end in this state.
    ///
    /// # Panics
    /// It ends in another one.
    pub async fn until_over(&self, job: u64, state: &str) -> v1::Job {
        self.until(job, state, |job| job.state == state).await
    }

    /// Asks for pause, resume or cancel.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn control(&self, job: u64, verb: &str) -> Result<v1::Job, Fault> {
        let request = v1::ControlJobRequest {
            job,
            verb: verb.to_owned(),
            reason: String::new(),
        };
        Ok(self
            .client
            .control_job(request)
            .await?
            .job
            .unwrap_or_default())
    }
}

/// Tries until there is an answer.
///
/// # Panics
/// There is none in time.
pub async fn eventually<T, F, A>(what: &str, mut attempt: A) -> T
where
    A: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = attempt().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not in time: {what}");
}
