//! What a command needs of a cluster, in this process and for as long as the command. It is the same code that a cluster
//! runs, with one coordinator and one worker on loopback, so that there is no second, less tested way to back up and restore.

mod state;

pub(crate) use state::StateDirectory;

use holdfast_client::{ControlApi, v1};
use holdfast_collection::StoreOptions;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, JobState, Locality};
use std::time::Duration;

use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, follow, report, state_of};
use crate::roles::{self, CoordinatorRole, RunningCoordinator, RunningWorker, WorkerRole};

/// What the source of a local job is called while it runs.
pub(crate) const LOCAL_SOURCE: &str = "local";

/// Tasks that the one worker does at once, unless told otherwise.
pub(crate) const SLOTS: u32 = 4;
/// How long the cluster may take to elect itself.
const COMES_UP_WITHIN: Duration = Duration::from_secs(20);
/// How long servers may take to let go of what a job held, after its end.
const LETS_GO_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at whether something has come about.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    coordinator: RunningCoordinator,
    worker: RunningWorker,
    directory: StateDirectory,
}

impl LocalCluster {
    /// Starts one that leaves nothing behind, and waits until it takes requests.
    pub(crate) async fn start(env: &Env) -> Result<Self, Fault> {
        Self::start_in(env, StateDirectory::temporary()?, SLOTS, None).await
    }

    /// Starts one with its state in a directory, and waits until it takes requests.
    pub(crate) async fn start_in(
        env: &Env,
        directory: StateDirectory,
        slots: u32,
        pg_tools: Option<String>,
    ) -> Result<Self, Fault> {
        let key_file = directory.path("cluster.key");
        roles::make_key(env, &key_file).await?;
        let coordinator = roles::start_coordinator(
            env,
            CoordinatorRole {
                node: 1,
                listen: "127.0.0.1:0".to_owned(),
                advertise: None,
                data_dir: directory.path("coordinator"),
                key_file: key_file.clone(),
                stores: StoreOptions::default(),
                alone: true,
                for_good: true,
            },
        )
        .await?;
        // A worker that meets no leader rests before it tries again.
        until(env, async || Ok(coordinator.is_in_office())).await?;
        let worker = roles::start_worker(
            env,
            WorkerRole {
                id: "local".parse()?,
                locality: Locality::default(),
                slots,
                coordinators: vec![coordinator.address.clone()],
                key_file,
                stores: StoreOptions::default(),
                work_dir: Some(directory.path("work")),
                pg_tools,
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

    /// Registers its source, or tells it where the members are now.
    pub(crate) async fn register(
        &self,
        kind: String,
        mut members: Vec<v1::Member>,
    ) -> Result<(), Fault> {
        for member in &mut members {
            // The one worker of this process stands in for those of every locality.
            member.locality.clear();
        }
        let request = v1::RegisterSourceRequest {
            name: LOCAL_SOURCE.to_owned(),
            kind,
            members,
        };
        match self.api().register_source(request.clone()).await {
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                self.api().update_source(request).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// The job that an earlier process with this state did not bring to its end. One that was being undone is undone now, and is none.
    pub(crate) async fn unfinished(&self, context: &Context) -> Result<Option<u64>, Fault> {
        let request = v1::ListJobsRequest {
            all: true,
            ..v1::ListJobsRequest::default()
        };
        let jobs = self.api().list_jobs(request).await?.jobs;
        let mut unfinished = None;
        for job in jobs {
            match state_of(&job) {
                Some(state) if state.is_terminal() => {}
                Some(JobState::Pending | JobState::Running) => unfinished = Some(job.id),
                Some(JobState::Paused | JobState::PauseRequested) => {
                    let resume = v1::ControlJobRequest {
                        job: job.id,
                        verb: "resume".to_owned(),
                        reason: String::new(),
                    };
                    self.api().control_job(resume).await?;
                    unfinished = Some(job.id);
                }
                _ => {
                    follow(context, self.api(), job.id, Until::Ended).await?;
                }
            }
        }
        Ok(unfinished)
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

    /// Waits until servers have let go of what jobs held. Whether the state is needed: for the incrementals of a chain, or because a
    /// job is not over.
    pub(crate) async fn settle(&self, context: &Context) -> Result<bool, Fault> {
        let deadline = context.env.clock.monotonic() + LETS_GO_WITHIN;
        loop {
            let jobs = self.api().list_jobs(v1::ListJobsRequest::default()).await?;
            let is_over = |job: &v1::Job| state_of(job).is_some_and(JobState::is_terminal);
            if !jobs.jobs.iter().all(is_over) {
                return Ok(true);
            }
            let holds = self.api().cluster_status().await?.holds;
            if !holds.iter().any(|hold| hold.state == "releasing") {
                return Ok(!holds.is_empty());
            }
            if context.env.clock.monotonic() > deadline {
                context.output.note(
                    "a server did not let go of what the job held: run the same command again when it can be reached",
                );
                return Ok(true);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it; its directory is what is left.
    pub(crate) async fn stop(self) -> StateDirectory {
        self.worker.shutdown().await;
        self.coordinator.shutdown().await;
        self.directory
    }

    async fn ready(&self, env: &Env) -> Result<(), Fault> {
        let ready = async || {
            match self.api().cluster_status().await {
                // A state that was kept knows the worker of the process before.
                Ok(status) => {
                    Ok(status.leader != 0 && status.workers.iter().any(|it| it.connected))
                }
                Err(fault) if fault.is_retryable() => Ok(false),
                Err(fault) => Err(fault),
            }
        };
        until(env, ready).await
    }
}

/// Waits until the cluster is so far.
async fn until(
    env: &Env,
    mut is_so: impl AsyncFnMut() -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let deadline = env.clock.monotonic() + COMES_UP_WITHIN;
    while !is_so().await? {
        if env.clock.monotonic() > deadline {
            return Err(Fault::new(
                ErrorCode::Unavailable,
                "the cluster inside this process did not come up",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
