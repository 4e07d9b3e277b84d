use holdfast_postgres::catalog::{databases, read};
use holdfast_postgres::layout::DefinitionReason as Only;
use holdfast_postgres::layout::Handling::{Definition, Keyed, Whole};
use holdfast_postgres::layout::{Handling, WholeReason as Why};
use holdfast_postgres_testing::{Options, Server, Version};
use std::collections::BTreeMap;

use crate::{all, control, copied, data, layout};

/// Traps 18 to 24, 30, 31, 37 to 39: what is done with every kind of relation.
#[tokio::test]
async fn every_kind_of_relation_has_its_handling() {
    let server = Server::shared();
    let database = server.create_database("kinds");
    server.psql(
        &database,
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE DOMAIN place AS regclass;
         CREATE TYPE holder AS (a int, b aclitem);
         CREATE TYPE pair AS (a int, b mood);
         CREATE EXTENSION hstore; CREATE EXTENSION citext;
         CREATE TABLE plain (a int, id bigint, b text, PRIMARY KEY (id, a));
         CREATE TABLE covering (id int, b text, PRIMARY KEY (id) INCLUDE (b));
         CREATE TABLE keyless (a int);
         CREATE TABLE only_unique (a int NOT NULL UNIQUE);
         CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE ident_full (id int PRIMARY KEY); ALTER TABLE ident_full REPLICA IDENTITY FULL;
         CREATE TABLE ident_none (id int PRIMARY KEY); ALTER TABLE ident_none REPLICA IDENTITY NOTHING;
         CREATE TABLE ident_index (id int PRIMARY KEY, u int NOT NULL UNIQUE); ALTER TABLE ident_index REPLICA IDENTITY USING INDEX ident_index_u_key;
         CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
         CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF parent FOR VALUES FROM (0) TO (10);
         CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY) INHERITS (base);
         CREATE MATERIALIZED VIEW matview AS SELECT 1 AS a;
         CREATE VIEW view AS SELECT 1 AS a;
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE foreigner (a int) SERVER s;
         CREATE TABLE generated (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, gone int, c int);
         ALTER TABLE generated DROP COLUMN gone;
         CREATE TABLE user_types (id int PRIMARY KEY, a mood, b mood[], c pair, d hstore, e citext, f int4range, g int4multirange[], h numeric(10,2), i varchar(20) COLLATE \"C\");
         CREATE TABLE no_binary (id int PRIMARY KEY, a aclitem);
         CREATE TABLE no_binary_array (id int PRIMARY KEY, a aclitem[]);
         CREATE TABLE no_binary_composite (id int PRIMARY KEY, a holder);
         CREATE TABLE names (id int PRIMARY KEY, a regclass);
         CREATE TABLE names_domain (id int PRIMARY KEY, a place[]);
         CREATE TABLE names_key (a regtype PRIMARY KEY);
         CREATE TABLE text_key (a int PRIMARY KEY, b oid);
         CREATE TABLE nothing ();
         CREATE TEMPORARY TABLE temporary (id int PRIMARY KEY)",
    );
    let relations = all(server, &database).await;
    let handlings: BTreeMap<&str, Handling> = relations
        .iter()
        .map(|facts| (facts.layout.name.as_str(), facts.layout.handling))
        .collect();
    let expected = BTreeMap::from([
        ("plain", Keyed),
        ("covering", Keyed),
        ("keyless", Whole(Why::NoKey)),
        ("only_unique", Whole(Why::NoKey)),
        ("deferred", Whole(Why::DeferrableKey)),
        ("ident_full", Whole(Why::IdentityFull)),
        ("ident_none", Whole(Why::IdentityNothing)),
        ("ident_index", Whole(Why::IdentityIndex)),
        ("unlogged", Whole(Why::Unlogged)),
        ("parent", Definition(Only::Partitioned)),
        ("leaf", Keyed),
        ("base", Keyed),
        ("child", Keyed),
        ("matview", Definition(Only::MaterializedView)),
        ("foreigner", Definition(Only::Foreign)),
        ("generated", Keyed),
        ("user_types", Keyed),
        ("no_binary", Whole(Why::ColumnForm)),
        ("no_binary_array", Whole(Why::ColumnForm)),
        ("no_binary_composite", Whole(Why::ColumnForm)),
        ("names", Whole(Why::ColumnForm)),
        ("names_domain", Whole(Why::ColumnForm)),
        ("names_key", Whole(Why::ColumnForm)),
        ("text_key", Keyed),
        ("nothing", Whole(Why::NoKey)),
    ]);
    assert_eq!(handlings, expected);

    let get = |name: &str| {
        relations
            .iter()
            .find(|facts| facts.layout.name == name)
            .expect(name)
    };
    let plain = &get("plain").layout;
    let key: Vec<&str> = plain
        .key_columns()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(key, ["id", "a"], "in the key's order, not the table's");
    assert_eq!(
        get("covering").layout.key,
        [0],
        "included columns are no part of it"
    );
    let generated = &get("generated").layout;
    assert_eq!(generated.generated, ["twice"]);
    let numbers: Vec<i16> = generated
        .columns
        .iter()
        .map(|column| column.attnum)
        .collect();
    assert_eq!(numbers, [1, 2, 5], "neither generated nor dropped");
    let text: Vec<bool> = get("no_binary")
        .layout
        .columns
        .iter()
        .map(|c| c.as_text)
        .collect();
    assert_eq!(text, [false, true]);
    assert!(
        get("user_types")
            .layout
            .columns
            .iter()
            .all(|column| !column.as_text)
    );
    let last = get("user_types").layout.columns.last().expect("columns");
    assert_eq!(last.type_name, "character varying(20)");
    assert_eq!(last.collation.as_deref(), Some("pg_catalog.\"C\""));
    assert_eq!(get("user_types").layout.columns[1].type_name, "public.mood");
    assert!(get("base").has_children && get("leaf").is_partition);
    assert_eq!(get("text_key").oid_columns, ["b"]);
}

