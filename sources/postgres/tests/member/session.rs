use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::exact::import;
use holdfast_postgres::pages::{Opened, PageRange, copy_statement, open_range};
use holdfast_postgres::replication::ReplicationSession;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres_testing::{Options, Server, Version, connect};
use holdfast_types::ErrorCode;
use std::time::Duration;

use crate::{control, copied, data, dsn, dsn_as, env, eventually, layout};

/// Traps 16 and 36: settings of the role and the database do not reach our sessions.
#[tokio::test]
async fn settings_of_roles_and_databases_are_overruled() {
    let server = Server::shared();
    let database = server.create_database("settings");
    server.psql(
        &database,
        &format!(
            "CREATE ROLE odd LOGIN;
             ALTER ROLE odd SET statement_timeout = '1s';
             ALTER ROLE odd SET datestyle = 'German';
             ALTER ROLE odd SET bytea_output = 'escape';
             ALTER ROLE odd SET search_path = 'nonsense';
             ALTER ROLE odd SET standard_conforming_strings = off;
             ALTER ROLE odd SET default_transaction_read_only = on;
             ALTER DATABASE {database} SET extra_float_digits = -15;
             ALTER DATABASE {database} SET idle_in_transaction_session_timeout = '1s'"
        ),
    );
    let session = Session::connect(&env(), &dsn_as(server, "odd", &database), Purpose::Control)
        .await
        .expect("a session");
    let row = session
        .query_one(
            "SELECT '2026-11-23'::date::text, '\\x00ff'::bytea::text, (0.1::float8 + 0.2::float8)::text,
                    current_setting('statement_timeout'), current_setting('transaction_read_only'), pg_sleep(1.2)::text",
            &[],
        )
        .await
        .expect("it is not cut off");
    let texts: Vec<&str> = (0..5).map(|index| row.get(index)).collect();
    assert_eq!(
        texts,
        ["2026-11-23", "\\x00ff", "0.30000000000000004", "0", "off"]
    );
}

/// Trap 29: bytes of text are never converted, and names that are not ASCII are found all the same.
#[tokio::test]
async fn text_stays_in_the_encoding_of_the_database() {
    let server = Server::shared();
    server.psql(
        "postgres",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
         CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    );
    server.psql("latin", "CREATE TABLE \"tä\\b\" (\"ö\" text PRIMARY KEY); INSERT INTO \"tä\\b\" VALUES (U&'\\00e9')");
    let table = layout(server, "latin", "tä\\b").await;
    let session = data(server, "latin").await;
    let copy = copied(
        &session,
        &copy_statement(&table, Some(PageRange::ALL), session.spelling()),
    )
    .await;
    assert!(
        copy.windows(5).any(|window| window == [0, 0, 0, 1, 0xE9]),
        "one byte, as it is stored"
    );
    let Opened::Reading(_) = open_range(session, &table, PageRange::ALL)
        .await
        .expect("opens")
    else {
        panic!("the table is as planned");
    };

    server.psql(
        "bytes",
        "CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES (E'\\xff\\xfe')",
    );
    let table = layout(server, "bytes", "t").await;
    let session = data(server, "bytes").await;
    let copy = copied(&session, &copy_statement(&table, None, session.spelling())).await;
    assert!(
        copy.windows(2).any(|window| window == [0xFF, 0xFE]),
        "no valid UTF-8, and kept"
    );
}

