//! A server that is killed, and connections that are cut, in the middle: an error that passes, and the same call again gives the same.

use bytes::Bytes;
use holdfast_postgres::member::Limits;
use holdfast_postgres_testing::{Options, Proxy, Server, connect};
use holdfast_source::{LoggedRelation, LoggedSource};
use holdfast_types::{ErrorCode, Fault, KeyRange, Relation};
use std::time::Duration;

use crate::store::SharedLayer;
use crate::support::{Job, limits};

/// Slow enough to be met in the middle.
fn slow() -> Limits {
    Limits {
        bytes_per_second: Some(6 << 20),
        ..limits()
    }
}

/// One relation that is read in parts, and one that is copied whole at the end.
const TABLES: &str = "CREATE TABLE keyed (id int PRIMARY KEY, v text); INSERT INTO keyed SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 12000) i;
    CREATE TABLE keyless (v text); INSERT INTO keyless SELECT v FROM keyed";

fn planned(relations: &[LoggedRelation]) -> (Vec<Relation>, Relation) {
    let base = relations.iter().filter(|it| !it.settles);
    let settling = relations.iter().find(|it| it.settles);
    (
        base.map(|it| it.relation.clone()).collect(),
        settling.expect("a database").relation.clone(),
    )
}

async fn read(job: &Job, layer: &SharedLayer, relation: &Relation) -> Result<(), Fault> {
    layer.get().spans.remove(&(relation.id, Bytes::new()));
    let mut span = layer.span(relation.id, Bytes::new(), None);
    job.member
        .read(&job.backup(false), relation, KeyRange::all(), &mut span)
        .await
}

async fn settle(
    job: &mut Job,
    layer: &SharedLayer,
    (planned, settling): &(Vec<Relation>, Relation),
) -> Result<(), Fault> {
    layer.get().spans.remove(&(settling.id, Bytes::new()));
    let mut span = layer.span(settling.id, Bytes::new(), None);
    let settled = job
        .member
        .settle(&job.backup(false), settling, planned, &mut span)
        .await?;
    span.settled();
    job.settled.push(settled);
    Ok(())
}

