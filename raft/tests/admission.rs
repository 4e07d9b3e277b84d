//! Who may take part: nodes with another key, and nodes that were removed.

mod cluster;

use cluster::{Host, found, insist, leader};
use holdfast_raft::{KeyCheck, RaftConfig, Standing};
use holdfast_types::{ErrorCode, Fault, NodeId};

fn with_key(config: &mut RaftConfig) {
    config.key_check = KeyCheck {
        value: vec![1; 16],
        origin: "/keys/right".to_owned(),
    };
}

fn with_other_key(config: &mut RaftConfig) {
    config.key_check = KeyCheck {
        value: vec![2; 16],
        origin: "/keys/other".to_owned(),
    };
}

fn assert_names_the_key(fault: &Fault, file: &str) {
    assert_eq!(fault.code, ErrorCode::WrongCluster, "{fault}");
    assert!(fault.message.contains(file), "{fault}");
    let hint = fault.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("--key-file"), "{fault}");
}

async fn refused(host: &Host) -> Fault {
    let stopped = |standing: &Standing| matches!(standing, Standing::Stopped(_));
    match host.wait_standing(stopped).await {
        Standing::Stopped(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_with_another_key_is_not_added_and_ends() {
    let hosts = found(3, with_key).await;
    leader(&hosts).await;
    let stranger = Host::new(4, with_other_key).await;
    let added = hosts[0].node.add_member(NodeId(4), &stranger.address).await;
    assert_names_the_key(&added.expect_err("refused"), "/keys/other");
    assert_names_the_key(&refused(&stranger).await, "/keys/other");
    assert_eq!(hosts[0].node.members().len(), 3);
    // With the right one it is let in.
    let right = Host::new(5, with_key).await;
    insist(async || hosts[0].node.add_member(NodeId(5), &right.address).await).await;
}

#[tokio::test]
async fn a_node_with_another_key_takes_no_part_in_a_founding() {
    let mut hosts = vec![
        Host::new(1, with_key).await,
        Host::new(2, with_key).await,
        Host::new(3, with_other_key).await,
    ];
    let members = hosts.iter().map(|h| (NodeId(h.id), h.address.clone()));
    let members = members.collect();
    let founded = hosts[0].node.initialize(cluster::CLUSTER, members).await;
    founded.expect("two are a majority");
    assert_names_the_key(&refused(&hosts[2]).await, "/keys/other");
    hosts.truncate(2);
    leader(&hosts).await;
    hosts[0].append(1).await.expect("is committed");
}

#[tokio::test]
async fn a_node_does_not_start_with_another_key_than_before() {
    let hosts = found(1, with_key).await;
    leader(&hosts).await;
    let host = hosts.into_iter().next().expect("one");
    let mut stopped = host.stop().await;
    stopped.tune = with_other_key;
    let disk = stopped.disk.clone();
    let address = stopped.address.clone();
    let fault = stopped.try_start().await.err().expect("refused");
    assert_names_the_key(&fault, "/keys/other");
    assert!(fault.message.contains(cluster::DIR), "{fault}");
    let again = cluster::Stopped {
        id: 1,
        address,
        disk,
        tune: with_key,
    };
    leader(&[again.start().await]).await;
}

#[tokio::test]
async fn a_node_that_was_removed_learns_it_again_after_a_restart() {
    let mut hosts = found(3, with_key).await;
    let leading = leader(&hosts).await;
    let gone = hosts.remove((leading + 1) % 3);
    insist(async || hosts[0].node.remove_member(NodeId(gone.id)).await).await;
    let is_removed = |standing: &Standing| *standing == Standing::Removed;
    gone.wait_standing(is_removed).await;
    let again = gone.stop().await.start().await;
    again.wait_standing(is_removed).await;
}

#[tokio::test]
async fn a_node_that_was_removed_while_it_was_down_learns_it_when_it_starts() {
    let mut hosts = found(1, with_key).await;
    leader(&hosts).await;
    let second = Host::new(2, with_key).await;
    insist(async || hosts[0].node.add_member(NodeId(2), &second.address).await).await;
    hosts.push(second);
    let third = Host::new(3, with_key).await;
    insist(async || hosts[0].node.add_member(NodeId(3), &third.address).await).await;
    // It stops, and is told nothing of its removal.
    let stopped = third.stop().await;
    insist(async || hosts[0].node.remove_member(NodeId(3)).await).await;
    let again = stopped.start().await;
    let is_removed = |standing: &Standing| *standing == Standing::Removed;
    again.wait_standing(is_removed).await;
}
