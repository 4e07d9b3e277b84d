//! Into a newer major version.

use holdfast_postgres::member::Rooms;
use holdfast_postgres::member::restore::Restorer;
use holdfast_postgres_testing::{Options, Server, Version, client_tools_18};
use holdfast_types::{HoldId, Target};

use crate::chains::make_everything;
use crate::store::Store;
use crate::{contents, member, renamed, schema_by, scratch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_object_goes_from_15_to_18() {
    let old = Server::shared();
    let new = Server::start_alike(Options::of(Version::V18));
    let database = make_everything(old);
    let source = member(old, "newer1");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 8, target, false, |_| {}).await;
    holdfast_source::LoggedSource::release(&source, HoldId(8))
        .await
        .expect("released");
    for role in ["hf_owner", "hf_reader", "\"hf Odd\"\"Role\""] {
        new.psql("postgres", &format!("CREATE ROLE {role}"));
    }
    let name = format!("{database}_newer");
    let env = holdfast_env::Env::system();
    let tools = client_tools_18();
    let restorer = Restorer::new(
        env.clone(),
        new.dsn("postgres").parse().expect("a connection string"),
        Rooms::new(env, scratch()),
    )
    .with_tools(Some(tools.to_str().expect("UTF-8").to_owned()));
    store
        .restore(&restorer, &renamed(600, &database, &name, None))
        .await
        .expect("restored");
    assert_eq!(contents(old, &database), contents(&new, &name));
    // The new server prints some definitions in its own way: what psql makes of the old schema there is the measure.
    let reference = new.create_database("reference");
    new.psql(&reference, &crate::schema_of(old, &database));
    assert_eq!(
        schema_by(&tools, &new, &reference),
        schema_by(&tools, &new, &name)
    );
}
