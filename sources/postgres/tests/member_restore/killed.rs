//! Restores that are stopped and gone on with.

use holdfast_postgres_testing::{Options, Server};
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, HoldId, JobId, Target};

use crate::chains::{TABLES, change};
use crate::store::{Counted, Store};
use crate::{contents, hidden, member, renamed, restorer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_stopped_at_any_part_goes_on_and_loads_nothing_twice() {
    let server = Server::shared();
    let database = server.create_database("stopped");
    server.psql(&database, TABLES);
    let source = member(server, "killed1");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store
        .backup(&source, 6, target(), false, |number| {
            change(server, &database, number)
        })
        .await;
    (0..8).for_each(|number| change(server, &database, number));
    store.backup(&source, 6, target(), false, |_| {}).await;
    source.release(HoldId(6)).await.expect("released");
    let name = format!("{database}_again");
    let restore = renamed(580, &database, &name, None);
    let mut stops = 0;
    // Each life is another worker, and gets a little further.
    for stop_at in (1..).step_by(2) {
        let mut progress = Counted {
            stop_at: Some(stop_at),
            ..Counted::default()
        };
        let worker = restorer(server);
        let cut = std::time::Duration::from_millis(40 * stop_at);
        let load = store.load(&worker, &restore, &mut progress);
        let is_over = match stop_at % 4 {
            // Dropped at some await.
            1 => tokio::time::timeout(cut, load)
                .await
                .is_ok_and(|it| it.is_ok()),
            _ => load.await.is_ok(),
        };
        if is_over {
            break;
        }
        stops += 1;
        if stops == 4 {
            restorer(server)
                .discard(JobId(580))
                .await
                .expect("discarded");
            assert_eq!(hidden(server, 580, &[]), "");
        }
    }
    assert!(stops > 5, "only {stops} stops");
    let sum = restorer(server)
        .finish(&restore, &store)
        .await
        .expect("finished");
    assert_eq!(contents(server, &database), contents(server, &name));
    assert!(sum.rows.0 > 2000);
    assert_eq!(hidden(server, 580, &[]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_is_restored_has_every_row_in_the_end() {
    let server = Server::start_alike(Options::default());
    let database = server.create_database("crashed");
    server.psql(&database, TABLES);
    server.psql(
        &database,
        "CREATE UNLOGGED TABLE unlogged (id integer PRIMARY KEY, v text); INSERT INTO unlogged SELECT n, md5(n::text) FROM generate_series(1, 900) AS n;
         CREATE INDEX ON quiet (m); ALTER TABLE pair ADD UNIQUE (a, b)",
    );
    let source = member(&server, "killed2");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store.backup(&source, 9, target(), false, |_| {}).await;
    (0..8).for_each(|number| change(&server, &database, number));
    store.backup(&source, 9, target(), false, |_| {}).await;
    source.release(HoldId(9)).await.expect("released");
    let truth = contents(&server, &database);
    let name = format!("{database}_again");
    let restore = renamed(581, &database, &name, None);
    let worker = restorer(&server);
    let crash = |after: u64| {
        let server = &server;
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(after)).await;
            tokio::task::block_in_place(|| {
                server.kill();
                server.launch();
            });
        }
    };
    for after in [60, 250, 600] {
        let mut progress = Counted::default();
        let (outcome, ()) =
            tokio::join!(store.load(&worker, &restore, &mut progress), crash(after));
        if let Err(fault) = outcome {
            assert_eq!(fault.code, ErrorCode::Unavailable, "{after} ms: {fault}");
        }
    }
    let mut progress = Counted::default();
    let loaded = store.load(&worker, &restore, &mut progress).await;
    loaded.expect("loaded");
    // The unlogged table is empty again.
    server.kill();
    server.launch();
    for after in [30, 100, 200] {
        let mut finishing = std::pin::pin!(worker.finish(&restore, &store));
        let in_time = std::time::Duration::from_millis(after);
        if let Ok(outcome) = tokio::time::timeout(in_time, &mut finishing).await {
            // A crash from here on empties the application's own unlogged table.
            outcome.expect("finished");
            break;
        }
        let (outcome, ()) = tokio::join!(finishing, crash(0));
        if let Err(fault) = outcome {
            assert_eq!(fault.code, ErrorCode::Unavailable, "{after} ms: {fault}");
        }
    }
    worker.finish(&restore, &store).await.expect("finished");
    assert_eq!(contents(&server, &name), truth);
    assert_eq!(hidden(&server, 581, &[&name]), "");
}
