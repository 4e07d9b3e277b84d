//! `--local`: what the command needs of a cluster, in this process and for as long as the command. It is the same code that a cluster
//! runs, with one coordinator and one worker on loopback and a data directory that is removed afterwards, so that there is no second,
//! less tested way to restore.

use holdfast_client::{ControlApi, v1};
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, Locality};
use std::time::Duration;
use tempfile::TempDir;

use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, follow, report};
use crate::roles::{self, CoordinatorRole, RunningCoordinator, RunningWorker, WorkerRole};

/// Tasks that the one worker does at once.
const SLOTS: u32 = 4;
/// How long the cluster may take to elect itself.
const COMES_UP_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    coordinator: RunningCoordinator,
    worker: RunningWorker,
    directory: TempDir,
}

impl LocalCluster {
    /// Starts one and waits until it takes requests.
    pub(crate) async fn start(env: &Env) -> Result<Self, Fault> {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-local-")
            .tempdir()
            .map_err(|error| {
                Fault::new(
                    ErrorCode::Unavailable,
                    format!("cannot make a temporary directory: {error}"),
                )
                .hint("set TMPDIR to a directory that can be written")
            })?;
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let key_file = path("cluster.key");
        roles::make_key(env, &key_file).await?;
        let coordinator = roles::start_coordinator(
            env,
            CoordinatorRole {
                node: 1,
                listen: "127.0.0.1:0".to_owned(),
                advertise: None,
                data_dir: path("coordinator"),
                key_file: key_file.clone(),
                alone: true,
            },
        )
        .await?;
        let worker = roles::start_worker(
            env,
            WorkerRole {
                id: "local".parse()?,
                locality: Locality::default(),
                slots: SLOTS,
                coordinators: vec![coordinator.address.clone()],
                key_file,
            },
        )
        .await?;
        let cluster = Self {
            coordinator,
            worker,
            directory,
        };
        cluster.ready(env).await?;
        Ok(cluster)
    }

    /// What can be asked of it.
    pub(crate) fn api(&self) -> &dyn ControlApi {
        self.coordinator.api.as_ref()
    }

    /// Follows a job of it to its end and reports it. This process is all there is of the cluster, so Ctrl-C cancels the job and waits until
    /// what it made is undone; a second one gives that up too.
    pub(crate) async fn follow(&self, context: &Context, job: u64) -> Result<Exit, Fault> {
        if let Some(job) = follow(context, self.api(), job, Until::Ended).await? {
            return Ok(report(context, job));
        }
        context
            .output
            .note("interrupted: undoing what was done, Ctrl-C again to leave it");
        let cancel = v1::ControlJobRequest {
            job,
            verb: "cancel".to_owned(),
            reason: "interrupted".to_owned(),
        };
        self.api().control_job(cancel).await?;
        follow(context, self.api(), job, Until::Ended).await?;
        Ok(Exit::Interrupted)
    }

    /// Ends it and removes its files.
    pub(crate) async fn stop(self) {
        self.worker.shutdown().await;
        self.coordinator.shutdown().await;
        // What cannot be removed is in the system's temporary directory, and holds nothing but the log of a finished job.
        let _ = self.directory.close();
    }

    async fn ready(&self, env: &Env) -> Result<(), Fault> {
        let deadline = env.clock.monotonic() + COMES_UP_WITHIN;
        loop {
            let status = self.api().cluster_status().await;
            match status {
                Ok(status) if status.leader != 0 && !status.workers.is_empty() => return Ok(()),
                Err(fault) if !fault.is_retryable() => return Err(fault),
                _ if env.clock.monotonic() > deadline => {
                    return Err(Fault::new(
                        ErrorCode::Unavailable,
                        "the cluster inside this process did not come up",
                    ));
                }
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}
