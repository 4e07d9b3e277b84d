//! The application comes first: its disk, its connections, its bandwidth.

use bytes::Bytes;
use holdfast_postgres::member::Limits;
use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, Fault, KeyRange, Relation};
use std::time::Duration;

use crate::store::SharedLayer;
use crate::support::{Job, limits};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 4000) i";

fn own(options: Options) -> &'static Server {
    Box::leak(Box::new(Server::start_alike(options)))
}

async fn read(job: &Job, relation: &Relation) -> Result<(), Fault> {
    let mut span = SharedLayer::default().span(relation.id, Bytes::new(), None);
    job.member
        .read(&job.backup(false), relation, KeyRange::all(), &mut span)
        .await
}

/// As much log as a budget of 8 MiB does not bear.
fn write_log(server: &Server, database: &str) {
    server.psql(
        database,
        "UPDATE t SET v = v || 'x'; UPDATE t SET v = v || 'x'; UPDATE t SET v = v || 'x'; UPDATE t SET v = v || 'x'; UPDATE t SET v = v || 'x'; UPDATE t SET v = v || 'x'; SELECT pg_switch_wal()",
    );
}

fn slots(server: &Server, hold: u64) -> String {
    server.psql(
        "postgres",
        &format!("SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_{hold}_')"),
    )
}

fn given_up(outcome: Result<(), Fault>, server: &Server, hold: u64) {
    let fault = outcome.expect_err("over its budget");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    assert!(fault.message.contains("budget is 8 MiB"), "{fault}");
    assert!(
        fault
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("full"))
    );
    assert_eq!(slots(server, hold), "0");
}

#[tokio::test]
async fn a_hold_that_keeps_more_log_than_its_budget_is_given_up() {
    let server = own(Options::default());
    let database = server.create_database("budget");
    server.psql(&database, TABLE);
    let limits = Limits {
        wal_budget: Some(8 << 20),
        ..limits()
    };
    let job = |hold| {
        Job::over(
            server,
            &server.dsn("postgres"),
            &database,
            hold,
            limits.clone(),
        )
    };
    // While it is read.
    let reads = job(50);
    let relations = reads.member.begin(&reads.backup(false)).await;
    let relations = relations.expect("begun");
    write_log(server, &database);
    let base = relations.iter().find(|it| !it.settles).expect("a table");
    given_up(read(&reads, &base.relation).await, server, 50);
    // While it is settled, by another worker: the one that has looked just now would not look again for a while.
    let begins = job(51);
    let backup = begins.backup(false);
    let relations = begins.member.begin(&backup).await.expect("begun");
    assert_eq!(slots(server, 51), "1", "{:?}", backup.notes.take());
    write_log(server, &database);
    let mut settles = job(51);
    let layer = SharedLayer::default();
    let outcome = settles.settle_all(&backup, &relations, &layer).await;
    let fault = outcome.expect_err("over its budget");
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    assert_eq!(slots(server, 51), "0");
    // Between the layers of a chain.
    let mut chain = job(52);
    chain.run(false).await.expect("a full");
    write_log(server, &database);
    given_up(chain.run(false).await, server, 52);
    chain.chain.0.clear();
    chain
        .run(false)
        .await
        .expect("the next full is a new chain");
    chain.compare(&[&database]).await;
    // While nobody reads it.
    let standings = chain.member.look_after_hold(chain.hold).await;
    let standings = standings.expect("within its budget");
    assert_eq!(standings.len(), 1);
    assert_eq!(standings[0].database, database);
    assert_eq!(standings[0].wal_budget_bytes, 8 << 20);
    write_log(server, &database);
    let looked = chain.member.look_after_hold(chain.hold).await;
    given_up(looked.map(|_| ()), server, 52);
    let gone = chain.member.look_after_hold(chain.hold).await;
    assert_eq!(gone, Ok(Vec::new()), "nothing is there");
    chain.member.release(chain.hold).await.expect("released");
}

