//! Into a newer major version.

use crate::support::{Backup, Watch, contents, make_everything, restore_of, run, schema_text};
use holdfast_postgres::globals::Globals;
use holdfast_postgres_testing::{Options, Server, Version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_15_comes_back_on_18() {
    let old = Server::shared();
    let new = Server::start(Options::of(Version::V18));
    let database = make_everything(old);
    let backup = Backup::take(old, &database).await;
    let globals = Globals::capture(&crate::support::session(old, "postgres").await)
        .await
        .expect("globals");
    let session = crate::support::session(&new, "postgres").await;
    for statement in globals.statements(&["postgres".to_owned()].into(), &[].into(), 18) {
        session
            .execute(&statement.sql)
            .await
            .expect(&statement.name);
    }
    let watch = Watch::default();
    run(&backup, &restore_of(&new, &backup, 1, &database), &watch)
        .await
        .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    assert_eq!(contents(old, &database), contents(&new, &database));
    // The new server prints views and not-null constraints in its own way: what psql makes of the old schema is the measure.
    let tools = holdfast_postgres_testing::client_tools_18();
    let reference = new.create_database("reference");
    new.psql(
        "postgres",
        &format!("ALTER DATABASE {reference} SET timezone = 'Asia/Tokyo'"),
    );
    new.psql(&reference, &schema_text(old, &database, None, false));
    assert_eq!(
        schema_text(&new, &reference, Some(&tools), false),
        schema_text(&new, &database, Some(&tools), false)
    );
}
