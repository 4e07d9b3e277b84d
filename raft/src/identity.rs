//! The file `identity.json`: which node of which cluster a data directory belongs to, and whether it may vote.
//!
//! A node whose directory is empty and that is found by a running cluster may be new, or it may have lost its disk: then it once
//! promised votes and acknowledged entries that it does not know of. So it is *joining*: it neither votes nor stands for
//! election until it has caught up with a leader, and with that holds again whatever it had helped to commit.

use holdfast_env::Env;
use holdfast_types::{ClusterId, ErrorCode, Fault, NodeId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::RaftConfig;
use crate::key_check::KeyCheck;

const FILE: &str = "identity.json";

/// The version that is written.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    version: u32,
    node: u64,
    /// As 32 hexadecimal digits; nothing until the node belongs to a cluster.
    cluster: Option<String>,
    /// Whether it has yet to catch up for the first time.
    #[serde(default)]
    joining: bool,
    /// The key check of the key with which it came to its cluster, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_check: Option<String>,
}

/// What changes while a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Belonging {
    cluster: Option<ClusterId>,
    joining: bool,
}

/// How a node comes to belong to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The cluster is being founded: there is nothing yet that could have been forgotten.
    Founding,
    /// The cluster was there before.
    Joining,
}

/// Who this node is. The cluster is set once, durably, before the node says anything in its name.
#[derive(Debug)]
pub(crate) struct Identity {
    env: Env,
    path: String,
    node: NodeId,
    /// The only cluster that it may join, if that was said.
    expected: Option<ClusterId>,
    belonging: Mutex<Belonging>,
    /// Of the key that it was started with.
    key_check: KeyCheck,
    /// Held while the file is written.
    turn: tokio::sync::Mutex<()>,
}

impl Identity {
    /// Reads the identity of a data directory, or gives it one.
    ///
    /// # Errors
    /// `WrongCluster` if the directory belongs to another node or cluster, or was made with another key; `Corrupted` if it cannot
    /// be told.
    pub(crate) async fn open(env: &Env, config: &RaftConfig) -> Result<Self, Fault> {
        let RaftConfig {
            data_dir,
            node,
            cluster,
            key_check,
            ..
        } = config;
        let (node, cluster) = (*node, *cluster);
        let path = format!("{data_dir}/{FILE}");
        let found = read(env, data_dir, &path).await?;
        let mut is_complete = found.is_some();
        if let Some((found_node, belonging, found_check)) = &found {
            let found_node = *found_node;
            if found_node != node {
                return Err(Fault::new(
                    ErrorCode::WrongCluster,
                    format!(
                        "data directory {data_dir} belongs to node {found_node}, not to node {node}"
                    ),
                )
                .hint("start it with its own node id, or give this node an empty data directory"));
            }
            if let (Some(found), Some(wanted)) = (belonging.cluster, cluster)
                && found != wanted
            {
                return Err(Fault::new(
                    ErrorCode::WrongCluster,
                    format!("data directory {data_dir} belongs to cluster {found}, not to cluster {wanted}"),
                )
                .hint("start it with the cluster it belongs to, or give this node an empty data directory"));
            }
            if let (Some(own), Some(known)) = (key_check.to_hex(), found_check)
                && own != *known
                && let Some(cluster) = belonging.cluster
            {
                return Err(key_check.changed(data_dir, cluster));
            }
            // What an earlier version wrote does not say it.
            is_complete = belonging.cluster.is_none() || found_check.is_some();
        }
        let belonging = found.map(|(_, belonging, _)| belonging).unwrap_or_default();
        let identity = Self {
            env: env.clone(),
            path,
            node,
            expected: cluster,
            belonging: Mutex::new(belonging),
            key_check: key_check.clone(),
            turn: tokio::sync::Mutex::new(()),
        };
        if !is_complete {
            identity.store(belonging).await?;
        }
        Ok(identity)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster, once there is one.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.belonging().cluster
    }

    /// Whether it may vote and lead, as far as this is concerned.
    pub(crate) fn is_settled(&self) -> bool {
        let belonging = self.belonging();
        belonging.cluster.is_some() && !belonging.joining
    }

    /// Belongs to a cluster from now on.
    ///
    /// # Errors
    /// `WrongCluster` if it belongs to another one.
    pub(crate) async fn adopt(&self, cluster: ClusterId, arrival: Arrival) -> Result<(), Fault> {
        match self.cluster() {
            Some(own) if own == cluster => return Ok(()),
            Some(own) => return Err(self.wrong_cluster(own, cluster)),
            None => {}
        }
        let _turn = self.turn.lock().await;
        if let Some(own) = self.cluster() {
            // Another message was faster.
            return if own == cluster {
                Ok(())
            } else {
                Err(self.wrong_cluster(own, cluster))
            };
        }
        let belonging = Belonging {
            cluster: Some(cluster),
            joining: arrival == Arrival::Joining,
        };
        self.store(belonging).await?;
        tracing::info!(node = %self.node, %cluster, ?arrival, "this node now belongs to a cluster");
        Ok(())
    }

    /// It has caught up: it votes from now on.
    pub(crate) async fn settle(&self) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        let belonging = self.belonging();
        if belonging.joining {
            self.store(Belonging {
                joining: false,
                ..belonging
            })
            .await?;
            tracing::info!(node = %self.node, "this node has caught up with its cluster");
        }
        Ok(())
    }

    fn belonging(&self) -> Belonging {
        *self
            .belonging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the other nodes can tell by that it has their key.
    pub(crate) fn key_check(&self) -> &KeyCheck {
        &self.key_check
    }

    /// Whether a message is from this node's cluster and for this node. A node without a cluster takes any.
    pub(crate) fn check(&self, cluster: ClusterId, target: u64) -> Result<(), Fault> {
        if let Some(own) = self.cluster().or(self.expected)
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

    async fn store(&self, belonging: Belonging) -> Result<(), Fault> {
        let file = IdentityFile {
            version: VERSION,
            node: self.node.0,
            cluster: belonging.cluster.map(|cluster| cluster.to_string()),
            joining: belonging.joining,
            key_check: belonging.cluster.and_then(|_| self.key_check.to_hex()),
        };
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let path = self.path.clone();
        let disk = Arc::clone(&self.env.disk);
        self.env
            .blocking(move || disk.write_atomically(&path, &text))
            .await
            .map_err(|error| crate::log_engine::storage_fault(&self.path, &error))?;
        *self
            .belonging
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = belonging;
        Ok(())
    }
}

type Found = Option<(NodeId, Belonging, Option<String>)>;

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
    let belonging = Belonging {
        cluster,
        joining: file.joining,
    };
    Ok(Some((NodeId(file.node), belonging, file.key_check)))
}
