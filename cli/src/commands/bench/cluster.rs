//! A bench's cluster: real processes on loopback, in a directory that is removed afterwards.

use holdfast_client::{ClientOptions, ControlApi, GrpcClient, v1};
use holdfast_types::{ErrorCode, Fault};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

use super::process::{ANY_PORT, Process};
use super::scratch;
use crate::context::Context;
use crate::follow::{Until, follow};
use crate::output::Output;
use crate::roles;

/// How long the cluster may take to elect a leader.
const COMES_UP_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The source that is backed up.
pub(super) const SOURCE: &str = "from";

/// See the module. Dropping it kills everything.
#[derive(Debug)]
pub(super) struct BenchCluster {
    pub(super) coordinators: Vec<Process>,
    pub(super) api: GrpcClient,
    key_file: String,
    /// Last: removed when the processes are dead.
    directory: TempDir,
}

impl BenchCluster {
    /// Starts coordinators and waits until one of them leads.
    pub(super) async fn start(
        context: &Context,
        coordinators: u64,
        parent: Option<String>,
    ) -> Result<Self, Fault> {
        let directory = scratch(parent)?;
        let key_file = text(&directory.path().join("cluster.key"));
        roles::make_key(&context.env, &key_file).await?;
        let mut processes = Vec::new();
        for node in 1..=coordinators {
            let name = coordinator_name(node);
            let data = text(&directory.path().join(&name));
            let node = node.to_string();
            let arguments = [
                "start",
                "--role",
                "coordinator",
                "--node-id",
                &node,
                "--listen",
                ANY_PORT,
                "--data-dir",
                &data,
                "--key-file",
                &key_file,
            ];
            processes.push(Process::start(&name, directory.path(), &arguments).await?);
        }
        let addresses: Vec<String> = processes.iter().map(|p| p.address().to_owned()).collect();
        let api = GrpcClient::new(context.env.clone(), &addresses, ClientOptions::default())?;
        let members = (1..)
            .zip(&addresses)
            .map(|(node, address)| v1::MemberAddress {
                node,
                address: address.clone(),
            })
            .collect();
        api.init_cluster(v1::InitClusterRequest { members }).await?;
        let cluster = Self {
            coordinators: processes,
            api,
            key_file,
            directory,
        };
        cluster.until(context, |status| status.leader != 0).await?;
        Ok(cluster)
    }

    /// Where everything is.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file with the cluster's key.
    pub(super) fn key_file(&self) -> &str {
        &self.key_file
    }

    /// Where a coordinator keeps its log.
    pub(super) fn coordinator_directory(&self, node: u64) -> std::path::PathBuf {
        self.directory().join(coordinator_name(node))
    }

    /// The addresses of all coordinators.
    pub(super) fn addresses(&self) -> Vec<String> {
        let addresses = self.coordinators.iter().map(Process::address);
        addresses.map(ToOwned::to_owned).collect()
    }

    /// The coordinator that leads, as an index.
    pub(super) async fn leader(&self) -> Result<usize, Fault> {
        let leader = self.api.cluster_status().await?.leader;
        Ok(usize::try_from(leader.saturating_sub(1)).unwrap_or_default())
    }

    /// A directory with a name, as a collection.
    pub(super) fn collection(&self, name: &str) -> String {
        format!("file://{}", self.directory().join(name).display())
    }

    /// Starts a member of the embedded store, in a directory of its name.
    pub(super) async fn start_member(&self, name: &str) -> Result<Process, Fault> {
        let data = text(&self.directory().join(name));
        let arguments = ["mvcc", "serve", "--data-dir", &data, "--listen", ANY_PORT];
        Process::start(name, self.directory(), &arguments).await
    }

    /// Starts a worker, and waits until the leader knows it.
    pub(super) async fn start_worker(
        &self,
        context: &Context,
        name: &str,
        slots: u32,
    ) -> Result<Process, Fault> {
        let join = self.addresses().join(",");
        let slots = slots.to_string();
        let arguments = [
            "start",
            "--role",
            "worker",
            "--worker-id",
            name,
            "--slots",
            &slots,
            "--join",
            &join,
            "--key-file",
            &self.key_file,
        ];
        let worker = Process::start(name, self.directory(), &arguments).await?;
        self.until(context, |status| {
            status.workers.iter().any(|worker| worker.id == name)
        })
        .await?;
        Ok(worker)
    }

    /// Registers a source.
    pub(super) async fn register(
        &self,
        name: &str,
        members: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Fault> {
        let members = members
            .map(|(name, address)| v1::Member {
                name,
                locality: String::new(),
                address,
                ..v1::Member::default()
            })
            .collect();
        let request = v1::RegisterSourceRequest {
            name: name.to_owned(),
            kind: "mvcc".to_owned(),
            members,
        };
        self.api.register_source(request).await.map(drop)
    }

    /// Submits a full backup of [`SOURCE`]; gives its job.
    pub(super) async fn backup(&self, collection: &str) -> Result<u64, Fault> {
        let request = v1::SubmitBackupRequest {
            source: SOURCE.to_owned(),
            into: collection.to_owned(),
            layer: Some(v1::submit_backup_request::Layer::Full(true)),
            ..v1::SubmitBackupRequest::default()
        };
        Ok(self.api.submit_backup(request).await?.job)
    }

    /// Follows a job to its success, without a word: there may be many.
    pub(super) async fn succeeded(&self, context: &Context, job: u64) -> Result<v1::Job, Fault> {
        let silent = Context {
            output: Output::new(true),
            ..context.clone()
        };
        succeeded(&silent, &self.api, job).await
    }

    async fn until(
        &self,
        context: &Context,
        wanted: impl Fn(&v1::ClusterStatusResponse) -> bool,
    ) -> Result<(), Fault> {
        let deadline = context.env.clock.monotonic() + COMES_UP_WITHIN;
        while !wanted(&self.api.cluster_status().await?) {
            if context.env.clock.monotonic() > deadline {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    "the bench's cluster did not come up",
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

/// Follows a job to its success.
pub(super) async fn succeeded(
    context: &Context,
    api: &dyn ControlApi,
    job: u64,
) -> Result<v1::Job, Fault> {
    match follow(context, api, job, Until::Ended).await? {
        Some(job) if job.state == "succeeded" => Ok(job),
        Some(job) => {
            let why = job.error.map(|fault| fault.message).unwrap_or_default();
            Err(Fault::new(
                ErrorCode::Internal,
                format!("job {} is {}: {why}", job.id, job.state),
            ))
        }
        None => Err(Fault::new(
            ErrorCode::Cancelled,
            "the bench was interrupted",
        )),
    }
}

fn coordinator_name(node: u64) -> String {
    format!("coordinator-{node}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
