//! What a member says of itself before it is backed up.

use holdfast_postgres::member::{Limits, PostgresMember};
use holdfast_postgres_testing::Server;
use holdfast_source::{CheckLevel, LoggedSource, MemberCheck};

use crate::support::Job;

const EVERYTHING: &str = include_str!("../fixtures/every_object_kind.sql");

fn said<'a>(check: &'a MemberCheck, object: &str) -> Vec<(CheckLevel, &'a str)> {
    let of = check.findings.iter().filter(|it| it.object == object);
    of.map(|it| (it.level, it.what.as_str())).collect()
}

#[tokio::test]
async fn every_relation_is_named_with_what_is_done_about_it() {
    let server = Server::shared();
    for role in ["hf_owner", "hf_reader", "\"hf Odd\"\"Role\""] {
        let _ = server.try_psql("postgres", &format!("CREATE ROLE {role}"));
    }
    let database = server.create_database("checked");
    server.psql(&database, EVERYTHING);
    let other = server.create_database("checked_too");
    server.psql(
        &other,
        "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE keyless (v int); CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
    );
    let job = Job::new(server, &other, 70);
    job.member.begin(&job.backup(false)).await.expect("begun");
    let check = job.member.check().await.expect("a check");
    assert!(
        check.server.starts_with("PostgreSQL 15."),
        "{}",
        check.server
    );
    assert!(check.server.ends_with("log mode"), "{}", check.server);
    assert!(check.mode.contains("incrementals"), "{}", check.mode);
    assert_eq!(check.blocking().count(), 0, "{check:#?}");
    let table = |name: &str| said(&check, &format!("{other}.public.{name}"));
    assert_eq!(table("keyed")[0].0, CheckLevel::Fine);
    assert_eq!(table("keyless")[0].0, CheckLevel::Handled);
    assert!(table("keyless")[0].1.contains("no primary key"));
    assert!(table("unlogged")[0].1.contains("unlogged"));
    assert_eq!(said(&check, "pg_dump")[0].0, CheckLevel::Fine);
    let keyless = format!("{other}.public.keyless");
    let remedy = check.findings.iter().find(|it| it.object == keyless);
    let remedy = remedy
        .and_then(|it| it.remedy.as_deref())
        .expect("a remedy");
    assert!(remedy.contains("ADD PRIMARY KEY"), "{remedy}");
    let every = server.psql(
        &database,
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema)'",
    );
    // Odd names are shown with their odd characters escaped.
    let is_plain = |name: &&str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
    };
    for name in every.lines().filter(is_plain) {
        assert!(
            !said(&check, &format!("{database}.{name}")).is_empty(),
            "{name}"
        );
    }
    let mut holds = check.holds.iter();
    let hold = holds.find(|hold| hold.database == other).expect("the hold");
    assert!(
        !hold.active && hold.wal_retained_bytes < 1 << 30,
        "{hold:?}"
    );
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn a_missing_pg_dump_blocks() {
    // Version 18's programs are in the build directory alone, which nobody finds by himself.
    let server = Server::start_alike(holdfast_postgres_testing::Options::of(
        holdfast_postgres_testing::Version::V18,
    ));
    let dsn = server.dsn("postgres").parse().expect("a connection string");
    let env = holdfast_env::Env::system();
    let member = PostgresMember::new(env, dsn, "test", "/nowhere", Limits::default());
    let check = member.expect("a member").check().await.expect("a check");
    let found = check.blocking().next().expect("pg_dump is too old");
    assert_eq!(found.object, "pg_dump");
    assert!(
        found
            .remedy
            .as_deref()
            .is_some_and(|it| it.contains("postgresql-client-18"))
    );
}
