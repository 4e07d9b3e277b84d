//! Restores that are stopped and gone on with.

use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{HoldId, JobId, Target};

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
