//! Whether two nodes have the same cluster key, without either showing it.

use holdfast_types::{ClusterId, ErrorCode, Fault, NodeId};
use std::fmt;

/// A value that is computed from the cluster key and tells nothing of it, and where the key came from. The default compares equal to
/// everything: for clusters without a key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyCheck {
    /// Equal for equal keys.
    pub value: Vec<u8>,
    /// For people: the path of the key file.
    pub origin: String,
}

impl fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCheck({})", self.origin)
    }
}

impl KeyCheck {
    /// Whether the other side may have the same key.
    pub(crate) fn agrees(&self, other: &[u8]) -> bool {
        self.value.is_empty() || other.is_empty() || self.value == other
    }

    /// The value as it is written to files.
    pub(crate) fn to_hex(&self) -> Option<String> {
        (!self.value.is_empty()).then(|| self.value.iter().map(|b| format!("{b:02x}")).collect())
    }

    fn named(&self) -> String {
        match self.origin.as_str() {
            "" => "its cluster key".to_owned(),
            path => format!("the key file {path}"),
        }
    }

    /// The fault of a node that was started with another key than the one that its directory was made with.
    pub(crate) fn changed(&self, data_dir: &str, cluster: ClusterId) -> Fault {
        let text = format!(
            "data directory {data_dir} belongs to cluster {cluster}, and {} is not that cluster's",
            self.named()
        );
        wrong_key(text)
    }

    /// The fault of a node that is to join a cluster whose key it does not have.
    pub(crate) fn refused(&self, node: NodeId, cluster: ClusterId, from: u64) -> Fault {
        let text = format!(
            "node {node} cannot join cluster {cluster}: {} is not the one of its node {from}",
            self.named()
        );
        wrong_key(text)
    }

    /// The fault for a node that asks with another key.
    pub(crate) fn stranger(&self, node: NodeId, from: u64) -> Fault {
        let text = format!(
            "node {from} has another cluster key than node {node}, which read it from {}",
            self.named()
        );
        wrong_key(text)
    }
}

fn wrong_key(text: String) -> Fault {
    Fault::new(ErrorCode::WrongCluster, text)
        .hint("copy the key file of a coordinator of the cluster, and start the node with it (--key-file)")
}
