//! Single tables.

use holdfast_postgres_testing::Server;
use holdfast_source::{LoggedRestore, LoggedSource, Notes, Steps};
use holdfast_types::{HoldId, JobId, RestoreOptions, TableName, Target};
use std::collections::BTreeMap;

use crate::chains::{TABLES, change};
use crate::store::{Counted, Store};
use crate::{PART, hidden, member, restorer};

fn table(database: &str, table: &str) -> TableName {
    TableName {
        database: database.to_owned(),
        table: table.to_owned(),
    }
}

fn sum_of(server: &Server, database: &str, table: &str) -> String {
    server.psql(
        database,
        &format!("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM {table} AS t"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_come_back_beside_the_living_ones_under_new_names() {
    let server = Server::shared();
    let database = server.create_database("tables");
    let other = server.create_database("others");
    server.psql(&database, TABLES);
    let source = member(server, "tables1");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store
        .backup(&source, 5, target(), false, |number| {
            change(server, &database, number)
        })
        .await;
    (0..8).for_each(|number| change(server, &database, number));
    store.backup(&source, 5, target(), false, |_| {}).await;
    source.release(HoldId(5)).await.expect("released");
    let truths = ["plain", "pair", "emptied"].map(|name| sum_of(server, &database, name));
    (0..8).for_each(|number| change(server, &database, number));
    let restore = LoggedRestore {
        job: JobId(570),
        target: Target::Tables(vec![
            table(&database, "public.plain"),
            table(&database, "public.pair"),
            table(&database, "public.emptied"),
        ]),
        as_of: None,
        databases: BTreeMap::new(),
        tables: BTreeMap::from([
            (
                table(&database, "public.plain"),
                table(&database, "public.plain_before"),
            ),
            (
                table(&database, "public.pair"),
                table(&database, "old.pair"),
            ),
            (
                table(&database, "public.emptied"),
                table(&other, "public.emptied"),
            ),
        ]),
        into_existing: true,
        options: RestoreOptions::default(),
        part_size: PART,
        notes: Notes::default(),
        steps: Steps::default(),
    };
    // A first try is thrown away in the middle, and leaves nothing.
    let mut progress = Counted {
        stop_at: Some(5),
        ..Counted::default()
    };
    let stopped = store.load(&restorer(server), &restore, &mut progress).await;
    stopped.expect_err("stopped");
    assert_ne!(hidden(server, 570, &[&database]), "");
    restorer(server)
        .discard(JobId(570))
        .await
        .expect("discarded");
    assert_eq!(hidden(server, 570, &[&database, &other]), "");
    store
        .restore(&restorer(server), &restore)
        .await
        .expect("restored");
    let restored = [
        sum_of(server, &database, "plain_before"),
        sum_of(server, &database, "old.pair"),
        sum_of(server, &other, "emptied"),
    ];
    assert_eq!(restored, truths);
    assert_eq!(hidden(server, 570, &[&database, &other]), "");
    restorer(server)
        .discard(JobId(570))
        .await
        .expect("nothing to discard");
    assert_eq!(sum_of(server, &database, "plain_before"), truths[0]);
    let wrong = LoggedRestore {
        job: JobId(571),
        target: Target::Tables(vec![table(&database, "public.nothing")]),
        ..restore
    };
    let refused = restorer(server).begin(&wrong, &store).await;
    assert!(
        refused
            .expect_err("no such table")
            .message
            .contains("nothing")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_is_not_restored_without_its_partitions() {
    let server = Server::shared();
    let database = server.create_database("parted");
    let other = server.create_database("joined");
    server.psql(
        &database,
        "CREATE TABLE whole (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (500);
         CREATE TABLE high PARTITION OF whole FOR VALUES FROM (500) TO (1000);
         INSERT INTO whole SELECT n, md5(n::text) FROM generate_series(0, 999) AS n",
    );
    let source = member(server, "tables2");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 7, target, false, |_| {}).await;
    source.release(HoldId(7)).await.expect("released");
    let restore = |names: &[&str]| LoggedRestore {
        job: JobId(590),
        target: Target::Tables(names.iter().map(|name| table(&database, name)).collect()),
        as_of: None,
        databases: BTreeMap::from([(database.clone(), other.clone())]),
        tables: BTreeMap::new(),
        into_existing: true,
        options: RestoreOptions::default(),
        part_size: PART,
        notes: Notes::default(),
        steps: Steps::default(),
    };
    let some = restore(&["public.whole", "public.low"]);
    let refused = restorer(server).begin(&some, &store).await;
    let refused = refused.expect_err("rows would be missing");
    assert!(refused.message.contains("high"), "{refused:?}");
    assert_eq!(hidden(server, 590, &[&other]), "");
    let all = restore(&["public.whole", "public.low", "public.high"]);
    store
        .restore(&restorer(server), &all)
        .await
        .expect("restored");
    assert_eq!(
        sum_of(server, &other, "whole"),
        sum_of(server, &database, "whole")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tables_of_a_schema_go_into_another_schema_and_another_database() {
    let server = Server::shared();
    let database = server.create_database("schema");
    let other = server.create_database("elsewhere");
    server.psql(
        &database,
        "CREATE SCHEMA app; CREATE SCHEMA apple; CREATE TABLE app.a (id serial PRIMARY KEY, v text); INSERT INTO app.a (v) SELECT md5(n::text) FROM generate_series(1, 300) AS n;
         CREATE TABLE app.b (id integer PRIMARY KEY, a integer REFERENCES app.a); INSERT INTO app.b SELECT n, n FROM generate_series(1, 50) AS n;
         CREATE TABLE app.parts (id integer PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE app.low PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
         INSERT INTO app.parts VALUES (1), (2); CREATE TABLE apple.a (id integer PRIMARY KEY); INSERT INTO apple.a VALUES (7)",
    );
    let source = member(server, "tables3");
    let mut store = Store::default();
    let target = || Target::Tables(vec![table(&database, "app.*")]);
    store.backup(&source, 10, target(), false, |_| {}).await;
    server.psql(&database, "CREATE TABLE app.late (id integer PRIMARY KEY, v text); INSERT INTO app.late VALUES (1, 'x'); DELETE FROM app.b WHERE id < 10; INSERT INTO apple.a VALUES (8)");
    store.backup(&source, 10, target(), false, |_| {}).await;
    source.release(HoldId(10)).await.expect("released");
    let names = ["a", "b", "parts", "low", "late"];
    let sums = |database: &str, schema: &str| {
        names.map(|name| sum_of(server, database, &format!("{schema}.{name}")))
    };
    let truth = sums(&database, "app");
    let restore = |job, tables: &[(&str, TableName)], into_existing| LoggedRestore {
        job: JobId(job),
        target: target(),
        as_of: None,
        databases: match into_existing {
            true => BTreeMap::new(),
            false => BTreeMap::from([(database.clone(), format!("{database}_new"))]),
        },
        tables: tables
            .iter()
            .map(|(old, new)| (table(&database, old), new.clone()))
            .collect(),
        into_existing,
        options: RestoreOptions::default(),
        part_size: PART,
        notes: Notes::default(),
        steps: Steps::default(),
    };
    // Beside themselves, one of them under a name of its own.
    let beside = restore(
        610,
        &[
            ("app.*", table(&database, "old.*")),
            ("app.late", table(&database, "old.later")),
        ],
        true,
    );
    let worker = restorer(server);
    store.restore(&worker, &beside).await.expect("restored");
    server.psql(&database, "ALTER TABLE old.later RENAME TO late");
    assert_eq!(sums(&database, "old"), truth);
    // Into another database, as they are.
    let elsewhere = restore(611, &[("app.*", table(&other, "*"))], true);
    store.restore(&worker, &elsewhere).await.expect("restored");
    assert_eq!(sums(&other, "app"), truth);
    // Into a database that is made for them, with nothing of the other schema.
    let made = restore(612, &[], false);
    store.restore(&worker, &made).await.expect("restored");
    let name = format!("{database}_new");
    assert_eq!(sums(&name, "app"), truth);
    let others = "SELECT count(*) FROM pg_namespace WHERE nspname = 'apple'";
    assert_eq!(server.psql(&name, others), "0");
    let odd = restore(613, &[("app.*", table(&database, "one"))], true);
    let refused = worker.begin(&odd, &store).await;
    assert_eq!(
        refused.expect_err("all into one").code,
        holdfast_types::ErrorCode::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_that_point_nowhere_are_refused_or_skipped_and_rights_are_for_roles_that_exist()
 {
    let server = Server::shared();
    let database = server.create_database("lacks");
    let other = server.create_database("lacking");
    let (here, gone) = (format!("{database}_here"), format!("{database}_gone"));
    server.psql(
        &database,
        &format!(
            "CREATE ROLE \"{here}\"; CREATE ROLE \"{gone}\";
             CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers VALUES (1);
             CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers); INSERT INTO orders VALUES (1, 1);
             GRANT SELECT ON orders, customers TO \"{here}\"; GRANT SELECT ON orders, customers TO \"{gone}\""
        ),
    );
    let source = member(server, "tables5");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 11, target, false, |_| {}).await;
    source.release(HoldId(11)).await.expect("released");
    server.psql(
        &database,
        &format!("REVOKE ALL ON orders, customers FROM \"{gone}\"; DROP ROLE \"{gone}\""),
    );
    let orders = |job: u64, into: &str, skip_missing_foreign_keys: bool| LoggedRestore {
        job: JobId(job),
        target: Target::Tables(vec![table(&database, "public.orders")]),
        as_of: None,
        databases: BTreeMap::from([(database.clone(), into.to_owned())]),
        tables: BTreeMap::new(),
        into_existing: true,
        options: RestoreOptions {
            skip_missing_foreign_keys,
            ..RestoreOptions::default()
        },
        part_size: PART,
        notes: Notes::default(),
        steps: Steps::default(),
    };
    let fault = store
        .restore(&restorer(server), &orders(620, &other, false))
        .await;
    let fault = fault.expect_err("its customers are missing");
    let hint = fault.hint.clone().unwrap_or_default();
    assert!(hint.contains("skip_missing_foreign_keys"), "{fault} {hint}");
    restorer(server)
        .discard(JobId(620))
        .await
        .expect("discarded");
    let facts = |database: &str, table: &str| {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'f'),
             (SELECT string_agg(DISTINCT grantee, ',') FROM information_schema.role_table_grants WHERE table_name = '{table}' AND grantee <> grantor)"
        );
        server.psql(database, &sql)
    };
    let skipping = orders(621, &other, true);
    store
        .restore(&restorer(server), &skipping)
        .await
        .expect("restored");
    assert_eq!(facts(&other, "orders"), format!("1|0|{here}"));
    let notes = skipping.notes.take();
    let has = |sign: &str| notes.iter().any(|note| note.contains(sign));
    assert!(
        has("foreign key orders_customer_fkey of") && has("neither is restored nor exists"),
        "{notes:?}"
    );
    assert!(
        has(&format!(
            "rights: those of roles that do not exist are left out: {gone}"
        )),
        "{notes:?}"
    );
    for (job, grants, expected) in [
        (622, true, format!("1|1|{here}")),
        (623, false, "1|1|".to_owned()),
    ] {
        let name = format!("{database}_{job}");
        let whole = LoggedRestore {
            target: Target::Databases(vec![database.clone()]),
            into_existing: false,
            options: RestoreOptions {
                grants,
                ..RestoreOptions::default()
            },
            ..orders(job, &name, false)
        };
        store
            .restore(&restorer(server), &whole)
            .await
            .expect("restored");
        assert_eq!(facts(&name, "orders"), expected);
    }
}
