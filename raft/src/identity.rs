//! The file `identity.json`: which node of which cluster a data directory belongs to.

use holdfast_env::Env;
use holdfast_types::{ClusterId, ErrorCode, Fault, NodeId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

const FILE: &str = "identity.json";

/// The version that is written.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    version: u32,
    node: u64,
    /// As 32 hexadecimal digits; nothing until the node belongs to a cluster.
    cluster: Option<String>,
}

/// Who this node is. The cluster is set once, durably, before the node says anything in its name.
#[derive(Debug)]
pub(crate) struct Identity {
    env: Env,
    path: String,
    node: NodeId,
    cluster: Mutex<Option<ClusterId>>,
    /// Held while a cluster is being adopted.
    turn: tokio::sync::Mutex<()>,
}

impl Identity {
    /// Reads the identity of a data directory, or gives it one.
    ///
    /// # Errors
    /// `WrongCluster` if the directory belongs to another node or cluster; `Corrupted` if it cannot be told.
    pub(crate) async fn open(
        env: &Env,
        data_dir: &str,
        node: NodeId,
        cluster: Option<ClusterId>,
    ) -> Result<Self, Fault> {
        let path = format!("{data_dir}/{FILE}");
        let found = read(env, data_dir, &path).await?;
        if let Some((found_node, found_cluster)) = found {
            if found_node != node {
                return Err(Fault::new(
                    ErrorCode::WrongCluster,
                    format!(
                        "data directory {data_dir} belongs to node {found_node}, not to node {node}"
                    ),
                )
                .hint("start it with its own node id, or give this node an empty data directory"));
            }
            if let (Some(found), Some(wanted)) = (found_cluster, cluster)
                && found != wanted
            {
                return Err(Fault::new(
                    ErrorCode::WrongCluster,
                    format!("data directory {data_dir} belongs to cluster {found}, not to cluster {wanted}"),
                )
                .hint("start it with the cluster it belongs to, or give this node an empty data directory"));
            }
        }
        let identity = Self {
            env: env.clone(),
            path,
            node,
            cluster: Mutex::new(found.and_then(|(_, cluster)| cluster)),
            turn: tokio::sync::Mutex::new(()),
        };
        if found.is_none() || identity.cluster() != cluster.or(identity.cluster()) {
            let cluster = cluster.or(identity.cluster());
            identity.store(cluster).await?;
        }
        Ok(identity)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster, once there is one.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Belongs to a cluster from now on.
    ///
    /// # Errors
    /// `WrongCluster` if it belongs to another one.
    pub(crate) async fn adopt(&self, cluster: ClusterId) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        match self.cluster() {
            Some(own) if own == cluster => Ok(()),
            Some(own) => Err(self.wrong_cluster(own, cluster)),
            None => {
                self.store(Some(cluster)).await?;
                tracing::info!(node = %self.node, %cluster, "this node now belongs to a cluster");
                Ok(())
            }
        }
    }

    /// Whether a message is from this node's cluster and for this node. A node without a cluster takes any.
    pub(crate) fn check(&self, cluster: ClusterId, target: u64) -> Result<(), Fault> {
        if let Some(own) = self.cluster()
            && own != cluster
        {
            return Err(self.wrong_cluster(own, cluster));
        }
        if target == self.node.0 {
            Ok(())
        } else {
            Err(Fault::new(
                ErrorCode::WrongCluster,
                format!("a message for node {target} came to node {}", self.node),
            )
            .hint("two nodes advertise the same address; give each its own"))
        }
    }

    fn wrong_cluster(&self, own: ClusterId, other: ClusterId) -> Fault {
        Fault::new(
            ErrorCode::WrongCluster,
            format!(
                "node {} belongs to cluster {own}, not to cluster {other}",
                self.node
            ),
        )
        .hint("a node changes clusters only with an empty data directory and a new id")
    }

    async fn store(&self, cluster: Option<ClusterId>) -> Result<(), Fault> {
        let file = IdentityFile {
            version: VERSION,
            node: self.node.0,
            cluster: cluster.map(|cluster| cluster.to_string()),
        };
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let path = self.path.clone();
        let disk = Arc::clone(&self.env.disk);
        self.env
            .blocking(move || disk.write_atomically(&path, &text))
            .await
            .map_err(|error| crate::log_engine::storage_fault(&self.path, &error))?;
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
        Ok(())
    }
}

type Found = Option<(NodeId, Option<ClusterId>)>;

async fn read(env: &Env, data_dir: &str, path: &str) -> Result<Found, Fault> {
    let disk = Arc::clone(&env.disk);
    let (directory, file) = (data_dir.to_owned(), path.to_owned());
    let text = env
        .blocking(move || -> std::io::Result<Option<Vec<u8>>> {
            disk.create_dir_all(&directory)?;
            if disk.exists(&file)? {
                disk.read(&file).map(Some)
            } else {
                Ok(None)
            }
        })
        .await
        .map_err(|error| crate::log_engine::storage_fault(path, &error))?;
    let Some(text) = text else {
        return Ok(None);
    };
    let damaged = |how: String| {
        Fault::new(ErrorCode::Corrupted, format!("{path} is damaged: {how}"))
            .hint("replace this node by a new one with an empty data directory and a new id")
    };
    let file: IdentityFile =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "{path} is of version {}, and this program knows only version {VERSION}",
                file.version
            ),
        )
        .hint("start this node with the newer program that wrote it"));
    }
    let cluster = file
        .cluster
        .map(|text| text.parse::<ClusterId>())
        .transpose()
        .map_err(|fault| damaged(fault.message))?;
    Ok(Some((NodeId(file.node), cluster)))
}
