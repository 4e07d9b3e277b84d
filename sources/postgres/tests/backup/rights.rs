//! Roles that are not superusers, and rows that are hidden from them.

use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{ErrorCode, Fault, Target};

use crate::support::{Job, limits};

const TABLES: &str = "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, v text); INSERT INTO app.t SELECT i, md5(i::text) FROM generate_series(1, 300) i;
    CREATE TABLE app.loose (v int); INSERT INTO app.loose SELECT generate_series(1, 50)";

fn as_role(server: &'static Server, role: &str, database: &str, hold: u64) -> Job {
    Job::over(
        server,
        &server.dsn_as(role, database),
        database,
        hold,
        limits(),
    )
}

async fn refused(job: &Job) -> Fault {
    let begun = job.member.begin(&job.backup(false)).await;
    let fault = begun.expect_err("refused");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    fault
}

/// Does what the refusal says.
async fn mend(server: &Server, database: &str, job: &Job) -> String {
    let fault = refused(job).await;
    let hint = fault.hint.clone().expect("a statement");
    server.psql(database, &hint);
    fault.to_string()
}

#[tokio::test]
async fn a_role_without_rights_is_told_the_statements_and_needs_no_more() {
    let server = Server::shared();
    let database = server.create_database("rights");
    server.psql(
        &database,
        &format!("CREATE ROLE hf_plain LOGIN; {TABLES}; REVOKE ALL ON SCHEMA app FROM public"),
    );
    let mut job = as_role(server, "hf_plain", &database, 60);
    let mut said = Vec::new();
    // The schema, and each of two tables.
    for _ in 0..8 {
        if job.member.begin(&job.backup(false)).await.is_ok() {
            break;
        }
        said.push(mend(server, &database, &job).await);
    }
    assert!((2..=4).contains(&said.len()), "{said:?}");
    assert!(said.iter().any(|text| text.contains("app.t")), "{said:?}");
    // It may not make slots: one snapshot it is.
    let check = job.member.check().await.expect("a check");
    assert!(check.mode.contains("full backups only"), "{check:?}");
    assert!(check.mode.contains("replication slots"), "{check:?}");
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    // With these it has the log; tables of others are copied whole.
    server.psql(
        &database,
        &format!("ALTER ROLE hf_plain REPLICATION; GRANT CREATE ON DATABASE {database} TO hf_plain; ALTER TABLE app.t OWNER TO hf_plain"),
    );
    job.chain.0.clear();
    job.run(false).await.expect("a full");
    server.psql(
        &database,
        "DELETE FROM app.t WHERE id % 3 = 0; INSERT INTO app.loose VALUES (0)",
    );
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    // A right that is taken away in the middle of a chain.
    server.psql(
        &database,
        "REVOKE ALL ON app.loose FROM hf_plain; REVOKE pg_read_all_data FROM hf_plain",
    );
    let fault = job.run(false).await.expect_err("it may not read it");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    assert!(fault.message.contains("loose"), "{fault}");
    job.member.release(job.hold).await.expect("released");
}

/// What the end of a backup takes is asked for at its beginning: pg_dump locks all tables, also partitioned ones and those that are not covered,
/// and sequences are read.
#[tokio::test]
async fn what_the_end_takes_is_blocked_at_the_beginning() {
    let server = Server::shared();
    let database = server.create_database("late");
    server.psql(
        &database,
        &format!("{TABLES}; CREATE ROLE hf_late LOGIN; GRANT USAGE ON SCHEMA app TO hf_late; GRANT SELECT ON app.t, app.loose TO hf_late;
            CREATE SEQUENCE app.free; CREATE TABLE app.numbered (id serial PRIMARY KEY); GRANT SELECT ON app.numbered TO hf_late;
            CREATE TABLE app.parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE app.leaf PARTITION OF app.parted FOR VALUES FROM (0) TO (9); GRANT SELECT ON app.leaf TO hf_late;
            CREATE SCHEMA hidden; CREATE TABLE hidden.x (id int PRIMARY KEY)"),
    );
    let mut job = as_role(server, "hf_late", &database, 62);
    let everything = job.target.clone();
    let table = |name: &str| holdfast_types::TableName {
        database: database.clone(),
        table: name.to_owned(),
    };
    job.target = Target::Tables(vec![table("app.t"), table("app.numbered")]);
    let mut said = Vec::new();
    for _ in 0..4 {
        let fault = refused(&job).await;
        let hint = fault.hint.clone().expect("a statement");
        // The narrow right, and not the one for all.
        let (narrow, _) = hint.split_once("--").expect("two ways");
        server.psql(&database, narrow);
        said.push(fault.to_string());
    }
    let names = |name: &str| said.iter().any(|text| text.contains(name));
    for name in ["app.parted", "hidden.x", "app.numbered_id_seq"] {
        assert!(names(name), "{said:?}");
    }
    // Sequences of tables that are not covered are nobody's business.
    assert!(!names("app.free"), "{said:?}");
    job.run(false).await.expect("no other right is missing");
    let names = &job.content().await;
    let names: Vec<&str> = names.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            format!("{database}.app.numbered"),
            format!("{database}.app.t")
        ]
    );
    job.target = everything;
    job.chain.0.clear();
    let fault = refused(&job).await;
    assert!(fault.message.contains("app.free"), "{fault}");
    server.psql(&database, "GRANT SELECT ON SEQUENCE app.free TO hf_late");
    job.run(false).await.expect("no other right is missing");
    job.compare(&[&database]).await;
}

#[tokio::test]
async fn rows_that_are_hidden_are_an_error_and_never_missing() {
    let server = Server::shared();
    let database = server.create_database("hidden");
    server.psql(
        &database,
        &format!("CREATE ROLE hf_rls LOGIN; GRANT pg_read_all_data TO hf_rls; {TABLES}; ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON app.t USING (id % 2 = 0)"),
    );
    let mut job = as_role(server, "hf_rls", &database, 61);
    let fault = mend(server, &database, &job).await;
    assert!(fault.contains("row-level security"), "{fault}");
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    assert_eq!(job.content().await[&format!("{database}.app.t")].len(), 300);
    // It is taken away after the beginning: the copy fails, and brings no part of the rows.
    job.chain.0.clear();
    let backup = job.backup(false);
    let relations = job.member.begin(&backup).await.expect("begun");
    server.psql(&database, "ALTER ROLE hf_rls NOBYPASSRLS");
    let layer = crate::store::SharedLayer::default();
    let fault = job.settle_all(&backup, &relations, &layer).await;
    let fault = fault.expect_err("rows are hidden");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    // Not asked for, it is in nobody's way.
    job.target = Target::Tables(vec![holdfast_types::TableName {
        database: database.clone(),
        table: "app.loose".to_owned(),
    }]);
    job.member.begin(&job.backup(false)).await.expect("begun");
}
