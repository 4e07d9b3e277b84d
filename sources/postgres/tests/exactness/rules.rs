//! One deterministic test for each rule without which a backup would be wrong. Each shows the damage that is done without the rule, and that the
//! rule prevents it.

use holdfast_postgres::changes::ChangePosition;
use holdfast_postgres::fixup::{check_file_node, fix_up, must_be_read_whole};
use holdfast_postgres::fold::{Folded, Keep, Op, Sorter, Truncated};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::pages::{Change, Opened, PageRange, open_range, open_whole};
use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_types::ErrorCode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

mod commits;

use crate::backup::{
    Base, Chain, Layer, MEMORY, needs_new_snapshot, restore, wait_for_transactions,
};
use crate::database::{State, assert_same, layouts, plain, rows, session, truth};
use crate::slot::{Life, Slot};

/// A table `m` with out-of-line values that fill pages four rows each, of which the first pages are full.
const MOVER: &str = "
CREATE TABLE m (id int PRIMARY KEY, n int, pad text, big text);
ALTER TABLE m ALTER big SET STORAGE EXTERNAL, ALTER pad SET STORAGE PLAIN;
INSERT INTO m SELECT i, 0, repeat('x', 1800), repeat(md5(i::text), 100) FROM generate_series(1, 40) i;
";

async fn mover(name: &str) -> (Chain, Client) {
    let server = Server::shared();
    let database = server.create_database(name);
    server.psql(&database, MOVER);
    let chain = Chain::hold(server, &database, &["m"]).await;
    (chain, connect(server, &database).await)
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

/// A snapshot at an exact position, for a test that needs one of each name.
async fn exact(chain: &Chain, name: &str) -> Slot {
    let name = format!("{name}_{}", chain.database);
    Slot::create(chain.server, &chain.database, &name, Life::Temporary).await
}

async fn folded(chain: &Chain, end: Lsn) -> Folded {
    let fold = chain.fold(Keep::Last, chain.start..end).await;
    fold.finish().expect("folded")
}

async fn truth_at(chain: &Chain, slot: &Slot) -> State {
    let client = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
    truth(&client, &chain.planned).await
}

/// What there would be without the fix-up: rows with values that nobody knows.
fn unresolved(folded: &Folded) -> usize {
    let mut rows = folded.rows();
    let mut count = 0;
    while rows
        .next_unresolved(&BTreeSet::new(), None)
        .expect("readable")
        .is_some()
    {
        count += 1;
    }
    count
}

async fn finish(chain: &Chain, base: &Base, slot: &Slot) -> Layer {
    let folded = folded(chain, slot.position).await;
    chain
        .finish(folded, slot, &base.rewritten)
        .await
        .expect("finished")
}

/// A row moves by an update from a page that was not read yet to one that was: it stands in no page range, and the update does not log its big value. Only
/// reading it again by key brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_into_a_page_that_was_read_is_read_again() {
    // Rows of a transaction that was rolled back can be vacuumed whatever other tests hold on to.
    let lost = "BEGIN; INSERT INTO m SELECT i, 0, repeat('x', 1800) FROM generate_series(1, 4) i; \
                ROLLBACK; INSERT INTO m";
    let server = Server::shared();
    let database = server.create_database("moves");
    server.psql(&database, &MOVER.replace("INSERT INTO m", lost));
    let chain = Chain::hold(server, &database, &["m"]).await;
    let client = connect(server, &database).await;
    let oid = chain.layout("m").oid;
    run(&client, "VACUUM m").await;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, Some(1)).await;
    run(&client, "UPDATE m SET n = 1 WHERE id = 40").await;
    let page: String = client
        .query_one("SELECT ctid::text FROM m WHERE id = 40", &[])
        .await
        .expect("a row")
        .get(0);
    assert!(
        page.starts_with("(0,"),
        "the test must move the row to the first page: {page}"
    );
    chain.read_pages(&mut base, oid, 1, None).await;
    let slot = exact(&chain, "f").await;
    assert_eq!(unresolved(&folded(&chain, slot.position).await), 1);
    let layer = finish(&chain, &base, &slot).await;
    let want = truth_at(&chain, &slot).await;
    assert_same("moved", &restore(&base, &layer), &want, &chain.planned);
}

