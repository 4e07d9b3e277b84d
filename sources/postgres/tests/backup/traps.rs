//! Traps of the list in docs/POSTGRES.md that no other file is about.

use holdfast_postgres::layout::{DefinitionReason, Handling};
use holdfast_postgres::member::catalog::{Content, RelationEntry};
use holdfast_postgres_testing::{Server, connect};
use holdfast_source::{CheckLevel, LoggedSource};
use holdfast_types::{ErrorCode, Timestamp};
use std::time::Duration;

use crate::store::SharedLayer;
use crate::support::Job;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i";

async fn entry(job: &Job, layer: usize, table: &str) -> RelationEntry {
    let catalogs = job.catalogs().await.swap_remove(layer);
    let mut entries = catalogs.into_iter().flat_map(|it| it.relations);
    let entry = entries.find(|entry| entry.layout.name == table);
    entry.expect("it is there")
}

/// A standby that has caught up with a database's table `t`.
async fn standby_of(primary: &'static Server, database: &str) -> &'static Server {
    let standby: &'static Server = Box::leak(Box::new(Server::standby_of(primary)));
    for _ in 0..200 {
        let rows = standby.try_psql(database, "SELECT count(*) FROM t");
        if rows.as_deref() == Ok("100") {
            return standby;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the standby does not follow");
}

/// Traps 4 and 23: rows of unlogged tables and values of unlogged sequences cannot be read on a standby.
#[tokio::test]
async fn unlogged_tables_on_a_standby_are_definitions() {
    let primary = Server::shared();
    let database = primary.create_database("fleeting");
    primary.psql(
        &database,
        &format!("CREATE UNLOGGED TABLE fleeting (id serial PRIMARY KEY); INSERT INTO fleeting DEFAULT VALUES; CREATE UNLOGGED SEQUENCE numbers; {TABLE}"),
    );
    let standby = standby_of(primary, &database).await;
    let mut job = Job::new(standby, &database, 80);
    let check = job.member.check().await.expect("a check");
    assert_eq!(check.blocking().count(), 0, "{check:#?}");
    let fleeting = format!("{database}.public.fleeting");
    let found = check.findings.iter().find(|it| it.object == fleeting);
    let found = found.expect("it is told");
    assert_eq!(found.level, CheckLevel::Handled);
    assert!(found.what.contains("primary alone"), "{found:?}");
    let numbers = check
        .findings
        .iter()
        .any(|it| it.object.contains("public.numbers"));
    assert!(numbers, "{check:#?}");
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    let fleeting = entry(&job, 0, "fleeting").await;
    let elsewhere = Handling::Definition(DefinitionReason::UnloggedOnStandby);
    assert_eq!(fleeting.layout.handling, elsewhere);
    assert_eq!(fleeting.content, Content::Definition);
}

/// Trap 50: a standby is promoted, and what the chain's server wrote last may not be in it.
#[tokio::test]
async fn a_promotion_ends_the_chain() {
    let primary = Server::shared();
    let database = primary.create_database("promoted");
    primary.psql(&database, TABLE);
    let mut job = Job::new(primary, &database, 81);
    job.run(false).await.expect("a full");
    let standby = standby_of(primary, &database).await;
    standby.psql("postgres", "SELECT pg_promote()");
    let mut promoted = Job::new(standby, &database, 81);
    promoted.chain = job.chain.clone();
    let fault = promoted.run(false).await.expect_err("another timeline");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    promoted.chain.0.clear();
    promoted
        .run(false)
        .await
        .expect("a full begins another one");
    promoted.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

/// What is committed after the time that a layer ended at is not counted as covered: the clock is read before F waits for writers, and not
/// when they are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_ends_at_a_time_before_its_position() {
    let server = Server::shared();
    let database = server.create_database("clock");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 82);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let layer = SharedLayer::default();
    job.read_all(&relations, &layer).await;
    let now = || {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let micros = server.psql("postgres", sql);
        Timestamp::from_micros(micros.trim().parse().expect("a number"))
    };
    let before = now();
    let writer = connect(server, "postgres").await;
    let begin = "BEGIN; SELECT pg_current_xact_id()";
    writer.batch_execute(begin).await.expect("begun");
    let writing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let over = now();
        writer.batch_execute("COMMIT").await.expect("committed");
        over
    };
    let (settled, over) = tokio::join!(job.settle_all(&backup, &relations, &layer), writing);
    settled.expect("settled");
    let at = job.settled[0].end.at.wall;
    assert!(before < at && at < over, "{before:?} {at:?} {over:?}");
    // A commit of the window is in it, whatever the clock was.
    job.chain.0.push(layer);
    server.psql(&database, "UPDATE t SET v = 0 WHERE id = 1");
    let written = now();
    job.run(false).await.expect("an incremental");
    assert!(job.settled[1].end.at.wall >= written);
    job.member.release(job.hold).await.expect("released");
}

/// Trap 19: rows change their table, and tables their parent, while they are read and between two layers.
#[tokio::test]
async fn partitions_come_and_go_and_rows_move_between_them() {
    let server = Server::shared();
    let database = server.create_database("partitions");
    server.psql(
        &database,
        "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF p FOR VALUES FROM (0) TO (100); CREATE TABLE high PARTITION OF p FOR VALUES FROM (100) TO (200);
         CREATE TABLE apart (id int PRIMARY KEY, v int); INSERT INTO p SELECT i, i FROM generate_series(0, 199) i;
         INSERT INTO apart SELECT i, i FROM generate_series(200, 250) i",
    );
    let change = |sql: &str| server.psql(&database, sql);
    let mut job = Job::new(server, &database, 83);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let layer = SharedLayer::default();
    change(
        "UPDATE p SET id = id + 100 WHERE id < 50 AND id % 2 = 0 AND NOT EXISTS (SELECT FROM p o WHERE o.id = p.id + 100)",
    );
    change(
        "DELETE FROM p WHERE id BETWEEN 110 AND 120; UPDATE p SET id = id + 100 WHERE id BETWEEN 10 AND 20",
    );
    job.read_all(&relations, &layer).await;
    change(
        "DELETE FROM p WHERE id BETWEEN 1 AND 5; UPDATE p SET id = id - 150 WHERE id BETWEEN 151 AND 155",
    );
    change("ALTER TABLE p ATTACH PARTITION apart FOR VALUES FROM (200) TO (300)");
    change(
        "ALTER TABLE p DETACH PARTITION high; UPDATE high SET v = -v; UPDATE p SET v = -1 WHERE id = 222",
    );
    job.settle_all(&backup, &relations, &layer)
        .await
        .expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    change("ALTER TABLE p ATTACH PARTITION high FOR VALUES FROM (100) TO (200)");
    change(
        "DELETE FROM p WHERE id BETWEEN 60 AND 70; UPDATE p SET id = id - 170 WHERE id BETWEEN 230 AND 240",
    );
    change(
        "ALTER TABLE p DETACH PARTITION low; CREATE TABLE lower PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p SELECT * FROM low WHERE id < 30; TRUNCATE low",
    );
    for history in [true, false] {
        job.run(history).await.expect("an incremental");
        job.compare(&[&database]).await;
        change(
            "DELETE FROM p WHERE id BETWEEN 106 AND 109; UPDATE p SET id = id + 100 WHERE id BETWEEN 6 AND 9; INSERT INTO low VALUES (77, 7) ON CONFLICT (id) DO UPDATE SET v = low.v + 1",
        );
    }
    job.member.release(job.hold).await.expect("released");
}

/// Trap 40: one statement empties several tables, those that refer to them too, and begins their sequences anew.
#[tokio::test]
async fn a_truncation_cascades() {
    let server = Server::shared();
    let database = server.create_database("cascade");
    server.psql(
        &database,
        "CREATE TABLE a (id serial PRIMARY KEY, v int); CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a); CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b);
         CREATE TABLE far (id int PRIMARY KEY); INSERT INTO far VALUES (1)",
    );
    let fill = "INSERT INTO a (v) SELECT i FROM generate_series(1, 90) i; INSERT INTO b (a) SELECT id FROM a; INSERT INTO c SELECT id, id FROM b";
    let empty = "BEGIN; DELETE FROM c WHERE id = 3; TRUNCATE a, far RESTART IDENTITY CASCADE; COMMIT; INSERT INTO a (v) VALUES (5); INSERT INTO b (a) VALUES (1)";
    server.psql(&database, fill);
    let mut job = Job::new(server, &database, 84);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let layer = SharedLayer::default();
    job.read_all(&relations, &layer).await;
    server.psql(&database, empty);
    job.settle_all(&backup, &relations, &layer)
        .await
        .expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    for history in [true, false] {
        server.psql(&database, fill);
        server.psql(&database, empty);
        server.psql(&database, "INSERT INTO far VALUES (2)");
        job.run(history).await.expect("an incremental");
        job.compare(&[&database]).await;
        let newest = &job.catalogs().await.pop().expect("a layer")[0];
        let contents = || {
            newest
                .relations
                .iter()
                .map(|it| (&it.layout.name, &it.content))
        };
        let emptied = if history { 4 } else { 0 };
        assert_eq!(
            newest.truncations.len(),
            emptied,
            "{:?}",
            contents().collect::<Vec<_>>()
        );
        let bytes = job.chain.0.last().expect("a layer").get().blobs[&newest.sequences].clone();
        let values: Vec<holdfast_postgres::sequences::SequenceValue> =
            serde_json::from_slice(&bytes).expect("sequences");
        assert!(values.iter().all(|it| it.last_value == 1), "{values:?}");
        server.psql(&database, "TRUNCATE a RESTART IDENTITY CASCADE");
    }
    job.member.release(job.hold).await.expect("released");
}

/// Trap 13: one transaction that is many times the memory of a fold.
#[tokio::test]
async fn a_huge_transaction_is_folded_in_little_memory() {
    let server = Server::shared();
    let database = server.create_database("huge");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 85);
    job.run(false).await.expect("a full");
    server.psql(
        &database,
        "BEGIN; INSERT INTO t SELECT i, i FROM generate_series(101, 30000) i; SAVEPOINT s; UPDATE t SET v = -v WHERE id % 3 = 0; ROLLBACK TO s;
         UPDATE t SET v = v + 1 WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0; COMMIT",
    );
    job.run(true).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

/// Trap 43: a publication of the hold's name that somebody else made is neither used nor dropped; and filters that somebody gives to ours, by which
/// changes would be missing, are seen and taken out again.
#[tokio::test]
async fn a_publication_of_anothers_making_is_not_used() {
    let server = Server::shared();
    let database = server.create_database("foreign");
    server.psql(&database, TABLE);
    let sql = |sql: &str| server.psql(&database, sql);
    sql(
        "CREATE PUBLICATION holdfast_test_86 FOR ALL TABLES; CREATE PUBLICATION theirs FOR TABLE t WHERE (id > 50)",
    );
    let mut job = Job::new(server, &database, 86);
    let fault = job.run(false).await.expect_err("it is not ours");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    job.member.release(job.hold).await.expect("released");
    let theirs = "SELECT count(*) FROM pg_publication";
    assert_eq!(sql(theirs), "2");
    sql("DROP PUBLICATION holdfast_test_86");
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    for narrow in ["t WHERE (id > 50)", "t (id)"] {
        sql("UPDATE t SET v = v + 1 WHERE id = 3");
        sql(&format!(
            "ALTER PUBLICATION holdfast_test_86 SET TABLE {narrow}"
        ));
        for _ in 0..2 {
            sql("UPDATE t SET v = v + 1 WHERE id = 3");
            job.run(false).await.expect("an incremental");
            job.compare(&[&database]).await;
        }
        sql("UPDATE t SET v = v + 1 WHERE id = 4");
        job.run(false).await.expect("an incremental");
        job.compare(&[&database]).await;
        assert_eq!(
            entry(&job, job.settled.len() - 1, "t").await.content,
            Content::Continued
        );
    }
    job.member.release(job.hold).await.expect("released");
}
