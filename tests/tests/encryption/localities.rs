//! An encrypted collection of two stores, from its first full to the last restore.

use holdfast_client::{ControlApi, v1};
use holdfast_tests::{Accounts, Cluster, Shape, eventually};
use std::time::Duration;
use v1::submit_backup_request::Layer;

use crate::search::{assert_nothing_is_seen, files, holds};
use crate::{Cli, PASSPHRASE, keys};

const ACCOUNTS: u64 = 6_000;
const ROW: usize = 1_000;
/// Every row so many is looked for.
const STEP: usize = 1_500;

async fn backup(cluster: &Cluster, stores: &[String], layer: Layer, is_encrypted: bool) -> u64 {
    let request = v1::SubmitBackupRequest {
        into: stores[0].clone(),
        more_into: stores[1..].to_vec(),
        revision_history: matches!(layer, Layer::AppendToLatest(_)),
        layer: Some(layer),
        encryption: keys(PASSPHRASE, &[]).filter(|_| is_encrypted),
        ..cluster.backup_request(false, false)
    };
    let submitted = cluster.client().submit_backup(request).await;
    submitted.expect("a backup job").job
}

/// Kills a worker and the leader in the middle of a job, and waits for its success.
async fn survives_kills(cluster: &mut Cluster, job: u64, worker: usize) -> v1::Job {
    cluster.until_fraction(job, 0.1).await;
    let leader = cluster.leader().await;
    cluster.workers[worker].kill();
    cluster.coordinators[leader].kill();
    cluster.workers[worker].restart();
    let done = cluster.succeeded(job).await;
    cluster.coordinators[leader].restart();
    done
}

/// Parts of values of every member's rows, which do not get any shorter.
async fn canaries(accounts: &Accounts) -> Vec<Vec<u8>> {
    let members = accounts.rows("bank", None).await;
    let values = members.iter().flat_map(|rows| rows.values().step_by(STEP));
    values.map(|value| value[8..40].to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_cycle_in_two_stores_survives_kills_and_shows_nothing() {
    let shape = Shape {
        coordinators: 3,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let mut cluster = Cluster::start(shape).await;
    cluster.small_parts(256 << 10, 2 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
    let rows = canaries(&accounts).await;
    let place = |name: &str| cluster.directory().join(name);
    let places = [place("home"), place("east")];
    let uri = |name: &str, more: &str| format!("file://{}{more}", place(name).display());
    let stores = [
        uri("home", "?HOLDFAST_LOCALITY=default"),
        uri("east", "?HOLDFAST_LOCALITY=zone%3Dz1"),
    ];
    let (clear, clear_place) = ([uri("clear", "")], place("clear"));

    let job = backup(&cluster, &stores, Layer::Full(true), true).await;
    survives_kills(&mut cluster, job, 1).await;
    let writers = accounts.start_writers(ROW);
    let early = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let job = backup(&cluster, &stores, Layer::AppendToLatest(true), true).await;
    let first = survives_kills(&mut cluster, job, 0).await;
    let middle = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(writers.stop().await > 0);
    let job = backup(&cluster, &stores, Layer::AppendToLatest(true), true).await;
    let last = cluster.succeeded(job).await;

    let restore = |as_of: &str, name: &str, encryption| v1::SubmitRestoreRequest {
        from: stores[0].clone(),
        more_from: stores[1..].to_vec(),
        encryption,
        ..cluster.restore_request(as_of, name)
    };
    let client = cluster.client();
    for (encryption, words) in [
        (None, "is encrypted, and no key was given"),
        (
            keys("another canary", &[]),
            "the passphrase does not open the chain",
        ),
    ] {
        let request = restore(&middle, "refused", encryption);
        let fault = client.submit_restore(request).await.expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
        assert!(fault.hint.is_some(), "{fault}");
    }
    for (as_of, name) in [
        (&early, "early"),
        (&first.as_of, "first"),
        (&middle, "middle"),
        (&last.as_of, "last"),
    ] {
        let request = restore(as_of, name, keys(PASSPHRASE, &[]));
        let job = client.submit_restore(request).await.expect("a job").job;
        cluster.succeeded(job).await;
        accounts.assert_restored(name, as_of).await;
    }

    // Where everything lies is shown to whoever has a key.
    let other = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = other.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (pass, wrong) = (file("pass", PASSPHRASE), file("wrong", "another canary"));
    let cli = Cli(&cluster);
    let line = format!("backups residency {} {}", stores[0], stores[1]);
    cli.fails(&line, 4, "is encrypted, and no key was given");
    let given = format!("{line} --passphrase-file {wrong}");
    cli.fails(&given, 4, "the passphrase does not open the chain");
    for more in ["", "--local"] {
        // What was swept of the killed workers' is gone before it is looked.
        let shown = eventually("everything lies where it belongs", || async {
            let line = format!("{line} --json --passphrase-file {pass} {more}");
            let shown = cli.run(&line);
            (shown.code == 0).then(|| shown.json())
        })
        .await;
        let held = shown["stores"].as_array().expect("stores");
        assert_eq!(held.len(), 2, "{shown}");
        for (store, member) in held.iter().zip(["m0", "m1"]) {
            let members = store["members"].as_array().expect("members");
            assert_eq!(members.len(), 1, "{shown}");
            assert_eq!(members[0]["member"], member, "{shown}");
        }
    }
    let verify = v1::SubmitVerifyRequest {
        from: stores[0].clone(),
        more_from: stores[1..].to_vec(),
        encryption: keys(PASSPHRASE, &[]),
        ..v1::SubmitVerifyRequest::default()
    };
    let job = client.submit_verify(verify).await.expect("a job").job;
    cluster.succeeded(job).await;

    // The rows are such that they would be seen if they were in clear.
    let job = backup(&cluster, &clear, Layer::Full(true), false).await;
    cluster.succeeded(job).await;
    let in_clear: Vec<Vec<u8>> = (files(&clear_place).iter())
        .map(|path| std::fs::read(path).expect("is read"))
        .collect();
    let is_seen = |row: &Vec<u8>| in_clear.iter().any(|bytes| holds(bytes, row));
    let unseen = canaries(&accounts).await;
    let unseen = unseen.iter().filter(|row| !is_seen(row)).count();
    assert_eq!(unseen, 0, "rows that say nothing");
    assert_nothing_is_seen(&cluster, &places, &[PASSPHRASE], &[PASSPHRASE], &rows).await;
}
