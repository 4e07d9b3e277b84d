//! Restores of layers that a member's own backups made.

mod chains;
mod forms;
mod history;
mod killed;
mod labels;
mod newer;
mod noted;
mod options;
mod store;
mod survey;
mod tables;
mod wrap;

use holdfast_env::Env;
use holdfast_postgres::member::restore::Restorer;
use holdfast_postgres::member::{Limits, PostgresMember, Rooms};
use holdfast_postgres_testing::Server;
use holdfast_types::{ByteCount, DatabaseName, JobId, Position, RestoreOptions, Target};
use std::collections::BTreeMap;

/// Small, so that tables have several parts.
const PART: ByteCount = ByteCount(16 << 10);

fn scratch() -> String {
    let directory = tempfile::tempdir().expect("a directory").keep();
    directory.to_str().expect("UTF-8").to_owned()
}

fn member(server: &Server, tag: &str) -> PostgresMember {
    let dsn = server.dsn("postgres").parse().expect("a connection string");
    PostgresMember::new(Env::system(), dsn, tag, scratch(), Limits::default()).expect("a member")
}

fn restorer(server: &Server) -> Restorer {
    let dsn = server.dsn("postgres").parse().expect("a connection string");
    Restorer::new(Env::system(), dsn, Rooms::new(Env::system(), scratch()))
}

/// A restore of a database under another name.
fn renamed(
    job: u64,
    from: &str,
    to: &str,
    as_of: Option<Position>,
) -> holdfast_source::LoggedRestore {
    holdfast_source::LoggedRestore {
        job: JobId(job),
        target: Target::Databases(vec![DatabaseName::from(from)]),
        as_of,
        databases: BTreeMap::from([(from.to_owned(), to.to_owned())]),
        tables: BTreeMap::new(),
        into_existing: false,
        options: RestoreOptions::default(),
        part_size: PART,
        notes: holdfast_source::Notes::default(),
        steps: holdfast_source::Steps::default(),
    }
}

/// What every table, sequence, materialized view and large object holds, by PostgreSQL's own text output.
fn contents(server: &Server, database: &str) -> String {
    let mut text = rows_of(server, database);
    text += &server.psql(
        database,
        "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2;
         SELECT m.oid, lomowner::regrole, lomacl, md5(lo_get(m.oid)), length(lo_get(m.oid))
             FROM pg_largeobject_metadata AS m ORDER BY m.oid;
         SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1",
    );
    text
}

/// What every table holds.
fn rows_of(server: &Server, database: &str) -> String {
    let list = server.psql(
        database,
        "SELECT string_agg(format('SELECT %L, count(*), md5(string_agg(t::text, ''|'' ORDER BY t::text COLLATE \"C\")) FROM ONLY %I.%I AS t',
             n.nspname || '.' || c.relname, n.nspname, c.relname), ' UNION ALL ' ORDER BY n.nspname, c.relname)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND n.nspname !~ '^(pg_|information_schema)'",
    );
    server.psql(database, &format!("{list} ORDER BY 1"))
}

/// The schema as pg_dump prints it, without the random line that keeps psql from obeying names.
fn schema_of(server: &Server, database: &str) -> String {
    schema_by(server.binaries(), server, database)
}

/// The schema as the pg_dump of a directory prints it.
fn schema_by(tools: &std::path::Path, server: &Server, database: &str) -> String {
    let output = std::process::Command::new(tools.join("pg_dump"))
        .args(["--schema-only", "--encoding=UTF8", "--dbname"])
        .arg(server.dsn(database))
        .output()
        .expect("pg_dump runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("text");
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "))
        // Our own publications are there while the hold is.
        .filter(|line| !line.contains("holdfast_"))
        .collect();
    kept.join("\n")
}

/// Databases and schemas that a restore hides.
fn hidden(server: &Server, job: u64, databases: &[&str]) -> String {
    let mut found = server.psql(
        "postgres",
        &format!("SELECT datname FROM pg_database WHERE datname LIKE 'holdfast_restore_{job}_%'"),
    );
    for database in databases {
        found += &server.psql(
            database,
            &format!(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'holdfast_restore_{job}_%'"
            ),
        );
    }
    found
}
