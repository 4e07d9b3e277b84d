//! Starting the roles of a process. Front-end commands see only `ControlApi`; this is where the binary is wired together.

mod signals;
mod sources;

pub(crate) use signals::interrupted;

use holdfast_client::{ControlApi, Verifiers};
use holdfast_collection::{StoreOptions, SystemStores};
use holdfast_coordinator::{
    Bootstrap, Coordinator, CoordinatorConfig, CoordinatorHandle, RaftConfig,
};
use holdfast_env::Env;
use holdfast_mvcc::{MvccStore, ServeHandle, serve};
use holdfast_node::ClusterKey;
use holdfast_sql::{SqlOptions, SqlServer};
use holdfast_types::{ErrorCode, Fault, Locality, Millis, NodeId, WorkerId};
use holdfast_worker::{Worker, WorkerConfig, WorkerHandle};
use serde::{Deserialize, Serialize};
use sources::Sources;
use std::sync::Arc;
use std::time::Duration;

/// How long a node that is alone for good listens for others.
const ALONE: Duration = Duration::from_millis(40);

/// What a process prints when it has started: the first line of its stdout with `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartedView {
    /// Where it listens, if it does.
    pub(crate) address: Option<String>,
    /// Where it listens for SQL, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sql_address: Option<String>,
}

/// A coordinator to start.
#[derive(Debug)]
pub(crate) struct CoordinatorRole {
    pub(crate) node: u64,
    pub(crate) listen: String,
    /// What it listens on, if `None`.
    pub(crate) advertise: Option<String>,
    pub(crate) data_dir: String,
    pub(crate) key_file: String,
    /// What it allows stores.
    pub(crate) stores: StoreOptions,
    /// A cluster of one, which initialises itself.
    pub(crate) alone: bool,
    /// Nobody else will ever belong to the cluster: there is no leader to wait for.
    pub(crate) for_good: bool,
}

/// A worker to start.
#[derive(Debug)]
pub(crate) struct WorkerRole {
    pub(crate) id: WorkerId,
    pub(crate) locality: Locality,
    pub(crate) slots: u32,
    pub(crate) coordinators: Vec<String>,
    pub(crate) key_file: String,
    /// What it allows stores.
    pub(crate) stores: StoreOptions,
    /// What does not fit into memory goes here; below the system's temporary directory if `None`.
    pub(crate) work_dir: Option<String>,
    /// Where PostgreSQL's programs are looked for first.
    pub(crate) pg_tools: Option<String>,
}

/// A member of the embedded store to serve.
#[derive(Debug)]
pub(crate) struct MemberRole {
    pub(crate) directory: String,
    pub(crate) listen: String,
    /// How long history is kept; the store's own setting if `None`.
    pub(crate) time_to_live: Option<Millis>,
}

/// A coordinator that runs.
#[derive(Debug)]
pub(crate) struct RunningCoordinator {
    /// Where it listens.
    pub(crate) address: String,
    /// What can be asked of it, without a wire in between.
    pub(crate) api: Arc<dyn ControlApi>,
    /// What the passwords of users are checked against.
    pub(crate) verifiers: Arc<dyn Verifiers>,
    handle: CoordinatorHandle,
}

impl RunningCoordinator {
    /// Whether it leads its cluster, and takes workers on.
    pub(crate) fn is_in_office(&self) -> bool {
        self.handle.is_in_office()
    }

    /// Waits until it can serve no more, and tells why.
    pub(crate) async fn ended(&self) -> Fault {
        self.handle.ended().await
    }

    /// Ends it in order.
    pub(crate) async fn shutdown(self) {
        self.handle.shutdown().await;
    }
}

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct RunningWorker(WorkerHandle);

impl RunningWorker {
    /// Waits until it has ended; the error is why it may not go on.
    pub(crate) async fn ended(&self) -> Result<(), Fault> {
        self.0.ended().await
    }

