//! Backups into object stores, with real processes: killed ones, stores that are gone for a while, and stores of several localities.

use holdfast_client::{ControlApi, v1};
use holdfast_store_testing::{Seaweed, SeaweedOptions};
use holdfast_tests::{Accounts, Cluster, Shape, eventually, run};
use std::path::Path;
use std::time::Duration;
use v1::submit_backup_request::Layer;

const ACCOUNTS: u64 = 6_000;
const ROW: usize = 1_000;

async fn start(zones: usize) -> (Cluster, Accounts) {
    let shape = Shape {
        coordinators: 1,
        zones,
        workers_per_zone: 1,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    cluster.small_parts(256 << 10, 2 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
    (cluster, accounts)
}

/// The URIs of a collection, the default store's first.
type Stores = [String];

async fn backup(cluster: &Cluster, stores: &Stores, layer: Layer) -> u64 {
    let incremental = matches!(layer, Layer::AppendToLatest(_));
    let request = v1::SubmitBackupRequest {
        into: stores[0].clone(),
        more_into: stores[1..].to_vec(),
        layer: Some(layer),
        ..cluster.backup_request(false, incremental)
    };
    let submitted = cluster.client().submit_backup(request).await;
    submitted.expect("a backup job").job
}

async fn restore(cluster: &Cluster, stores: &Stores, as_of: &str, name: &str) {
    let request = v1::SubmitRestoreRequest {
        from: stores[0].clone(),
        more_from: stores[1..].to_vec(),
        ..cluster.restore_request(as_of, name)
    };
    let submitted = cluster.client().submit_restore(request).await;
    cluster
        .succeeded(submitted.expect("a restore job").job)
        .await;
}

/// Restores to each of the instants, compares, and verifies the chain.
async fn assert_comes_back(
    cluster: &Cluster,
    accounts: &Accounts,
    stores: &Stores,
    instants: &[&String],
) {
    for (number, as_of) in instants.iter().enumerate() {
        let name = format!("copy{number}");
        restore(cluster, stores, as_of, &name).await;
        accounts.assert_restored(&name, as_of).await;
    }
    let verify = v1::SubmitVerifyRequest {
        from: stores[0].clone(),
        ..v1::SubmitVerifyRequest::default()
    };
    let verify = cluster.client().submit_verify(verify).await;
    cluster.succeeded(verify.expect("a job").job).await;
}

/// Asserts that a text is nowhere below a directory.
fn assert_absent(directory: &Path, secret: &str) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_absent(&path, secret);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds the secret", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cycle_on_s3_with_kills_and_no_secret_anywhere() {
    let weed = Seaweed::shared();
    let (mut cluster, accounts) = start(2).await;
    let stores = [weed.uri(&weed.bucket(), "")];
    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.2).await;
    cluster.workers[0].kill();
    cluster.workers[0].restart();
    let full = cluster.succeeded(job).await;
    let writers = accounts.start_writers(ROW);
    let middle = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(writers.stop().await > 0);
    let job = backup(&cluster, &stores, Layer::AppendToLatest(true)).await;
    let incremental = cluster.succeeded(job).await;

    let instants = [&full.as_of, &middle, &incremental.as_of];
    assert_comes_back(&cluster, &accounts, &stores, &instants).await;

    // What people see has the place, and not the key.
    let shown = run(&["backups", "list", &stores[0], "--local"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let jobs = cluster.client().list_jobs(v1::ListJobsRequest::default());
    let jobs = format!("{:?}", jobs.await.expect("jobs"));
    assert!(jobs.contains("s3://bucket-") && !jobs.contains(weed.secret()));
    let unknown = v1::ShowBackupRequest {
        collection: stores[0].clone(),
        subdir: "2001/01/01-000000.00".to_owned(),
        ..v1::ShowBackupRequest::default()
    };
    let fault = cluster.client().show_backup(unknown).await;
    let fault = fault.expect_err("no such chain").to_string();
    assert!(!fault.contains(weed.secret()), "{fault}");
    // Nor do files: raft's log, snapshots, logs of processes.
    assert_absent(cluster.directory(), weed.secret());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_killed_is_waited_for() {
    let weed = Seaweed::start(SeaweedOptions::default());
    let (cluster, accounts) = start(1).await;
    let stores = [weed.uri(&weed.bucket(), "")];
    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.1).await;
    weed.kill();
    let client = cluster.client().clone();
    let waiting = eventually("the job says what it waits for", || async {
        let now = client.get_job(job).await.ok()?;
        assert_ne!(now.state, "failed", "{now:?}");
        let said = now.execution_errors.iter().chain(&now.waiting);
        let said: Vec<&String> = said.collect();
        (!said.is_empty()).then(|| format!("{said:?}"))
    })
    .await;
    assert!(!waiting.contains(weed.secret()), "{waiting}");
    weed.restart();
    let full = cluster.succeeded(job).await;
    restore(&cluster, &stores, &full.as_of, "copy").await;
    accounts.assert_restored("copy", &full.as_of).await;
}

/// A default retention in compliance mode: nobody, root included, can overwrite or remove anything, from the first claim to what dead jobs leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cycle_in_a_bucket_where_nothing_can_be_removed() {
    let weed = Seaweed::shared();
    let bucket = weed.locked_bucket();
    weed.retain(&bucket, "COMPLIANCE", 1);
    let (mut cluster, accounts) = start(2).await;
    let stores = [weed.uri(&bucket, "")];

    // A job that is cancelled in the middle leaves what it wrote, and is over all the same.
    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.2).await;
    cluster.control(job, "cancel").await.expect("is cancelled");
    cluster.until_over(job, "canceled").await;

    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.1).await;
    cluster.control(job, "pause").await.expect("is paused");
    cluster
        .until(job, "a pause", |job| job.state == "paused")
        .await;
    cluster.workers[0].kill();
    cluster.coordinators[0].kill();
    cluster.coordinators[0].restart();
    cluster.workers[0].restart();
    eventually("the job goes on", || async {
        cluster.control(job, "resume").await.ok()
    })
    .await;
    cluster.until_fraction(job, 0.4).await;
    cluster.workers[1].kill();
    cluster.workers[1].restart();
    let full = cluster.succeeded(job).await;
    let writers = accounts.start_writers(ROW);
    let middle = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(writers.stop().await > 0);
    let job = backup(&cluster, &stores, Layer::AppendToLatest(true)).await;
    let last = cluster.succeeded(job).await;
    let instants = [&full.as_of, &middle, &last.as_of];
    assert_comes_back(&cluster, &accounts, &stores, &instants).await;
    let shown = run(&["backups", "list", &stores[0], "--local", "--json"]);
    let shown = shown.json();
    assert_eq!(shown["chains"].as_array().map(Vec::len), Some(1), "{shown}");

    let versions = weed.versions(&bucket);
    let mut keys: Vec<&String> = versions.iter().map(|(key, _)| key).collect();
    keys.dedup();
    assert!(keys.len() > 30, "{} keys", keys.len());
    assert_eq!(keys.len(), versions.len(), "nothing was overwritten");
    for (key, version) in versions.iter().step_by(7) {
        assert!(!weed.lets_go(&bucket, key, version), "{key} is retained");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_each_locality_stays_in_its_bucket_and_comes_back() {
    let weed = Seaweed::shared();
    let (mut cluster, accounts) = start(3).await;
    let [home, z1, z2] = [weed.bucket(), weed.bucket(), weed.bucket()];
    let stores = [
        weed.uri(&home, "HOLDFAST_LOCALITY=default"),
        weed.uri(&z1, "COCKROACH_LOCALITY=zone%3Dz1"),
        weed.uri(&z2, "HOLDFAST_LOCALITY=zone%3Dz2"),
    ];
    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.1).await;
    cluster.workers[1].kill();
    cluster.workers[1].restart();
    cluster.succeeded(job).await;
    let writers = accounts.start_writers(ROW);
    tokio::time::sleep(Duration::from_millis(300)).await;
    writers.stop().await;
    let job = backup(&cluster, &stores, Layer::AppendToLatest(true)).await;
    let last = cluster.succeeded(job).await;

    // Another set of localities does not continue the chain.
    let request = v1::SubmitBackupRequest {
        into: weed.uri(&home, ""),
        layer: Some(Layer::AppendToLatest(true)),
        ..cluster.backup_request(false, false)
    };
    let fault = cluster.client().submit_backup(request).await;
    let fault = fault.expect_err("other localities").to_string();
    assert!(fault.contains("localities"), "{fault}");

    // What was swept of the killed worker's is gone before it is looked.
    let shown = eventually("everything lies where it belongs", || async {
        let arguments = [
            "backups",
            "residency",
            &stores[0],
            &stores[1],
            &stores[2],
            "--local",
            "--json",
        ];
        let shown = run(&arguments);
        (shown.code == 0).then(|| shown.json())
    })
    .await;
    let members: Vec<String> = (shown["stores"].as_array().expect("stores").iter())
        .map(|store| store["members"].to_string())
        .collect();
    for (number, member) in ["m0", "m1", "m2"].iter().enumerate() {
        assert_eq!(
            members[number].matches("\"member\"").count(),
            1,
            "{members:?}"
        );
        assert!(members[number].contains(member), "{members:?}");
    }
    let plain = [weed.uri(&home, ""), weed.uri(&z2, ""), weed.uri(&z1, "")];
    restore(&cluster, &plain, &last.as_of, "copy").await;
    accounts.assert_restored("copy", &last.as_of).await;
    assert_absent(cluster.directory(), weed.secret());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stands_for_a_place_and_is_checked_by_every_worker() {
    let weed = Seaweed::shared();
    let (cluster, accounts) = start(2).await;
    let coordinator = cluster.coordinator_addresses().join(",");
    let holdfast = |words: &[&str]| {
        let mut all = vec!["--coordinator", coordinator.as_str()];
        all.extend(words);
        run(&all)
    };
    let bucket = weed.bucket();
    let wrong = weed
        .uri(&bucket, "")
        .replace(weed.secret(), "holdfast-canary-wrong");
    let file = cluster.directory().join("uri");
    std::fs::write(&file, &wrong).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let made = holdfast(&["connection", "create", "vault", "--uri-file", path]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let again = holdfast(&["connection", "create", "vault", "--as", "memory://x"]);
    assert_eq!(again.code, 4, "{}", again.stderr);
    let checked = holdfast(&["connection", "check", "vault", "--transfer-mib", "1"]);
    assert_eq!(checked.code, 4, "{}", checked.stdout);
    assert!(
        checked.stdout.contains("permission denied"),
        "{}",
        checked.stdout
    );

    // The right secret: the place is the same, so that it may be changed at any time.
    std::fs::write(&file, weed.uri(&bucket, "")).expect("a file");
    let altered = holdfast(&["connection", "alter", "vault", "--uri-file", path]);
    assert_eq!(altered.code, 0, "{}", altered.stderr);
    std::fs::remove_file(&file).expect("removed");
    let checked = holdfast(&[
        "connection",
        "check",
        "vault",
        "--transfer-mib",
        "1",
        "--json",
    ]);
    assert_eq!(checked.code, 0, "{} {}", checked.stdout, checked.stderr);
    let workers = checked.json()["workers"].clone();
    assert_eq!(workers.as_array().expect("workers").len(), 2);
    for worker in workers.as_array().expect("workers") {
        assert_eq!(worker["ok"], true, "{worker}");
        assert_eq!(worker["can_delete"], true, "{worker}");
        assert_eq!(worker["transferred"], 1 << 20, "{worker}");
    }
    let shown = holdfast(&["connection", "show"]);
    assert!(
        shown.stdout.contains("AWS_SECRET_ACCESS_KEY=redacted"),
        "{}",
        shown.stdout
    );
    assert!(!shown.stdout.contains("canary"), "{}", shown.stdout);

    let stores = ["external://vault/below".to_owned()];
    let job = backup(&cluster, &stores, Layer::Full(true)).await;
    cluster.until_fraction(job, 0.1).await;
    let dropped = holdfast(&["connection", "drop", "vault"]);
    assert_eq!(dropped.code, 4, "a job uses it: {}", dropped.stdout);
    let full = cluster.succeeded(job).await;
    assert!(full.collection.starts_with("s3://"), "{}", full.collection);
    restore(&cluster, &stores, &full.as_of, "copy").await;
    accounts.assert_restored("copy", &full.as_of).await;
    eventually("nothing uses the connection any more", || async {
        (holdfast(&["connection", "drop", "vault"]).code == 0).then_some(())
    })
    .await;
    let unknown = holdfast(&["backups", "list", "external://vault/below"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert_absent(cluster.directory(), "holdfast-canary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_check_tells_workers_that_look_at_different_places() {
    let (cluster, _) = start(2).await;
    let coordinator = cluster.coordinator_addresses().join(",");
    // A store in memory is another one in each process.
    let arguments = [
        "--coordinator",
        &coordinator,
        "connection",
        "check",
        "memory://own",
    ];
    let checked = run(&arguments);
    assert_eq!(checked.code, 4, "{}", checked.stdout);
    assert!(
        checked.stdout.contains("it looks at another place"),
        "{}",
        checked.stdout
    );
    let shared = format!("file://{}/shared", cluster.directory().display());
    let checked = run(&[
        "--coordinator",
        &coordinator,
        "connection",
        "check",
        &shared,
    ]);
    assert_eq!(checked.code, 0, "{}", checked.stdout);
}
