//! Into a newer major version.

use crate::support::{
    Backup, Watch, contents, make_everything, restore_of, run, schema_text, sums,
};
use holdfast_postgres::globals::Globals;
use holdfast_postgres_testing::{Options, Server, Version};
use holdfast_types::ErrorCode;
use std::sync::OnceLock;

fn newest() -> &'static Server {
    static NEWEST: OnceLock<Server> = OnceLock::new();
    NEWEST.get_or_init(|| Server::start_alike(Options::of(Version::V18)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_15_comes_back_on_18() {
    let old = Server::shared();
    let new = newest();
    let database = make_everything(old);
    let backup = Backup::take(old, &database).await;
    let globals = Globals::capture(&crate::support::session(old, "postgres").await)
        .await
        .expect("globals");
    let session = crate::support::session(new, "postgres").await;
    for statement in globals.statements(&["postgres".to_owned()].into(), &[].into(), 18) {
        // The test beside this one makes some of the roles too.
        match session.execute(&statement.sql).await {
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {}
            outcome => outcome.expect(&statement.name),
        }
    }
    let name = format!("{database}_from_15");
    let watch = Watch::default();
    run(&backup, &restore_of(new, &backup, 1, &name), &watch)
        .await
        .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    assert_eq!(contents(old, &database), contents(new, &name));
    // The new server prints views and not-null constraints in its own way: what psql makes of the old schema is the measure.
    let tools = holdfast_postgres_testing::client_tools_18();
    let reference = new.create_database("reference");
    new.psql(
        "postgres",
        &format!("ALTER DATABASE {reference} SET timezone = 'Asia/Tokyo'"),
    );
    new.psql(&reference, &schema_text(old, &database, None, false));
    assert_eq!(
        schema_text(new, &reference, Some(&tools), false),
        schema_text(new, &name, Some(&tools), false)
    );
}

/// What 18 has and 15 had not, in an archive of the newest format.
const NEW_THINGS: &str = "
    CREATE TABLE app.virtual (id integer PRIMARY KEY, half integer GENERATED ALWAYS AS (id / 2) VIRTUAL, s text UNIQUE NULLS NOT DISTINCT);
    INSERT INTO app.virtual VALUES (1, DEFAULT, NULL), (8, DEFAULT, 'x');
    CREATE TABLE app.periods (room integer, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS));
    INSERT INTO app.periods VALUES (1, '[2024-01-01, 2024-02-01)'), (1, '[2024-02-01, 2024-03-01)');
    CREATE TABLE app.lenient (id integer CONSTRAINT unchecked CHECK (app.even(id)) NOT ENFORCED, p integer REFERENCES app.virtual NOT ENFORCED,
        q integer, CONSTRAINT \"odd \"\" null\" NOT NULL id);
    INSERT INTO app.lenient VALUES (1, 77, NULL);
    ALTER TABLE app.lenient ADD CONSTRAINT later NOT NULL q NOT VALID;
    CREATE TABLE app.split (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE app.split_a PARTITION OF app.split FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    ALTER TABLE app.split ADD CONSTRAINT split_virtual FOREIGN KEY (id) REFERENCES app.virtual NOT VALID;
    CREATE PUBLICATION in_schema FOR TABLES IN SCHEMA far, TABLE app.hen WHERE (id > 0);
    CREATE PUBLICATION of_columns FOR TABLE app.tree (id) WITH (publish_generated_columns = stored);
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_18_comes_back_on_18() {
    let server = newest();
    let database = make_everything(server);
    server.psql(
        &database,
        &format!(
            "ALTER EVENT TRIGGER no_ddl DISABLE; {NEW_THINGS} ALTER EVENT TRIGGER no_ddl ENABLE"
        ),
    );
    let backup = Backup::take(server, &database).await;
    let name = format!("{database}_again");
    let watch = Watch::default();
    run(&backup, &restore_of(server, &backup, 2, &name), &watch)
        .await
        .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    let tools = holdfast_postgres_testing::client_tools_18();
    assert_eq!(
        schema_text(server, &database, Some(&tools), false),
        schema_text(server, &name, Some(&tools), false)
    );
    assert_eq!(contents(server, &database), contents(server, &name));
    assert_eq!(
        sums(server, &database, &backup).await,
        sums(server, &name, &backup).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_14_comes_back_on_14_by_a_newer_pg_dump() {
    let server = Server::start(Options::of(Version::V14));
    let database = make_everything(&server);
    let backup = Backup::take(&server, &database).await;
    let name = format!("{database}_again");
    let watch = Watch::default();
    run(&backup, &restore_of(&server, &backup, 3, &name), &watch)
        .await
        .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    let tools = Server::shared().binaries();
    assert_eq!(
        schema_text(&server, &database, Some(tools), false),
        schema_text(&server, &name, Some(tools), false)
    );
    assert_eq!(contents(&server, &database), contents(&server, &name));
}
