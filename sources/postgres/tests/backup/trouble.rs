//! What ends a chain, and what there is without the log.

use holdfast_postgres::layout::Handling;
use holdfast_postgres::member::catalog::Content;
use holdfast_postgres::tuple::{Field, Tuple};
use holdfast_postgres_testing::{Options, Server, Version, connect};
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Job, limits};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i";

#[tokio::test]
async fn a_lost_slot_ends_the_chain() {
    let server = Server::shared();
    let database = server.create_database("lost");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 10);
    job.run(false).await.expect("a full");
    assert!(job.settled.last().expect("one").keeps_history);
    let backup = job.backup(false);
    job.member.begin(&backup).await.expect("begun");
    server.psql(&database, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_10_')");
    let fault = job.member.begin(&backup).await.expect_err("it is gone");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn a_slot_that_is_lost_before_the_end_fails_the_backup() {
    let server = Server::shared();
    let database = server.create_database("lost_full");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 11);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    job.member.release(job.hold).await.expect("released");
    let layer = crate::store::SharedLayer::default();
    let fault = job
        .settle_all(&backup, &relations, &layer)
        .await
        .expect_err("no slot");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
}

#[tokio::test]
async fn another_server_and_no_log() {
    let server = Server::shared();
    let database = server.create_database("elsewhere");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 12);
    job.run(false).await.expect("a full");
    let other: &'static Server = Box::leak(Box::new(Server::start(
        Options::of(Version::V15).set("wal_level", "replica"),
    )));
    let name = other.create_database("elsewhere");
    other.psql(&name, TABLE);
    let mut elsewhere = Job::new(other, &name, 12);
    elsewhere.target = Target::Source;
    elsewhere.chain = job.chain.clone();
    let backup = elsewhere.backup(false);
    let fault = elsewhere
        .member
        .begin(&backup)
        .await
        .expect_err("another server");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    job.member.release(job.hold).await.expect("released");
    // No logical decoding: one snapshot, and no incremental after it.
    let mut plain = Job::new(other, &name, 13);
    plain.run(false).await.expect("a full in snapshot mode");
    plain.compare(&[&name]).await;
    assert!(!plain.settled.last().expect("one").keeps_history);
    let catalog = &plain.catalogs().await[0][0];
    assert!(catalog.hold.is_none());
    assert!(
        catalog
            .relations
            .iter()
            .all(|it| it.layout.handling != Handling::Keyed)
    );
    let fault = plain.run(false).await.expect_err("no incremental");
    assert_eq!(fault.code, ErrorCode::ChainRule, "{fault}");
    plain.member.release(plain.hold).await.expect("released");
}

/// Without the log there is one snapshot. A large table is read in parts, several at once, beside others, and all show the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_are_read_at_once_show_one_moment() {
    let server: &'static Server = Box::leak(Box::new(Server::start(
        Options::of(Version::V15).set("wal_level", "replica"),
    )));
    let database = server.create_database("moment");
    server.psql(
        &database,
        "CREATE TABLE wide (id int PRIMARY KEY, money int, picture bytea) WITH (fillfactor = 10);
         ALTER TABLE wide ALTER picture SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT i, 1000, decode(repeat(md5(i::text), 1 << 15), 'hex') FROM generate_series(1, 400) i;
         CREATE TABLE narrow (id int, money int); INSERT INTO narrow SELECT i, 1000 FROM generate_series(1, 1000) i",
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (over, database) = (Arc::clone(&is_over), database.clone());
        async move {
            let client = connect(server, &database).await;
            for turn in 0.. {
                if over.load(Ordering::Relaxed) {
                    return turn;
                }
                // Between rows of one part and another, and between tables.
                let (from, to) = (turn * 37 % 400 + 1, turn * 101 % 400 + 1);
                let sql = format!(
                    "BEGIN; UPDATE wide SET money = money - 3 WHERE id = {from}; UPDATE wide SET money = money + 2 WHERE id = {to};
                     UPDATE narrow SET money = money + 1 WHERE id = {to}; COMMIT"
                );
                client.batch_execute(&sql).await.expect("written");
            }
            0
        }
    });
    let mut job = Job::new(server, &database, 14);
    job.run(false).await.expect("a full");
    is_over.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("a writer") > 10);
    let catalog = &job.catalogs().await[0][0];
    let wide = catalog.relations.iter().find(|it| it.layout.name == "wide");
    let Some(Content::Whole { objects }) = wide.map(|it| &it.content) else {
        panic!("{catalog:?}");
    };
    assert!(objects.len() > 2, "{objects:?}");
    let (mut rows, mut money) = (0, 0);
    for (name, table) in job.content().await {
        for row in table {
            let columns = if name.ends_with("wide") { 3 } else { 2 };
            let row = Tuple::parse(row, columns).expect("a row");
            let Some(Field::Value(value)) = row.fields().nth(1) else {
                panic!("money is not null");
            };
            money += i32::from_be_bytes(value.try_into().expect("four bytes"));
            rows += 1;
        }
    }
    assert_eq!((rows, money), (1400, 1_400_000));
    // Nobody writes now: every row, byte by byte.
    let mut job = Job::new(server, &database, 15);
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
}

#[tokio::test]
async fn a_standby_is_backed_up_in_snapshot_mode() {
    let primary = Server::shared();
    let database = primary.create_database("standby");
    primary.psql(&database, TABLE);
    let standby: &'static Server = Box::leak(Box::new(Server::standby_of(primary)));
    for _ in 0..200 {
        if standby
            .try_psql(&database, "SELECT count(*) FROM t")
            .as_deref()
            == Ok("100")
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut job = Job::new(standby, &database, 14);
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    job.member
        .release(job.hold)
        .await
        .expect("nothing to release");
}

#[tokio::test]
async fn a_hold_is_moved_and_ended_although_the_database_of_the_address_is_gone() {
    let server = Server::shared();
    let database = server.create_database("stays");
    server.psql(&database, TABLE);
    let seat = server.create_database("seat");
    let mut job = Job::over(server, &server.dsn(&seat), &database, 15, limits());
    job.run(false).await.expect("a full");
    server.psql(
        "postgres",
        &format!("DROP DATABASE \"{seat}\" WITH (FORCE)"),
    );
    server.psql(&database, "INSERT INTO t VALUES (1000, 1)");
    let slot = |what: &str| {
        let slots = "FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_15_')";
        server.psql("postgres", &format!("SELECT {what} {slots}"))
    };
    let now = server.psql(
        "postgres",
        "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn",
    );
    let now = holdfast_types::Lsn::at(now.parse().expect("a number"));
    let before = slot("confirmed_flush_lsn");
    let moved = job.member.advance_hold(job.hold, now.into()).await;
    moved.expect("moved");
    assert_ne!(slot("confirmed_flush_lsn"), before);
    let standings = job.member.look_after_hold(job.hold).await.expect("seen");
    assert_eq!(standings.len(), 1);
    job.member.release(job.hold).await.expect("released");
    assert_eq!(slot("count(*)"), "0");
    // A backup wants the address to be right.
    let fault = job.member.begin(&job.backup(false)).await;
    assert_eq!(fault.expect_err("gone").code, ErrorCode::NotFound);
}
