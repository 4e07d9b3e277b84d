//! Targets that stand for the tables of a schema, now and later.

use holdfast_postgres_testing::Server;
use holdfast_source::{LoggedBackup, LoggedSource};
use holdfast_types::{ErrorCode, TableName, Target};

use crate::support::{Job, State};

fn table(database: &str, table: &str) -> TableName {
    TableName {
        database: database.to_owned(),
        table: table.to_owned(),
    }
}

/// The truth of a schema.
async fn truth_of(job: &Job, database: &str, schema: &str) -> State {
    let mut truth = job.truth(database).await;
    let prefix = format!("{database}.{schema}.");
    truth.retain(|name, _| name.starts_with(&prefix));
    truth
}

#[tokio::test]
async fn a_schema_is_covered_with_tables_that_come_later() {
    let server = Server::shared();
    let database = server.create_database("patterns");
    server.psql(
        &database,
        "CREATE SCHEMA a; CREATE SCHEMA ab; CREATE TABLE a.t (id int PRIMARY KEY, v text); CREATE TABLE ab.t (LIKE a.t INCLUDING ALL);
         CREATE TABLE a.loose (v int); CREATE TABLE public.t (LIKE a.t INCLUDING ALL);
         INSERT INTO a.t SELECT i, md5(i::text) FROM generate_series(1, 500) i; INSERT INTO ab.t SELECT * FROM a.t; INSERT INTO a.loose VALUES (1)",
    );
    let mut job = Job::new(server, &database, 30);
    job.target = Target::Tables(vec![table(&database, "a.*")]);
    job.run(false).await.expect("a full");
    assert!(job.content().await == truth_of(&job, &database, "a").await);
    for (number, history) in [(1, false), (2, true)] {
        server.psql(
            &database,
            &format!(
                "CREATE TABLE a.later_{number} (id int PRIMARY KEY); INSERT INTO a.later_{number} VALUES (1), (2);
                 CREATE TABLE ab.later_{number} (id int PRIMARY KEY); UPDATE a.t SET v = v || '{number}' WHERE id % 7 = {number}; DELETE FROM ab.t WHERE id < 100"
            ),
        );
        job.run(history).await.expect("an incremental");
        assert!(job.content().await == truth_of(&job, &database, "a").await);
        // What came with the layer before goes on by its changes.
        server.psql(
            &database,
            &format!("INSERT INTO a.later_{number} VALUES (3)"),
        );
    }
    server.psql(&database, "DROP TABLE a.later_1");
    job.run(false).await.expect("an incremental");
    let content = job.content().await;
    let names: Vec<&str> = content.keys().map(String::as_str).collect();
    let expected = ["a.later_2", "a.loose", "a.t"].map(|name| format!("{database}.{name}"));
    assert_eq!(names, expected);
    assert!(content == truth_of(&job, &database, "a").await);
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn what_stands_for_nothing_is_refused_unless_it_is_a_whole_database() {
    let server = Server::shared();
    let database = server.create_database("nothing");
    server.psql(&database, "CREATE TABLE t (id int PRIMARY KEY)");
    let mut job = Job::new(server, &database, 31);
    for name in ["public.u", "publik.*", "t"] {
        job.target = Target::Tables(vec![table(&database, "public.t"), table(&database, name)]);
        let fault = job.member.begin(&job.backup(false)).await;
        let fault = fault.expect_err(name);
        assert_eq!(fault.code, ErrorCode::NotFound, "{fault}");
        assert!(fault.message.contains(name), "{fault}");
    }
    server.psql(&database, "DROP TABLE t");
    job.target = Target::Tables(vec![table(&database, "*")]);
    job.run(false).await.expect("an empty database");
    server.psql(&database, "CREATE TABLE t (id int PRIMARY KEY)");
    job.run(false).await.expect("an incremental");
    assert_eq!(job.content().await.len(), 1);
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn a_member_of_several_plans_what_it_has_of_what_is_named() {
    let server = Server::shared();
    let database = server.create_database("partial");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE loose (id int); INSERT INTO t VALUES (1); INSERT INTO loose VALUES (1)",
    );
    let mut job = Job::new(server, &database, 32);
    let elsewhere = format!("{database}_elsewhere");
    let tables = |names: &[(&str, &str)]| {
        Target::Tables(
            names
                .iter()
                .map(|(database, name)| table(database, name))
                .collect(),
        )
    };
    let cases = [
        (Target::Databases(vec![elsewhere.clone()]), vec![]),
        (
            tables(&[
                (&elsewhere, "public.t"),
                (&database, "public.u"),
                (&database, "publik.*"),
            ]),
            vec![],
        ),
        (
            tables(&[
                (&elsewhere, "public.*"),
                (&database, "public.u"),
                (&database, "public.loose"),
                (&database, "public.*"),
            ]),
            vec!["public.loose", "public.t", ""],
        ),
        (
            tables(&[(&database, "*"), (&database, "nowhere.*")]),
            vec!["public.t", ""],
        ),
        (
            Target::Databases(vec![elsewhere.clone(), database.clone()]),
            vec!["public.t", ""],
        ),
    ];
    for (target, expected) in cases {
        job.target = target;
        let backup = LoggedBackup {
            partial: true,
            ..job.backup(false)
        };
        let planned = job.member.begin(&backup).await.expect("a plan");
        let mut names: Vec<&str> = planned
            .iter()
            .map(|it| it.relation.name.table.as_str())
            .collect();
        names.sort_by_key(|name| (name.is_empty(), *name));
        assert_eq!(names, expected, "{}", job.target);
        job.member.release(job.hold).await.expect("released");
    }
    // What only tells that a name is there does no harm to what is settled.
    job.partial = true;
    job.target = tables(&[
        (&elsewhere, "public.t"),
        (&database, "public.loose"),
        (&database, "public.t"),
    ]);
    job.run(false).await.expect("a full");
    server.psql(
        &database,
        "INSERT INTO t VALUES (2); INSERT INTO loose VALUES (2)",
    );
    job.run(false).await.expect("an incremental");
    let content = job.content().await;
    assert_eq!(
        content.values().map(|rows| rows.len()).collect::<Vec<_>>(),
        [2, 2]
    );
    job.member.release(job.hold).await.expect("released");
}