/// Keys are swapped with big values unchanged. A fold that takes unchanged values from the base row with the same key takes the other row's.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_swap_keys_keep_their_own_values() {
    let (chain, client) = mover("swap").await;
    let oid = chain.layout("m").oid;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, Some(2)).await;
    let swap = "BEGIN; UPDATE m SET id = 100 WHERE id = 1; UPDATE m SET id = 1 WHERE id = 40; \
                UPDATE m SET id = 40 WHERE id = 100; COMMIT";
    run(&client, swap).await;
    chain.read_pages(&mut base, oid, 2, None).await;
    let slot = exact(&chain, "f").await;
    assert_eq!(unresolved(&folded(&chain, slot.position).await), 2);
    let layer = finish(&chain, &base, &slot).await;
    let want = truth_at(&chain, &slot).await;
    assert_same("swapped", &restore(&base, &layer), &want, &chain.planned);
}

/// A rewrite between two ranges (CLUSTER here, as it does not depend on what can be vacuumed) puts rows into other pages. Ranges that looked at the file
/// node find out; ranges that did not would miss rows and have others twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_between_two_ranges_is_noticed_and_the_relation_read_whole() {
    let (chain, client) = mover("rewrite").await;
    let layout = Arc::clone(chain.layout("m"));
    let reader = session(chain.server, &chain.database, None).await;
    let first = rows(&reader, &layout, "WHERE ctid < '(5,0)'").await;
    drop(reader);
    let mut base = Base::default();
    chain.read_pages(&mut base, layout.oid, 0, Some(5)).await;
    run(&client, "CREATE INDEX backwards ON m (id DESC)").await;
    run(&client, "CLUSTER m USING backwards").await;
    let reader = session(chain.server, &chain.database, None).await;
    let blind = rows(&reader, &layout, "WHERE ctid >= '(5,0)'").await;
    let again = blind.iter().filter(|row| first.contains(row)).count();
    assert_eq!(
        (first.len(), again),
        (20, 20),
        "without the check, rows 21 to 40 are in no range"
    );
    drop(reader);
    chain.read_pages(&mut base, layout.oid, 5, None).await;
    assert!(base.rewritten.contains(&layout.oid));
    let slot = exact(&chain, "f").await;
    let layer = finish(&chain, &base, &slot).await;
    assert!(layer.whole.contains_key(&layout.oid));
    let want = truth_at(&chain, &slot).await;
    assert_same("rewritten", &restore(&base, &layer), &want, &chain.planned);
}

/// A rewrite that changes every row leaves nothing in the change stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_that_changes_rows_is_read_whole() {
    for (name, ddl) in [
        ("ddl_same", "ALTER TABLE m ALTER n TYPE int USING n + 7"),
        ("ddl_type", "ALTER TABLE m ALTER n TYPE bigint"),
        ("ddl_add", "ALTER TABLE m ADD c int DEFAULT 5"),
        ("ddl_drop", "ALTER TABLE m DROP n"),
        (
            "ddl_key",
            "ALTER TABLE m DROP CONSTRAINT m_pkey, ADD PRIMARY KEY (id, pad)",
        ),
    ] {
        let (chain, client) = mover(name).await;
        let oid = chain.layout("m").oid;
        let mut base = Base::default();
        chain.read_pages(&mut base, oid, 0, None).await;
        run(&client, ddl).await;
        run(&client, "UPDATE m SET pad = 'after' WHERE id = 3").await;
        let slot = exact(&chain, "f").await;
        let layer = finish(&chain, &base, &slot).await;
        assert_eq!(layer.whole[&oid].len(), 40, "{ddl}");
        let reader = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
        let now = layouts(reader.client(), &["m"]).await;
        assert_same(
            ddl,
            &restore(&base, &layer),
            &truth(&reader, &now).await,
            &now,
        );
    }
}

/// A rewrite just after the slot was made: what was changed before it is in the stream, in the old form. A plan that was made afterwards would take the new
/// file for the one of the slot's position, and let the old change win over the rewritten row.
#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_older_than_the_slot() {
    let (mut chain, client) = mover("plan").await;
    let oid = chain.layout("m").oid;
    run(&client, "UPDATE m SET n = 1, big = 'whole' WHERE id = 3").await;
    run(&client, "ALTER TABLE m ALTER n TYPE int USING n + 7").await;
    let late = layouts(&client, &["m"]).await;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, None).await;
    assert!(base.rewritten.contains(&oid), "the early plan notices");
    let slot = exact(&chain, "f").await;
    let want = truth_at(&chain, &slot).await;
    let layer = finish(&chain, &base, &slot).await;
    assert_same("early", &restore(&base, &layer), &want, &chain.planned);

    chain.planned = late;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, None).await;
    let layer = finish(&chain, &base, &slot).await;
    assert_ne!(restore(&base, &layer), want, "the late plan would be wrong");
}