/// Without the look, the application's updates fail from the moment at which the key goes until the next backup.
#[tokio::test]
async fn a_table_that_lost_its_key_can_be_updated_between_backups() {
    let server = Server::shared();
    let database = server.create_database("keyless");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 54);
    job.run(false).await.expect("a full");
    server.psql(&database, "ALTER TABLE t DROP CONSTRAINT t_pkey");
    let update = "UPDATE t SET v = v || '!' WHERE id < 9";
    server
        .try_psql(&database, update)
        .expect_err("it is published, and has no identity");
    let looked = job.member.look_after_hold(job.hold).await;
    assert_eq!(looked.expect("all is well").len(), 1);
    server.psql(&database, update);
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn the_budget_is_what_the_server_allows_or_a_usual_one() {
    let strict = own(Options::default().set("max_slot_wal_keep_size", "1000MB"));
    for (server, mebibytes) in [(strict, 900), (Server::shared(), 64 << 10)] {
        let database = server.create_database("usual");
        server.psql(&database, TABLE);
        let job = Job::new(server, &database, 53);
        job.member.begin(&job.backup(false)).await.expect("begun");
        let check = job.member.check().await.expect("a check");
        let mut holds = check.holds.iter();
        let hold = holds.find(|hold| hold.database == database);
        let hold = hold.expect("the hold");
        assert_eq!(hold.wal_budget_bytes >> 20, mebibytes);
        assert!(hold.name.starts_with("holdfast_test_53_"), "{hold:?}");
        assert_eq!(hold.wal_status, "reserved");
        job.member.release(job.hold).await.expect("released");
    }
}

#[tokio::test]
async fn reads_keep_to_the_rate_and_to_the_streams() {
    let server = Server::shared();
    let database = server.create_database("throttle");
    for number in 0..4 {
        server.psql(
            &database,
            &TABLE
                .replace("TABLE t", &format!("TABLE t{number}"))
                .replace("INTO t", &format!("INTO t{number}")),
        );
    }
    let limits = Limits {
        bytes_per_second: Some(4 << 20),
        streams: 2,
        ..limits()
    };
    let job = Job::over(server, &server.dsn("postgres"), &database, 54, limits);
    let relations = job.member.begin(&job.backup(false)).await.expect("begun");
    let base = relations.iter().filter(|it| !it.settles);
    let reads = futures::future::try_join_all(base.map(|it| read(&job, &it.relation)));
    let most = std::cell::Cell::new(0);
    let watch = async {
        let client = connect(server, "postgres").await;
        // One that is ended is seen a little longer, idle.
        let sql =
            "SELECT count(*) FILTER (WHERE query LIKE 'COPY %'), count(*) FROM pg_stat_activity
                   WHERE application_name = 'holdfast' AND datname = $1 AND state <> 'idle'";
        loop {
            let row = client.query_one(sql, &[&database]).await.expect("a count");
            let (sending, busy): (i64, i64) = (row.get(0), row.get(1));
            assert!(sending <= 2, "{sending} streams");
            // One more gets ready while they send.
            assert!(busy <= 3, "{busy} sessions");
            most.set(sending.max(most.get()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let clock = holdfast_env::Env::system().clock;
    let begun = clock.monotonic();
    tokio::select! {
        outcome = reads => drop(outcome.expect("read")),
        () = watch => {}
    }
    assert_eq!(most.get(), 2, "streams");
    // Four tables of 1.3 MB and more.
    let took = (clock.monotonic() - begun).as_millis();
    assert!((900..10_000).contains(&took), "{took} ms");
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn the_last_connections_are_the_applications() {
    let server = own(Options::default().set("max_connections", "14"));
    let database = server.create_database("room");
    server.psql(&database, TABLE);
    let mut job = Job::new(server, &database, 55);
    let mut applications = Vec::new();
    for _ in 0..8 {
        applications.push(connect(server, &database).await);
    }
    let fault = job.member.begin(&job.backup(false)).await;
    let fault = fault.expect_err("no room");
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    assert!(fault.message.contains("application"), "{fault}");
    applications.truncate(0);
    for _ in 0..100 {
        if job.member.begin(&job.backup(false)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    job.run(false).await.expect("room");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}