/// What is said to have a binary form can be copied in it, and the rest can be copied as text.
#[tokio::test]
async fn every_column_can_be_copied_as_its_layout_says() {
    let server = Server::shared();
    let database = server.create_database("forms");
    server.psql(
        &database,
        "CREATE TYPE holder AS (a int, b aclitem);
         DO $$
         DECLARE t record; n int := 0;
         BEGIN
             CREATE TABLE public.everything (id int PRIMARY KEY);
             FOR t IN SELECT oid::regtype::text AS name FROM pg_type
                      WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace AND typname !~ '^_?pg_|^_?refcursor|unknown|cstring'
             LOOP
                 n := n + 1;
                 EXECUTE format('ALTER TABLE public.everything ADD COLUMN c%s %s', n, t.name);
             END LOOP;
         END $$;
         ALTER TABLE everything ADD COLUMN h holder[];
         INSERT INTO everything (id, h) VALUES (1, ARRAY[ROW(1, 'postgres=r/postgres'::aclitem)::holder]);
         UPDATE everything SET c1 = c1",
    );
    let everything = layout(server, &database, "everything").await;
    assert!(
        everything.columns.len() > 100,
        "{}",
        everything.columns.len()
    );
    let session = data(server, &database).await;
    let sql = holdfast_postgres::pages::copy_statement(&everything, None, session.spelling());
    let copy = copied(&session, &sql).await;
    assert!(copy.ends_with(&[0xFF, 0xFF]), "the trailer");
    // Nulls need no send function: each type's own is looked for all the same when a binary copy starts.
    let kept: Vec<&str> = everything
        .columns
        .iter()
        .filter(|c| c.as_text)
        .map(|c| c.type_name.as_str())
        .collect();
    for name in [
        "regclass",
        "regclass[]",
        "regtype",
        "aclitem",
        "aclitem[]",
        "public.holder[]",
    ] {
        assert!(
            kept.contains(&name),
            "{name} is kept in text form: {kept:?}"
        );
    }
    for name in [
        "integer",
        "oid",
        "name",
        "box",
        "bit varying",
        "xml",
        "json",
        "int4range[]",
        "oidvector",
        "tid",
    ] {
        assert!(!kept.contains(&name), "{name} is kept in binary form");
    }
}

