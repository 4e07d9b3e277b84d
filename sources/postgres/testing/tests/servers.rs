//! The servers start, stop, crash and start again.

use holdfast_postgres_testing::{Options, Server, Version, client_tools_18, connect};

#[test]
fn every_version_starts_and_writes_logical_log() {
    for version in Version::ALL {
        let server = Server::start(Options::of(version));
        let database = server.create_database("app");
        let shown = server.psql(
            &database,
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level')",
        );
        assert_eq!(shown, format!("{}|logical", version.major()));
    }
}

#[tokio::test]
async fn a_server_survives_a_crash_and_goes_with_its_value() {
    let server = Server::start(Options::default());
    server.psql(
        "postgres",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (7)",
    );
    server.kill();
    assert!(
        server.try_psql("postgres", "SELECT 1").is_err(),
        "it is down"
    );
    server.launch();
    let client = connect(&server, "postgres").await;
    let row = client
        .query_one("SELECT a FROM t", &[])
        .await
        .expect("a row");
    assert_eq!(row.get::<_, i32>(0), 7);
    server.stop();
    let directory = server.directory().to_owned();
    assert!(directory.exists());
    drop(server);
    assert!(!directory.exists(), "nothing is left behind");
}

#[test]
fn the_tools_of_18_run() {
    let output = std::process::Command::new(client_tools_18().join("pg_dump"))
        .arg("--version")
        .output()
        .expect("pg_dump runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("18."), "{text}");
}
