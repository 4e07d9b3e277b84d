//! The server goes on with its own work: vacuum, replication from elsewhere, log that no backup is about.

use futures::future::Either;
use holdfast_postgres::member::Limits;
use holdfast_postgres_testing::{Server, connect};
use holdfast_source::LoggedSource;
use holdfast_types::ErrorCode;
use std::pin::pin;
use std::time::Duration;

use crate::store::SharedLayer;
use crate::support::{Job, limits};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i";

/// How often the hot table's rows are all updated.
const ROUNDS: u32 = 20;

/// Updates all rows of the hot table again and again, each time with a vacuum; gives how many times its first size it has grown to.
async fn churn(server: &Server, database: &str) -> i64 {
    let client = connect(server, database).await;
    let size = || async {
        let sql = "SELECT pg_relation_size('hot')";
        client
            .query_one(sql, &[])
            .await
            .expect("a size")
            .get::<_, i64>(0)
    };
    client
        .batch_execute("VACUUM FULL hot")
        .await
        .expect("as small as can be");
    let first = size().await;
    for _ in 0..ROUNDS {
        for sql in ["UPDATE hot SET n = n + 1", "VACUUM (INDEX_CLEANUP on) hot"] {
            client.batch_execute(sql).await.expect("done");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    size().await / first
}

/// Trap 14: while a backup in log mode runs, vacuum removes dead rows of a hot table, however long the backup has been running; a snapshot that is kept
/// holds it back, by the same measure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vacuum_gets_through_while_a_backup_runs() {
    let server = Server::shared();
    let database = server.create_database("hot");
    server.psql(
        &database,
        "CREATE TABLE hot (id int PRIMARY KEY, n int, v text) WITH (autovacuum_enabled = off);
         INSERT INTO hot SELECT i, 0, repeat('x', 100) FROM generate_series(1, 2000) i",
    );
    for number in 0..8 {
        server.psql(
            &database,
            &format!("CREATE TABLE cold_{number} AS SELECT i AS id, repeat(md5(i::text), 10) AS v FROM generate_series(1, 1500) i; ALTER TABLE cold_{number} ADD PRIMARY KEY (id)"),
        );
    }
    let slow = Limits {
        bytes_per_second: Some(1 << 20),
        streams: 1,
        ..limits()
    };
    let mut job = Job::over(server, &server.dsn("postgres"), &database, 60, slow);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let layer = SharedLayer::default();
    let grown = {
        let read = pin!(job.read_all(&relations, &layer));
        let updates = pin!(churn(server, &database));
        // The reads, some of them done twice, take longer than the updates.
        match futures::future::select(updates, read).await {
            Either::Left((grown, read)) => {
                read.await;
                grown
            }
            Either::Right(_) => panic!("the backup was over before the updates were"),
        }
    };
    // Rows of one range's time are kept.
    assert!(grown < i64::from(ROUNDS) / 2, "{grown} times its size");
    job.settle_all(&backup, &relations, &layer)
        .await
        .expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");

    let holder = connect(server, &database).await;
    let keep = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    holder.batch_execute(keep).await.expect("a snapshot");
    let grown = churn(server, &database).await;
    assert!(grown >= i64::from(ROUNDS) - 5, "{grown} times its size");
}

/// Trap 44: rows that were replayed from elsewhere are rows. The origin is in the stream, and nothing is left out for it.
#[tokio::test]
async fn rows_of_another_origin_are_rows() {
    let server = Server::shared();
    let database = server.create_database("origin");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 61);
    let replay = |sql: &str| {
        server.psql(
            &database,
            &format!(
                "SELECT pg_replication_origin_session_setup('elsewhere'); BEGIN; SELECT pg_replication_origin_xact_setup('1/23', '2020-02-02 02:02:02Z'); {sql}; COMMIT;
                 SELECT pg_replication_origin_session_reset()"
            ),
        );
    };
    server.psql(
        &database,
        "SELECT pg_replication_origin_create('elsewhere')",
    );
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let layer = SharedLayer::default();
    job.read_all(&relations, &layer).await;
    replay("UPDATE t SET v = -v WHERE id % 3 = 0; INSERT INTO t VALUES (1000, 0)");
    job.settle_all(&backup, &relations, &layer)
        .await
        .expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    for history in [false, true] {
        replay(
            "UPDATE t SET v = v + 1 WHERE id % 5 = 0; DELETE FROM t WHERE id = (SELECT min(id) FROM t)",
        );
        server.psql(&database, "UPDATE t SET v = v + 1 WHERE id % 7 = 0");
        job.run(history).await.expect("an incremental");
        job.compare(&[&database]).await;
    }
    job.member.release(job.hold).await.expect("released");
    server.psql(&database, "SELECT pg_replication_origin_drop('elsewhere')");
}

