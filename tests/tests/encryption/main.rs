//! Encrypted chains, with real processes and a real key management service: nothing is asked for twice, nothing is seen anywhere, and every mistake
//! is told.

mod clouds;
mod cycle;
mod localities;
mod schedule;
mod search;

use holdfast_client::{ControlApi, v1};
use holdfast_keys_testing::Bao;
use holdfast_postgres_testing::{Options, Server};
use holdfast_tests::{Accounts, Cluster, Output, Process, Shape, content, make_bank, run};
use search::{assert_nothing_is_seen, files};
use std::time::{Duration, Instant};

const PASSPHRASE: &str = "canary of a passphrase";
const SMALL: Shape = Shape {
    coordinators: 1,
    zones: 1,
    workers_per_zone: 1,
    slots: 2,
};

fn keys(passphrase: &str, kms: &[&str]) -> Option<v1::EncryptionKeys> {
    Some(v1::EncryptionKeys {
        passphrase: passphrase.to_owned(),
        kms: kms.iter().map(|uri| (*uri).to_owned()).collect(),
        kdf: String::new(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_backup_goes_on_after_every_process_was_killed() {
    let mut cluster = Cluster::start(Shape::default()).await;
    cluster.small_parts(256 << 10, 2 << 20).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 9_000, 1_000).await;
    let mut bao = Bao::start();
    let kms = bao.key("backup");
    let request = v1::SubmitBackupRequest {
        encryption: keys(PASSPHRASE, &[&kms]),
        ..cluster.backup_request(false, false)
    };
    let job = cluster
        .client()
        .submit_backup(request)
        .await
        .expect("a job")
        .job;
    cluster.until_fraction(job, 0.2).await;
    // All at once, the key management service included: nobody has a passphrase to give.
    bao.kill();
    for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
        process.kill();
    }
    for process in cluster.coordinators.iter_mut().chain(&mut cluster.workers) {
        process.restart();
    }
    let backup = cluster.succeeded(job).await;
    assert!(
        backup.description.ends_with("WITH encryption"),
        "{}",
        backup.description
    );

    // An incremental with one of the keys, and a restore of both with it.
    let request = v1::SubmitBackupRequest {
        encryption: keys(PASSPHRASE, &[]),
        ..cluster.backup_request(true, false)
    };
    let job = cluster
        .client()
        .submit_backup(request)
        .await
        .expect("a job")
        .job;
    let incremental = cluster.succeeded(job).await;
    let request = v1::SubmitRestoreRequest {
        encryption: keys(PASSPHRASE, &[]),
        ..cluster.restore_request(&incremental.as_of, "restored")
    };
    let job = cluster
        .client()
        .submit_restore(request)
        .await
        .expect("a job")
        .job;
    cluster.succeeded(job).await;
    accounts
        .assert_restored("restored", &incremental.as_of)
        .await;
    let verify = v1::SubmitVerifyRequest {
        from: cluster.collection(),
        encryption: keys(PASSPHRASE, &[]),
        ..v1::SubmitVerifyRequest::default()
    };
    let job = cluster
        .client()
        .submit_verify(verify)
        .await
        .expect("a job")
        .job;
    cluster.succeeded(job).await;
    let places = [cluster.directory().join("backups")];
    let rows = ["bank", "accounts"].map(|row| row.as_bytes().to_vec());
    let secrets = [PASSPHRASE, bao.secret()];
    assert_nothing_is_seen(&cluster, &places, &[PASSPHRASE], &secrets, &rows).await;
}

struct Cli<'a>(&'a Cluster);

impl Cli<'_> {
    fn run(&self, line: &str) -> Output {
        let coordinators = self.0.coordinator_addresses().join(",");
        let mut arguments = vec!["--coordinator", coordinators.as_str()];
        arguments.extend(line.split_whitespace());
        let output = run(&arguments);
        for text in [&output.stdout, &output.stderr] {
            assert!(
                !text.contains("canary") && !text.contains("root-token"),
                "{line}: {text}"
            );
        }
        output
    }

    fn succeeds(&self, line: &str) -> Output {
        let output = self.run(line);
        assert_eq!(output.code, 0, "{line}: {}", output.stderr);
        output
    }

    fn fails(&self, line: &str, code: i32, words: &str) {
        let output = self.run(line);
        assert_eq!(output.code, code, "{line}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{line}: {}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_given_shown_added_and_dropped_on_the_command_line() {
    let cluster = Cluster::start(SMALL).await;
    Accounts::create(cluster.member_addresses(), "bank", 200, 100).await;
    let bao = Bao::start();
    let cli = Cli(&cluster);
    let at = cluster.collection();
    let file = |name: &str, content: &str| {
        let path = cluster.directory().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let pass = file("pass", "canary passphrase\n");
    let wrong = file("wrong", "canary of another");
    let old = file(
        "old",
        &format!("# the key of every day\n{}\n", bao.key("old")),
    );
    let new = file("new", &bao.key("new"));
    let plain = format!("file://{}", cluster.directory().join("plain").display());

    cli.succeeds(&format!(
        "backup bank INTO {at} --passphrase-file {pass} --kms-file {old}"
    ));
    cli.succeeds(&format!("backup bank INTO {at} --append --kms-file {old}"));
    cli.succeeds(&format!("backup bank INTO {plain}"));

    // Wrong, missing, unneeded: each has an error of its own, for every command.
    for command in [
        format!("backup bank INTO {at} --append"),
        format!("restore FROM {at} --database bank --new-db-name r0"),
        format!("restore FROM {at} --database bank --new-db-name r0 --dry-run"),
        format!("verify --from {at}"),
        format!("backups show {at}"),
        format!("backups show {at} --local"),
    ] {
        cli.fails(&command, 4, "is encrypted, and no key was given");
        let given = format!("{command} --passphrase-file {wrong}");
        cli.fails(&given, 4, "the passphrase does not open the chain");
        let given = format!("{command} --kms-file {new}");
        cli.fails(&given, 4, "is none of the keys that the chain");
        let given = format!("{} --passphrase-file {pass}", command.replace(&at, &plain));
        cli.fails(&given, 4, "is not encrypted, and a key was given");
    }

    let listed = cli.succeeds(&format!("backups list {at} --json")).json();
    assert_eq!(listed["chains"][0]["encrypted"], true);
    let shown = cli
        .succeeds(&format!("keys show {at} --json --local"))
        .json();
    assert_eq!(shown["keys"].as_array().expect("keys").len(), 2);
    assert_eq!(shown["keys"][0]["kind"], "passphrase");
    assert_eq!(shown["keys"][1]["kind"], "vault");
    let label = shown["keys"][1]["label"].as_str().expect("a label");
    assert!(label.starts_with("vault://127.0.0.1:") && label.ends_with("/transit/old"));
    let clear = cli.succeeds(&format!("keys show {plain}"));
    assert!(
        clear.stdout.contains("is not encrypted"),
        "{}",
        clear.stdout
    );

    cli.succeeds(&format!(
        "keys add {at} --kms-file {old} --new-kms-file {new}"
    ));
    cli.fails(
        &format!("keys add {at} --kms-file {new} --new-kms-file {old}"),
        4,
        "already",
    );
    cli.fails(
        &format!("keys add {plain} --kms-file {old} --new-kms-file {new}"),
        4,
        "not encrypted",
    );
    let id = shown["keys"][1]["id"].as_str().expect("an id");
    cli.fails(
        &format!("keys drop {at} --id 00000000 --kms-file {new}"),
        3,
        "00000000",
    );
    cli.succeeds(&format!(
        "keys drop {at} --id {id} --kms-file {new} --local"
    ));
    cli.fails(
        &format!("verify --from {at} --kms-file {old}"),
        4,
        "is none of the keys",
    );
    let shown = cli.succeeds(&format!("keys show {at} --json")).json();
    assert_eq!(shown["number"], 3);
    let left = files(&cluster.directory().join("backups"));
    let left = left
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "hfk"));
    assert_eq!(
        left.count(),
        1,
        "a store that deletes keeps no dropped wrap"
    );

    // Everything with the new key.
    cli.succeeds(&format!("backup bank INTO {at} --append --kms-file {new}"));
    cli.succeeds(&format!(
        "restore FROM {at} --database bank --new-db-name r1 --kms-file {new}"
    ));
    cli.succeeds(&format!(
        "restore FROM {at} --database bank --new-db-name r2 --passphrase-file {pass}"
    ));
    cli.succeeds(&format!("verify --from {at} --kms-file {new} --local"));
    let shown = cli.succeeds(&format!(
        "backups show {at} --check-files --kms-file {new} --json"
    ));
    assert_eq!(shown.json()["layers"].as_array().expect("layers").len(), 3);
}

/// A PostgreSQL server without a cluster: whoever goes on with what a killed command began need not know the passphrase.
#[test]
fn a_backup_of_one_server_goes_on_without_its_passphrase() {
    let server = Server::start(Options::default());
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 10);
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    let pass = path("pass");
    std::fs::write(&pass, PASSPHRASE).expect("written");
    let (dsn, into, state) = (server.dsn(&bank), path("backups"), path("state"));
    let into = format!("file://{into}");
    let line = [
        "backup",
        "--source",
        &dsn,
        "INTO",
        &into,
        "--state-dir",
        &state,
        "--streams",
        "1",
    ];
    let with_key = [&line[..], &["--passphrase-file", &pass]].concat();
    let words = with_key.iter().map(|word| (*word).to_owned()).collect();
    let mut process = Process::start("backup", place.path(), words);
    let begun = Instant::now();
    let parts = || {
        let all = files(place.path());
        let parts = all
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "hft"));
        parts.count()
    };
    while parts() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no part came");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill();
    let output = run(&line);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stderr.contains("going on with job"),
        "{}",
        output.stderr
    );

    let other = Server::start(Options::default());
    let to = other.dsn("postgres");
    let restore = ["restore", "FROM", &into, "--to", &to];
    let output = run(&restore);
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(
        output.stderr.contains("no key was given"),
        "{}",
        output.stderr
    );
    let output = run(&[&restore[..], &["--passphrase-file", &pass]].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(content(&other, &bank), content(&server, &bank));
}