/// A TRUNCATE explains a new file node: what comes after it is all in the change stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_drops_the_base_and_needs_no_second_reading() {
    let (chain, client) = mover("truncate").await;
    let oid = chain.layout("m").oid;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, Some(3)).await;
    run(&client, "TRUNCATE m").await;
    run(
        &client,
        "INSERT INTO m VALUES (3, 3, 'new', repeat('n', 9000)), (50, 5, 'new', NULL)",
    )
    .await;
    run(&client, "UPDATE m SET n = 4 WHERE id = 3").await;
    chain.read_pages(&mut base, oid, 3, None).await;
    let slot = exact(&chain, "f").await;
    let layer = finish(&chain, &base, &slot).await;
    assert!(
        layer.whole.is_empty(),
        "the truncation explains the file node"
    );
    assert!(layer.folded.truncated().contains_key(&oid));
    let want = truth_at(&chain, &slot).await;
    assert_same("truncated", &restore(&base, &layer), &want, &chain.planned);
}

/// Rows that are inserted behind a truncation in its transaction, as loads do it: the changes are all there is, in whatever file they end. But not if the
/// truncation does not explain what a rewrite did to the inserted rows, which nothing in the stream says.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_behind_a_truncation_is_read_whole() {
    let insert = "TRUNCATE m; INSERT INTO m VALUES (1, 1, 'x', 'y'), (2, 2, 'x', 'y')";
    let unlogged = "ALTER TABLE m SET UNLOGGED; INSERT INTO m VALUES (3, 3, 'x', 'y'); ALTER TABLE m SET LOGGED";
    let using = "ALTER TABLE m ALTER n TYPE int USING n + 7";
    let passing = "ALTER TABLE m ADD c float8 DEFAULT random(); ALTER TABLE m DROP c";
    let publish = "ALTER PUBLICATION hold DROP TABLE m";
    for (name, is_whole, sql) in [
        (
            "behind_load",
            false,
            format!("BEGIN; {insert}; UPDATE m SET n = 9 WHERE id = 2; COMMIT"),
        ),
        (
            "behind_cluster",
            false,
            format!(
                "BEGIN; {insert}; CLUSTER m USING m_pkey; UPDATE m SET n = 9 WHERE id = 2; COMMIT"
            ),
        ),
        (
            "behind_twice",
            false,
            format!(
                "BEGIN; {insert}; {insert}; SAVEPOINT s; {using}; ROLLBACK TO s; DELETE FROM m WHERE id = 1; COMMIT"
            ),
        ),
        (
            "behind_one",
            true,
            format!("BEGIN; {insert}; {using}; COMMIT"),
        ),
        ("behind_two", true, format!("{insert}; {using}")),
        (
            "behind_passing",
            true,
            format!("BEGIN; {insert}; {passing}; COMMIT"),
        ),
        (
            "behind_savepoint",
            true,
            format!("BEGIN; SAVEPOINT s; {insert}; RELEASE s; {using}; COMMIT"),
        ),
        // The backup itself sees that it was published anew, which these tests do not look at: what counts here is that it cannot be hidden otherwise.
        (
            "behind_unlogged",
            false,
            format!("BEGIN; {insert}; SAVEPOINT s; {unlogged}"),
        ),
        (
            "behind_unpublished",
            true,
            format!("BEGIN; {insert}; {publish}; {unlogged}; {using}; COMMIT"),
        ),
    ] {
        let (chain, client) = mover(name).await;
        let mut base = Base::default();
        chain
            .read_pages(&mut base, chain.layout("m").oid, 0, None)
            .await;
        // Statement by statement: several in one message would be one transaction.
        for statement in sql.split(';') {
            if let Err(error) = client.batch_execute(statement).await {
                let message = error.as_db_error().expect("an answer").message();
                assert!(message.contains("it is part of a publication"), "{message}");
                run(&client, "ROLLBACK TO s; COMMIT").await;
                break;
            }
        }
        let slot = exact(&chain, "f").await;
        let layer = finish(&chain, &base, &slot).await;
        assert_eq!(layer.whole.len(), usize::from(is_whole), "{sql}");
        let want = truth_at(&chain, &slot).await;
        assert_same(&sql, &restore(&base, &layer), &want, &chain.planned);
    }
}

