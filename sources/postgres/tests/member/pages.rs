use holdfast_postgres::layout::Layout;
use holdfast_postgres::pages::{Change, Opened, PageRange, PartRead, open_range, open_whole, plan};
use holdfast_postgres::session::Session;
use holdfast_postgres_testing::{Server, connect};

use crate::{all, data, layout};

/// Reads a part to its end: the number of rows, and the session.
async fn rows(mut part: Box<PartRead>) -> (usize, Session) {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.next().await {
        bytes.extend_from_slice(&chunk.expect("a chunk"));
    }
    (count(&bytes), part.finish().await.expect("it ends"))
}

/// Counts tuples of `COPY … BINARY`: signature and header, then tuples until a field count of −1.
fn count(bytes: &[u8]) -> usize {
    let mut at = 19;
    for tuples in 0.. {
        let fields = i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        at += 2;
        if fields < 0 {
            assert_eq!(at, bytes.len());
            return tuples;
        }
        for _ in 0..fields {
            let length =
                i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
    }
    unreachable!("the loop has no end")
}

async fn read(session: Session, layout: &Layout, range: PageRange) -> (usize, Session) {
    match open_range(session, layout, range).await.expect("it opens") {
        Opened::Reading(part) => rows(part).await,
        Opened::Changed(_, change) => panic!("changed: {change:?}"),
    }
}

async fn change(session: Session, layout: &Layout) -> (Change, Session) {
    match open_range(session, layout, PageRange::ALL)
        .await
        .expect("it opens")
    {
        Opened::Reading(_) => panic!("the relation has changed"),
        Opened::Changed(session, change) => (change, *session),
    }
}

#[tokio::test]
async fn ranges_hold_every_row_once_also_of_a_table_that_grows() {
    let server = Server::shared();
    let database = server.create_database("ranges");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, pad text) WITH (fillfactor = 100);
         INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 5000) g;
         CREATE TABLE empty (id int PRIMARY KEY);
         CREATE TABLE heir (id int PRIMARY KEY) INHERITS (empty); INSERT INTO heir VALUES (1);
         CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES",
    );
    let table = layout(server, &database, "t").await;
    let facts = all(server, &database).await;
    let heap = facts
        .iter()
        .find(|facts| facts.layout.name == "t")
        .expect("t")
        .heap_bytes;
    let pages = u32::try_from(heap / 8192).expect("few pages");
    assert!(pages > 100, "{pages}");
    let mut session = data(server, &database).await;
    let mut sum = 0;
    for start in (0..pages).step_by(40) {
        let end = (start + 40 < pages).then_some(start + 40);
        if end.is_none() {
            server.psql(
                &database,
                "INSERT INTO t SELECT g, repeat('y', 200) FROM generate_series(5001, 8000) g",
            );
        }
        let (rows, back) = read(session, &table, PageRange { start, end }).await;
        sum += rows;
        session = back;
    }
    assert_eq!(sum, 8000, "the last range takes in what the table grew by");
    // Trap 18: a table that others inherit from is read by itself.
    let (rows, session) = read(
        session,
        &layout(server, &database, "empty").await,
        PageRange::ALL,
    )
    .await;
    assert_eq!(rows, 0);
    let (rows, _) = read(
        session,
        &layout(server, &database, "nothing").await,
        PageRange::ALL,
    )
    .await;
    assert_eq!(rows, 2, "rows without columns are rows");
    assert_eq!(plan(heap, heap, 8192), [PageRange::ALL]);
}

