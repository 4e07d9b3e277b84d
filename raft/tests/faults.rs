//! Damaged files, full disks, foreign directories, hostile peers.

mod cluster;

use bytes::Bytes;
use cluster::{CLUSTER, CuttableNet, DIR, Host, Toy, config, env, eventually, found, leader};
use holdfast_env::{Disk, MemoryDisk};
use holdfast_proto::v1::raft_transport_client::RaftTransportClient;
use holdfast_proto::{CallKind, ChannelOptions, channel, status_to_fault, v1};
use holdfast_raft::{Node, RaftConfig, Standing};
use holdfast_types::{ClusterId, ErrorCode, Fault, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

const LOG: &str = "/data/raft.redb";

async fn open(disk: &MemoryDisk, tune: impl FnOnce(&mut RaftConfig)) -> Result<Node<Toy>, Fault> {
    let mut config = config(1, "127.0.0.1:1");
    tune(&mut config);
    Node::start(config, env(disk, &Arc::new(CuttableNet::default()))).await
}

/// The disk of a stopped node 1 with some commands in its log.
async fn used_disk(snapshot: bool) -> MemoryDisk {
    let mut hosts = found(1, |_| {}).await;
    leader(&hosts).await;
    for value in 0..30 {
        let command = cluster::Append {
            value: 0x5ead_beef_0000_0000 + value,
            padding: 3000,
        };
        hosts[0].node.propose(&command).await.expect("is committed");
    }
    if snapshot {
        hosts[0].node.snapshot_now().await.expect("a snapshot");
    }
    hosts.remove(0).stop().await.disk
}

#[tokio::test]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let disk = used_disk(false).await;
    let fault = open(&disk, |config| config.node = NodeId(2))
        .await
        .expect_err("another node");
    assert_eq!(fault.code, ErrorCode::WrongCluster, "{fault}");
    assert!(
        fault.message.contains("node 1") && fault.message.contains("node 2"),
        "{fault}"
    );
    let other = ClusterId([1; 16]);
    let fault = open(&disk, |config| config.cluster = Some(other))
        .await
        .expect_err("another");
    assert_eq!(fault.code, ErrorCode::WrongCluster, "{fault}");
    assert!(fault.message.contains(&other.to_string()), "{fault}");
    assert!(fault.message.contains(&CLUSTER.to_string()), "{fault}");
    open(&disk, |config| config.cluster = Some(CLUSTER))
        .await
        .expect("its own");
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let hosts = found(1, |_| {}).await;
    let fault = open(&hosts[0].disk, |_| {}).await.expect_err("in use");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    assert!(fault.message.contains(LOG), "{fault}");
}

#[tokio::test]
async fn a_damaged_log_is_named_and_not_served() {
    let disk = used_disk(false).await;
    let bytes = disk.read(LOG).expect("reads");
    let entry = 0x5ead_beef_0000_000au64.to_le_bytes();
    let offset = bytes
        .windows(8)
        .position(|window| window == entry)
        .expect("the entry's bytes");
    disk.corrupt(LOG, offset as u64, 0x40).expect("flips");
    let fault = open(&disk, |_| {}).await.expect_err("is damaged");
    assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
    assert!(fault.message.contains(LOG), "{fault}");
    disk.corrupt(LOG, offset as u64, 0x40).expect("flips back");
    let node = open(&disk, |_| {}).await.expect("is whole again");
    assert_eq!(node.read(|toy| toy.values.len()), 30);
}

#[tokio::test]
async fn a_log_that_was_cut_short_is_named_and_not_served() {
    let disk = used_disk(false).await;
    let length = disk.read(LOG).expect("reads").len() as u64;
    for keep in [length - 4096, length / 2, 5000, 100] {
        disk.open(LOG).expect("opens").set_len(keep).expect("cuts");
        let fault = open(&disk, |_| {}).await.expect_err("is cut short");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{keep} bytes: {fault}");
        assert!(fault.message.contains(LOG), "{fault}");
    }
}

#[tokio::test]
async fn a_damaged_or_missing_snapshot_is_named_and_not_served() {
    let disk = used_disk(true).await;
    let files = cluster::files(&disk);
    let name = files
        .iter()
        .find(|name| name.starts_with("snapshot-"))
        .expect("a snapshot");
    let path = format!("{DIR}/{name}");
    let length = disk.read(&path).expect("reads").len() as u64;
    for offset in [0, length / 2, length - 1] {
        disk.corrupt(&path, offset, 1).expect("flips");
        let fault = open(&disk, |_| {}).await.expect_err("is damaged");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
        assert!(fault.message.contains(name.as_str()), "{fault}");
        disk.corrupt(&path, offset, 1).expect("flips back");
    }
    disk.open(&path)
        .expect("opens")
        .set_len(length - 1)
        .expect("cuts");
    let fault = open(&disk, |_| {}).await.expect_err("is cut short");
    assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
    disk.remove(&path).expect("removes");
    let fault = open(&disk, |_| {}).await.expect_err("is missing");
    assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
    assert!(fault.message.contains(name.as_str()), "{fault}");
}

