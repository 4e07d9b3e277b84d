//! Types that are altered while their tables stay as they are.

use holdfast_postgres::layout::{Handling, WholeReason};
use holdfast_postgres::member::catalog::{Content, DatabaseCatalog, RelationEntry};
use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, HoldId, JobId, Target};

use crate::store::{Counted, Store};
use crate::{contents, hidden, member, renamed, restorer};

const TABLES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN feeling AS mood;
    CREATE TYPE deep AS (one pair, many feeling[]);
    CREATE TABLE moody (id int PRIMARY KEY, m mood, p pair);
    INSERT INTO moody SELECT i, (ARRAY['sad', 'ok'])[i % 2 + 1]::mood, ROW(i, 'x'::text)::pair FROM generate_series(1, 200) i;
    CREATE TABLE nested (id int PRIMARY KEY, d deep[]);
    INSERT INTO nested SELECT i, ARRAY[ROW(ROW(i, 'y'::text)::pair, ARRAY['sad', 'ok']::feeling[])::deep] FROM generate_series(1, 200) i;
    CREATE TYPE other AS ENUM ('one'); CREATE TABLE calm (id int PRIMARY KEY, o other); INSERT INTO calm SELECT i, 'one' FROM generate_series(1, 200) i;
    CREATE TABLE allowed (id int PRIMARY KEY, acl aclitem); CREATE ROLE hf_before;
    INSERT INTO allowed SELECT i, makeaclitem('hf_before'::regrole, 'hf_before'::regrole, 'SELECT', false) FROM generate_series(1, 20) i";

fn entry(store: &Store, layer: usize, table: &str) -> RelationEntry {
    let catalog = DatabaseCatalog::decode(&store.0[layer].catalogs[0]).expect("a catalog");
    let mut entries = catalog.relations.into_iter();
    let entry = entries.find(|entry| entry.layout.name == table);
    entry.expect("it is there")
}

/// Trap 34. The table's file and its own catalog rows do not change: without the types' rows in its standing the rows that were read before keep
/// the old form, and are refused by the table that the restore makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_types_that_are_altered_are_read_again() {
    let server = Server::shared();
    let database = server.create_database("forms");
    server.psql(&database, TABLES);
    let source = member(server, "forms");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    // Three tables have a key and a span each: what is done before the fourth is done when all are read.
    let alter = |number: usize| {
        if number == 3 {
            server.psql(
                &database,
                "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TYPE pair ADD ATTRIBUTE c int",
            );
        }
    };
    store.backup(&source, 1, target(), false, alter).await;
    let mut truths = vec![contents(server, &database)];
    for table in ["moody", "nested"] {
        let content = entry(&store, 0, table).content;
        assert!(matches!(content, Content::Whole { .. }), "{table}");
    }
    assert_eq!(entry(&store, 0, "calm").content, Content::Base);
    let form = Handling::Whole(WholeReason::ColumnForm);
    assert_eq!(entry(&store, 0, "allowed").layout.handling, form);
    for change in [
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; ALTER ROLE hf_before RENAME TO hf_after",
        "ALTER TYPE pair DROP ATTRIBUTE a",
        "ALTER TYPE mood ADD VALUE 'odd'",
    ] {
        server.psql(&database, change);
        server.psql(
            &database,
            "UPDATE moody SET m = 'fine' WHERE id % 5 = 0; UPDATE nested SET id = -id WHERE id % 7 = 0",
        );
        store.backup(&source, 1, target(), true, |_| {}).await;
        truths.push(contents(server, &database));
    }
    let whole = |layer, table| matches!(entry(&store, layer, table).content, Content::Whole { .. });
    assert!(whole(1, "moody") && whole(1, "nested"));
    assert!(whole(2, "moody") && whole(2, "nested"));
    // A new label changes no row that is there.
    assert_eq!(entry(&store, 3, "moody").content, Content::Continued);
    assert_eq!(entry(&store, 3, "calm").content, Content::Continued);
    source.release(HoldId(1)).await.expect("released");
    for (layers, truth) in truths.iter().enumerate() {
        if layers == 0 {
            // The first layer has the name that the role had then.
            server.psql("postgres", "CREATE ROLE hf_before");
        }
        let name = format!("{database}_{layers}");
        let upto = Store(store.0[..=layers].to_vec());
        let restore = renamed(700 + layers as u64, &database, &name, None);
        let restored = upto.restore(&restorer(server), &restore).await;
        restored.expect("restored");
        assert_eq!(&contents(server, &name), truth, "{layers} layers");
    }
}

/// What the target holds is compared with what was loaded, also of tables whose sum the backup has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_goes_behind_the_restores_back_is_noticed() {
    let server = Server::shared();
    let database = server.create_database("held");
    server.psql(
        &database,
        "CREATE TABLE keyed (id int PRIMARY KEY, v text); INSERT INTO keyed SELECT i, md5(i::text) FROM generate_series(1, 300) i;
         CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE counted (id int PRIMARY KEY, m mood); INSERT INTO counted VALUES (1, 'ok'), (2, 'sad')",
    );
    let source = member(server, "held");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 2, target, false, |_| {}).await;
    source.release(HoldId(2)).await.expect("released");
    let harms = [
        ("keyed", "DELETE FROM keyed WHERE id = 7"),
        ("keyed", "UPDATE keyed SET v = 'other' WHERE id = 8"),
        ("counted", "DELETE FROM counted WHERE id = 2"),
    ];
    for (number, (table, harm)) in harms.into_iter().enumerate() {
        let job = 710 + number as u64;
        let restore = renamed(job, &database, &format!("{database}_{number}"), None);
        let worker = restorer(server);
        let loaded = store.load(&worker, &restore, &mut Counted::default()).await;
        assert_eq!(loaded.expect("loaded"), 302);
        let place = hidden(server, job, &[]);
        server.psql(place.trim(), harm);
        let fault = worker.finish(&restore, &store).await.expect_err("harmed");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
        assert!(
            fault.message.contains(&format!("public.{table}")),
            "{fault}"
        );
        worker.discard(JobId(job)).await.expect("discarded");
    }
}