/// ‡ A rewrite between two ranges is seen: without the comparison of file nodes, rows that `VACUUM FULL` moved would be read twice or not
/// at all, as the last lines show.
#[tokio::test]
async fn a_rewrite_between_two_ranges_is_seen() {
    let server = Server::shared();
    let database = server.create_database("rewrite");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, pad text);
         INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(1, 800) g;
         DELETE FROM t WHERE id <= 400",
    );
    let planned = layout(server, &database, "t").await;
    let (low, high) = (
        PageRange {
            start: 0,
            end: Some(50),
        },
        PageRange {
            start: 50,
            end: None,
        },
    );
    let (first, session) = read(data(server, &database).await, &planned, low).await;
    server.psql(&database, "VACUUM FULL t");
    let (found, session) = change(session, &planned).await;
    assert_eq!(found, Change::Rewritten);
    let Opened::Changed(session, Change::Rewritten) =
        open_range(session, &planned, high).await.expect("it opens")
    else {
        panic!("the second range must not be read");
    };
    // What an unchecked read would have given: not the 400 rows that there are.
    let fresh = layout(server, &database, "t").await;
    let (second, _) = read(*session, &fresh, high).await;
    assert_ne!(first + second, 400);
}

/// Traps 4 of the stack's section 9, 27, 41 and 42: whatever changes a relation's rows or columns without changes in the log is seen.
#[tokio::test]
async fn every_alteration_is_seen() {
    let server = Server::shared();
    let database = server.create_database("altered");
    for (statement, expected) in [
        ("TRUNCATE t", Change::Rewritten),
        ("CLUSTER t USING t_pkey", Change::Rewritten),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE bigint",
            Change::Rewritten,
        ),
        (
            "ALTER TABLE t ADD COLUMN c float8 DEFAULT random()",
            Change::Rewritten,
        ),
        ("ALTER TABLE t SET UNLOGGED", Change::Rewritten),
        ("ALTER TABLE t ADD COLUMN c int DEFAULT 7", Change::Columns),
        ("ALTER TABLE t DROP COLUMN a", Change::Columns),
        (
            "ALTER TABLE t ALTER COLUMN b TYPE varchar(30)",
            Change::Columns,
        ),
        ("ALTER TABLE t RENAME TO other", Change::Gone),
        ("ALTER TABLE t SET SCHEMA elsewhere", Change::Gone),
        ("DROP TABLE t", Change::Gone),
        (
            "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(20))",
            Change::Gone,
        ),
        (
            "ALTER TABLE t RENAME TO old; CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(20))",
            Change::Gone,
        ),
    ] {
        server.psql(
            &database,
            "DROP SCHEMA IF EXISTS elsewhere CASCADE; DROP TABLE IF EXISTS t, other, old; CREATE SCHEMA elsewhere;
             CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(20)); INSERT INTO t VALUES (1, 2, 'x')",
        );
        let planned = layout(server, &database, "t").await;
        let (rows, session) = read(data(server, &database).await, &planned, PageRange::ALL).await;
        assert_eq!(rows, 1);
        server.psql(&database, statement);
        let (found, session) = change(session, &planned).await;
        assert_eq!(found, expected, "{statement}");
        session
            .execute("SELECT 1")
            .await
            .expect("the session is as good as before");
    }
}

/// A rewrite cannot begin while a range is read; one that is under way is waited for, and then seen.
#[tokio::test]
async fn the_lock_comes_before_the_snapshot() {
    let server = Server::shared();
    let database = server.create_database("lock");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
    );
    let planned = layout(server, &database, "t").await;
    let application = connect(server, &database).await;
    application
        .batch_execute("BEGIN; TRUNCATE t")
        .await
        .expect("truncates");
    let session = data(server, &database).await;
    let opening = open_range(session, &planned, PageRange::ALL);
    tokio::pin!(opening);
    tokio::select! {
        _ = &mut opening => panic!("the truncation holds its lock"),
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    application.batch_execute("COMMIT").await.expect("commits");
    // A snapshot from before the wait would show the relation empty, with the file node that was planned.
    let opened = opening.await.expect("it opens");
    assert!(
        matches!(opened, Opened::Changed(_, Change::Rewritten)),
        "{opened:?}"
    );
}

