//! Full disks, damaged files, hostile clients: a fault is named, stays where it is, and passes when its cause does.

use holdfast_client::{ControlApi, v1};
use holdfast_env::Env;
use holdfast_proto::v1::control_client::ControlClient;
use holdfast_proto::v1::mvcc_member_client::MvccMemberClient;
use holdfast_proto::v1::worker_link_client::WorkerLinkClient;
use holdfast_proto::{ChannelOptions, channel};
use holdfast_tests::{Accounts, Cluster, Process, Shape, SmallDisk, eventually, free_ports, run};
use holdfast_types::ErrorCode;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

const SMALL: Shape = Shape {
    coordinators: 1,
    zones: 1,
    workers_per_zone: 1,
    slots: 2,
};
const MIB: usize = 1 << 20;

/// What a coordinator keeps free (its default), with some room above.
const COORDINATOR_DISK: usize = (256 + 48) * MIB;
const MEMBER_DISK: usize = 96 * MIB;
const COLLECTION_DISK: usize = 32 * MIB;

/// Follows a job until it is paused; it must say what is full, and the way out.
async fn paused_for_space(cluster: &Cluster, job: u64, full: &str) {
    let paused = cluster
        .until(job, "paused", |job| job.state == "paused")
        .await;
    for word in ["member m0", full, "make room, then resume the job"] {
        let reason = &paused.pause_reason;
        assert!(reason.contains(word), "\"{word}\" is not in: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_passes_on_coordinator_store_and_member() {
    let sizes = [COORDINATOR_DISK, MEMBER_DISK, COLLECTION_DISK];
    // Where it cannot be tested (never in CI), the same faults are tested in each crate on a disk in memory.
    let Some([coordinator, member, collection]) = SmallDisk::mount_all(sizes) else {
        return;
    };
    let cluster = Cluster::start_prepared(SMALL, |directory| {
        for (disk, name) in [
            (&coordinator, "c1"),
            (&member, "m0"),
            (&collection, "backups"),
        ] {
            std::os::unix::fs::symlink(disk.path(), directory.join(name)).expect("a link");
        }
    })
    .await;
    cluster.small_parts(256 << 10, 1 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 8_000, 1_000).await;

    // A store without room pauses the job; nothing half-written is left; it goes on where it stopped.
    collection.fill_up_to(3 * MIB);
    let job = cluster.backup(false, false).await;
    paused_for_space(&cluster, job, "the store is full").await;
    let found = run(&[
        "--json",
        "backups",
        "list",
        &cluster.collection(),
        "--local",
    ]);
    assert!(!found.stdout.contains("subdir"), "{}", found.stdout);
    collection.free();
    cluster.control(job, "resume").await.expect("resumes");
    let backup = cluster.succeeded(job).await;
    // The parts that did not fit are read again, one for each stream; a part is closed by the first batch that makes it full.
    let bound = 2 * ((256 << 10) + MIB as u64);
    assert!(backup.bytes_redone <= bound, "{}", backup.bytes_redone);
    let verify = run(&["verify", "--local", "--from", &cluster.collection()]);
    assert_eq!(verify.code, 0, "{}", verify.stderr);

    // A member without room pauses the restore.
    member.fill_up_to(18 * MIB);
    let job = cluster.restore(&backup.as_of, "copy").await;
    paused_for_space(&cluster, job, "the member's disk").await;
    member.free();
    cluster.control(job, "resume").await.expect("resumes");
    cluster.succeeded(job).await;
    accounts.assert_restored("copy", &backup.as_of).await;

    // A coordinator without room refuses new work, answers questions, and takes work again by itself.
    coordinator.fill_up_to(64 * MIB);
    let client = cluster.client();
    eventually("the coordinator notices", || async {
        let status = client.cluster_status().await.ok()?;
        status.storage_full.then_some(())
    })
    .await;
    let refused = client.submit_backup(cluster.backup_request(true, false));
    let fault = refused.await.expect_err("no room for new work");
    assert_eq!(fault.code, ErrorCode::StorageFull, "{fault}");
    assert!(fault.hint.is_some(), "{fault}");
    let old = client.get_job(job).await.expect("what is there is served");
    assert_eq!(old.state, "succeeded");
    coordinator.free();
    let job = eventually("work is taken again", || async {
        let request = cluster.backup_request(true, false);
        client.submit_backup(request).await.ok()
    })
    .await;
    cluster.succeeded(job.job).await;
}

/// Flips a bit in every place of a file that holds these bytes.
fn flip(path: &Path, marker: &[u8]) {
    let mut bytes = std::fs::read(path).expect("readable");
    let places: Vec<usize> = (0..bytes.len() - marker.len())
        .filter(|from| bytes[*from..].starts_with(marker))
        .collect();
    assert!(!places.is_empty(), "the marker is in the log");
    for place in places {
        bytes[place] ^= 0x10;
    }
    std::fs::write(path, bytes).expect("writable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_with_a_damaged_log_stays_down_and_is_replaced() {
    let shape = Shape {
        coordinators: 3,
        ..SMALL
    };
    let mut cluster = Cluster::start(shape).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 1_000, 200).await;
    // Something in the log that is recognised.
    cluster.register("a-name-to-find-in-the-log").await;
    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    cluster.coordinators[victim].terminate(Duration::from_secs(20));
    let directory = cluster.directory().join(format!("c{}", victim + 1));
    let log = directory.join("raft.redb");
    let whole = std::fs::read(&log).expect("readable");

    flip(&log, b"a-name-to-find-in-the-log");
    let flipped = std::fs::read(&log).expect("readable");
    let cut = &whole[..whole.len() - 4096];
    for (what, bytes) in [("flipped", flipped.as_slice()), ("cut", cut)] {
        std::fs::write(&log, bytes).expect("writable");
        let process = &mut cluster.coordinators[victim];
        process.restart();
        let code = process.wait(Duration::from_secs(20));
        assert_eq!(code, 6, "{what}: {}", process.log_tail());
        let said = process.log();
        let said = said.lines().rev().take(3).collect::<Vec<_>>().join("\n");
        assert!(said.contains("raft.redb"), "{what}: {said}");
        assert!(
            said.contains("replace this node by a new one"),
            "{what}: {said}"
        );
    }

    // The other two work, and take a new one in its place.
    let job = cluster.backup(false, false).await;
    cluster.succeeded(job).await;
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    cluster.start_coordinator(4, &address);
    let request = v1::AddMemberRequest {
        node: 4,
        address,
        replace: victim as u64 + 1,
    };
    let members = eventually("the damaged one is replaced", || async {
        cluster.client().add_member(request.clone()).await.ok()
    })
    .await;
    let voters: Vec<u64> = members.coordinators.iter().map(|it| it.node).collect();
    assert!(
        voters.contains(&4) && !voters.contains(&(victim as u64 + 1)),
        "{voters:?}"
    );
    // With the old leader gone too, the new one is needed for a majority.
    cluster.coordinators[leader].kill();
    let job = eventually("the new one takes part", || async {
        let request = cluster.backup_request(true, false);
        cluster.client().submit_backup(request).await.ok()
    })
    .await;
    let backup = cluster.succeeded(job.job).await;
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
}

/// Resident memory of a process, in bytes.
fn memory(process: &Process) -> usize {
    let path = format!("/proc/{}/statm", process.pid());
    let text = std::fs::read_to_string(path).expect("a running process");
    let pages = text.split_whitespace().nth(1).expect("resident pages");
    pages.parse::<usize>().expect("a number") * 4096
}

/// What a hostile client may cost in memory at any time: some messages of the largest size.
const HOSTILE_MEMORY: usize = 128 * MIB;
/// File descriptors that the processes get in the test.
const DESCRIPTORS: usize = 256;

fn connect(address: &str) -> Channel {
    let options = ChannelOptions {
        call_timeout: None,
        ..ChannelOptions::default()
    };
    channel(Env::system().net, address, options).expect("an address")
}

/// Sends bytes that are no HTTP/2, or a bad one; the server ends the connection.
fn send_garbage(address: &str) {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..100_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut framed = preface.to_vec();
    framed.extend_from_slice(&noise);
    let mut endless = preface.to_vec();
    // A frame of headers that says it is 16 MiB long.
    endless.extend_from_slice(&[0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1]);
    for bytes in [
        noise.as_slice(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        &framed,
        &endless,
    ] {
        let mut socket = TcpStream::connect(address).expect("a connection");
        let timeout = Some(Duration::from_secs(10));
        socket.set_read_timeout(timeout).expect("a timeout");
        // The server may have ended the connection before all was sent.
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        let ended = socket.read_to_end(&mut answer);
        let by_timeout = |error: &std::io::Error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        };
        assert!(!ended.is_err_and(|error| by_timeout(&error)), "not ended");
    }
}

/// A worker that says hello and then reports without end about leases that it does not have, and one that never says hello.
async fn stream_without_end(address: &str) {
    let hello = v1::WorkerMessage {
        body: Some(v1::worker_message::Body::Hello(v1::Hello {
            worker: "stranger".to_owned(),
            incarnation: 1,
            slots: 1,
            locality: "zone=nowhere".to_owned(),
            ..Default::default()
        })),
    };
    let report = v1::WorkerMessage {
        body: Some(v1::worker_message::Body::Report(v1::TaskReport {
            job: 1,
            task: 1,
            epoch: 1,
            body: Some(v1::task_report::Body::Failed(v1::TaskFailed {
                fault: Some(v1::Fault {
                    message: "x".repeat(100_000),
                    ..Default::default()
                }),
            })),
            ..Default::default()
        })),
    };
    let messages =
        futures::stream::iter(std::iter::once(hello).chain(std::iter::repeat_n(report, 2_000)));
    let mut client = WorkerLinkClient::new(connect(address));
    let answers = client.session(messages).await;
    let mut answers = answers.expect("a stream").into_inner();
    // Answers are not read, so that they pile up on the other side.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = answers.message().await;
    assert!(first.is_ok_and(|it| it.is_some()), "a welcome");

    let mut client = WorkerLinkClient::new(connect(address));
    let silence = futures::stream::pending::<v1::WorkerMessage>();
    let answers = client.session(silence).await;
    let mut answers = answers.expect("a stream").into_inner();
    let answer = tokio::time::timeout(Duration::from_secs(10), answers.message());
    let answer = answer.await.expect("in time").expect("a message");
    let Some(v1::leader_message::Body::Dismissed(dismissed)) = answer.and_then(|it| it.body) else {
        panic!("not dismissed");
    };
    assert!(
        dismissed
            .fault
            .is_some_and(|it| it.message.contains("hello"))
    );
}

async fn send_huge_messages(coordinator: &str, member: &str) {
    let name = "x".repeat(64 * MIB);
    let mut control =
        ControlClient::new(connect(coordinator)).max_encoding_message_size(usize::MAX);
    let refused = control.drop_source(v1::DropSourceRequest { name: name.clone() });
    assert!(refused.await.is_err());
    let mut control = MvccMemberClient::new(connect(member)).max_encoding_message_size(usize::MAX);
    let refused = control.create_database(v1::MvccCreateDatabaseRequest { name });
    assert!(refused.await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_cost_little_and_disturb_nobody() {
    let cluster = Cluster::start(SMALL).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 500, 200).await;
    let coordinator = cluster.coordinator_addresses()[0].clone();
    let member = cluster.member_addresses()[0].clone();
    let processes = [&cluster.coordinators[0], &cluster.members[0]];
    let before = processes.map(memory);

    let grown = |what: &str| {
        for (process, before) in processes.into_iter().zip(before) {
            let grown = memory(process).saturating_sub(before);
            eprintln!("{what}: {} grew by {grown}", process.name());
            assert!(grown < HOSTILE_MEMORY, "{} grew by {grown}", process.name());
        }
    };
    for address in [&coordinator, &member] {
        send_garbage(address);
    }
    grown("garbage");
    send_huge_messages(&coordinator, &member).await;
    grown("huge messages");
    stream_without_end(&coordinator).await;
    grown("streams without end");

    // More connections than there are file descriptors, which say nothing, or begin to and stop.
    let mut sockets = Vec::new();
    for process in processes {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", process.pid()))
            .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
            .status();
        assert!(limited.expect("prlimit runs").success());
    }
    for address in [&coordinator, &member] {
        for number in 0..2 * DESCRIPTORS {
            let mut socket = TcpStream::connect(address).expect("a connection");
            if number % 2 == 0 {
                socket.write_all(b"PRI * HT").expect("a beginning");
            }
            sockets.push(socket);
        }
    }
    let began = Instant::now();
    let job = eventually("work is taken", || async {
        let request = cluster.backup_request(false, false);
        cluster.client().submit_backup(request).await.ok()
    })
    .await;
    let backup = cluster.succeeded(job.job).await;
    eprintln!("served again after {:?}", began.elapsed());
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
    drop(sockets);
    grown("connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_another_key_is_sent_away() {
    let cluster = Cluster::start(SMALL).await;
    let path = |name: &str| cluster.directory().join(name).display().to_string();
    let key = path("other.key");
    assert_eq!(run(&["init", "--key-file", &key]).code, 0);
    let join = cluster.coordinator_addresses().join(",");
    let arguments = [
        "start",
        "--role",
        "worker",
        "--worker-id",
        "stranger",
        "--locality",
        "zone=z0",
        "--join",
        &join,
        "--key-file",
        &key,
    ];
    let arguments = arguments.map(ToOwned::to_owned).to_vec();
    let mut stranger = Process::start("stranger", cluster.directory(), arguments);
    assert_eq!(stranger.wait(Duration::from_secs(20)), 4);
    let said = stranger.log();
    for word in [
        "stranger",
        "coordinator 1",
        "different cluster keys",
        "--key-file",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
