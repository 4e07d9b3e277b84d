//! Three coordinators in one process, over real loopback TCP.

use super::{PATIENCE, config, until};
use holdfast_client::{ClientOptions, ControlApi, GrpcClient};
use holdfast_collection::{StoreProvider, SystemStores};
use holdfast_coordinator::{Coordinator, CoordinatorHandle};
use holdfast_env::Env;
use holdfast_proto::v1;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Trio {
    pub(crate) env: Env,
    pub(crate) stores: Arc<dyn StoreProvider>,
    pub(crate) nodes: BTreeMap<u64, CoordinatorHandle>,
    directory: tempfile::TempDir,
}

impl Trio {
    /// Starts three nodes and founds a cluster of them.
    pub(crate) async fn start() -> Self {
        let env = Env::system();
        let mut trio = Self {
            stores: Arc::new(SystemStores::new(Arc::clone(&env.disk))),
            env,
            nodes: BTreeMap::new(),
            directory: tempfile::tempdir().expect("a directory"),
        };
        for node in 1..=3 {
            trio.start_node(node).await;
        }
        let members = trio
            .nodes
            .iter()
            .map(|(node, handle)| v1::MemberAddress {
                node: *node,
                address: handle.address().to_owned(),
            })
            .collect();
        trio.nodes[&1]
            .api()
            .init_cluster(v1::InitClusterRequest { members })
            .await
            .expect("founded");
        trio.leader().await;
        trio
    }

    /// Starts a node that waits to be added, or goes on where it was.
    pub(crate) async fn start_node(&mut self, node: u64) {
        let config = config(self.directory.path(), node);
        let handle = Coordinator::start(config, self.env.clone(), Arc::clone(&self.stores))
            .await
            .expect("a coordinator");
        self.nodes.insert(node, handle);
    }

    /// The node in office.
    pub(crate) async fn leader(&self) -> u64 {
        until("a leader is in office", || async {
            self.nodes
                .iter()
                .find(|(_, handle)| handle.is_in_office())
                .map(|(node, _)| *node)
        })
        .await
    }

    /// Any node that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self
            .nodes
            .keys()
            .find(|node| **node != leader)
            .expect("a follower")
    }

    pub(crate) async fn stop(&mut self, node: u64) {
        self.nodes
            .remove(&node)
            .expect("a running node")
            .shutdown()
            .await;
    }

    pub(crate) fn api(&self, node: u64) -> Coordinator {
        self.nodes[&node].api()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes
            .values()
            .map(|handle| handle.address().to_owned())
            .collect()
    }

    pub(crate) fn client(&self) -> GrpcClient {
        let options = ClientOptions {
            patience: PATIENCE,
            ..ClientOptions::default()
        };
        GrpcClient::new(self.env.clone(), &self.addresses(), options).expect("a client")
    }
}
