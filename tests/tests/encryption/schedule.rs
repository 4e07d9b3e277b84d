//! A schedule whose backups are encrypted: over a restart of every process, and a change of its keys.

use holdfast_client::{ControlApi, v1};
use holdfast_keys_testing::Bao;
use holdfast_store_testing::{Act, Behaviour, Proxy};
use holdfast_tests::{Accounts, Cluster, Shape, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::search::assert_nothing_is_seen;
use crate::{Cli, PASSPHRASE, SMALL, keys};

const NEXT: &str = "canary of the next passphrase";

/// Waits until a schedule has run this often, and its last run has succeeded.
async fn ran(cluster: &Cluster, schedule: &str, times: usize) -> v1::Job {
    let request = v1::ListJobsRequest {
        all: true,
        schedules: vec![schedule.parse().expect("an id")],
        ..v1::ListJobsRequest::default()
    };
    let job = eventually("a schedule runs", || async {
        let listed = cluster.client().list_jobs(request.clone()).await.ok()?;
        (listed.jobs.len() >= times).then(|| listed.jobs[0].id)
    })
    .await;
    cluster.succeeded(job).await
}

async fn restores(cluster: &Cluster, accounts: &Accounts, job: &v1::Job, name: &str, key: &str) {
    // The directory of the full is `YYYY/MM/DD-HHMMSS.ss`.
    let path = job.path.trim_start_matches("incrementals/");
    let parts: Vec<&str> = path.split('/').take(3).collect();
    let subdir = parts.join("/");
    let request = |passphrase: &str| v1::SubmitRestoreRequest {
        subdir: subdir.clone(),
        encryption: keys(passphrase, &[]),
        ..cluster.restore_request(&job.as_of, name)
    };
    let other = [PASSPHRASE, NEXT].into_iter().find(|it| *it != key);
    let wrong = request(other.expect("another"));
    let fault = cluster.client().submit_restore(wrong).await;
    let fault = fault.expect_err("another key");
    assert!(fault.message.contains("does not open"), "{fault}");
    let restore = cluster.client().submit_restore(request(key)).await;
    cluster.succeeded(restore.expect("a job").job).await;
    accounts.assert_restored(name, &job.as_of).await;
}

/// Whether a job's layer is an incremental of another's chain.
fn is_on(job: &v1::Job, full: &v1::Job) -> bool {
    job.path.starts_with(&format!("incrementals/{}", full.path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_schedule_goes_on_after_a_restart_and_with_other_keys() {
    let shape = Shape {
        coordinators: 3,
        zones: 2,
        workers_per_zone: 1,
        slots: 2,
    };
    let mut cluster = Cluster::start(shape).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 400, 100).await;
    let mut bao = Bao::start();
    let other = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = other.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (pass, next) = (file("pass", PASSPHRASE), file("next", NEXT));
    let kms = file("kms", &bao.key("backup"));
    let nonsense = file("nonsense", "vault://canary");
    let at = cluster.collection();
    // No regular time comes while this runs.
    let create = format!(
        "schedule create bank INTO {at} --recurring @monthly --full-backup @yearly --first-run now --label nightly"
    );

    let cli = Cli(&cluster);
    let given = format!("{create} --kms-file {nonsense}");
    assert_ne!(cli.run(&given).code, 0, "no key of a KMS");
    let list = cli.succeeds("schedule list --json").json();
    assert_eq!(
        list["schedules"].as_array().map(Vec::len),
        Some(0),
        "{list}"
    );

    let given = format!("{create} --passphrase-file {pass} --kms-file {kms} --json");
    let made = cli.succeeds(&given).json();
    let id = |number: usize| {
        made["schedules"][number]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let (incremental, full) = (id(0), id(1));
    let keys_of = |cli: &Cli<'_>, id: &str| {
        let shown = cli.succeeds(&format!("schedule show {id} --json")).json();
        shown["encryption"].clone()
    };
    let shown = keys_of(&cli, &full);
    assert_eq!(shown["passphrase"], true, "{shown}");
    let label = shown["kms"][0].as_str().expect("a label");
    assert!(label.starts_with("vault://127.0.0.1:") && label.ends_with("/transit/backup"));
    let text = cli.succeeds(&format!("schedule show {full}")).stdout;
    assert!(text.contains("a passphrase, vault://127.0.0.1:"), "{text}");
    let first = ran(&cluster, &full, 1).await;
    assert!(
        first.description.ends_with("WITH encryption"),
        "{}",
        first.description
    );

    // Every process is killed, and nobody gives the keys again. One of them is enough for what follows in the chain.
    bao.kill();
    for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
        process.kill();
    }
    for process in cluster.coordinators.iter_mut().chain(&mut cluster.workers) {
        process.restart();
    }
    let cli = Cli(&cluster);
    let run = |id: &str| {
        let line = format!("schedule run {id}");
        let cli = &cli;
        async move {
            eventually(&line, || async { (cli.run(&line).code == 0).then_some(()) }).await;
        }
    };
    run(&incremental).await;
    let second = ran(&cluster, &incremental, 1).await;
    assert!(is_on(&second, &first), "{}", second.path);
    let by_hand = cluster.backup_request(true, false);
    let fault = cluster.client().submit_backup(by_hand).await;
    let fault = fault.expect_err("no key").message;
    assert!(
        fault.contains("is encrypted, and no key was given"),
        "{fault}"
    );

    // A KMS that does not answer is told whoever changes the keys, and nothing changes.
    let alter = format!("schedule alter {incremental}");
    let refused = cli.run(&format!("{alter} --new-kms-file {kms}"));
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert_eq!(keys_of(&cli, &full)["passphrase"], true);

    // Other keys: incrementals go on with the chain that there is, until there is another.
    cli.succeeds(&format!("{alter} --new-passphrase-file {next}"));
    let shown = keys_of(&cli, &incremental);
    assert_eq!(shown["kms"].as_array().map(Vec::len), Some(0), "{shown}");
    assert_eq!(shown["former_keys_kept"], true, "{shown}");
    run(&incremental).await;
    let third = ran(&cluster, &incremental, 2).await;
    assert!(is_on(&third, &first), "{}", third.path);
    assert_eq!(keys_of(&cli, &incremental)["former_keys_kept"], true);
    run(&full).await;
    let fourth = ran(&cluster, &full, 2).await;
    assert_ne!(fourth.path, first.path);
    run(&incremental).await;
    let fifth = ran(&cluster, &incremental, 3).await;
    assert!(is_on(&fifth, &fourth), "{}", fifth.path);
    eventually("the keys from before are forgotten", || async {
        (keys_of(&cli, &incremental)["former_keys_kept"] == false).then_some(())
    })
    .await;

    restores(&cluster, &accounts, &third, "old", PASSPHRASE).await;
    restores(&cluster, &accounts, &fifth, "new", NEXT).await;
    let places = [cluster.directory().join("backups")];
    let rows = ["bank", "accounts"].map(|row| row.as_bytes().to_vec());
    let secrets = [PASSPHRASE, NEXT, bao.secret(), "canary"];
    assert_nothing_is_seen(&cluster, &places, &[PASSPHRASE, NEXT], &secrets, &rows).await;
}

/// A Vault that is sealed while it is said to be: it answers 503 then.
#[derive(Debug, Default)]
struct Sealed(AtomicBool);

impl Behaviour for Sealed {
    fn request(&self, _: &mut http::request::Parts) -> Act {
        match self.0.load(Ordering::Relaxed) {
            true => Act::SlowDown,
            false => Act::Pass,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_due_waits_for_the_kms() {
    let cluster = Cluster::start(SMALL).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 400, 100).await;
    let bao = Bao::start();
    let sealed = Arc::<Sealed>::default();
    let proxy = Proxy::start(bao.port(), Arc::<Sealed>::clone(&sealed)).await;
    let direct = bao.key("backup");
    let through = proxy.endpoint().replace("http://", "");
    let kms = direct.replace(&format!("127.0.0.1:{}", bao.port()), &through);
    let other = tempfile::tempdir().expect("a directory");
    let file = other.path().join("kms");
    std::fs::write(&file, &kms).expect("written");
    let (cli, at) = (Cli(&cluster), cluster.collection());
    let made = cli
        .succeeds(&format!(
            "schedule create bank INTO {at} --recurring @monthly --full-backup @yearly --first-run now --kms-file {} --json",
            file.display()
        ))
        .json();
    let id = |number: usize| made["schedules"][number]["id"].as_str().expect("an id");
    let (incremental, full) = (id(0), id(1));
    let first = ran(&cluster, full, 1).await;

    sealed.0.store(true, Ordering::Relaxed);
    cli.succeeds(&format!("schedule run {incremental}"));
    let said = eventually("the coordinator says what a run waits for", || async {
        let log = cluster.coordinators[0].log();
        let line = log.lines().find(|line| line.contains("tried again soon"));
        line.map(str::to_owned)
    })
    .await;
    assert!(said.contains("cannot be asked"), "{said}");
    assert!(!said.contains(bao.secret()), "{said}");
    let listed = cluster
        .client()
        .list_jobs(v1::ListJobsRequest {
            all: true,
            schedules: vec![incremental.parse().expect("an id")],
            ..v1::ListJobsRequest::default()
        })
        .await
        .expect("jobs");
    assert!(listed.jobs.is_empty(), "{listed:?}");

    // Nobody does anything but unseal it.
    sealed.0.store(false, Ordering::Relaxed);
    let second = ran(&cluster, incremental, 1).await;
    assert!(is_on(&second, &first), "{}", second.path);
    // It is the same key, whatever way leads to it.
    let request = v1::SubmitRestoreRequest {
        encryption: keys("", &[&direct]),
        ..cluster.restore_request(&second.as_of, "back")
    };
    let restore = cluster.client().submit_restore(request).await;
    cluster.succeeded(restore.expect("a job").job).await;
    accounts.assert_restored("back", &second.as_of).await;
}