/// Under a snapshot that is older than a TRUNCATE, the relation looks empty: it is not read then.
#[tokio::test]
async fn an_older_snapshot_does_not_read_a_truncated_relation() {
    let server = Server::shared();
    let database = server.create_database("older");
    server.psql(
        &database,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
    );
    let planned = layout(server, &database, "t").await;
    let session = data(server, &database).await;
    session
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .expect("begins");
    session
        .query("SELECT 1", &[])
        .await
        .expect("takes the snapshot");
    server.psql(&database, "TRUNCATE t");
    let empty = session
        .query("SELECT a FROM public.t", &[])
        .await
        .expect("no error");
    assert!(empty.is_empty(), "this is the trap");
    let opened = open_whole(session, &planned).await.expect("it opens");
    assert!(
        matches!(opened, Opened::Changed(_, Change::Rewritten)),
        "{opened:?}"
    );
}

/// Traps 17 and 60: row-level security is an error, and odd names are names.
#[tokio::test]
async fn hidden_rows_are_an_error_and_odd_names_are_names() {
    let server = Server::shared();
    let database = server.create_database("odd");
    let name = "x\"; DROP TABLE \"y\n'ü\\";
    let quoted = name.replace('"', "\"\"");
    server.psql(
        &database,
        &format!(
            "CREATE TABLE \"{quoted}\" (\"{quoted}\" int PRIMARY KEY); INSERT INTO \"{quoted}\" VALUES (1);
             CREATE TABLE secret (id int PRIMARY KEY); INSERT INTO secret VALUES (1);
             ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
             CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader"
        ),
    );
    let (rows, _) = read(
        data(server, &database).await,
        &layout(server, &database, name).await,
        PageRange::ALL,
    )
    .await;
    assert_eq!(rows, 1);
    let secret = layout(server, &database, "secret").await;
    let dsn = crate::dsn_as(server, "reader", &database);
    let purpose = holdfast_postgres::session::Purpose::Data;
    let session = Session::connect(&crate::env(), &dsn, purpose)
        .await
        .expect("a session");
    // Reading everything does not go past policies.
    let fine = layout(server, &database, name).await;
    let (rows, session) = read(session, &fine, PageRange::ALL).await;
    assert_eq!(rows, 1);
    let opened = open_range(session, &secret, PageRange::ALL).await;
    let fault = match opened {
        Ok(Opened::Reading(mut part)) => loop {
            match part.next().await {
                Some(Ok(_)) => {}
                Some(Err(fault)) => break fault,
                None => panic!("no rows and no error: the trap"),
            }
        },
        Ok(Opened::Changed(..)) => panic!("it has not changed"),
        Err(fault) => fault,
    };
    assert!(fault.message.contains("row-level security"), "{fault}");
}

/// A lock that is not granted in time is an error that passes by itself; a missing relation leaves the transaction as it was.
#[tokio::test]
async fn locks_that_are_not_granted_are_tried_again() {
    let server = Server::shared();
    let database = server.create_database("timeout");
    server.psql(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let (table, gone) = (
        layout(server, &database, "t").await,
        layout(server, &database, "u").await,
    );
    server.psql(&database, "DROP TABLE u");
    let (env, dsn) = (crate::env(), crate::dsn(server, &database));
    let held = holdfast_postgres::exact::HeldSnapshot::plain(&env, &dsn).await;
    let held = held.expect("a snapshot");
    let application = connect(server, &database).await;
    let lock = "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE";
    application.batch_execute(lock).await.expect("locks");
    let imported = async || {
        let session = data(server, &database).await;
        session
            .execute("SET lock_timeout = '100ms'")
            .await
            .expect("sets");
        let id = held.id().expect("held");
        holdfast_postgres::exact::import(&session, id)
            .await
            .expect("imports");
        session
    };
    let fault = open_whole(imported().await, &table)
        .await
        .expect_err("locked");
    assert_eq!(
        fault.code,
        holdfast_types::ErrorCode::Unavailable,
        "{fault}"
    );
    application.batch_execute("COMMIT").await.expect("commits");
    let Opened::Changed(session, Change::Gone) =
        open_whole(imported().await, &gone).await.expect("it opens")
    else {
        panic!("it is gone");
    };
    let Opened::Reading(part) = open_whole(*session, &table).await.expect("it opens") else {
        panic!("it has not changed");
    };
    assert_eq!(rows(part).await.0, 1, "under the same snapshot");
}
