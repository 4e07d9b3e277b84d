use holdfast_postgres::exact::{HeldSnapshot, import, moved_since};
use holdfast_postgres::layout::Lsn;
use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_types::ErrorCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{PATIENCE, control, data, dsn, env, layout};

/// F is exact: what a slot decodes up to F is what the snapshot shows, while writers run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snapshot_is_what_was_committed_before_its_position() {
    let server = Server::shared();
    let database = server.create_database("exact");
    server.psql(
        &database,
        "CREATE TABLE t (id bigserial PRIMARY KEY);
         CREATE PUBLICATION p FOR TABLE t; SELECT pg_create_logical_replication_slot('exact_test', 'pgoutput')",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (client, stop) = (connect(server, &database).await, stop.clone());
        writers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client
                    .batch_execute(
                        "BEGIN; INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES; COMMIT",
                    )
                    .await
                    .expect("writes");
            }
        }));
    }
    let observer = connect(server, &database).await;
    let mut last = Lsn::ZERO;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let held = HeldSnapshot::exact(&env(), &dsn(server, &database), PATIENCE)
            .await
            .expect("F");
        assert!(held.is_exact() && held.lsn() > last);
        last = held.lsn();
        let session = data(server, &database).await;
        import(&session, held.id().expect("held"))
            .await
            .expect("imports");
        let seen: i64 = session
            .query_one("SELECT count(*) FROM public.t", &[])
            .await
            .expect("rows")
            .get(0);
        // Commit messages (`C`) carry the commit record's position: those before F, and the inserts (`I`) of their transactions.
        let sql = format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('exact_test', NULL, NULL, 'proto_version', '1', 'publication_names', 'p') c
             WHERE get_byte(data, 0) = ascii('I') AND xid IN (
                 SELECT xid FROM pg_logical_slot_peek_binary_changes('exact_test', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')
                 WHERE get_byte(data, 0) = ascii('C')
                   AND ('x' || encode(substr(data, 3, 8), 'hex'))::bit(64)::bigint < {}::bigint)",
            last.0
        );
        let decoded: i64 = observer.query_one(&sql, &[]).await.expect("decodes").get(0);
        assert_eq!(seen, decoded, "at {last}");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("it writes");
    }
    server.psql(&database, "SELECT pg_drop_replication_slot('exact_test')");
    let left = server.psql(
        &database,
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'holdfast_exact%'",
    );
    assert_eq!(left, "0", "the temporary slots are gone");
}

/// Trap 2: a holder that dies is replaced; importers under way are not disturbed; when all are dead, that is said.
#[tokio::test]
async fn a_snapshot_outlives_one_holder() {
    let server = Server::shared();
    let database = server.create_database("holders");
    server.psql(
        &database,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
    );
    let dsn = dsn(server, &database);
    for exact in [true, false] {
        let mut held = match exact {
            true => HeldSnapshot::exact(&env(), &dsn, PATIENCE)
                .await
                .expect("F"),
            false => HeldSnapshot::plain(&env(), &dsn).await.expect("a snapshot"),
        };
        assert!(held.lsn() > Lsn::ZERO);
        server.psql(&database, "INSERT INTO t VALUES (2)");
        let early = data(server, &database).await;
        import(&early, held.id().expect("held"))
            .await
            .expect("imports");
        let holders = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_export_snapshot%' AND state = 'idle in transaction'";
        assert_eq!(
            server.psql(&database, &format!("SELECT count(*) {holders}")),
            "2"
        );
        let first = server.psql(&database, &format!("SELECT min(pid) {holders}"));
        server.psql(
            &database,
            &format!("SELECT pg_terminate_backend({first}, 10000)"),
        );
        held.keep(&env(), &dsn).await.expect("the other one holds");
        let late = data(server, &database).await;
        import(&late, held.id().expect("held"))
            .await
            .expect("imports");
        for session in [&early, &late] {
            let rows: i64 = session
                .query_one("SELECT count(*) FROM public.t", &[])
                .await
                .expect("rows")
                .get(0);
            assert_eq!(rows, 1, "exact: {exact}");
        }
        let id = held.id().expect("held").to_owned();
        server.psql(
            &database,
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
             WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND state = 'idle in transaction'",
        );
        let fault = held.keep(&env(), &dsn).await.expect_err("all are dead");
        assert_eq!(fault.code, ErrorCode::Unavailable);
        let session = control(server, &database).await;
        let fault = import(&session, &id).await.expect_err("gone");
        assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
        session
            .execute("SELECT 1")
            .await
            .expect("the session is as good as before");
        server.psql(&database, "DELETE FROM t WHERE a = 2");
    }
}

/// ‡ A TRUNCATE after F empties what F sees: reads under F count only for relations that `moved_since` does not name.
#[tokio::test]
async fn what_moved_since_the_snapshot_is_named() {
    let server = Server::shared();
    let database = server.create_database("moved");
    server.psql(
        &database,
        "CREATE TABLE stays (a int); CREATE TABLE truncated (a int); CREATE TABLE rewritten (a int); CREATE TABLE dropped (a int);
         INSERT INTO stays VALUES (1); INSERT INTO truncated VALUES (1); INSERT INTO rewritten VALUES (1); INSERT INTO dropped VALUES (1)",
    );
    let oid = async |name| layout(server, &database, name).await.oid;
    let (truncated, rewritten, dropped) = (
        oid("truncated").await,
        oid("rewritten").await,
        oid("dropped").await,
    );
    let held = HeldSnapshot::exact(&env(), &dsn(server, &database), PATIENCE)
        .await
        .expect("F");
    let session = held.session().expect("held");
    assert!(moved_since(session).await.expect("asks").is_empty());
    server.psql(
        &database,
        "TRUNCATE truncated; VACUUM FULL rewritten; DROP TABLE dropped; INSERT INTO stays VALUES (2); VACUUM stays; CREATE TABLE later (a int)",
    );
    let rows: i64 = session
        .query_one("SELECT count(*) FROM public.truncated", &[])
        .await
        .expect("no error")
        .get(0);
    assert_eq!(rows, 0, "the trap: F shows nothing, without an error");
    let moved = moved_since(session).await.expect("asks");
    let mut expected = vec![(truncated, false), (rewritten, false), (dropped, true)];
    expected.sort();
    let moved: Vec<_> = moved
        .into_iter()
        .map(|moved| (moved.oid, moved.dropped))
        .collect();
    assert_eq!(moved, expected);
}

/// Trap 5: the wait for writers ends with the deadline, and leaves nothing behind.
#[tokio::test]
async fn a_writer_that_does_not_end_ends_the_wait() {
    // A server of its own: the open transaction would hold up the other tests.
    let server = Server::start(Options::default());
    server.psql("postgres", "CREATE TABLE t (a int)");
    let writer = connect(&server, "postgres").await;
    writer
        .batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await
        .expect("writes");
    let deadline = Duration::from_millis(800);
    let fault = HeldSnapshot::exact(&env(), &dsn(&server, "postgres"), deadline)
        .await
        .expect_err("too long");
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded, "{fault}");
    // The transaction is still open, and yet the slot goes: the command was cancelled.
    crate::eventually(
        &server,
        "postgres",
        "SELECT count(*) FROM pg_replication_slots",
        "0",
    )
    .await;
    writer.batch_execute("COMMIT").await.expect("commits");
}
