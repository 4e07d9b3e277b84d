//! Dry runs: what they say is what a restore says, and nothing is made by either.

use holdfast_postgres_testing::{Options, Server};
use holdfast_source::{CheckLevel, LoggedRestore, LoggedSource, MemberCheck, Notes};
use holdfast_types::{Hlc, HoldId, JobId, Position, RestoreOptions, TableName, Target, Timestamp};
use std::collections::BTreeMap;

use crate::store::Store;
use crate::{PART, contents, member, renamed, restorer};

fn table(database: &str, table: &str) -> TableName {
    TableName {
        database: database.to_owned(),
        table: table.to_owned(),
    }
}

fn blocking(check: &MemberCheck) -> Vec<String> {
    let first_fine = check.findings.iter();
    let first_fine = first_fine
        .skip_while(|it| it.level == CheckLevel::Blocks)
        .collect::<Vec<_>>();
    let is_mixed = first_fine.iter().any(|it| it.level == CheckLevel::Blocks);
    assert!(!is_mixed, "what stands in the way comes first: {check:#?}");
    for finding in check.blocking() {
        assert!(
            finding.remedy.as_ref().is_some_and(|it| !it.is_empty()),
            "{finding:?}"
        );
    }
    check.blocking().map(|it| it.object.clone()).collect()
}

/// Everything that a restore can make on a server.
fn everything(server: &Server, databases: &[&str]) -> String {
    let mut text = server.psql(
        "postgres",
        "SELECT string_agg(datname, ',' ORDER BY datname) FILTER (WHERE datname LIKE 'holdfast%' OR datname LIKE '%survey%'),
             (SELECT string_agg(rolname, ',' ORDER BY rolname) FILTER (WHERE rolname LIKE '%survey%') FROM pg_roles) FROM pg_database",
    );
    for database in databases {
        text += &server.psql(
            database,
            "SELECT string_agg(nspname, ',' ORDER BY 1) FROM pg_namespace WHERE nspname !~ '^pg_t'; SELECT string_agg(relname, ',' ORDER BY 1)
                 FROM pg_class WHERE oid >= 16384",
        );
    }
    text
}

/// Looks, begins, and compares: both refuse the same, and nothing is made.
async fn refused(
    server: &Server,
    store: &Store,
    restore: &LoggedRestore,
    databases: &[&str],
    expected: &[&str],
) {
    let before = everything(server, databases);
    let worker = restorer(server);
    let check = worker.check(restore, store).await.expect("looked at");
    let objects = blocking(&check);
    assert_eq!(objects.len(), expected.len(), "{objects:?}");
    let fault = worker.begin(restore, store).await.expect_err("refused");
    for (object, expected) in objects.iter().zip(expected) {
        assert!(object.ends_with(expected), "{objects:?}: {expected}");
        let own = check.blocking().find(|it| it.object == *object);
        let what = &own.expect("listed").what;
        assert!(fault.message.contains(what.as_str()), "{what}: {fault}");
    }
    assert!(fault.hint.is_some(), "{fault:?}");
    assert_eq!(everything(server, databases), before);
}

