//! SQL over the PostgreSQL wire, as `psql` speaks it with a real cluster.
//!
//! The golden file is `docs/SQL.md` itself: every statement that it shows is run, and what comes must be what it shows. With `HOLDFAST_WRITE_DOCS=1` the
//! test writes what came into the document instead.

mod document;
mod driver;
mod place;
mod users;

use holdfast_postgres_testing::{Options, Server};
use place::Place;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_document_shows_what_psql_shows() {
    let server = Server::start(Options::default().set("wal_level", "logical"));
    server.psql(
        "postgres",
        "CREATE ROLE backup LOGIN SUPERUSER; CREATE DATABASE app",
    );
    server.psql(
        "app",
        "CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL); INSERT INTO orders VALUES (1, 'anvil'), (2, 'rope')",
    );
    let place = Place::with_everything();
    document::check(&place, &server);
}

#[test]
fn ctrl_c_ends_the_wait_and_leaves_the_job_running() {
    let place = Place::without_workers();
    place.psql(&["CREATE SOURCE bank AS '127.0.0.1:1'"]);
    let mut psql = place
        .command(&["BACKUP INTO 'memory://x'"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql starts: run `apt-get install postgresql-15`");
    let running = "SELECT count(*) FROM [SHOW JOBS] WHERE status IN ('pending', 'running')";
    place.until(running, "1");
    let pid = psql.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let deadline = Instant::now() + Duration::from_secs(30);
    while psql.try_wait().expect("a child can be asked").is_none() {
        assert!(Instant::now() < deadline, "psql waits on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = psql.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("canceling statement due to user request"),
        "{said}"
    );
    assert!(said.contains("goes on in the background"), "{said}");
    assert_eq!(place.ask(running), "1");
    let paused = place.ask("PAUSE ALL BACKUP JOBS");
    assert_eq!(paused, "PAUSE JOBS 1");
    place.until("SELECT status FROM [SHOW JOBS]", "paused");
}

#[test]
fn nobody_comes_in_without_the_flag() {
    let place = Place::start(&["--sql-addr", "127.0.0.1:0"]);
    let said = place.psql(&["SHOW JOBS"]);
    assert!(said.contains("there are no users yet"), "{said}");
    assert!(said.contains("holdfast user add"), "{said}");
    assert!(said.contains("--sql-trust-loopback"), "{said}");
}

#[test]
fn the_command_line_runs_the_same_statements() {
    let place = Place::with_everything();
    let output = place.holdfast(&["sql", "--source", "bank", "-e", "SHOW SOURCES"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.contains("SOURCE_NAME"), "{}", output.stdout);
    let output = place.holdfast(&[
        "--json",
        "sql",
        "-e",
        "SELECT kind, NULL AS none FROM [SHOW SOURCES]",
    ]);
    assert_eq!(
        output.json(),
        serde_json::json!({"kind": "mvcc", "none": null})
    );
    let output = place.holdfast(&["sql", "-e", "SHOW JBOS"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(
        output.stderr.contains("hint: did you mean JOBS?"),
        "{}",
        output.stderr
    );
    let output = place.holdfast(&["sql", "-e", "PAUSE JOB 4711"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
}

#[test]
fn a_python_driver_is_at_home() {
    let place = Place::with_everything();
    let said = driver::run(place.sql_port(), &place.collection());
    assert_eq!(said, driver::EXPECTED);
}
