//! Trap 34: types that go on between the layers, and extensions that are not what they were.

use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{HoldId, Lsn, Position, Target};

use crate::store::Store;
use crate::{contents, member, renamed, restorer, rows_of, schema_of};

/// Labels that an enum gets between layers, before and after others, are there for the rows that have them; in a history as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_come_between_layers_come_back() {
    let server = Server::shared();
    let database = server.create_database("labels");
    let sql = |sql: &str| server.psql(&database, sql);
    sql(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN small AS int CHECK (value < 100);
         CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], s small); INSERT INTO t SELECT i, 'sad', '{happy,sad}', i FROM generate_series(1, 50) i",
    );
    let source = member(server, "labels1");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store
        .backup(&source, 34, target(), false, |number| {
            let add =
                format!("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'late {number}' BEFORE 'happy'");
            sql(&add);
            sql(&format!(
                "UPDATE t SET m = 'late {number}' WHERE id = {number} + 1"
            ));
        })
        .await;
    for (number, history) in [(1, false), (2, true)] {
        sql(&format!(
            "ALTER TYPE mood ADD VALUE 'new {number}' AFTER 'sad'"
        ));
        sql(&format!(
            "UPDATE t SET m = 'new {number}', ms = ms || 'new {number}'::mood WHERE id % 5 = {number}; INSERT INTO t VALUES (100 + {number}, 'new {number}', NULL, 1)"
        ));
        // A wider constraint of a domain, and values that it did not allow before.
        sql(&format!(
            "ALTER DOMAIN small DROP CONSTRAINT small_check; ALTER DOMAIN small ADD CONSTRAINT small_check CHECK (value < {number} * 1000); UPDATE t SET s = {number} * 900 WHERE id = 9"
        ));
        if history {
            continue;
        }
        store.backup(&source, 34, target(), false, |_| {}).await;
    }
    let lsn = server.psql(
        "postgres",
        "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn",
    );
    let inside = Position::Lsn(Lsn::at(lsn.parse().expect("a number")));
    let then = rows_of(server, &database);
    sql("ALTER TYPE mood ADD VALUE 'last'");
    sql("UPDATE t SET m = 'last' WHERE id % 2 = 0");
    store.backup(&source, 34, target(), true, |_| {}).await;
    source.release(HoldId(34)).await.expect("released");
    let end = format!("{database}_end");
    store
        .restore(&restorer(server), &renamed(340, &database, &end, None))
        .await
        .expect("restored");
    assert_eq!(contents(server, &database), contents(server, &end));
    assert_eq!(schema_of(server, &database), schema_of(server, &end));
    let middle = format!("{database}_middle");
    store
        .restore(
            &restorer(server),
            &renamed(341, &database, &middle, Some(inside)),
        )
        .await
        .expect("restored");
    assert_eq!(then, rows_of(server, &middle));
}
