//! The coordinator's own state machine on one node, as `holdfast start --single` runs it.

use holdfast_env::{Env, MemoryDisk};
use holdfast_ledger::{Action, Command, Outcome};
use holdfast_raft::{RaftConfig, RaftNode};
use holdfast_types::{ClusterId, NodeId, Timestamp};
use std::sync::Arc;
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId([5; 16]);

async fn start(disk: &MemoryDisk) -> RaftNode {
    let env = Env {
        disk: Arc::new(disk.clone()),
        ..Env::system()
    };
    // The real timing: a single node must not wait for it.
    let config = RaftConfig::new(NodeId(1), "/data", "127.0.0.1:1");
    RaftNode::start(config, env).await.expect("starts")
}

fn command(action: Action) -> Command {
    Command {
        at: Timestamp::from_micros(1),
        action,
    }
}

#[tokio::test]
async fn one_node_alone_leads_keeps_its_leases_and_comes_back() {
    let disk = MemoryDisk::new();
    let node = start(&disk).await;
    let members = [(NodeId(1), "127.0.0.1:1".to_owned())].into();
    node.initialize(CLUSTER, members).await.expect("is founded");
    let found = command(Action::InitCluster { cluster: CLUSTER });
    let outcome = node.propose(&found).await.expect("is committed");
    assert_eq!(outcome, Outcome::Done);
    let again = node.propose(&found).await.expect("is committed");
    assert_eq!(again, Outcome::NoOp);

    // It is its own majority, also when nothing happens for long.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(node.quorum_acked_within(Duration::from_millis(1000)));
    }
    assert_eq!(
        node.linearizable(|ledger| ledger.cluster()).await,
        Ok(Some(CLUSTER))
    );
    let digest = node.digest();
    assert_eq!(node.status().await.digest, digest.1);
    node.snapshot_now().await.expect("a snapshot");
    node.shutdown().await;

    let node = start(&disk).await;
    assert_eq!(node.read(|ledger| ledger.cluster()), Some(CLUSTER));
    assert_eq!(node.cluster(), Some(CLUSTER));
    assert_eq!(node.digest().1, digest.1);
    let outcome = node.propose(&found).await.expect("is committed");
    assert_eq!(outcome, Outcome::NoOp);
    node.shutdown().await;
}
