//! What the tests of whole cycles share: layers of a collection in several stores, written while processes are killed.

use holdfast_client::{ControlApi, v1};
use holdfast_tests::{Accounts, Cluster, Shape, eventually};
use std::time::Duration;
use v1::submit_backup_request::Layer;

use crate::{Cli, PASSPHRASE, keys};

const ACCOUNTS: u64 = 6_000;
const ROW: usize = 1_000;
/// Every row so many is looked for.
const STEP: usize = 1_500;

/// Submits a layer into the stores, the default one first.
pub(crate) async fn backup(
    cluster: &Cluster,
    stores: &[String],
    layer: Layer,
    is_encrypted: bool,
) -> u64 {
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
pub(crate) async fn survives_kills(cluster: &mut Cluster, job: u64, worker: usize) -> v1::Job {
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
pub(crate) async fn canaries(accounts: &Accounts) -> Vec<Vec<u8>> {
    let members = accounts.rows("bank", None).await;
    let values = members.iter().flat_map(|rows| rows.values().step_by(STEP));
    values.map(|value| value[8..40].to_vec()).collect()
}

/// The instants of a chain at which a restore is compared with what there was, each with a name.
pub(crate) type Instants = Vec<(&'static str, String)>;

/// Starts a cluster with so many zones, and a bank in each.
pub(crate) async fn start(zones: usize) -> (Cluster, Accounts) {
    let shape = Shape {
        coordinators: 3,
        zones,
        workers_per_zone: 1,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    cluster.small_parts(256 << 10, 2 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
    (cluster, accounts)
}

/// A full and two incrementals with history, encrypted, while a worker and the leader are killed in each of the first two, and others write.
pub(crate) async fn write_chain(
    cluster: &mut Cluster,
    accounts: &Accounts,
    stores: &[String],
) -> Instants {
    let job = backup(cluster, stores, Layer::Full(true), true).await;
    survives_kills(cluster, job, 1).await;
    let writers = accounts.start_writers(ROW);
    let early = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let job = backup(cluster, stores, Layer::AppendToLatest(true), true).await;
    let first = survives_kills(cluster, job, 0).await;
    let middle = accounts.now().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(writers.stop().await > 0);
    let job = backup(cluster, stores, Layer::AppendToLatest(true), true).await;
    let last = cluster.succeeded(job).await;
    vec![
        ("early", early),
        ("first", first.as_of),
        ("middle", middle),
        ("last", last.as_of),
    ]
}

/// Restores a chain to each of its instants, verifies it, and sees that without its key there is nothing to be had.
pub(crate) async fn assert_comes_back(
    cluster: &Cluster,
    accounts: &Accounts,
    stores: &[String],
    instants: &[(&'static str, String)],
) {
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
        let request = restore(&instants[0].1, "refused", encryption);
        let fault = client.submit_restore(request).await.expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
        assert!(fault.hint.is_some(), "{fault}");
    }
    for (name, as_of) in instants {
        let request = restore(as_of, name, keys(PASSPHRASE, &[]));
        let job = client.submit_restore(request).await.expect("a job").job;
        cluster.succeeded(job).await;
        accounts.assert_restored(name, as_of).await;
    }
    let verify = v1::SubmitVerifyRequest {
        from: stores[0].clone(),
        more_from: stores[1..].to_vec(),
        encryption: keys(PASSPHRASE, &[]),
        ..v1::SubmitVerifyRequest::default()
    };
    let job = client.submit_verify(verify).await.expect("a job").job;
    cluster.succeeded(job).await;
}

/// Each store has the data of one member and of no other: the first that of `m0`, and so on.
pub(crate) async fn assert_each_at_home(cli: &Cli<'_>, stores: &[String], more: &str) {
    let line = format!("backups residency {} --json {more}", stores.join(" "));
    // What was swept of the killed workers' is gone before it is looked.
    let shown = eventually("everything lies where it belongs", || async {
        let shown = cli.run(&line);
        (shown.code == 0).then(|| shown.json())
    })
    .await;
    let held = shown["stores"].as_array().expect("stores");
    assert_eq!(held.len(), stores.len(), "{shown}");
    for (number, store) in held.iter().enumerate() {
        let members = store["members"].as_array().expect("members");
        assert_eq!(members.len(), 1, "{shown}");
        assert_eq!(members[0]["member"], format!("m{number}"), "{shown}");
    }
}
