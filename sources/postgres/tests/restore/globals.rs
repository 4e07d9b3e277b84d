//! Roles, memberships, tablespaces.

use crate::support::session;
use holdfast_postgres::globals::Globals;
use holdfast_postgres_testing::{Options, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_memberships_and_tablespaces_come_back() {
    let old = Server::start(Options::default());
    let new = Server::start(Options::default());
    old.psql(
        "postgres",
        "SET allow_in_place_tablespaces = on;
             CREATE ROLE \"Gr\"\"oup\" NOLOGIN; CREATE ROLE app LOGIN CREATEDB CONNECTION LIMIT 7 PASSWORD 'secret' VALID UNTIL '2040-01-01 00:00Z';
             GRANT \"Gr\"\"oup\" TO app WITH ADMIN OPTION; GRANT pg_monitor TO app;
             ALTER ROLE app SET search_path = \"$user\", \"odd, schema\"; ALTER ROLE app SET work_mem = '7MB';
             COMMENT ON ROLE app IS 'the app''s';
             CREATE TABLESPACE fast OWNER app LOCATION '' WITH (random_page_cost = 1.5);
             GRANT CREATE ON TABLESPACE fast TO \"Gr\"\"oup\"; COMMENT ON TABLESPACE fast IS 'quick'",
    );
    let mut globals = Globals::capture(&session(&old, "postgres").await)
        .await
        .expect("globals");
    assert!(globals.passwords);
    assert!(!format!("{globals:?}").contains("SCRAM"));
    // A directory cannot be shared by two servers: as in-place tablespace it has none.
    globals
        .tablespaces
        .iter_mut()
        .for_each(|t| t.location = String::new());
    let target = session(&new, "postgres").await;
    target
        .execute("SET allow_in_place_tablespaces = on")
        .await
        .expect("set");
    for statement in globals.statements(&["postgres".to_owned()].into(), &[].into(), 15) {
        assert!(!statement.name.contains("SCRAM"));
        target.execute(&statement.sql).await.expect(&statement.name);
    }
    let mut again = Globals::capture(&target).await.expect("globals");
    again
        .tablespaces
        .iter_mut()
        .for_each(|t| t.location = String::new());
    assert_eq!(again, globals);
    let known = globals.roles.iter().map(|role| role.name.clone()).collect();
    let spaces = ["fast".to_owned()].into();
    assert_eq!(globals.statements(&known, &spaces, 15), Vec::new());
}