#[tokio::test]
async fn a_damaged_identity_is_named() {
    let disk = used_disk(false).await;
    let path = format!("{DIR}/identity.json");
    for text in ["", "{}", "{\"version\":1,\"node\":1,\"cluster\":\"xyz\"}"] {
        disk.write_atomically(&path, text.as_bytes())
            .expect("writes");
        let fault = open(&disk, |_| {}).await.expect_err("is damaged");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
        assert!(fault.message.contains(&path), "{fault}");
    }
    let newer = br#"{"version":2,"node":1,"cluster":null}"#;
    disk.write_atomically(&path, newer).expect("writes");
    let fault = open(&disk, |_| {}).await.expect_err("is newer");
    assert_eq!(fault.code, ErrorCode::Unsupported, "{fault}");
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_work_and_still_follows() {
    let hosts = found(3, |_| {}).await;
    let leading = leader(&hosts).await;
    hosts[0].append(1).await.expect("is committed");
    let reserve = RaftConfig::new(NodeId(1), DIR, "").disk_reserve;
    let follower = &hosts[(leading + 1) % 3];
    let limit = |host: &Host| host.disk.set_capacity(host.disk.used() + reserve / 2);
    limit(follower);
    hosts[leading]
        .append(2)
        .await
        .expect("the leader has space");
    eventually("the follower follows", || follower.values() == [1, 2]).await;

    limit(&hosts[leading]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for host in &hosts {
        let fault = host.append(3).await.expect_err("the leader is full");
        assert_eq!(fault.code, ErrorCode::StorageFull, "{fault}");
        assert!(
            fault
                .message
                .contains(&format!("node {}", hosts[leading].id)),
            "{fault}"
        );
    }
    hosts[leading].disk.set_capacity(u64::MAX);
    eventually("there is space again", || {
        hosts[leading]
            .disk
            .available(DIR)
            .is_ok_and(|free| free > reserve)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    hosts[leading].append(3).await.expect("is committed");
}

#[tokio::test]
async fn a_disk_that_is_full_stops_the_node_and_damages_nothing() {
    let mut hosts = found(3, |config| config.disk_reserve = 0).await;
    let leading = leader(&hosts).await;
    let mut next = 0;
    let full = &hosts[leading];
    full.disk.set_capacity(full.disk.used());
    let fault = loop {
        let command = cluster::Append {
            value: next,
            padding: 20_000,
        };
        if let Err(fault) = full.node.propose(&command).await {
            break fault;
        }
        next += 1;
        assert!(next < 10_000, "the disk never fills");
    };
    assert!(
        matches!(fault.code, ErrorCode::Unknown | ErrorCode::StorageFull),
        "{fault}"
    );
    let standing = full
        .wait_standing(|s| matches!(s, Standing::Stopped(_)))
        .await;
    let Standing::Stopped(fault) = standing else {
        panic!("not stopped: {standing:?}");
    };
    assert_eq!(fault.code, ErrorCode::StorageFull, "{fault}");
    assert!(fault.message.contains(LOG), "{fault}");
    let fault = full.append(1).await.expect_err("is stopped");
    assert_eq!(fault.code, ErrorCode::StorageFull, "{fault}");

    // The others go on, and with space it comes back whole.
    let stopped = hosts.remove(leading).stop().await;
    hosts[0].append(next + 1).await.expect("is committed");
    stopped.disk.set_capacity(u64::MAX);
    hosts.push(stopped.start().await);
    cluster::converge(&hosts).await;
    let values = hosts[2].values();
    assert!(
        (0..next).all(|value| values.contains(&value)),
        "something was lost"
    );
}

/// Speaks to a node as anybody on the network can.
fn client(address: &str) -> RaftTransportClient<tonic::transport::Channel> {
    let net = Arc::new(CuttableNet::default());
    let channel = channel(net, address, ChannelOptions::default()).expect("an address");
    RaftTransportClient::new(channel).max_encoding_message_size(64 * 1024 * 1024)
}

fn message(payload: &'static [u8]) -> v1::RaftMessage {
    v1::RaftMessage {
        cluster_id: Bytes::copy_from_slice(&CLUSTER.0),
        payload: Bytes::from_static(payload),
        version: 1,
        from: 2,
        target: 1,
        ..v1::RaftMessage::default()
    }
}

fn code(status: &Status) -> (Code, ErrorCode) {
    (
        status.code(),
        status_to_fault(status, CallKind::Repeatable).code,
    )
}

#[tokio::test]
async fn garbage_is_answered_and_changes_nothing() {
    let hosts = found(1, |config| {
        config.chunk_timeout = Duration::from_millis(300)
    })
    .await;
    leader(&hosts).await;
    let mut client = client(&hosts[0].address);
    let garbage = message(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    let refused = (Code::InvalidArgument, ErrorCode::InvalidArgument);
    let status = client
        .append_entries(garbage.clone())
        .await
        .expect_err("garbage");
    assert_eq!(code(&status), refused);
    let status = client.vote(garbage.clone()).await.expect_err("garbage");
    assert_eq!(code(&status), refused);
    let status = client.pre_vote(garbage.clone()).await.expect_err("garbage");
    assert_eq!(code(&status), refused);
    let status = client
        .transfer_leader(garbage.clone())
        .await
        .expect_err("garbage");
    assert_eq!(code(&status), refused);
    let status = client.forward(garbage.clone()).await.expect_err("garbage");
    assert_eq!(code(&status), refused);

    // `ForwardRequest::ReadIndex`, which is well formed.
    let ask = message(b"\x01");
    client.forward(ask.clone()).await.expect("is answered");
    let foreign = v1::RaftMessage {
        cluster_id: Bytes::from_static(&[3; 16]),
        ..ask.clone()
    };
    let status = client.forward(foreign).await.expect_err("another cluster");
    assert_eq!(
        code(&status),
        (Code::FailedPrecondition, ErrorCode::WrongCluster)
    );
    let elsewhere = v1::RaftMessage {
        target: 8,
        ..ask.clone()
    };
    let status = client.forward(elsewhere).await.expect_err("another node");
    assert_eq!(
        code(&status),
        (Code::FailedPrecondition, ErrorCode::WrongCluster)
    );
    let newer = v1::RaftMessage {
        version: 2,
        ..ask.clone()
    };
    let status = client.forward(newer).await.expect_err("another version");
    assert_eq!(code(&status), (Code::Unimplemented, ErrorCode::Unsupported));
    let short = v1::RaftMessage {
        cluster_id: Bytes::from_static(b"short"),
        ..ask
    };
    let status = client.forward(short).await.expect_err("no cluster id");
    assert_eq!(code(&status), refused);
    // `ForwardRequest::Propose` of one command that is none.
    let status = client
        .forward(message(b"\x00\x01\x03abc"))
        .await
        .expect_err("no command");
    assert_eq!(code(&status).1, ErrorCode::Corrupted);
    let huge = v1::RaftMessage {
        payload: vec![0; 20 * 1024 * 1024].into(),
        ..message(b"")
    };
    let status = client.append_entries(huge).await.expect_err("huge");
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status}"
    );

    assert_eq!(hosts[0].append(1).await, Ok(1));
    assert_eq!(hosts[0].values(), [1]);
}

#[tokio::test]
async fn a_snapshot_stream_of_garbage_ends() {
    let hosts = found(1, |config| {
        config.chunk_timeout = Duration::from_millis(300)
    })
    .await;
    leader(&hosts).await;
    let mut client = client(&hosts[0].address);
    let chunk = v1::SnapshotChunk {
        cluster_id: Bytes::copy_from_slice(&CLUSTER.0),
        header: Bytes::from_static(b"\xff\xff\xff"),
        version: 1,
        from: 2,
        target: 1,
        data: Bytes::new(),
        last: false,
        ..v1::SnapshotChunk::default()
    };
    let one = futures::stream::iter([chunk.clone()]);
    let status = client.install_snapshot(one).await.expect_err("garbage");
    assert_eq!(status.code(), Code::InvalidArgument);
    let none = futures::stream::iter(Vec::<v1::SnapshotChunk>::new());
    let status = client.install_snapshot(none).await.expect_err("nothing");
    assert_eq!(status.code(), Code::Unavailable);
    let endless = futures::stream::pending();
    let status = client.install_snapshot(endless).await.expect_err("never");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(hosts[0].append(1).await, Ok(1));
}

#[tokio::test]
async fn a_real_directory_works_as_the_one_in_memory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory
        .path()
        .join("node")
        .to_str()
        .expect("text")
        .to_owned();
    for round in 0..2u64 {
        let real = holdfast_env::Env::system();
        let mut config = config(1, "127.0.0.1:9");
        config.data_dir.clone_from(&data_dir);
        config.disk_reserve = 0;
        let node = Node::<Toy>::start(config, real).await.expect("starts");
        let members = [(NodeId(1), "127.0.0.1:9".to_owned())].into();
        node.initialize(CLUSTER, members).await.expect("is founded");
        let outcome = node.propose(&cluster::Append::new(round)).await;
        assert_eq!(outcome, Ok(round + 1));
        node.snapshot_now().await.expect("a snapshot");
        node.shutdown().await;
    }
}
