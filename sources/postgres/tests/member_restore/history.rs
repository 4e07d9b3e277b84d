//! Commits inside a layer with history.

use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, Hlc, HoldId, Lsn, Position, Target, Timestamp};

use crate::chains::{TABLES, change};
use crate::store::Store;
use crate::{hidden, member, renamed, restorer, rows_of};

fn log_end(server: &Server) -> Position {
    let lsn = server.psql(
        "postgres",
        "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn",
    );
    Position::Lsn(Lsn::at(lsn.trim().parse().expect("a number")))
}

fn now(server: &Server) -> Position {
    let micros = server.psql(
        "postgres",
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    Position::Hlc(Hlc::at(Timestamp::from_micros(
        micros.trim().parse().expect("a number"),
    )))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_of_a_history_is_as_it_was() {
    let server = Server::shared();
    let database = server.create_database("history");
    server.psql(&database, TABLES);
    let source = member(server, "history1");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store
        .backup(&source, 3, target(), false, |number| {
            change(server, &database, number)
        })
        .await;
    // A folded layer between: rows whose values were left as they were come from it, or from the base below it.
    for number in [0, 1, 3] {
        change(server, &database, number);
    }
    store.backup(&source, 3, target(), false, |_| {}).await;
    let before = log_end(server);
    let mut truths = Vec::new();
    for number in 0..10 {
        change(server, &database, number);
        let truth = rows_of(server, &database);
        let at = match number % 2 {
            0 => log_end(server),
            _ => now(server),
        };
        truths.push((at, truth));
    }
    store.backup(&source, 3, target(), true, |_| {}).await;
    source.release(HoldId(3)).await.expect("released");
    for (number, (at, truth)) in truths.iter().enumerate() {
        let name = format!("{database}_{number}");
        let restore = renamed(530 + number as u64, &database, &name, Some(*at));
        store
            .restore(&restorer(server), &restore)
            .await
            .expect("restored");
        assert_eq!(&rows_of(server, &name), truth, "after change {number}");
        server.psql("postgres", &format!("DROP DATABASE {name}"));
    }
    // What no layer has is refused, before anything is made.
    let older = Store(store.0[..2].to_vec());
    let restore = renamed(550, &database, "never", Some(before));
    let refused = older.restore(&restorer(server), &restore).await;
    assert_eq!(refused.expect_err("no history").code, ErrorCode::NotCovered);
    assert_eq!(hidden(server, 550, &[]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_history_has_only_at_its_end_is_named() {
    let server = Server::shared();
    let database = server.create_database("keyless");
    server.psql(
        &database,
        "CREATE TABLE keyed (id integer PRIMARY KEY); CREATE TABLE keyless (v integer); CREATE TABLE gone (id integer PRIMARY KEY)",
    );
    let source = member(server, "history2");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store.backup(&source, 4, target(), false, |_| {}).await;
    server.psql(&database, "INSERT INTO keyed VALUES (1)");
    let at = log_end(server);
    server.psql(&database, "INSERT INTO keyed VALUES (2); DROP TABLE gone");
    store.backup(&source, 4, target(), true, |_| {}).await;
    source.release(HoldId(4)).await.expect("released");
    let restore = renamed(560, &database, &format!("{database}_no"), Some(at));
    let refused = restorer(server).begin(&restore, &store).await;
    let refused = refused.expect_err("not all of it is known");
    assert_eq!(refused.code, ErrorCode::NotCovered);
    for name in ["public.keyless", "public.gone"] {
        assert!(refused.message.contains(name), "{refused:?}");
    }
    assert!(!refused.message.contains("public.keyed"), "{refused:?}");
}
