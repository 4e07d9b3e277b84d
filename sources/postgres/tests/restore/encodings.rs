//! Texts are never converted, whatever the database's encoding is.

use crate::support::{Backup, Watch, dsn, restore_of, run, schema_text, session, sums};
use holdfast_env::Env;
use holdfast_postgres::large_objects;
use holdfast_postgres::layout::Oid;
use holdfast_postgres::schema::{Archive, DumpOptions, DumpTool, dump};
use holdfast_postgres_testing::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latin_1_database_with_odd_names_comes_back() {
    let server = Server::shared();
    server.psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    );
    server.psql(
        "latin",
        "SET client_encoding = 'UTF8';
         CREATE SCHEMA \"schön\"; CREATE TYPE \"schön\".\"färbe\" AS ENUM ('röt', 'grün');
         CREATE TABLE \"schön\".\"täble\" (\"schlüssel\" text PRIMARY KEY, f \"schön\".\"färbe\"[], r regtype);
         INSERT INTO \"schön\".\"täble\" VALUES ('größe', ARRAY['röt', 'grün']::\"schön\".\"färbe\"[], '\"schön\".\"färbe\"'), ('ÿ', NULL, 'int4');
         CREATE INDEX \"ïndex\" ON \"schön\".\"täble\" (lower(\"schlüssel\"))",
    );
    let backup = Backup::take(server, "latin").await;
    let watch = Watch::default();
    run(
        &backup,
        &restore_of(server, &backup, 301, "latin_again"),
        &watch,
    )
    .await
    .expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    assert_eq!(
        schema_text(server, "latin", None, false),
        schema_text(server, "latin_again", None, false)
    );
    assert_eq!(
        sums(server, "latin", &backup).await,
        sums(server, "latin_again", &backup).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_as_of_the_snapshot() {
    let server = Server::shared();
    let database = server.create_database("snapshot");
    server.psql(&database, "CREATE TABLE before (a integer)");
    let holder = session(server, &database).await;
    holder
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .expect("begun");
    let row = holder.query_one("SELECT pg_export_snapshot()", &[]).await;
    let snapshot = row.expect("exported").get(0);
    server.psql(&database, "CREATE TABLE later (a integer)");
    let tool = DumpTool::find(&Env::system(), 15, None)
        .await
        .expect("pg_dump");
    let options = DumpOptions {
        snapshot: Some(snapshot),
        lock_timeout: Some(5000),
        ..DumpOptions::default()
    };
    let bytes = dump(&tool, &dsn(server, &database), &options)
        .await
        .expect("dumped");
    let archive = Archive::parse(&bytes).expect("parsed");
    let names: Vec<&str> = archive
        .entries
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert!(
        names.contains(&"before") && !names.contains(&"later"),
        "{names:?}"
    );
    // A table that somebody holds is not waited for without end, and is named.
    let locker = session(server, &database).await;
    locker
        .execute("BEGIN; LOCK TABLE public.before IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let options = DumpOptions {
        lock_timeout: Some(100),
        ..DumpOptions::default()
    };
    let fault = dump(&tool, &dsn(server, &database), &options)
        .await
        .expect_err("locked");
    assert!(fault.message.contains("before"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_are_read_through_their_own_rights_where_the_pages_are_closed() {
    use futures::TryStreamExt;
    let server = Server::shared();
    let database = server.create_database("objects");
    let _ = server.try_psql("postgres", "CREATE ROLE hf_plain LOGIN");
    server.psql(
        &database,
        "SELECT lo_from_bytea(5, decode(repeat('0102', 400000), 'hex')); SELECT lo_put(lo_create(6), 300000, 'end');
         GRANT SELECT ON LARGE OBJECT 5 TO hf_plain; GRANT SELECT ON LARGE OBJECT 6 TO hf_plain",
    );
    let dsn = server
        .dsn_as("hf_plain", &database)
        .parse()
        .expect("a connection string");
    let plain = holdfast_postgres::session::Session::connect(
        &Env::system(),
        &dsn,
        holdfast_postgres::session::Purpose::Control,
    )
    .await
    .expect("connects");
    assert!(!large_objects::can_read_pages(&plain).await.expect("asked"));
    for (oid, length) in [(5, 800_000), (6, 300_003)] {
        let chunks: Vec<_> = large_objects::read_object(&plain, Oid(oid))
            .try_collect()
            .await
            .expect("read");
        let bytes: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| chunk.bytes.to_vec())
            .collect();
        assert_eq!(bytes.len(), length);
        let sum = server.psql(
            &database,
            &format!("SELECT encode(sha256(lo_get({oid})), 'hex')"),
        );
        let own = server.psql(
            &database,
            &format!("SELECT encode(sha256('\\x{}'), 'hex')", hex(&bytes)),
        );
        assert_eq!(sum, own);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
