//! Parts are loaded exactly once, whatever happens between.

use crate::support::{Backup, Table, Watch, restore_of, run, session, stream_of, target};
use futures::{StreamExt, stream};
use holdfast_postgres::restore::{DatabaseRestore, LoadOutcome, RestoreName, load};
use holdfast_postgres::sequences::{self, SetTo};
use holdfast_postgres_testing::Server;
use holdfast_types::{ErrorCode, Fault, JobId};

/// A hidden database with one empty table, and rows for it.
async fn scene(job: u64) -> (&'static Server, DatabaseRestore, Table) {
    let server = Server::shared();
    let database = server.create_database("parts");
    server.psql(
        &database,
        "CREATE TABLE t (a integer, r regclass); INSERT INTO t SELECT n, 'pg_class' FROM generate_series(1, 5000) AS n",
    );
    let mut backup = Backup::take(server, &database).await;
    let name = RestoreName::new(JobId(job), 0);
    let restore = DatabaseRestore::new(target(server), &name, backup.facts.clone(), "never");
    restore.create().await.expect("created");
    server.psql(restore.hidden(), "CREATE TABLE t (a integer, r regclass)");
    let table = backup.tables.pop().expect("one table");
    (server, restore, table)
}

fn count(server: &Server, restore: &DatabaseRestore) -> String {
    server.psql(restore.hidden(), "SELECT count(*) FROM t")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_with_one_part_load_it_once() {
    let (server, restore, table) = scene(401).await;
    let (one, other) = (
        restore.session().await.expect("one"),
        restore.session().await.expect("other"),
    );
    let marks = restore.marks();
    let (left, right) = tokio::join!(
        load(&one, marks, &table.target, "7/0", stream_of(&table.rows)),
        load(&other, marks, &table.target, "7/0", stream_of(&table.rows)),
    );
    let mut outcomes = [left.expect("loaded"), right.expect("loaded")];
    outcomes.sort_by_key(|outcome| *outcome == LoadOutcome::AlreadyLoaded);
    assert_eq!(
        outcomes,
        [
            LoadOutcome::Loaded { rows: 5000 },
            LoadOutcome::AlreadyLoaded
        ]
    );
    assert_eq!(count(server, &restore), "5000");
    drop((one, other));
    restore.discard().await.expect("discarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_breaks_off_leaves_nothing_and_its_session_can_go_on() {
    let (server, restore, table) = scene(402).await;
    let session = restore.session().await.expect("a session");
    let broken = stream_of(&table.rows)
        .take(3000)
        .chain(stream::iter([Err(Fault::new(
            ErrorCode::Corrupted,
            "an object is damaged",
        ))]));
    let fault = load(&session, restore.marks(), &table.target, "1", broken).await;
    assert_eq!(fault.expect_err("broken").code, ErrorCode::Corrupted);
    let endless = stream_of(&table.rows).chain(stream::pending());
    let given_up = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        load(&session, restore.marks(), &table.target, "1", endless),
    );
    assert!(given_up.await.is_err(), "it waits for rows");
    assert_eq!(count(server, &restore), "0");
    let loaded = load(
        &session,
        restore.marks(),
        &table.target,
        "1",
        stream_of(&table.rows),
    )
    .await;
    assert_eq!(loaded, Ok(LoadOutcome::Loaded { rows: 5000 }));
    assert_eq!(count(server, &restore), "5000");
    restore.discard().await.expect("discarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_in_an_error() {
    let (server, restore, table) = scene(403).await;
    server.psql(
        restore.hidden(),
        "DROP TABLE t; CREATE TABLE t (a integer CHECK (a < 4000), r regconfig)",
    );
    let session = restore.session().await.expect("a session");
    let fault = load(
        &session,
        restore.marks(),
        &table.target,
        "1",
        stream_of(&table.rows),
    )
    .await;
    let fault = fault.expect_err("a class is no text search configuration");
    assert!(!fault.to_string().contains("pg_class"), "{fault}");
    restore.discard().await.expect("discarded");
}

/// A source may hold what its own constraints forbid: rows from the time before a function changed, or written as a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_source_tolerated_is_restored_with_a_warning() {
    let server = Server::shared();
    let database = server.create_database("tolerated");
    server.psql(
        &database,
        "CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child (id integer REFERENCES parent);
         SET session_replication_role = replica; INSERT INTO child VALUES (1); RESET session_replication_role;
         CREATE FUNCTION fine(integer) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE TABLE checked (id integer CONSTRAINT must CHECK (fine(id)));
         CREATE TABLE heir (CONSTRAINT must CHECK (fine(id))) INHERITS (checked);
         INSERT INTO checked VALUES (1); INSERT INTO heir VALUES (2);
         CREATE OR REPLACE FUNCTION fine(integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE TABLE divisor (n integer); INSERT INTO divisor VALUES (1);
         CREATE MATERIALIZED VIEW quotient AS SELECT 1 / n AS q FROM divisor; UPDATE divisor SET n = 0",
    );
    let backup = Backup::take(server, &database).await;
    let watch = Watch::default();
    let name = format!("{database}_again");
    run(&backup, &restore_of(server, &backup, 404, &name), &watch)
        .await
        .expect("restored");
    let warnings = watch.warnings();
    // The check is the heir's own as well.
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    let count = |sign| warnings.iter().filter(|it| it.starts_with(sign)).count();
    assert_eq!(count("put back NOT VALID: "), 3, "{warnings:?}");
    assert_eq!(count("left empty: "), 1, "{warnings:?}");
    let rows = "SELECT (SELECT count(*) FROM child), (SELECT count(*) FROM checked), (SELECT count(*) FROM pg_constraint WHERE NOT convalidated),
        (SELECT relispopulated FROM pg_class WHERE relname = 'quotient')";
    assert_eq!(server.psql(&name, rows), "1|2|3|f");
    drop(session(server, &name).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_never_gives_out_what_its_column_has() {
    let server = Server::shared();
    let database = server.create_database("sequences");
    server.psql(
        &database,
        "CREATE TABLE up (id serial, \"odd \"\" \" integer GENERATED ALWAYS AS IDENTITY); INSERT INTO up DEFAULT VALUES;
         CREATE SEQUENCE falling INCREMENT -1 MINVALUE -100 MAXVALUE -1; CREATE TABLE down (id integer DEFAULT nextval('falling'));
         ALTER SEQUENCE falling OWNED BY down.id; INSERT INTO down DEFAULT VALUES; CREATE TABLE bare (id serial)",
    );
    let session = session(server, &database).await;
    let early = sequences::capture(&session, &|_| true)
        .await
        .expect("captured");
    // A restore to a later time has rows that the reading before did not know of.
    server.psql(
        &database,
        "INSERT INTO up OVERRIDING SYSTEM VALUE VALUES (50, 7); INSERT INTO down VALUES (-30); SELECT setval('up_id_seq', 999)",
    );
    sequences::restore(&session, &early, SetTo::AtLeastColumn)
        .await
        .expect("set");
    assert_eq!(
        server.psql(
            &database,
            "SELECT nextval('up_id_seq'), nextval(pg_get_serial_sequence('up', 'odd \" ')), nextval('falling'), nextval('bare_id_seq')"
        ),
        "51|8|-31|1"
    );
    sequences::restore(&session, &early, SetTo::Captured)
        .await
        .expect("set");
    assert_eq!(
        sequences::capture(&session, &|_| true)
            .await
            .expect("captured"),
        early
    );
}
