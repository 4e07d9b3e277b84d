//! Reads on a standby lose against what the primary does.

use bytes::Bytes;
use holdfast_postgres::member::Limits;
use holdfast_postgres_testing::{Options, Server};
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, Relation};
use std::time::Duration;

use crate::store::SharedLayer;
use crate::support::{Job, limits};

pub(crate) async fn follows(primary: &Server, standby: &Server) {
    let end = primary.psql("postgres", "SELECT pg_current_wal_flush_lsn()");
    for _ in 0..400 {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        if standby.try_psql("postgres", &sql).as_deref() == Ok("t") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the standby does not follow");
}

/// Trap 15: vacuum on the primary takes rows away that the backup of the standby still sees, and the standby cancels the backup. That is an error that
/// passes, and the database, begun again, ends right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_on_a_standby_passes() {
    let options = Options::default()
        .set("max_standby_streaming_delay", "200ms")
        .set("hot_standby_feedback", "off");
    let primary: &'static Server = Box::leak(Box::new(Server::start_alike(options)));
    let database = primary.create_database("conflict");
    primary.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off); INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 12000) i",
    );
    let standby: &'static Server = Box::leak(Box::new(Server::standby_of(primary)));
    follows(primary, standby).await;
    let slow = Limits {
        bytes_per_second: Some(1 << 20),
        ..limits()
    };
    let job = Job::over(standby, &standby.dsn("postgres"), &database, 63, slow);
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    let planned: Vec<Relation> = Vec::new();
    let settling = relations.iter().find(|it| it.settles);
    let settling = &settling.expect("a database").relation;
    let layer = SharedLayer::default();
    let mut span = layer.span(settling.id, Bytes::new(), None);
    let conflict = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        primary.psql(&database, "DELETE FROM t WHERE id % 2 = 0");
        primary.psql(&database, "VACUUM t");
    };
    let settle = job.member.settle(&backup, settling, &planned, &mut span);
    let (outcome, ()) = tokio::join!(settle, conflict);
    let fault = outcome.expect_err("the rows that it reads are gone");
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    let conflicts = standby.psql(
        "postgres",
        &format!(
            "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = '{database}'"
        ),
    );
    assert_ne!(conflicts, "0", "{fault}");
    drop(span);

    follows(primary, standby).await;
    layer.get().spans.clear();
    let mut again = Job::new(standby, &database, 63);
    let mut span = layer.span(settling.id, Bytes::new(), None);
    let settled = again
        .member
        .settle(&backup, settling, &planned, &mut span)
        .await
        .expect("begun again");
    span.settled();
    again.settled.push(settled);
    again.chain.0.push(layer);
    again.compare(&[&database]).await;
    assert_eq!(
        again.content().await.values().map(Vec::len).sum::<usize>(),
        6000
    );
}