/// Does something, and makes trouble after a while: again and again until it met with something or the work is over. Gives what came of both.
async fn amid<T, F: Future<Output = i64>>(
    work: impl Future<Output = T>,
    after: Duration,
    trouble: impl Fn() -> F,
) -> (T, i64) {
    let making = async {
        tokio::time::sleep(after).await;
        loop {
            let met = trouble().await;
            if met > 0 {
                return met;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (mut work, mut making) = (std::pin::pin!(work), std::pin::pin!(making));
    tokio::select! {
        outcome = &mut work => (outcome, 0),
        met = &mut making => (work.await, met),
    }
}

fn passes(outcome: Result<(), Fault>, what: &str) {
    let fault = outcome.expect_err(what);
    assert_eq!(fault.code, ErrorCode::Unavailable, "{what}: {fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_the_middle() {
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(Options::default())));
    let database = server.create_database("killed");
    server.psql(&database, TABLES);
    let mut job = Job::over(server, &server.dsn("postgres"), &database, 40, slow());
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let plan = planned(&relations);
    let layer = SharedLayer::default();
    let keyed = plan.0.first().expect("a relation");
    let kill = || async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        tokio::task::block_in_place(|| server.kill());
    };
    let (outcome, ()) = tokio::join!(read(&job, &layer, keyed), kill());
    passes(outcome, "the read");
    passes(read(&job, &layer, keyed).await, "nobody listens");
    passes(job.member.begin(&backup).await.map(drop), "nobody listens");
    tokio::task::block_in_place(|| server.launch());
    // Another worker does not know whether it is begun.
    let again = job.member.begin(&backup).await.expect("begun");
    assert_eq!(planned(&again).0.len(), 1);
    read(&job, &layer, keyed).await.expect("read");
    server.psql(&database, "UPDATE keyed SET v = 'new' WHERE id % 100 = 0");
    for after in [100, 600] {
        let kill = || async {
            tokio::time::sleep(Duration::from_millis(after)).await;
            tokio::task::block_in_place(|| server.kill());
        };
        let (outcome, ()) = tokio::join!(settle(&mut job, &layer, &plan), kill());
        passes(outcome, "the settling");
        tokio::task::block_in_place(|| server.launch());
    }
    settle(&mut job, &layer, &plan).await.expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    // And the chain goes on.
    server.psql(&database, "DELETE FROM keyed WHERE id % 50 = 0");
    server.kill();
    server.launch();
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_in_the_middle() {
    let server = Server::shared();
    let database = server.create_database("cut");
    server.psql(&database, TABLES);
    let proxy = Proxy::start(server.port()).await;
    let dsn = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let mut job = Job::over(server, &dsn, &database, 41, slow());
    let backup = job.backup(false);
    let cut = || async { i64::try_from(proxy.cut()).expect("few") };
    let ms = Duration::from_millis;
    let (outcome, met) = amid(job.member.begin(&backup), ms(15), cut).await;
    assert!(met > 0);
    passes(outcome.map(drop), "the beginning");
    let relations = job.member.begin(&backup).await.expect("begun");
    let plan = planned(&relations);
    let layer = SharedLayer::default();
    let keyed = plan.0.first().expect("a relation");
    for after in [5, 200] {
        let (outcome, met) = amid(read(&job, &layer, keyed), ms(after), cut).await;
        assert!(met > 0, "the read was over before {after} ms");
        passes(outcome, "the read");
    }
    read(&job, &layer, keyed).await.expect("read");
    server.psql(&database, "UPDATE keyed SET v = 'new' WHERE id % 100 = 0");
    let mut failed = 0;
    for after in [5, 20, 40, 80, 120, 250, 400, 600] {
        let (outcome, _) = amid(settle(&mut job, &layer, &plan), ms(after), cut).await;
        // At its end it needs no connections any more.
        if outcome.is_err() {
            passes(outcome, &format!("the settling, cut after {after} ms"));
            failed += 1;
        }
    }
    assert!(failed > 2, "only {failed} were cut in the middle");
    settle(&mut job, &layer, &plan).await.expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    let (outcome, _) = amid(job.member.release(job.hold), ms(5), cut).await;
    // It may have been over already.
    if outcome.is_err() {
        passes(outcome, "the release");
    }
    job.member.release(job.hold).await.expect("released");
    let left = "SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_41_')";
    assert_eq!(server.psql("postgres", left), "0");
}

/// An operator, or a watchdog, ends sessions and cancels statements, ours among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_are_cancelled_and_sessions_that_are_ended() {
    let server = Server::shared();
    let database = server.create_database("ended");
    server.psql(&database, TABLES);
    let mut job = Job::over(server, &server.dsn("postgres"), &database, 42, slow());
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let plan = planned(&relations);
    let layer = SharedLayer::default();
    let keyed = plan.0.first().expect("a relation");
    let operator = connect(server, "postgres").await;
    let ms = Duration::from_millis;
    let end = |how: &str| {
        let sql = format!(
            "SELECT count({how}(pid)) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'holdfast' AND state <> 'idle'"
        );
        let operator = &operator;
        async move {
            let row = operator.query_one(&sql, &[]).await.expect("ended");
            row.get::<_, i64>(0)
        }
    };
    for how in ["pg_cancel_backend", "pg_terminate_backend"] {
        let (outcome, ended) = amid(read(&job, &layer, keyed), ms(200), || end(how)).await;
        assert!(ended > 0);
        // The server may have sent all of it before it was cancelled.
        if outcome.is_err() || how == "pg_terminate_backend" {
            passes(outcome, how);
        }
    }
    read(&job, &layer, keyed).await.expect("read");
    server.psql(&database, "UPDATE keyed SET v = 'new' WHERE id % 100 = 0");
    let mut ended_all = 0;
    for (number, how) in (0..5).zip(["pg_cancel_backend", "pg_terminate_backend"].iter().cycle()) {
        let after = 20 + 100 * number;
        let (outcome, ended) = amid(settle(&mut job, &layer, &plan), ms(after), || end(how)).await;
        ended_all += ended;
        if ended > 0 && outcome.is_err() {
            passes(outcome, &format!("{how} after {after} ms"));
        }
    }
    assert!(ended_all > 2, "{ended_all}");
    settle(&mut job, &layer, &plan).await.expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    // A transaction that does not end, and keeps a table locked.
    let limits = Limits {
        hold_deadline: Duration::from_millis(1500),
        ..limits()
    };
    let hasty = Job::over(server, &server.dsn("postgres"), &database, 42, limits);
    job.member = hasty.member.clone();
    let locker = connect(server, &database).await;
    let lock = "BEGIN; LOCK TABLE keyless IN ACCESS EXCLUSIVE MODE";
    locker.batch_execute(lock).await.expect("locked");
    let fault = job.run(false).await.expect_err("it does not end");
    assert!(fault.is_retryable(), "{fault}");
    assert!(
        fault.message.contains("role postgres, database ended"),
        "{fault}"
    );
    locker.batch_execute("COMMIT").await.expect("unlocked");
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}
