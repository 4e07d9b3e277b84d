//! A coordinator process: one port with raft, workers, control, health and reflection, and the leader behind it.

use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use holdfast_keys::KeyService;
use holdfast_ledger::Ledger;
use holdfast_proto::{DESCRIPTORS, incoming};
use holdfast_raft::{KeyCheck, RaftNode, Standing};
use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

use crate::actors::leader::Leader;
use crate::api::{ControlService, Coordinator, init_cluster};
use crate::config::{Bootstrap, CoordinatorConfig};
use crate::core::Core;
use crate::job_ids::JobIds;
use crate::link::{WorkerLinkService, not_leader};
use crate::office::Desk;
use crate::replica::{ProposeLatency, Replica};

/// Between two HTTP/2 pings of the server, and for the answer: a worker or client whose machine has gone is noticed within the
/// sum. Longer than the clients wait: a worker that stutters under load keeps its stream, and its lease decides anyhow.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Streams of one connection.
const MAX_STREAMS: u32 = 1024;
/// Bytes of headers of one request.
const MAX_HEADERS: u32 = 16 * 1024;
/// For streams to end by themselves when the process goes.
const GRACE: Duration = Duration::from_millis(500);
/// Between two attempts to found the cluster that a node was told to found.
const INIT_PAUSE: Duration = Duration::from_millis(200);
/// The service that the health of the whole process is asked for by.
const CONTROL_SERVICE: &str = "holdfast.v1.Control";

impl Coordinator {
    /// Starts a coordinator on the current tokio `LocalSet`: its actors stay on this thread.
    ///
    /// With [`Bootstrap::Init`] and no other members, the cluster exists when this returns; with other members it is founded as
    /// soon as they can be reached.
    ///
    /// # Errors
    /// The address cannot be listened on, the data directory cannot be opened or belongs to another node or cluster, or to one with another
    /// key.
    pub async fn start(
        mut config: CoordinatorConfig,
        env: Env,
        stores: Arc<dyn StoreProvider>,
    ) -> Result<CoordinatorHandle, Fault> {
        let listener = env.net.listen(&config.listen).await.map_err(|error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot listen on {}: {error}", config.listen),
            )
            .hint("is another process using the port?")
        })?;
        let address = listener.local_address();
        if config.raft.advertised_address.is_empty() {
            config.raft.advertised_address.clone_from(&address);
        }
        config.raft.key_check = KeyCheck {
            value: config.cluster_key.check_value(),
            origin: config.cluster_key.origin().to_owned(),
        };
        let observer = config.on_apply.clone().map(|hook| hook.0);
        let node = RaftNode::start_observed(config.raft.clone(), env.clone(), observer).await?;
        let core = Arc::new(Core {
            replica: Replica::new(node, env.clone(), config.raft.election_min),
            ids: JobIds::new(config.raft.node),
            desk: Desk::default(),
            closing: CancellationToken::new(),
            keys: KeyService::new(env.clone()),
            config,
            env,
            stores,
        });
        let api = Coordinator::new(Arc::clone(&core), true);
        let server = serve(&core, &api, listener);
        let leader = Leader::start(Arc::clone(&core));
        let handle = CoordinatorHandle {
            core,
            api,
            address,
            server: Some(server),
            _leader: leader,
        };
        handle.bootstrap().await?;
        Ok(handle)
    }
}

/// Serves everything on one port until the core is closing.
fn serve(
    core: &Arc<Core>,
    api: &Coordinator,
    listener: Box<dyn holdfast_env::Listener>,
) -> JoinHandle<()> {
    let local = Coordinator::new(Arc::clone(core), false);
    let control = ControlService::new(Arc::new(api.clone()), Arc::new(local), core.config.limits);
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report_health(Arc::clone(core), reporter));
    let mut router = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .add_service(core.replica.node().service())
        .add_service(WorkerLinkService::new(Arc::clone(core)).into_server())
        .add_service(control.into_server())
        .add_service(health);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => router = router.add_service(reflection),
        // The descriptors are built in: a defect, but none that should keep a cluster from running.
        Err(error) => tracing::error!(%error, "no reflection"),
    }
    let closing = core.closing.clone();
    let node = core.config.raft.node;
    tokio::spawn(async move {
        let served = router
            .serve_with_incoming_shutdown(incoming(listener), closing.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%node, %error, "the server has failed");
        }
    })
}

