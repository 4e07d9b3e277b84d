//! Backups and restores of one PostgreSQL server without any cluster: one command, as a person would type it.

use holdfast_postgres_testing::{Options, Server};
use holdfast_tests::{Output, Process, content, left_behind, make_bank, run};
use std::path::Path;
use std::time::Duration;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_string_lossy().into_owned()
    }

    fn collection(&self) -> String {
        format!("file://{}", self.path("backups"))
    }

    fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

fn ok(output: &Output) {
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
}

#[test]
fn back_up_and_restore_with_one_command_each() {
    let server = Server::start(Options::default());
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 2);
    server.psql(&bank, "CREATE TABLE numbered (id int PRIMARY KEY, o oid)");
    let place = Place::new();
    let (dsn, into) = (server.dsn(&bank), place.collection());
    let state = place.path("state");
    let line = [
        "backup",
        "--source",
        &dsn,
        "INTO",
        &into,
        "--state-dir",
        &state,
    ];
    let output = run(&line);
    ok(&output);
    assert!(output.stdout.contains("succeeded"), "{}", output.stdout);
    let note = format!("note: database {bank}: public.numbered: columns of type oid");
    assert!(output.stderr.contains(&note), "{}", output.stderr);
    assert_eq!(left_behind(&server, &bank), "", "no chain was asked for");
    assert!(!place.exists("state"), "nothing is left to do");

    let other = Server::start(Options::default());
    let to = other.dsn("postgres");
    let output = run(&["restore", "FROM", &into, "--to", &to]);
    ok(&output);
    assert_eq!(content(&other, &bank), content(&server, &bank));
    let output = run(&["restore", "FROM", &into, "--to", &to]);
    assert_eq!(output.code, 1, "it exists: {}", output.stderr);
    assert!(output.stderr.contains(&bank), "{}", output.stderr);
    let name = ["--database", &bank, "--new-db-name", "copy"];
    let output = run(&[&["restore", "FROM", &into, "--to", &to], &name[..]].concat());
    ok(&output);
    assert_eq!(content(&other, "copy"), content(&server, &bank));
}

#[test]
fn a_chain_without_a_cluster() {
    let server = Server::start(Options::default());
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 1);
    let place = Place::new();
    let (dsn, into) = (server.dsn(&bank), place.collection());
    let state = place.path("state");
    let backup = [
        "backup",
        "--source",
        &dsn,
        "INTO",
        &into,
        "--state-dir",
        &state,
    ];
    ok(&run(&[&backup[..], &["--start-chain"]].concat()));
    assert!(!left_behind(&server, &bank).is_empty(), "the log is held");
    server.psql(
        &bank,
        "UPDATE pgbench_accounts SET abalance = 7 WHERE aid % 3 = 0",
    );
    ok(&run(&[&backup[..], &["--append"]].concat()));
    server.psql(&bank, "DELETE FROM pgbench_accounts WHERE aid % 5 = 0");
    ok(&run(
        &[&backup[..], &["--append", "--revision-history"]].concat()
    ));
    let other = Server::start(Options::default());
    ok(&run(&[
        "restore",
        "FROM",
        &into,
        "--to",
        &other.dsn("postgres"),
    ]));
    assert_eq!(content(&other, &bank), content(&server, &bank));
}

#[test]
fn a_chain_that_cannot_be_started_is_told() {
    let server = Server::start(Options::default().set("wal_level", "replica"));
    let bank = server.create_database("bank");
    server.psql(&bank, "CREATE TABLE t (id int PRIMARY KEY)");
    let place = Place::new();
    let (dsn, into) = (server.dsn(&bank), place.collection());
    let state = place.path("state");
    let line = [
        "backup",
        "--source",
        &dsn,
        "INTO",
        &into,
        "--state-dir",
        &state,
        "--start-chain",
    ];
    let output = run(&line);
    ok(&output);
    assert!(
        output.stderr.contains("no chain was started"),
        "{}",
        output.stderr
    );
    assert!(!place.exists("state"), "nothing is left to do");
}

#[test]
fn the_same_command_goes_on_where_a_killed_one_stopped() {
    let server = Server::start(Options::default());
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 10);
    let place = Place::new();
    let (dsn, into) = (server.dsn(&bank), place.collection());
    let state = place.path("state");
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
    let words = line.map(ToOwned::to_owned).to_vec();
    let mut process = Process::start("backup", place.directory.path(), words);
    let data = place.path("backups");
    let begun = std::time::Instant::now();
    while count_files(Path::new(&data)) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no part came");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill();
    let before = count_files(Path::new(&data));
    let output = run(&line);
    ok(&output);
    assert!(
        output.stderr.contains("going on with job"),
        "{}",
        output.stderr
    );
    assert!(before >= 2);
    assert_eq!(left_behind(&server, &bank), "");
    let other = Server::start(Options::default());
    ok(&run(&[
        "restore",
        "FROM",
        &into,
        "--to",
        &other.dsn("postgres"),
    ]));
    assert_eq!(content(&other, &bank), content(&server, &bank));
}

fn count_files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => count_files(&path),
            path => usize::from(path.extension().is_some_and(|end| end == "hft")),
        })
        .sum()
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    let server = Server::start(Options::default());
    let place = Place::new();
    let into = place.collection();
    let port = server.port();
    for (dsn, code, text) in [
        (format!("postgres://u:s3cret@127.0.0.1:{port}"), 2, "INTO"),
        ("http://u:s3cret@h/d".to_owned(), 2, "postgres://"),
        ("postgres://u:s3cret@h:x/d".to_owned(), 2, "port"),
    ] {
        let line: &[&str] = match text {
            "INTO" => &["backup", "--source", &dsn],
            _ => &["backup", "--source", &dsn, "INTO", &into],
        };
        let output = run(line);
        assert_eq!(output.code, code, "{}", output.stderr);
        assert!(output.stderr.contains(text), "{}", output.stderr);
        assert!(!output.stderr.contains("s3cret"), "{}", output.stderr);
    }
    let output = run(&["backup", "shop", "INTO", &into, "--state-dir", "s"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains("--state-dir"), "{}", output.stderr);
    let unknown = format!("postgres://postgres:s3cret@127.0.0.1:{port}/nowhere");
    let output = run(&[
        "backup",
        "--source",
        &unknown,
        "INTO",
        &into,
        "--state-dir",
        &place.path("s"),
    ]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("nowhere"), "{}", output.stderr);
    assert!(!output.stderr.contains("s3cret"), "{}", output.stderr);
}