/// A TRUNCATE after F takes away the rows that F sees. Without the comparison of file nodes after the reads, the finish would find nothing where rows
/// were, and a table that is read whole would be empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_after_the_snapshot_asks_for_a_newer_one() {
    let (chain, client) = mover("after_f").await;
    let layout = Arc::clone(chain.layout("m"));
    let mut base = Base::default();
    chain.read_pages(&mut base, layout.oid, 0, None).await;
    run(&client, "UPDATE m SET n = 1 WHERE id = 3").await;
    let slot = exact(&chain, "f").await;
    let reader = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
    run(&client, "TRUNCATE m; INSERT INTO m VALUES (7, 7, 'p', 'b')").await;
    assert!(
        rows(&reader, &layout, "").await.is_empty(),
        "F no longer sees its rows"
    );
    let error = check_file_node(&reader, &layout)
        .await
        .expect_err("noticed");
    assert_eq!(error.code, ErrorCode::HistoryGone);
    let folded = folded(&chain, slot.position).await;
    let error = chain
        .finish(folded, &slot, &base.rewritten)
        .await
        .err()
        .expect("noticed");
    assert!(needs_new_snapshot(&error), "{error}");
    let slot = exact(&chain, "f2").await;
    let layer = finish(&chain, &base, &slot).await;
    let want = truth_at(&chain, &slot).await;
    assert_same("a new F", &restore(&base, &layer), &want, &chain.planned);
}

/// Another table takes the name after F, as migration tools do it. Reads go by name: without the look at what was locked they would give the other
/// table's rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_swapped_after_the_snapshot_is_not_taken_for_the_other() {
    let (chain, client) = mover("swapped").await;
    let layout = Arc::clone(chain.layout("m"));
    let mut base = Base::default();
    chain.read_pages(&mut base, layout.oid, 0, None).await;
    run(&client, "UPDATE m SET n = 1 WHERE id = 3").await;
    let slot = exact(&chain, "f").await;
    let folded = folded(&chain, slot.position).await;
    run(&client, "CREATE TABLE new (LIKE m INCLUDING ALL)").await;
    run(
        &client,
        "ALTER TABLE m RENAME TO old; ALTER TABLE new RENAME TO m",
    )
    .await;
    let reader = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
    match open_whole(reader, &layout).await.expect("opened") {
        Opened::Changed(_, change) => assert_eq!(change, Change::Gone),
        Opened::Reading(_) => panic!("it reads the other table"),
    }
    let none = BTreeSet::new();
    let directory = chain.directory();
    let fixes = Sorter::new(Keep::Last, Arc::clone(&chain.env.disk), &directory, MEMORY);
    let reader = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
    let (env, planned, at) = (&chain.env, &chain.planned, slot.position);
    let error = fix_up(env, &reader, planned, folded, &none, fixes, at).await;
    assert!(needs_new_snapshot(&error.expect_err("noticed")));
}

/// With a deferrable key two rows have the same key for a while, and a fold by key takes one for the other: such relations are not keyed.
#[tokio::test(flavor = "multi_thread")]
async fn a_deferrable_key_cannot_be_folded() {
    let server = Server::shared();
    let database = server.create_database("deferrable");
    // The publication takes it, as its index is the replica identity only if it is not deferrable: FULL stands in for an identity.
    server.psql(
        &database,
        "CREATE TABLE d (id int, v text, PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED); \
         ALTER TABLE d REPLICA IDENTITY FULL; INSERT INTO d VALUES (1, 'one'), (2, 'two')",
    );
    let chain = Chain::hold(server, &database, &["d"]).await;
    let mut base = Base::default();
    chain
        .read_pages(&mut base, chain.layout("d").oid, 0, None)
        .await;
    let client = connect(server, &database).await;
    run(
        &client,
        "BEGIN; UPDATE d SET id = 2 WHERE v = 'one'; UPDATE d SET id = 1 WHERE v = 'two'; COMMIT",
    )
    .await;
    let slot = exact(&chain, "f").await;
    let layer = finish(&chain, &base, &slot).await;
    let (got, want) = (restore(&base, &layer), truth_at(&chain, &slot).await);
    let oid = chain.layout("d").oid;
    assert_eq!(want[&oid].len(), 2);
    assert_eq!(
        got[&oid].len(),
        1,
        "a row is lost without the rule: {got:?}"
    );
}