/// Says that this node serves while it knows a leader: a load balancer then does not send requests to a node that is cut off.
async fn report_health(core: Arc<Core>, reporter: HealthReporter) {
    let mut leadership = core.replica.leadership();
    loop {
        let serves = leadership.borrow_and_update().leader.is_some();
        let status = if serves {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        reporter.set_service_status(CONTROL_SERVICE, status).await;
        tokio::select! {
            biased;
            () = core.closing.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// A running coordinator. Dropping it ends its actors and its server, but not raft: call [`CoordinatorHandle::shutdown`].
pub struct CoordinatorHandle {
    core: Arc<Core>,
    api: Coordinator,
    address: String,
    server: Option<JoinHandle<()>>,
    _leader: Leader,
}

impl Drop for CoordinatorHandle {
    fn drop(&mut self) {
        self.core.closing.cancel();
    }
}

impl fmt::Debug for CoordinatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorHandle")
            .field("node", &self.core.config.raft.node)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl CoordinatorHandle {
    /// The address that is listened on, with its real port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The node's API, without a wire in between.
    #[must_use]
    pub fn api(&self) -> Coordinator {
        self.api.clone()
    }

    /// The raft node, for checks and figures.
    #[must_use]
    pub fn raft(&self) -> &RaftNode {
        self.core.replica.node()
    }

    /// How long proposals took on this node so far.
    #[must_use]
    pub fn propose_latency(&self) -> ProposeLatency {
        self.core.replica.latency()
    }

    /// Whether this node is in office as the leader: its actors run, and workers are taken on.
    #[must_use]
    pub fn is_in_office(&self) -> bool {
        self.core.desk.present().is_some()
    }

    /// Waits until the node can serve no more: its storage failed, it was removed from the cluster, or the cluster has another key. The process should end then.
    pub async fn ended(&self) -> Fault {
        let mut standing = self.core.replica.node().standing();
        loop {
            match &*standing.borrow_and_update() {
                Standing::Running => {}
                Standing::Removed => {
                    return Fault::new(
                        ErrorCode::FailedPrecondition,
                        format!(
                            "node {} was removed from its cluster",
                            self.core.config.raft.node
                        ),
                    )
                    .hint("its data directory can be deleted");
                }
                Standing::Stopped(fault) => return fault.clone(),
            }
            if standing.changed().await.is_err() {
                return Fault::new(ErrorCode::Unavailable, "raft has stopped");
            }
        }
    }

    /// Stops: hands leadership over if it can, ends every stream, and lets the data directory go.
    pub async fn shutdown(mut self) {
        self.core.replica.node().shutdown().await;
        if let Some(present) = self.core.desk.present() {
            present.office.over.cancel();
            present.office.sessions.close_all(|| not_leader(&self.core));
            self.core.desk.vacate();
        }
        self.core.closing.cancel();
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(GRACE, &mut server).await.is_err()
        {
            // Watch streams last as long as their readers.
            server.abort();
        }
    }

    async fn bootstrap(&self) -> Result<(), Fault> {
        let Bootstrap::Init(members) = self.core.config.bootstrap.clone() else {
            return Ok(());
        };
        if self.core.replica.node().cluster().is_some() {
            return Ok(());
        }
        let own = self.core.config.raft.node;
        if members.iter().all(|(node, _)| *node == own) {
            init_cluster(&self.core, &members).await?;
            return Ok(());
        }
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            while core.replica.read(Ledger::cluster).is_none() && !core.closing.is_cancelled() {
                if let Err(fault) = init_cluster(&core, &members).await {
                    tracing::warn!(%fault, "cluster not founded yet");
                    tokio::time::sleep(INIT_PAUSE).await;
                }
            }
        });
        Ok(())
    }
}
