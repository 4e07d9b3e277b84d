//! What operators do to a running cluster.

use holdfast_client::{ControlApi, v1};
use holdfast_tests::{
    Accounts, Cluster, Shape, create_database, databases, eventually, free_ports, run,
};
use holdfast_types::ErrorCode;
use std::time::Duration;

const ACCOUNTS: u64 = 8_000;
const ROW: usize = 1_000;

async fn start(shape: Shape) -> (Cluster, Accounts) {
    let cluster = Cluster::start(shape).await;
    cluster.small_parts(256 << 10, 2 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
    (cluster, accounts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_is_restarted_in_turn_during_a_backup() {
    let (mut cluster, accounts) = start(Shape::default()).await;
    let job = cluster.backup(false, false).await;
    cluster.until_fraction(job, 0.05).await;
    for index in 0..cluster.workers.len() {
        let worker = &mut cluster.workers[index];
        assert_eq!(
            worker.terminate(Duration::from_secs(20)),
            0,
            "{}",
            worker.log_tail()
        );
        worker.restart();
    }
    for index in 0..cluster.coordinators.len() {
        let coordinator = &mut cluster.coordinators[index];
        assert_eq!(
            coordinator.terminate(Duration::from_secs(20)),
            0,
            "{}",
            coordinator.log_tail()
        );
        coordinator.restart();
        cluster.leader().await;
    }
    let backup = cluster.succeeded(job).await;
    assert_eq!(
        backup.bytes_redone, 0,
        "an orderly shutdown leaves nothing in flight"
    );
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_without_tables_are_backed_up_and_restored() {
    let shape = Shape {
        coordinators: 1,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    let members = cluster.member_addresses();
    Accounts::create(members, "bank", 100, 100).await;
    create_database(&members[0], "void").await;
    let mut request = cluster.backup_request(false, false);
    request.target = None;
    let job = cluster.client().submit_backup(request.clone()).await;
    let full = cluster.succeeded(job.expect("a job").job).await;
    // Also one that comes later, in an incremental.
    create_database(&members[1], "later").await;
    request.layer = Some(v1::submit_backup_request::Layer::AppendToLatest(true));
    let job = cluster.client().submit_backup(request).await;
    let incremental = cluster.succeeded(job.expect("a job").job).await;
    let shown = run(&["backups", "show", &cluster.collection(), "--local"]);
    assert!(
        shown.stdout.contains("void (no tables)"),
        "{}",
        shown.stdout
    );
    assert!(
        !shown.stdout.contains("bank (no tables)"),
        "{}",
        shown.stdout
    );

    for (name, as_of) in [("void", &full.as_of), ("later", &incremental.as_of)] {
        let mut request = cluster.restore_request(as_of, &format!("{name}-copy"));
        request.target = Some(v1::Target {
            databases: vec![name.to_owned()],
            tables: Vec::new(),
        });
        let job = cluster.client().submit_restore(request).await;
        cluster.succeeded(job.expect("a job").job).await;
    }
    assert_eq!(databases(&members[0]).await, ["bank", "void", "void-copy"]);
    assert_eq!(
        databases(&members[1]).await,
        ["bank", "later", "later-copy"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_replaced_during_a_backup() {
    let (mut cluster, accounts) = start(Shape::default()).await;
    let job = cluster.backup(false, false).await;
    cluster.until_fraction(job, 0.05).await;
    let lost = cluster.leader().await;
    cluster.coordinators[lost].kill();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    cluster.start_coordinator(4, &address);
    let client = cluster.client().clone();
    let request = v1::AddMemberRequest {
        node: 4,
        address,
        replace: lost as u64 + 1,
    };
    let members = eventually("the new coordinator is a voter", || async {
        client.add_member(request.clone()).await.ok()
    })
    .await
    .coordinators;
    let mut nodes: Vec<u64> = members.iter().map(|member| member.node).collect();
    nodes.sort_unstable();
    assert!(
        nodes.contains(&4) && !nodes.contains(&(lost as u64 + 1)),
        "{nodes:?}"
    );
    let backup = cluster.succeeded(job).await;
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
}

const ENDS: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_with_another_key_file_is_refused_and_ends() {
    let shape = Shape {
        coordinators: 1,
        zones: 1,
        workers_per_zone: 1,
        slots: 1,
    };
    let mut cluster = Cluster::start(shape).await;
    let other = cluster.directory().join("other.key");
    let made = run(&["init", "--key-file", &other.display().to_string()]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    cluster.start_coordinator_with(4, &address, "other.key");
    let request = v1::AddMemberRequest {
        node: 4,
        address,
        replace: 0,
    };
    let client = cluster.client().clone();
    let fault = eventually("the newcomer answers", || async {
        let added = client.add_member(request.clone()).await;
        let fault = added.expect_err("is never let in");
        (fault.code == ErrorCode::WrongCluster).then_some(fault)
    })
    .await;
    assert!(fault.message.contains("other.key"), "{fault}");
    let stranger = &mut cluster.coordinators[1];
    assert_eq!(stranger.wait(ENDS), 4, "{}", stranger.log_tail());
    for word in ["other.key", "--key-file", "cannot join cluster"] {
        assert!(stranger.log().contains(word), "{}", stranger.log_tail());
    }
    // A member that comes back with another key does not even start.
    let first = &mut cluster.coordinators[0];
    first.terminate(ENDS);
    let own = cluster.directory().join("cluster.key");
    std::fs::copy(&other, &own).expect("another key");
    let first = &mut cluster.coordinators[0];
    first.restart();
    assert_eq!(first.wait(ENDS), 4, "{}", first.log_tail());
    assert!(
        first.log().contains("is not that cluster's"),
        "{}",
        first.log_tail()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_coordinator_ends_and_says_so() {
    let mut cluster = Cluster::start(Shape {
        coordinators: 3,
        zones: 1,
        workers_per_zone: 1,
        slots: 1,
    })
    .await;
    let leader = cluster.leader().await;
    let gone = (leader + 1) % 3;
    let client = cluster.client().clone();
    eventually("it is removed", || async {
        client.remove_member(gone as u64 + 1).await.ok()
    })
    .await;
    let process = &mut cluster.coordinators[gone];
    assert_eq!(process.wait(ENDS), 4, "{}", process.log_tail());
    let said = "was removed from its cluster";
    assert!(process.log().contains(said), "{}", process.log_tail());
    process.restart();
    assert_eq!(process.wait(ENDS), 4, "{}", process.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_be_reached_is_named() {
    let mut cluster = Cluster::start(Shape {
        coordinators: 1,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    })
    .await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 100, 100).await;
    let client = cluster.client().clone();
    client
        .set_setting("max_task_attempts", 1000)
        .await
        .expect("set");
    client
        .set_setting("task_backoff_ms", 1000)
        .await
        .expect("set");
    cluster.members[1].kill();
    let job = cluster.backup(false, false).await;
    let seen = cluster
        .until(job, "the member is named", |job| {
            job.waiting
                .iter()
                .any(|why| why.starts_with("member m1 cannot be reached since 20"))
        })
        .await;
    let address = &cluster.member_addresses()[1];
    assert!(seen.waiting[0].contains(address), "{:?}", seen.waiting);
    assert_eq!(seen.waiting.len(), 1, "{:?}", seen.waiting);
    assert_eq!(seen.running_status, seen.waiting[0]);
    let shown = run(&[
        "--coordinator",
        &cluster.coordinator_addresses()[0],
        "job",
        "show",
        &job.to_string(),
    ]);
    assert!(
        shown.stdout.contains("member m1 cannot be reached since"),
        "{}",
        shown.stdout
    );
    cluster.members[1].restart();
    let backup = cluster.succeeded(job).await;
    assert!(backup.waiting.is_empty());
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_waits_for_a_worker_in_the_locality_and_goes_on_when_one_comes() {
    let shape = Shape {
        coordinators: 1,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let (mut cluster, accounts) = start(shape).await;
    cluster.workers[1].kill();
    let job = cluster.backup(false, false).await;
    let waiting = cluster
        .until(job, "waits with a reason", |job| {
            job.waiting.iter().any(|reason| reason.contains("zone=z1"))
        })
        .await;
    assert_ne!(waiting.state, "failed");
    cluster.workers[1].restart();
    let backup = cluster.succeeded(job).await;
    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("copy", &backup.as_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_on_overlapping_targets_do_not_disturb_each_other() {
    let shape = Shape {
        coordinators: 1,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let (cluster, accounts) = start(shape).await;
    let first = cluster.backup(false, false).await;
    let first = cluster.succeeded(first).await;

    // Two incrementals on one chain: the second is refused while the first runs, for they would continue the same layer.
    let writers = accounts.start_writers(ROW);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let one = cluster.backup(true, true).await;
    match cluster
        .client()
        .submit_backup(cluster.backup_request(true, true))
        .await
    {
        Err(fault) => assert!(
            matches!(
                fault.code,
                ErrorCode::FailedPrecondition | ErrorCode::AlreadyExists
            ),
            "{fault}"
        ),
        // The first was quicker than the second's submission: then they do not overlap.
        Ok(two) => drop(cluster.succeeded(two.job).await),
    }
    let one = cluster.succeeded(one).await;
    writers.stop().await;

    // Two restores into one name: exactly one has it.
    let left = cluster.restore(&first.as_of, "copy").await;
    let right = cluster
        .client()
        .submit_restore(cluster.restore_request(&first.as_of, "copy"))
        .await;
    let left = cluster.until(left, "the end", is_over).await;
    let right = match right {
        Ok(job) => cluster.until(job.job, "the end", is_over).await.state,
        Err(_) => "failed".to_owned(),
    };
    let mut states = [left.state.as_str(), right.as_str()];
    states.sort_unstable();
    assert_eq!(states, ["failed", "succeeded"]);
    accounts.assert_restored("copy", &first.as_of).await;

    // A restore while a backup of the same source runs.
    let full = cluster.backup(false, false).await;
    let restore = cluster.restore(&one.as_of, "other").await;
    cluster.succeeded(full).await;
    cluster.succeeded(restore).await;
    accounts.assert_restored("other", &one.as_of).await;
}

fn is_over(job: &v1::Job) -> bool {
    matches!(
        job.state.as_str(),
        "succeeded" | "failed" | "canceled" | "revert-failed"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_restore_and_a_cancelled_backup_leave_nothing() {
    let shape = Shape {
        coordinators: 1,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let (cluster, accounts) = start(shape).await;
    let backup = cluster.backup(false, false).await;
    let backup = cluster.succeeded(backup).await;

    let restore = cluster.restore(&backup.as_of, "copy").await;
    cluster.until_fraction(restore, 0.1).await;
    cluster
        .control(restore, "cancel")
        .await
        .expect("a running job can be cancelled");
    cluster
        .until(restore, "canceled", |job| job.state == "canceled")
        .await;
    // The name is free again.
    let again = cluster.restore(&backup.as_of, "copy").await;
    cluster.succeeded(again).await;
    accounts.assert_restored("copy", &backup.as_of).await;

    let job = cluster.backup(false, false).await;
    let path = cluster.until_fraction(job, 0.1).await.path;
    cluster
        .control(job, "cancel")
        .await
        .expect("a running job can be cancelled");
    cluster
        .until(job, "canceled", |job| job.state == "canceled")
        .await;
    let place = cluster.directory().join("backups").join(&path);
    eventually(
        "the sweeper has removed the cancelled layer's objects",
        || async {
            let left = walk(&place);
            left.is_empty().then_some(())
        },
    )
    .await;
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(walk(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_key_never_makes_two_jobs() {
    let shape = Shape {
        coordinators: 1,
        zones: 1,
        workers_per_zone: 1,
        slots: 2,
    };
    let (cluster, _) = start(shape).await;
    let mut request = cluster.backup_request(false, false);
    request.request_key = "nightly-2026-11-23".to_owned();
    let first = cluster
        .client()
        .submit_backup(request.clone())
        .await
        .expect("a job");
    let second = cluster
        .client()
        .submit_backup(request)
        .await
        .expect("the same job");
    assert_eq!(first.job, second.job);
    assert!(!first.existed && second.existed);
    cluster.succeeded(first.job).await;
}