/// The change stream leaves stored generated columns out. Layouts do so, too, and a load computes them again.
#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_are_in_neither_pages_nor_changes() {
    let server = Server::shared();
    let database = server.create_database("generated");
    server.psql(
        &database,
        "CREATE TABLE g (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, v text); \
         INSERT INTO g (id, n, v) SELECT i, i, 'v' FROM generate_series(1, 9) i",
    );
    let chain = Chain::hold(server, &database, &["g"]).await;
    let layout = Arc::clone(chain.layout("g"));
    assert_eq!((layout.columns.len(), layout.generated.len()), (3, 1));
    let mut base = Base::default();
    chain.read_pages(&mut base, layout.oid, 0, None).await;
    let client = connect(server, &database).await;
    run(
        &client,
        "UPDATE g SET n = 50 WHERE id = 5; INSERT INTO g (id, n) VALUES (10, 1)",
    )
    .await;
    let slot = exact(&chain, "f").await;
    let layer = finish(&chain, &base, &slot).await;
    assert!(
        layer.whole.is_empty(),
        "the columns of the stream are those of the layout"
    );
    let want = truth_at(&chain, &slot).await;
    assert_same("generated", &restore(&base, &layer), &want, &chain.planned);
}

/// Replica identity changes in the middle: deletions name another key from there on.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_identity_is_noticed() {
    let (chain, client) = mover("identity").await;
    let oid = chain.layout("m").oid;
    let mut base = Base::default();
    chain.read_pages(&mut base, oid, 0, None).await;
    run(
        &client,
        "ALTER TABLE m ALTER n SET NOT NULL; UPDATE m SET n = id",
    )
    .await;
    run(
        &client,
        "CREATE UNIQUE INDEX other ON m (n); ALTER TABLE m REPLICA IDENTITY USING INDEX other",
    )
    .await;
    run(
        &client,
        "UPDATE m SET id = 99 WHERE id = 9; DELETE FROM m WHERE id = 8",
    )
    .await;
    run(
        &client,
        "ALTER TABLE m REPLICA IDENTITY DEFAULT; UPDATE m SET pad = 'p' WHERE id = 7",
    )
    .await;
    let slot = exact(&chain, "f").await;
    let folded = folded(&chain, slot.position).await;
    assert!(
        folded.reshaped().contains_key(&oid),
        "the update of 9 does not say that it was 9"
    );
    let layer = chain
        .finish(folded, &slot, &base.rewritten)
        .await
        .expect("finished");
    let want = truth_at(&chain, &slot).await;
    assert_same("identity", &restore(&base, &layer), &want, &chain.planned);
}

/// What explains a new file node, and what does not.
#[tokio::test]
async fn only_the_last_truncation_explains_a_file_node() {
    let (chain, _client) = mover("explain").await;
    let planned = chain.layout("m");
    let moved = Layout {
        file_node: holdfast_postgres::layout::FileNode(planned.file_node.0 + 1),
        ..Layout::clone(planned)
    };
    let truncated = |xid, is_followed| Truncated {
        position: ChangePosition::start_of(Lsn(5)),
        xid,
        is_followed,
    };
    let other = Layout {
        key: vec![1],
        ..Layout::clone(planned)
    };
    for (is_whole, at_f, xid, truncated, is_altered) in [
        (false, planned.as_ref(), 1, None, false),
        (true, &moved, 1, None, false),
        (false, &moved, 9, Some(truncated(9, false)), false),
        (false, &moved, 9, Some(truncated(9, false)), true),
        (true, &moved, 8, Some(truncated(9, false)), false),
        (false, &moved, 9, Some(truncated(9, true)), false),
        (true, &moved, 9, Some(truncated(9, true)), true),
        (true, &moved, 8, Some(truncated(9, true)), false),
        (true, &other, 9, Some(truncated(9, false)), false),
    ] {
        assert_eq!(
            must_be_read_whole(planned, at_f, xid, truncated.as_ref(), is_altered),
            is_whole,
            "{xid} {truncated:?} {is_altered}"
        );
    }
}