/// Configuration tables of extensions bring their rows, their other tables do not.
#[tokio::test]
async fn tables_of_extensions_are_told_apart() {
    let server = Server::shared();
    let database = server.create_database("extensions");
    // Made a member by hand: no extension of the packages has such tables.
    server.psql(
        &database,
        "CREATE EXTENSION hstore;
         CREATE TABLE inner_table (id int PRIMARY KEY); CREATE TABLE settings (id int PRIMARY KEY);
         ALTER EXTENSION hstore ADD TABLE inner_table; ALTER EXTENSION hstore ADD TABLE settings;
         UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid], extcondition = ARRAY['WHERE id > 100'] WHERE extname = 'hstore'",
    );
    let settings = layout(server, &database, "settings").await;
    assert_eq!(settings.handling, Whole(Why::ExtensionConfiguration));
    assert_eq!(settings.filter.as_deref(), Some("WHERE id > 100"));
    let inner = layout(server, &database, "inner_table").await;
    assert_eq!(inner.handling, Definition(Only::ExtensionMember));
}

/// Generated columns that are not stored, and keys over ranges of time, come with 18.
#[tokio::test]
async fn what_18_brings_is_told_apart() {
    let server = Server::start(Options::of(Version::V18));
    server.psql(
        "postgres",
        "CREATE EXTENSION btree_gist;
         CREATE TABLE virtual (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);
         CREATE TABLE temporal (id int, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS))",
    );
    let relation = layout(&server, "postgres", "virtual").await;
    assert_eq!((relation.handling, relation.columns.len()), (Keyed, 1));
    assert_eq!(relation.generated, ["twice"]);
    let relation = layout(&server, "postgres", "temporal").await;
    assert_eq!(relation.handling, Whole(Why::NoKey));
}

#[tokio::test]
async fn databases_are_listed_with_what_the_role_may_do() {
    let server = Server::shared();
    let name = server.create_database("listed");
    let session = control(server, "postgres").await;
    let list = databases(&session).await.expect("a list");
    let found = list
        .iter()
        .find(|database| database.name == name)
        .expect("it is listed");
    assert!(found.is_ordinary() && found.may_connect && found.may_create && found.bytes > Some(0));
    assert!(
        !list
            .iter()
            .any(|database| database.name == "template0" && database.is_ordinary())
    );
}

/// A relation that is locked for long does not hold up the others, nor itself.
#[tokio::test]
async fn a_locked_relation_is_read_all_the_same() {
    let server = Server::shared();
    let database = server.create_database("locked");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); VACUUM t",
    );
    let application = holdfast_postgres_testing::connect(server, &database).await;
    application
        .batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locks");
    let relations = tokio::time::timeout(std::time::Duration::from_secs(5), all(server, &database));
    let relations = relations.await.expect("at once");
    assert_eq!(relations[0].heap_bytes, 8192);
}

/// Under an older snapshot the catalogs show relations that are gone by now.
#[tokio::test]
async fn a_relation_that_is_gone_is_read_under_an_older_snapshot() {
    let server = Server::shared();
    let database = server.create_database("gone");
    server.psql(
        &database,
        "CREATE SCHEMA s; CREATE ROLE vanishing; CREATE TYPE s.mood AS ENUM ('ok');
         CREATE TABLE s.t (id int PRIMARY KEY, m s.mood, g int GENERATED ALWAYS AS (id) STORED); ALTER TABLE s.t OWNER TO vanishing",
    );
    let session = control(server, &database).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.execute(begin).await.expect("begins");
    session
        .query("SELECT 1", &[])
        .await
        .expect("takes the snapshot");
    server.psql(&database, "DROP SCHEMA s CASCADE; DROP ROLE vanishing");
    let relations = read(&session).await.expect("no error, and no panic");
    assert_eq!(
        relations
            .iter()
            .map(|facts| facts.layout.display_name())
            .collect::<Vec<_>>(),
        ["s.t"]
    );
    assert_eq!(relations[0].layout.columns.len(), 2);
}
