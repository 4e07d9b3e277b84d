//! A small cluster in one process: real sockets on loopback, disks in memory that lose what was not synced.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses a part of it"
)]

mod net;
mod toy;

pub use net::CuttableNet;
pub use toy::{Append, Toy};

use holdfast_env::{Disk, Env, MemoryDisk};
use holdfast_raft::{Node, RaftConfig, Standing};
use holdfast_types::{ClusterId, Fault, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The id of the clusters here.
pub const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Where every node keeps its files, each on a disk of its own.
pub const DIR: &str = "/data";

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One coordinator: its disk and network outlive its lives.
pub struct Host {
    pub id: u64,
    pub address: String,
    pub disk: MemoryDisk,
    pub net: Arc<CuttableNet>,
    pub node: Node<Toy>,
    server: JoinHandle<()>,
    tune: fn(&mut RaftConfig),
}

/// Timing that suits tests on a loaded machine.
pub fn config(id: u64, address: &str) -> RaftConfig {
    RaftConfig {
        heartbeat: Duration::from_millis(80),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(700),
        request_timeout: Duration::from_secs(10),
        membership_timeout: PATIENCE,
        disk_check_interval: Duration::from_millis(50),
        cache_bytes: 1024 * 1024,
        ..RaftConfig::new(NodeId(id), DIR, address)
    }
}

pub fn env(disk: &MemoryDisk, net: &Arc<CuttableNet>) -> Env {
    Env {
        disk: Arc::new(disk.clone()),
        net: Arc::clone(net) as Arc<_>,
        ..Env::system()
    }
}

impl Host {
    /// A new node on an empty disk.
    pub async fn new(id: u64, tune: fn(&mut RaftConfig)) -> Self {
        let net = Arc::new(CuttableNet::default());
        let disk = MemoryDisk::new();
        Self::begin(id, None, disk, net, tune)
            .await
            .expect("a new node starts")
    }

    async fn begin(
        id: u64,
        address: Option<String>,
        disk: MemoryDisk,
        net: Arc<CuttableNet>,
        tune: fn(&mut RaftConfig),
    ) -> Result<Self, Fault> {
        let env = env(&disk, &net);
        let wanted = address.unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let listener = env.net.listen(&wanted).await.expect("listens");
        let address = listener.local_address();
        let mut config = config(id, &address);
        tune(&mut config);
        let node = Node::start(config, env).await?;
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_millis(500)))
            .http2_keepalive_timeout(Some(Duration::from_millis(500)))
            .add_service(node.service())
            .serve_with_incoming(holdfast_proto::incoming(listener));
        let server = tokio::spawn(async move { server.await.expect("serves") });
        Ok(Self {
            id,
            address,
            disk,
            net,
            node,
            server,
            tune,
        })
    }

    /// Stops it in good order.
    pub async fn stop(self) -> Stopped {
        self.node.shutdown().await;
        let disk = self.disk.clone();
        self.close(disk).await
    }

    /// Cuts its power: its disk forgets what was not synced, its connections break.
    pub async fn kill(self, seed: u64) -> Stopped {
        let disk = self.disk.crash(seed);
        self.close(disk).await
    }

    async fn close(self, disk: MemoryDisk) -> Stopped {
        self.net.cut(true);
        self.server.abort();
        assert!(self.server.await.expect_err("aborted").is_cancelled());
        Stopped {
            id: self.id,
            address: self.address,
            disk,
            tune: self.tune,
        }
    }

    pub async fn append(&self, value: u64) -> Result<u64, Fault> {
        self.node.propose(&Append::new(value)).await
    }

    pub fn values(&self) -> Vec<u64> {
        self.node.read(|toy| toy.values.clone())
    }

    pub fn is_leader(&self) -> bool {
        self.node.leadership().borrow().is_self
    }

    pub fn term(&self) -> u64 {
        self.node.leadership().borrow().term
    }

    pub async fn wait_standing(&self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = self.node.standing();
        let found = tokio::time::timeout(PATIENCE, standing.wait_for(|s| wanted(s)))
            .await
            .expect("in time")
            .expect("watched");
        found.clone()
    }
}

/// A node that does not run.
pub struct Stopped {
    pub id: u64,
    pub address: String,
    pub disk: MemoryDisk,
    pub tune: fn(&mut RaftConfig),
}

impl Stopped {
    pub async fn start(self) -> Host {
        self.try_start().await.expect("starts again")
    }

    pub async fn try_start(self) -> Result<Host, Fault> {
        let net = Arc::new(CuttableNet::default());
        Host::begin(self.id, Some(self.address), self.disk, net, self.tune).await
    }
}

/// Starts nodes 1 to `count` and founds a cluster.
pub async fn found(count: u64, tune: fn(&mut RaftConfig)) -> Vec<Host> {
    let mut hosts = Vec::new();
    for id in 1..=count {
        hosts.push(Host::new(id, tune).await);
    }
    let members: BTreeMap<NodeId, String> = hosts
        .iter()
        .map(|host| (NodeId(host.id), host.address.clone()))
        .collect();
    hosts[0]
        .node
        .initialize(CLUSTER, members)
        .await
        .expect("is founded");
    hosts
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

/// Waits for a leader that its followers know, and gives its place in the list.
pub async fn leader(hosts: &[Host]) -> usize {
    let found = || {
        let leader = hosts.iter().position(Host::is_leader)?;
        let id = hosts[leader].id;
        hosts
            .iter()
            .all(|host| {
                let leadership = host.node.leadership();
                let known = leadership.borrow().leader.as_ref().map(|(node, _)| node.0);
                known == Some(id)
            })
            .then_some(leader)
    };
    eventually("one leader that all know", || found().is_some()).await;
    found()
        .or_else(|| hosts.iter().position(Host::is_leader))
        .expect("a leader")
}

/// Waits until all nodes have applied the same, and checks that they agree.
pub async fn converge(hosts: &[Host]) {
    eventually("all nodes applied the same", || {
        let first = hosts[0].node.digest();
        hosts.iter().all(|host| host.node.digest() == first)
    })
    .await;
}

/// Repeats what may fail for a moment, as when the leader changes.
pub async fn insist(mut action: impl AsyncFnMut() -> Result<(), Fault>) {
    let insisted = tokio::time::timeout(PATIENCE, async {
        while let Err(fault) = action().await {
            assert!(fault.is_retryable(), "{fault}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    insisted.await.expect("in time");
}

/// The names of the files on a disk.
pub fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.list(DIR).expect("lists")
}