/// A session that is dropped does not leave its statement running.
#[tokio::test]
async fn a_dropped_session_stops_its_statement() {
    let server = Server::shared();
    let database = server.create_database("dropped");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                      AND (query LIKE '%pg_sleep(1000)%' OR query LIKE 'COPY%') AND pid <> pg_backend_pid()";
    let session = control(server, &database).await;
    tokio::select! {
        _ = session.query("SELECT pg_sleep(1000)", &[]) => panic!("it sleeps"),
        () = async {
            while server.psql(&database, sleeping) != "1" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    assert!(session.is_spoilt());
    drop(session);
    eventually(server, &database, sleeping, "0").await;

    let session = control(server, &database).await;
    let copy = session
        .copy_out("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT")
        .await
        .expect("it starts");
    drop(copy);
    eventually(server, &database, sleeping, "0").await;
}

/// SCRAM, MD5 and cleartext, for SQL and for the replication protocol; secrets stay out of errors.
#[tokio::test]
async fn passwords_log_in_and_are_not_told() {
    let hba = "local all all trust
               host all postgres 127.0.0.1/32 trust
               host all scram 127.0.0.1/32 scram-sha-256
               host all md5 127.0.0.1/32 md5
               host all plain 127.0.0.1/32 password";
    let server = Server::start(Options::default().hba(hba));
    server.psql(
        "postgres",
        "CREATE ROLE scram LOGIN REPLICATION PASSWORD 'it''s s3cret';
         CREATE ROLE plain LOGIN REPLICATION PASSWORD 'it''s s3cret';
         SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN REPLICATION PASSWORD 'it''s s3cret'",
    );
    let port = server.port();
    for role in ["scram", "md5", "plain"] {
        let connect = |password: &str| -> Dsn {
            format!("postgres://{role}:{password}@127.0.0.1:{port}/postgres")
                .parse()
                .expect("a connection string")
        };
        let right = connect("it%27s%20s3cret");
        Session::connect(&env(), &right, Purpose::Control)
            .await
            .expect("logs in");
        let mut slots = ReplicationSession::connect(&env(), &right)
            .await
            .expect("logs in");
        assert!(slots.identify().await.expect("answers").system_id > 0);

        let wrong = connect("wr0ng");
        let sql = Session::connect(&env(), &wrong, Purpose::Control)
            .await
            .expect_err("refused");
        let replication = ReplicationSession::connect(&env(), &wrong)
            .await
            .expect_err("refused");
        for fault in [sql, replication] {
            assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
            assert!(!format!("{fault:?}").contains("wr0ng"), "{fault:?}");
        }
        let none: Dsn = server
            .dsn_as(role, "postgres")
            .parse()
            .expect("a connection string");
        let fault = Session::connect(&env(), &none, Purpose::Control)
            .await
            .expect_err("a password is asked for");
        let hint = fault.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("PGPASSWORD"), "{fault:?}");
        ReplicationSession::connect(&env(), &none)
            .await
            .expect_err("a password is asked for");
    }
}

#[tokio::test]
async fn a_local_socket_and_errors_of_the_way_there() {
    let server = Server::shared();
    let directory = server.directory().display();
    let local: Dsn = format!("host={directory} port={} user=postgres", server.port())
        .parse()
        .expect("a connection string");
    Session::connect(&env(), &local, Purpose::Data)
        .await
        .expect("a session");
    ReplicationSession::connect(&env(), &local)
        .await
        .expect("a session");

    let missing = dsn(server, "nowhere");
    let fault = Session::connect(&env(), &missing, Purpose::Control)
        .await
        .expect_err("no database");
    assert_eq!(fault.code, ErrorCode::NotFound, "{fault}");
    let closed: Dsn = "postgres://postgres@127.0.0.1:1/x"
        .parse()
        .expect("a connection string");
    let fault = Session::connect(&env(), &closed, Purpose::Control)
        .await
        .expect_err("nobody");
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
}

/// A server that crashes, or ends a session, is an error that passes by itself; nothing hangs.
#[tokio::test]
async fn a_crash_in_the_middle_of_a_copy_is_an_error_that_passes() {
    use futures::StreamExt;
    let server = Server::start(Options::default());
    let endless = "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT (FORMAT binary)";
    for crash in [false, true] {
        let session = data(&server, "postgres").await;
        let mut copy = session.copy_out(endless).await.expect("it starts");
        copy.next().await.expect("a chunk").expect("a row");
        match crash {
            true => server.kill(),
            false => drop(server.psql(
                "postgres",
                &format!("SELECT pg_terminate_backend({})", session.info().pid),
            )),
        }
        let fault = loop {
            match copy.next().await {
                Some(Ok(_)) => {}
                Some(Err(fault)) => break fault,
                None => panic!("it has no end"),
            }
        };
        assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
        assert!(copy.next().await.is_none());
        drop(copy);
        let fault = session
            .query("SELECT 1", &[])
            .await
            .expect_err("the connection is gone");
        assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    }
    let fault = Session::connect(&env(), &dsn(&server, "postgres"), Purpose::Control)
        .await
        .expect_err("it is down");
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    server.launch();
    control(&server, "postgres").await;
}

/// Trap 16, the limit that is new in 17: an exported snapshot lives in a transaction of the connection that made the slot.
#[tokio::test]
async fn a_limit_on_transactions_does_not_end_an_exported_snapshot() {
    let server = Server::start_alike(Options::of(Version::V17));
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE hasty LOGIN REPLICATION; ALTER ROLE hasty SET transaction_timeout = '1s'",
    );
    let dsn = dsn_as(&server, "hasty", "postgres");
    let mut slots = ReplicationSession::connect(&env(), &dsn)
        .await
        .expect("a session");
    let writer = connect(&server, "postgres").await;
    let begin = "BEGIN; INSERT INTO t VALUES (1)";
    writer.batch_execute(begin).await.expect("begun");
    let ends = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        writer.batch_execute("COMMIT").await.expect("committed");
    };
    let minute = Duration::from_secs(60);
    let (slot, ()) = tokio::join!(slots.create_slot("hasty", true, minute), ends);
    let slot = slot.expect("it waits for the writer");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let session = Session::connect(&env(), &dsn, Purpose::Control)
        .await
        .expect("a session");
    import(&session, &slot.snapshot)
        .await
        .expect("it is there still");
}