const SHOP: &str = "CREATE EXTENSION citext; CREATE SCHEMA app; CREATE SCHEMA kinds; CREATE TYPE kinds.colour AS ENUM ('red', 'blue');
    CREATE TABLE app.customers (id int PRIMARY KEY, name citext); INSERT INTO app.customers VALUES (1, 'A');
    CREATE TABLE app.orders (id serial PRIMARY KEY, customer int REFERENCES app.customers, colour kinds.colour); INSERT INTO app.orders (customer, colour) VALUES (1, 'red');
    CREATE TABLE app.days (day int PRIMARY KEY) PARTITION BY RANGE (day); CREATE TABLE app.early PARTITION OF app.days FOR VALUES FROM (0) TO (10);
    CREATE TABLE app.late PARTITION OF app.days FOR VALUES FROM (10) TO (20); INSERT INTO app.days VALUES (1), (11)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_refuses_what_a_restore_refuses_and_both_make_nothing() {
    let server = Server::shared();
    let database = server.create_database("survey");
    let other = server.create_database("survey_other");
    server.psql(&database, SHOP);
    let source = member(server, "survey1");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 30, target, false, |_| {}).await;
    source.release(HoldId(30)).await.expect("released");
    let tables = |names: &[&str], into: &str, options: RestoreOptions| LoggedRestore {
        job: JobId(3000),
        target: Target::Tables(names.iter().map(|name| table(&database, name)).collect()),
        as_of: None,
        databases: BTreeMap::from([(database.clone(), into.to_owned())]),
        tables: BTreeMap::new(),
        into_existing: true,
        options,
        part_size: PART,
        notes: Notes::default(),
        steps: holdfast_source::Steps::default(),
    };
    let plain = RestoreOptions::default();
    let places = [database.as_str(), other.as_str()];
    let check = async |restore: &LoggedRestore, expected: &[&str]| {
        refused(server, &store, restore, &places, expected).await;
    };
    // Whole databases.
    let taken = format!("database {other}");
    check(&renamed(3000, &database, &other, None), &[&taken]).await;
    let early = Position::Hlc(Hlc::at(Timestamp::from_micros(1)));
    let past = renamed(3000, &database, "survey_new", Some(early));
    check(&past, &["the backup"]).await;
    check(
        &renamed(3000, "survey_none", "survey_new", None),
        &["the backup"],
    )
    .await;
    // Tables: a name that is taken, one that two of them get, and what is missing there.
    check(
        &tables(&["app.customers"], &database, plain),
        &["table app.customers"],
    )
    .await;
    let mut both = tables(&["app.customers", "app.orders"], &other, plain);
    let one = || table(&database, "x.one");
    both.tables = BTreeMap::from([
        (table(&database, "app.customers"), one()),
        (table(&database, "app.orders"), one()),
    ]);
    check(&both, &["table x.one"]).await;
    let nowhere = format!("database {database}_gone");
    check(
        &tables(&["app.orders"], &format!("{database}_gone"), plain),
        &[&nowhere],
    )
    .await;
    let orders = tables(&["app.orders", "app.days", "app.early"], &other, plain);
    let lacking = [
        "extension citext",
        "type kinds.colour",
        "foreign key app.orders orders_customer_fkey",
        "table app.late",
    ];
    check(&orders, &lacking).await;
    // Each remedy takes its own away, and in the end the restore does what the dry run says.
    let skipping = RestoreOptions {
        skip_missing_foreign_keys: true,
        ..plain
    };
    let all = ["app.orders", "app.days", "app.early", "app.late"];
    let orders = tables(&all, &other, skipping);
    check(&orders, &["extension citext", "type kinds.colour"]).await;
    server.psql(
        &other,
        "CREATE EXTENSION citext; CREATE SCHEMA kinds; CREATE TYPE kinds.colour AS ENUM ('red', 'blue')",
    );
    let worker = restorer(server);
    let before = everything(server, &places);
    let found = worker.check(&orders, &store).await.expect("looked at");
    assert_eq!(blocking(&found), Vec::<String>::new());
    let said = |object: &str| {
        let finding = found.findings.iter().find(|it| it.object.ends_with(object));
        finding.map(|it| (it.level, it.what.clone())).expect(object)
    };
    assert_eq!(said(": table app.orders").0, CheckLevel::Fine);
    let (level, what) = said("orders_customer_fkey");
    assert!(
        level == CheckLevel::Handled && what.contains("left out"),
        "{what}"
    );
    let (level, what) = said("type kinds.colour");
    assert!(
        level == CheckLevel::Handled && what.contains("is there is used"),
        "{what}"
    );
    assert!(
        !found
            .findings
            .iter()
            .any(|it| it.object.contains("customers")),
        "not restored: {:#?}",
        found.findings
    );
    assert!(found.mode.contains("4 tables"), "{}", found.mode);
    assert_eq!(everything(server, &places), before);
    store.restore(&worker, &orders).await.expect("restored");
    assert_eq!(
        server.psql(
            &other,
            "SELECT (SELECT count(*) FROM app.days), (SELECT count(*) FROM app.orders)"
        ),
        "2|1"
    );
    // A dry run of another restore is not taken for this one, nor this one's plan for it.
    let fine = renamed(0, &database, &format!("{database}_a"), None);
    let found = worker.check(&fine, &store).await.expect("looked at");
    assert!(found.findings[0].object.ends_with("_a"), "{found:#?}");
    let fine = renamed(0, &database, &format!("{database}_b"), None);
    let found = worker.check(&fine, &store).await.expect("looked at");
    assert!(found.findings[0].object.ends_with("_b"), "{found:#?}");
    assert!(
        found.mode.contains("1 database would be made"),
        "{}",
        found.mode
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_source_says_what_to_do_about_a_database_that_every_server_has() {
    let old = Server::start(Options::default());
    let directory = format!("/tmp/holdfast_survey_{}", std::process::id());
    old.psql(
        "postgres",
        &format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir {directory}'"),
    );
    old.psql("postgres", "CREATE ROLE survey_app LOGIN PASSWORD 'x'; CREATE TABLE here (id int PRIMARY KEY); INSERT INTO here VALUES (1)");
    old.psql(
        "postgres",
        &format!("CREATE TABLESPACE fast OWNER survey_app LOCATION '{directory}'"),
    );
    old.psql("postgres", "CREATE DATABASE survey_shop OWNER survey_app");
    old.psql("survey_shop", "CREATE TABLE t (id int PRIMARY KEY) TABLESPACE fast; INSERT INTO t SELECT generate_series(1, 50); ALTER TABLE t OWNER TO survey_app");
    let source = member(&old, "survey2");
    let mut store = Store::default();
    store
        .backup(&source, 31, Target::Source, false, |_| {})
        .await;
    source.release(HoldId(31)).await.expect("released");
    let restore = |target: Target| LoggedRestore {
        target,
        databases: BTreeMap::new(),
        ..renamed(3100, "", "", None)
    };
    let new = Server::start(Options::default());
    let whole = restore(Target::Source);
    refused(&new, &store, &whole, &[], &["database postgres"]).await;
    let worker = restorer(&new);
    let found = worker.check(&whole, &store).await.expect("looked at");
    let finding = found.blocking().next().expect("one");
    let remedy = finding.remedy.clone().unwrap_or_default();
    assert!(
        remedy.contains("--database postgres --new-db-name"),
        "{remedy}"
    );
    let level = |object: &str| {
        let finding = found.findings.iter().find(|it| it.object == object);
        finding.map(|it| it.level)
    };
    assert_eq!(level("role survey_app"), Some(CheckLevel::Fine));
    assert_eq!(level("role postgres"), Some(CheckLevel::Handled));
    assert_eq!(level("tablespace fast"), Some(CheckLevel::Handled));
    assert_eq!(level("database survey_shop"), Some(CheckLevel::Fine));
    // What it says to do can be done.
    let named = renamed(3101, "postgres", "was_postgres", None);
    store.restore(&worker, &named).await.expect("restored");
    assert_eq!(new.psql("was_postgres", "SELECT count(*) FROM here"), "1");

    // Without anything in it the database is passed over; the tablespace that comes along holds what it held.
    old.psql("postgres", "DROP TABLE here");
    let mut store = Store::default();
    store
        .backup(&source, 32, Target::Source, false, |_| {})
        .await;
    source.release(HoldId(32)).await.expect("released");
    let truth = contents(&old, "survey_shop");
    old.psql("postgres", "DROP DATABASE survey_shop");
    old.psql("postgres", "DROP TABLESPACE fast");
    store
        .restore(
            &worker,
            &LoggedRestore {
                job: JobId(3102),
                ..whole
            },
        )
        .await
        .expect("restored");
    assert_eq!(contents(&new, "survey_shop"), truth);
    assert_eq!(
        new.psql("survey_shop", "SELECT spcname FROM pg_class AS c JOIN pg_tablespace AS s ON s.oid = reltablespace WHERE relname = 't'"),
        "fast"
    );
    drop(new);
    let _ = old.try_psql(
        "postgres",
        &format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm -r {directory}'"),
    );
}
