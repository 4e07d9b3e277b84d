//! The report before a restore.

use crate::support::{Backup, Watch, make_everything, run_with, session};
use holdfast_env::Env;
use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::globals::Globals;
use holdfast_postgres::restore::{
    DatabaseRestore, Report, RestoreName, Target, TargetFacts, Verdict, Wish,
};
use holdfast_postgres::schema::PlanOptions;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres_testing::{Options, Server};
use holdfast_types::JobId;

fn refusals(report: &Report) -> Vec<String> {
    report
        .refusals()
        .map(|finding| match &finding.verdict {
            Verdict::Refused { why, .. } => format!("{}: {why}", finding.object),
            _ => String::new(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_object_has_a_verdict_and_what_cannot_be_is_said_before() {
    let server = Server::shared();
    let database = make_everything(server);
    server.psql(&database, "CREATE PUBLICATION holdfast_x FOR TABLE app.hen");
    let backup = Backup::take(server, &database).await;
    let options = PlanOptions::default();
    let mut wish = Wish {
        facts: &backup.facts,
        archive: &backup.archive,
        globals: None,
        name: "elsewhere",
        options: &options,
    };
    let here = TargetFacts::read(&session(server, "postgres").await)
        .await
        .expect("facts");
    let report = wish.check(&here);
    assert!(report.is_possible(), "{:?}", refusals(&report));
    assert!(report.findings.len() > 150, "{}", report.findings.len());
    let own = report
        .findings
        .iter()
        .find(|finding| finding.object.contains("holdfast_x"))
        .expect("listed");
    assert!(matches!(own.verdict, Verdict::LeftOut { .. }));
    wish.name = &database;
    assert!(
        refusals(&wish.check(&here))
            .iter()
            .any(|why| why.contains("there is a database of that name"))
    );
    wish.name = "elsewhere";

    let bare = Server::start(Options::default());
    bare.psql("postgres", "CREATE ROLE weak LOGIN");
    let there = TargetFacts::read(&session(&bare, "postgres").await)
        .await
        .expect("facts");
    let report = refusals(&wish.check(&there));
    for expected in [
        "schema app: its owner hf_owner does not exist",
        "database elsewhere: its owner hf_owner does not exist",
        "role hf Odd\\\"Role does not exist",
        "role hf_reader does not exist",
    ] {
        assert!(
            report.iter().any(|why| why.contains(expected)),
            "{expected}: {report:?}"
        );
    }
    let globals = Globals::capture(&session(server, "postgres").await)
        .await
        .expect("globals");
    wish.globals = Some(&globals);
    assert_eq!(refusals(&wish.check(&there)), Vec::<String>::new());

    let dsn: Dsn = bare
        .dsn_as("weak", "postgres")
        .parse()
        .expect("a connection string");
    let weak = Session::connect(&Env::system(), &dsn, Purpose::Control)
        .await
        .expect("connects");
    let mut weak = TargetFacts::read(&weak).await.expect("facts");
    weak.extensions.remove("citext");
    weak.major = 14;
    let report = refusals(&wish.check(&weak));
    for expected in [
        "the role may not create databases",
        "only a superuser may make an event trigger",
        "only a superuser may make a publication of all tables",
        "extension citext: the extension is not installed",
        "extension postgres_fdw: only a superuser",
        "the server is PostgreSQL 14, the backup is of 15",
    ] {
        assert!(
            report.iter().any(|why| why.contains(expected)),
            "{expected}: {report:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_create_databases_restores_what_it_may() {
    let server = Server::start(Options::default());
    server.psql(
        "postgres",
        "CREATE ROLE weak LOGIN CREATEDB; CREATE ROLE other",
    );
    let database = server.create_database("plain");
    server.psql(
        &database,
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE FUNCTION ok(integer) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE TABLE a (id serial PRIMARY KEY, n citext, m mood[], c integer CHECK (ok(c))); CREATE TABLE b (a integer REFERENCES a);
         ALTER TABLE a OWNER TO other; GRANT SELECT ON b TO other; COMMENT ON SCHEMA public IS 'ours';
         INSERT INTO a (n, m, c) SELECT 'N' || g, '{sad}', g FROM generate_series(1, 300) AS g; INSERT INTO b SELECT id FROM a;
         CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM a; CREATE POLICY p ON b TO other USING (true); ALTER TABLE b ENABLE ROW LEVEL SECURITY",
    );
    let backup = Backup::take(&server, &database).await;
    let dsn: Dsn = server
        .dsn_as("weak", "postgres")
        .parse()
        .expect("a connection string");
    let session = Session::connect(&Env::system(), &dsn, Purpose::Control)
        .await
        .expect("connects");
    let facts = TargetFacts::read(&session).await.expect("facts");
    let options = PlanOptions {
        owners: false,
        rights: false,
        ..PlanOptions::default()
    };
    let wish = Wish {
        facts: &backup.facts,
        archive: &backup.archive,
        globals: None,
        name: "weakly",
        options: &options,
    };
    let report = wish.check(&facts);
    assert!(report.is_possible(), "{:?}", refusals(&report));
    let target = Target::new(Env::system(), dsn);
    let name = RestoreName::new(JobId(501), 0);
    let restore = DatabaseRestore::new(target, &name, backup.facts.clone(), "weakly");
    let watch = Watch::default();
    run_with(&backup, &restore, &options, &watch)
        .await
        .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    for table in ["a", "b", "v"] {
        let sum = format!(
            "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t"
        );
        assert_eq!(
            server.psql(&database, &sum),
            server.psql("weakly", &sum),
            "{table}"
        );
    }
    assert_eq!(
        server.psql(
            "weakly",
            "SELECT relowner::regrole FROM pg_class WHERE relname = 'a'"
        ),
        "weak"
    );
}