    /// Ends it in order: its leases are given back.
    pub(crate) async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

/// Reads the cluster key.
async fn read_key(env: &Env, path: &str) -> Result<ClusterKey, Fault> {
    let (disk, path) = (Arc::clone(&env.disk), path.to_owned());
    env.blocking(move || ClusterKey::read(disk.as_ref(), &path))
        .await
}

/// Makes the cluster key file unless it is there.
pub(crate) async fn make_key(env: &Env, path: &str) -> Result<(), Fault> {
    let (disk, entropy) = (Arc::clone(&env.disk), Arc::clone(&env.entropy));
    let path = path.to_owned();
    env.blocking(move || {
        ClusterKey::read_or_create(disk.as_ref(), entropy.as_ref(), &path).map(drop)
    })
    .await
}

/// Makes a directory of the process's own.
pub(crate) async fn make_directory(env: &Env, path: &str) -> Result<(), Fault> {
    let (disk, directory) = (Arc::clone(&env.disk), path.to_owned());
    env.blocking(move || disk.create_dir_all(&directory))
        .await
        .map_err(|error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot make directory {path}: {error}"),
            )
        })
}

/// Starts a coordinator.
pub(crate) async fn start_coordinator(
    env: &Env,
    role: CoordinatorRole,
) -> Result<RunningCoordinator, Fault> {
    let key = read_key(env, &role.key_file).await?;
    let mut raft = RaftConfig::new(
        NodeId(role.node),
        role.data_dir,
        role.advertise.unwrap_or_default(),
    );
    if role.for_good {
        raft.election_min = ALONE;
        raft.election_max = 2 * ALONE;
        raft.heartbeat = ALONE / 2;
    }
    let mut config = CoordinatorConfig::new(raft, role.listen, key);
    if role.alone {
        config.bootstrap = Bootstrap::Init(Vec::new());
    }
    let stores = Arc::new(SystemStores::with_options(env, role.stores));
    let handle = Coordinator::start(config, env.clone(), stores).await?;
    Ok(RunningCoordinator {
        address: handle.address().to_owned(),
        api: Arc::new(handle.api()),
        verifiers: Arc::new(handle.api()),
        handle,
    })
}

/// Listens for SQL on behalf of a coordinator.
pub(crate) async fn start_sql(
    env: &Env,
    options: SqlOptions,
    coordinator: &RunningCoordinator,
) -> Result<SqlServer, Fault> {
    let api = Arc::clone(&coordinator.api);
    let verifiers = Arc::clone(&coordinator.verifiers);
    SqlServer::start(options, env.clone(), api, verifiers).await
}

/// Starts a worker.
pub(crate) async fn start_worker(env: &Env, role: WorkerRole) -> Result<RunningWorker, Fault> {
    let key = read_key(env, &role.key_file).await?;
    let work_dir = role.work_dir.unwrap_or_else(|| temporary(&key, &role.id));
    let sources = Arc::new(Sources::new(env, key.clone(), work_dir, role.pg_tools));
    let mut config = WorkerConfig::new(role.id, role.coordinators, key);
    config.locality = role.locality;
    config.slots = role.slots;
    let stores = Arc::new(SystemStores::with_options(env, role.stores));
    Worker::start(config, env.clone(), sources, stores).map(RunningWorker)
}

/// Where a worker's files go that was not told: the same place after a restart, which empties it, and that of no other worker.
fn temporary(key: &ClusterKey, worker: &WorkerId) -> String {
    let directory = std::env::temp_dir();
    let directory = directory.to_string_lossy();
    format!("{directory}/holdfast-{}-{worker}", key.tag())
}

/// A member that is served.
#[derive(Debug)]
pub(crate) struct RunningMember(ServeHandle);

impl RunningMember {
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.0.address().to_owned()
    }

    /// Ends it in order.
    pub(crate) async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

/// Serves a member of the embedded store.
pub(crate) async fn start_member(env: &Env, role: MemberRole) -> Result<RunningMember, Fault> {
    let store = MvccStore::open(
        env.clone(),
        &role.directory,
        holdfast_mvcc::StoreOptions::default(),
    )
    .await?;
    if let Some(ttl) = role.time_to_live {
        store.set_time_to_live(ttl).await?;
    }
    serve(env, &role.listen, store).await.map(RunningMember)
}