/// Trap 47: the log that others write, in tables and databases that are in no backup, is let go by the next layer as well.
#[tokio::test]
async fn log_of_others_is_let_go() {
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(Default::default())));
    let (database, other) = (
        server.create_database("idle"),
        server.create_database("busy"),
    );
    server.psql(&database, TABLE);
    server.psql(&database, "CREATE TABLE loose (v text)");
    let mut job = Job::new(server, &database, 62);
    job.target = holdfast_types::Target::Tables(vec![holdfast_types::TableName {
        database: database.clone(),
        table: "public.t".to_owned(),
    }]);
    job.run(false).await.expect("a full");
    let kept = || -> u64 {
        let sql = "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_62_')";
        server.psql("postgres", sql).parse().expect("a number")
    };
    let write = "CREATE TABLE IF NOT EXISTS loose (v text); INSERT INTO loose SELECT repeat(md5(i::text), 20) FROM generate_series(1, 40000) i";
    for round in 0..2 {
        server.psql(&other, write);
        server.psql(&database, write);
        assert!(kept() > 40 << 20, "{} bytes", kept());
        // A running server does so by itself, every few seconds.
        server.psql(&other, "CHECKPOINT");
        job.run(round == 1)
            .await
            .expect("an incremental without changes");
        assert!(kept() < 4 << 20, "{} bytes", kept());
    }
    let standings = job.member.look_after_hold(job.hold).await.expect("looked");
    assert!(standings[0].wal_retained_bytes < 4 << 20, "{standings:?}");
    job.member.release(job.hold).await.expect("released");
}

/// What `pg_dump` sees under F, and cannot describe any more because it was dropped after F, is no reason to fail: the finish is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_come_and_go_while_the_schema_is_taken() {
    let server = Server::shared();
    let database = server.create_database("churn");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 64);
    job.run(false).await.expect("a full");
    let client = connect(server, &database).await;
    let churn = async {
        // An hour of a busy server's migrations.
        for number in 0..150 {
            let sql = format!(
                "CREATE INDEX passing_{number} ON t (v); CREATE VIEW seen_{number} AS SELECT v FROM t; CREATE TYPE kind_{number} AS ENUM ('a');
                 CREATE FUNCTION made_{number}(kind_{number}) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE numbers_{number}; ALTER TABLE t ADD CONSTRAINT small_{number} CHECK (v < 1000000)"
            );
            client.batch_execute(&sql).await.expect("made");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sql = format!(
                "DROP INDEX passing_{number}; DROP VIEW seen_{number}; DROP FUNCTION made_{number}; DROP TYPE kind_{number}; DROP SEQUENCE numbers_{number}; ALTER TABLE t DROP CONSTRAINT small_{number}"
            );
            client.batch_execute(&sql).await.expect("dropped");
        }
    };
    let backups = async {
        for _ in 0..4 {
            let backup = job.backup(false);
            let relations = job.member.begin(&backup).await.expect("begun");
            loop {
                let layer = SharedLayer::default();
                match job.settle_all(&backup, &relations, &layer).await {
                    Ok(()) => {
                        job.chain.0.push(layer);
                        break;
                    }
                    // It was tried under several snapshots; a job tries again.
                    Err(fault) => assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}"),
                }
            }
        }
        job
    };
    let (job, ()) = tokio::join!(backups, churn);
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

/// `pg_dump` locks tables by the names that F shows. One that is renamed after F is no reason to fail either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_renamed_while_the_schema_is_taken() {
    let server = Server::shared();
    let database = server.create_database("renamed");
    server.psql(&database, TABLE);
    server.psql(&database, "CREATE SCHEMA old_0; CREATE TABLE old_0.first (id int PRIMARY KEY); CREATE TABLE second_0 (id int PRIMARY KEY)");
    let mut job = Job::new(server, &database, 65);
    job.run(false).await.expect("a full");
    let client = connect(server, &database).await;
    // Whenever F is taken, and whenever pg_dump gets to the locks, there was a new name in between; for less long than the finish is repeated.
    let renames = async {
        for number in 0..100 {
            let sql = format!(
                "ALTER TABLE second_{number} RENAME TO second_{}; ALTER SCHEMA old_{number} RENAME TO old_{}",
                number + 1,
                number + 1
            );
            client.batch_execute(&sql).await.expect("renamed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (settled, ()) = tokio::join!(job.run(false), renames);
    settled.expect("it is taken again");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}
