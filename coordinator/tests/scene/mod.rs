//! A coordinator in a temporary directory, and workers that do what the test says.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses another part of the scene"
)]

mod fake_worker;
mod log;
mod place;
mod trio;

pub(crate) use fake_worker::{FakeWorker, Manner};
pub(crate) use log::{AHEAD, BARE, LOOSE};
pub(crate) use place::Place;
pub(crate) use trio::Trio;

use holdfast_client::ControlApi;
use holdfast_collection::{StoreProvider, SystemStores};
use holdfast_coordinator::{
    Bootstrap, Coordinator, CoordinatorConfig, CoordinatorHandle, ViolationHook,
};
use holdfast_env::Env;
use holdfast_node::ClusterKey;
use holdfast_proto::v1;
use holdfast_raft::RaftConfig;
use holdfast_types::NodeId;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One coordinator with its collections in memory.
pub(crate) struct Scene {
    pub(crate) handle: CoordinatorHandle,
    pub(crate) api: Coordinator,
    pub(crate) env: Env,
    pub(crate) stores: Arc<dyn StoreProvider>,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn cluster_key() -> ClusterKey {
    ClusterKey::from_bytes(&[7; 32])
}

pub(crate) fn config(directory: &Path, node: u64) -> CoordinatorConfig {
    let data_dir = directory.join(format!("node-{node}"));
    let mut raft = RaftConfig::new(NodeId(node), data_dir.display().to_string(), "");
    raft.heartbeat = Duration::from_millis(50);
    raft.election_min = Duration::from_millis(200);
    raft.election_max = Duration::from_millis(400);
    raft.disk_reserve = 0;
    let mut config = CoordinatorConfig::new(raft, "127.0.0.1:0", cluster_key());
    config.lease_margin = Duration::from_millis(200);
    config.effect_rest_first = Duration::from_millis(20);
    config.effect_rest_most = Duration::from_millis(200);
    config.io_timeout = Duration::from_secs(1);
    config.hold_look_every = Duration::from_millis(100);
    config.check_invariants = true;
    config.on_violation = ViolationHook::new(|violations| panic!("{violations:?}"));
    config
}

impl Scene {
    /// A cluster of one, in office, with short leases and one source, `bank`, with members in the given localities.
    pub(crate) async fn start(localities: &[&str]) -> Self {
        let stores = Arc::new(SystemStores::new(Env::system().disk));
        Self::start_with(localities, stores).await
    }

    /// The same with these stores.
    pub(crate) async fn start_with(localities: &[&str], stores: Arc<dyn StoreProvider>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let env = Env::system();
        let mut config = config(directory.path(), 1);
        config.bootstrap = Bootstrap::Init(Vec::new());
        let handle = Coordinator::start(config, env.clone(), Arc::clone(&stores))
            .await
            .expect("a coordinator");
        let api = handle.api();
        let scene = Self {
            handle,
            api,
            env,
            stores,
            directory,
        };
        scene.in_office().await;
        scene.set("lease_ttl_ms", 500).await;
        scene.set("task_backoff_ms", 50).await;
        scene
            .api
            .register_source(source("bank", localities))
            .await
            .expect("registered");
        scene
    }

    /// The same node again, as after a restart of its process.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            handle,
            env,
            stores,
            directory,
            ..
        } = self;
        handle.shutdown().await;
        let handle = Coordinator::start(
            config(directory.path(), 1),
            env.clone(),
            Arc::clone(&stores),
        )
        .await
        .expect("a coordinator");
        let scene = Self {
            api: handle.api(),
            handle,
            env,
            stores,
            directory,
        };
        scene.in_office().await;
        scene
    }

    pub(crate) async fn in_office(&self) {
        until("the node is in office", || async {
            self.handle.is_in_office().then_some(())
        })
        .await;
    }

    pub(crate) async fn set(&self, name: &str, value: u64) {
        self.api.set_setting(name, value).await.expect("a setting");
    }

    pub(crate) async fn submit(&self, request: v1::SubmitBackupRequest) -> u64 {
        self.api.submit_backup(request).await.expect("accepted").job
    }

    pub(crate) async fn job(&self, job: u64) -> v1::Job {
        self.api.get_job(job).await.expect("a job")
    }

    /// Waits until a job is in a state.
    pub(crate) async fn job_in(&self, job: u64, state: &str) -> v1::Job {
        until(&format!("job {job} is {state}"), || async {
            let job = self.job(job).await;
            (job.state == state).then_some(job)
        })
        .await
    }

    pub(crate) async fn control(&self, job: u64, verb: &str) -> v1::ControlJobResponse {
        let request = v1::ControlJobRequest {
            job,
            verb: verb.into(),
            reason: String::new(),
        };
        self.api.control_job(request).await.expect(verb)
    }

    /// Where its workers find it.
    pub(crate) fn place(&self) -> Place {
        Place {
            env: self.env.clone(),
            address: self.handle.address().to_owned(),
            stores: Arc::clone(&self.stores),
        }
    }

    pub(crate) async fn worker(&self, id: &str, locality: &str, manner: Manner) -> FakeWorker {
        FakeWorker::join(&self.place(), id, 1, locality, manner)
            .await
            .expect("taken on")
    }
}

pub(crate) fn source(name: &str, localities: &[&str]) -> v1::RegisterSourceRequest {
    v1::RegisterSourceRequest {
        name: name.into(),
        kind: "mvcc".into(),
        members: localities
            .iter()
            .enumerate()
            .map(|(index, locality)| v1::Member {
                name: format!("m{}", index + 1),
                locality: (*locality).into(),
                address: "127.0.0.1:1".into(),
                ..v1::Member::default()
            })
            .collect(),
    }
}

pub(crate) fn full() -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        source: "bank".into(),
        into: "memory://vault".into(),
        layer: Some(v1::submit_backup_request::Layer::Full(true)),
        ..v1::SubmitBackupRequest::default()
    }
}

pub(crate) fn incremental() -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        layer: Some(v1::submit_backup_request::Layer::AppendToLatest(true)),
        ..full()
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Runs a test on a thread of its own, as a process runs its actors.
pub(crate) fn play<F: Future<Output = ()>>(scene: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, scene);
}
