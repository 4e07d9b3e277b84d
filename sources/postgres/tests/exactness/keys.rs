//! Keys of every kind: found again by the fix-up, byte by byte.

use holdfast_postgres::fold::Keep;
use holdfast_postgres_testing::{Server, connect};
use std::collections::BTreeSet;

use crate::backup::{Base, Chain, restore};
use crate::database::{assert_same, session, truth};
use crate::slot::{Life, Slot};

/// Types of a key, with a value of each.
const KEYS: [(&str, &str); 27] = [
    ("int2", "7"),
    ("bigint", "-7"),
    ("numeric(8,3)", "1.5"),
    ("numeric", "1.50"),
    ("char(3)", "a"),
    ("varchar(5)", "a "),
    ("\"char\"", "x"),
    ("name", "N"),
    ("text COLLATE public.careless", "GrüßE"),
    ("text COLLATE \"C\"", ""),
    ("public.citext", "MiXed"),
    ("uuid", "6c4cc14e-7a8b-4b71-8b1e-000000000001"),
    ("date", "2026-11-23"),
    ("timestamptz(3)", "2026-11-23 12:00:00.123+02"),
    ("interval", "1 mon 3 days"),
    ("time", "24:00"),
    ("bytea", "\\x00ff"),
    ("bool", "false"),
    ("public.\"Mood\"", "so so"),
    ("public.\"Short\"", "ab"),
    ("int[]", "[0:1]={1,NULL}"),
    ("public.pair", "(1,\"a b\")"),
    ("inet", "10.0.0.1/8"),
    ("float8", "-0"),
    ("int4range", "[1,5)"),
    ("jsonb", "{\"a\": [1, null]}"),
    ("bit(5)", "10101"),
];

const TYPES: &str = "
CREATE COLLATION public.careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE EXTENSION citext SCHEMA public;
CREATE TYPE \"Mood\" AS ENUM ('so so', 'well');
CREATE DOMAIN \"Short\" AS varchar(3) CHECK (value <> 'no');
CREATE TYPE pair AS (n int, t text);
";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_again_by_keys_of_every_kind() {
    let server = Server::shared();
    let database = server.create_database("keys");
    let mut sql = TYPES.to_owned();
    let names: Vec<_> = (0..KEYS.len()).map(|number| format!("k{number}")).collect();
    for (name, (kind, value)) in names.iter().zip(KEYS) {
        // The key is the second of two, the first stands behind it, and a column looks like one of the fix-up's own.
        sql.push_str(&format!(
            "CREATE TABLE {name} (big text, \"k0\" {kind}, n int, id int, PRIMARY KEY (id, \"k0\")); \
             ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL; \
             INSERT INTO {name} SELECT repeat('b', 5000), '{value}', 0, i FROM generate_series(1, 140) i;"
        ));
    }
    server.psql(&database, &sql);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let chain = Chain::hold(server, &database, &names).await;
    let mut base = Base::default();
    for oid in chain.planned.keys() {
        chain.read_pages(&mut base, *oid, 0, None).await;
    }
    let client = connect(server, &database).await;
    for name in &names {
        let update = format!(
            "UPDATE {name} SET n = 1 WHERE id <= 130; UPDATE {name} SET id = id + 1000 WHERE id > 136"
        );
        client.batch_execute(&update).await.expect("updated");
    }
    let slot = Slot::create(server, &database, "keys_f", Life::Temporary).await;
    let folded = chain.fold(Keep::Last, chain.start..slot.position).await;
    let folded = folded.finish().expect("folded");
    let mut rows = folded.rows();
    let mut unresolved = 0;
    while rows
        .next_unresolved(&BTreeSet::new(), None)
        .expect("readable")
        .is_some()
    {
        unresolved += 1;
    }
    assert_eq!(unresolved, 134 * KEYS.len());
    let layer = chain
        .finish(folded, &slot, &base.rewritten)
        .await
        .expect("finished");
    assert!(layer.whole.is_empty());
    let reader = session(server, &database, Some(&slot.snapshot)).await;
    let want = truth(&reader, &chain.planned).await;
    assert_same("keys", &restore(&base, &layer), &want, &chain.planned);
}
