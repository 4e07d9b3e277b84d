//! Trap 61: transaction numbers have 32 bits, and begin again.

use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_source::LoggedSource;
use holdfast_types::{HoldId, Target};
use std::process::Command;
use std::time::Duration;

use crate::chains::{TABLES, change};
use crate::store::Store;
use crate::{contents, member, renamed, restorer};

/// Transactions in a file of `pg_xact`: four in a byte, 8192 bytes in a page, 32 pages.
const PER_FILE: u64 = 4 * 8192 * 32;

/// Where numbers begin again.
const WRAP: u64 = 1 << 32;

/// Freezes everything, and lets the server go on with another number. No more than 2^31 are passed over at once.
fn jump(server: &Server, to: u64) {
    let dsn = server.dsn("postgres");
    for database in ["postgres", "template1", "template0"] {
        let allow = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
        server.psql("postgres", &allow);
    }
    let output = Command::new(server.binaries().join("vacuumdb"))
        .args(["--all", "--freeze", "--quiet", "--maintenance-db", &dsn])
        .output()
        .expect("vacuumdb starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    server.stop();
    // What the numbers before it became is not asked for, but the file must be there.
    let file = format!("pg_xact/{:04X}", to / PER_FILE);
    server.put_file(
        &file,
        &vec![0; usize::try_from(PER_FILE / 4).expect("small")],
    );
    server.run_on_data("pg_resetwal", &["--next-transaction-id", &to.to_string()]);
    server.launch();
}

fn next(server: &Server) -> u64 {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    server.psql("postgres", sql).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_across_the_end_of_transaction_numbers() {
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(Options::default())));
    jump(server, 2_000_000_000);
    jump(server, 4_000_000_000);
    jump(server, WRAP - 150);
    let database = server.create_database("wrap");
    server.psql(&database, TABLES);
    let source = member(server, "wrap");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    // A writer from before the wrap, that ends behind it: the hold waits for it.
    let writer = connect(server, &database).await;
    let begin = "BEGIN; UPDATE plain SET n = -5 WHERE id BETWEEN 100 AND 110";
    writer.batch_execute(begin).await.expect("begun");
    assert!(next(server) < WRAP, "{}", next(server));
    let pass = |upto: u64| {
        while next(server) < upto {
            server.psql(
                &database,
                &"UPDATE quiet SET m = m || '.' WHERE id = 1;".repeat(10),
            );
        }
    };
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| pass(WRAP + 20));
        writer.batch_execute("COMMIT").await.expect("committed");
    };
    let full = store.backup(&source, 61, target(), false, |number| {
        change(server, &database, number);
    });
    tokio::join!(full, late);
    let mut truths = vec![contents(server, &database)];
    assert!(next(server) > WRAP);
    for history in [false, true] {
        (0..8).for_each(|number| change(server, &database, number));
        store
            .backup(&source, 61, target(), history, |number| {
                change(server, &database, number);
            })
            .await;
        truths.push(contents(server, &database));
    }
    source.release(HoldId(61)).await.expect("released");
    for (layers, truth) in truths.iter().enumerate() {
        let name = format!("{database}_{layers}");
        let upto = Store(store.0[..=layers].to_vec());
        upto.restore(
            &restorer(server),
            &renamed(610 + layers as u64, &database, &name, None),
        )
        .await
        .expect("restored");
        assert_eq!(&contents(server, &name), truth, "{layers} layers");
    }
}

/// A window of changes that has transactions of both sides, in both orders of their numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incremental_across_the_end_of_transaction_numbers() {
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(Options::default())));
    jump(server, 2_000_000_000);
    jump(server, 4_000_000_000);
    jump(server, WRAP - 400);
    let database = server.create_database("wrap");
    server.psql(&database, TABLES);
    let source = member(server, "wrap2");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store.backup(&source, 62, target(), false, |_| {}).await;
    assert!(next(server) < WRAP - 20, "{}", next(server));
    let old = connect(server, &database).await;
    let begin = "BEGIN; UPDATE plain SET id = id + 500000 WHERE id BETWEEN 100 AND 110; UPDATE quiet SET m = 'old' WHERE id = 7";
    old.batch_execute(begin).await.expect("begun");
    while next(server) < WRAP + 20 {
        server.psql(
            &database,
            &"UPDATE quiet SET m = m || '.' WHERE id = 1;".repeat(10),
        );
    }
    server.psql(
        &database,
        "UPDATE plain SET n = 3 WHERE id BETWEEN 90 AND 99",
    );
    old.batch_execute("COMMIT").await.expect("committed");
    server.psql(
        &database,
        "UPDATE quiet SET m = m || 'new' WHERE id = 7; UPDATE plain SET n = 4 WHERE id BETWEEN 500100 AND 500105",
    );
    store.backup(&source, 62, target(), true, |_| {}).await;
    source.release(HoldId(62)).await.expect("released");
    let name = format!("{database}_again");
    store
        .restore(&restorer(server), &renamed(620, &database, &name, None))
        .await
        .expect("restored");
    assert_eq!(contents(server, &name), contents(server, &database));
}
