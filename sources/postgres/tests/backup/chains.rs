//! Chains of layers.

use futures::StreamExt;
use holdfast_postgres::fold::{Fold, Keep};
use holdfast_postgres::layout::Lsn;
use holdfast_postgres::member::catalog::Content;
use holdfast_postgres::member::rows::{read_version_row, relation_range};
use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_source::Inlet;
use holdfast_source::LoggedSource;
use holdfast_types::{Position, Target};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::Job;

const TABLES: &str = "
CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
CREATE TABLE other (id bigserial PRIMARY KEY, v text);
CREATE TABLE loose (v int);
CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t;
INSERT INTO t SELECT i, i, repeat('x', 3000) || i FROM generate_series(1, 4000) i;
INSERT INTO other (v) SELECT 'o' || i FROM generate_series(1, 500) i;
INSERT INTO loose SELECT i % 7 FROM generate_series(1, 100) i;
INSERT INTO parted SELECT i, i FROM generate_series(0, 99) i;
SELECT lo_from_bytea(0, 'a large object');
";

/// What is written meanwhile goes into a table without a key too, by a trigger, in the order of each row's changes. That table is copied under F:
/// it says what the other one is at F.
const JOURNAL: &str = "
CREATE SEQUENCE nth;
CREATE TABLE journal (nth bigint, op text, id int, v int, big text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'TRUNCATE' THEN INSERT INTO journal VALUES (nextval('nth'), 'T'); RETURN NULL; END IF;
  IF TG_OP <> 'INSERT' THEN INSERT INTO journal VALUES (nextval('nth'), 'D', OLD.id); END IF;
  IF TG_OP <> 'DELETE' THEN INSERT INTO journal VALUES (nextval('nth'), 'P', NEW.id, NEW.v, NEW.big); END IF;
  RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note_all AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
INSERT INTO journal SELECT nextval('nth'), 'P', id, v, big FROM t;
";

fn fields(row: &[u8], columns: usize) -> Vec<Option<Vec<u8>>> {
    let tuple = holdfast_postgres::tuple::Tuple::parse(row.to_vec().into(), columns).expect("row");
    let field = |field| match field {
        holdfast_postgres::tuple::Field::Value(bytes) => Some(bytes.to_vec()),
        _ => None,
    };
    tuple.fields().map(field).collect()
}

/// Compares table `t` of the chain with what its journal says.
async fn follows_its_journal(job: &Job, database: &str) -> usize {
    let content = job.content().await;
    let mut entries: Vec<_> = content[&format!("{database}.public.journal")]
        .iter()
        .map(|row| fields(row, 5))
        .collect();
    entries.sort();
    let mut truth = BTreeMap::new();
    for entry in &entries {
        match entry[1].as_deref() {
            Some(b"T") => truth.clear(),
            Some(b"D") => drop(truth.remove(&entry[2])),
            _ => drop(truth.insert(entry[2].clone(), entry[2..].to_vec())),
        }
    }
    let rows = content[&format!("{database}.public.t")].iter();
    let rows: BTreeMap<_, _> = rows
        .map(|row| fields(row, 3))
        .map(|row| (row[0].clone(), row))
        .collect();
    assert!(
        rows == truth,
        "{} rows, {} expected",
        rows.len(),
        truth.len()
    );
    entries.len()
}

async fn load(server: &'static Server, database: String, seed: u64, is_over: Arc<AtomicBool>) {
    let client = connect(server, &database).await;
    let mut n = seed;
    while !is_over.load(Ordering::Relaxed) {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let id = (n >> 33) % 5000;
        let sql = match (n >> 20) % 10 {
            0 => format!("DELETE FROM t WHERE id = {id}"),
            1 => format!("UPDATE t SET id = id + 10000 WHERE id = {id}"),
            2 => format!("UPDATE t SET big = repeat('y', 3000) || v WHERE id = {id}"),
            3 | 4 => {
                format!("INSERT INTO t VALUES ({id}, 1, repeat('z', 2500)) ON CONFLICT DO NOTHING")
            }
            _ => format!(
                "UPDATE t SET v = v + 1 WHERE id BETWEEN {id} AND {}",
                id + 5
            ),
        };
        // Two writers may meet in a deadlock.
        let _ = client.batch_execute(&sql).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_under_load_are_exact_at_their_ends() {
    let server = Server::shared();
    let database = server.create_database("load");
    server.psql(&database, TABLES);
    server.psql(&database, JOURNAL);
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (1..3)
        .map(|seed| tokio::spawn(load(server, database.clone(), seed, Arc::clone(&is_over))))
        .collect();
    let mut job = Job::new(server, &database, 1);
    let mut seen = 0;
    for history in [false, false, true] {
        job.run(history).await.expect("a backup");
        let now = follows_its_journal(&job, &database).await;
        assert!(now > seen, "the load goes on");
        seen = now;
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    job.run(false).await.expect("a backup");
    job.compare(&[&database]).await;
    let content = |layer: &Vec<holdfast_postgres::member::catalog::DatabaseCatalog>, name: &str| {
        let entries = layer[0].relations.iter();
        let mut entries = entries.filter(|entry| entry.layout.name == name);
        entries.next().expect("it is there").content.clone()
    };
    let catalogs = job.catalogs().await;
    assert_eq!(content(&catalogs[0], "t"), Content::Base);
    assert_eq!(content(&catalogs[1], "t"), Content::Continued);
    assert_eq!(content(&catalogs[2], "parted_1"), Content::Continued);
    assert_eq!(content(&catalogs[2], "parted"), Content::Definition);
    assert!(matches!(
        content(&catalogs[2], "loose"),
        Content::Whole { .. }
    ));
    assert!(
        catalogs
            .windows(2)
            .all(|pair| pair[0][0].end == pair[1][0].start)
    );
    assert_eq!(catalogs[3][0].large_objects.count, 1);
    job.member.release(job.hold).await.expect("released");
    job.member.release(job.hold).await.expect("released twice");
    let left = "SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name, 'holdfast_test_1_')";
    assert_eq!(server.psql(&database, left), "0");
}

#[tokio::test]
async fn every_commit_is_in_a_history() {
    let server = Server::shared();
    let database = server.create_database("history");
    server.psql(&database, TABLES);
    let mut job = Job::new(server, &database, 2);
    job.run(false).await.expect("a full");
    for value in 0..20 {
        server.psql(&database, &format!("BEGIN; UPDATE t SET v = {value} WHERE id = 7; UPDATE t SET id = -id WHERE id IN (8, -8); COMMIT"));
    }
    server.psql(&database, "TRUNCATE other");
    // A load, as most are: its own transaction says all there is to the table's new file.
    server.psql(&database, "BEGIN; TRUNCATE other; INSERT INTO other (v) VALUES ('loaded'), ('twice'); UPDATE other SET v = 'once' WHERE v = 'twice'; COMMIT");
    job.run(true).await.expect("an incremental with history");
    job.compare(&[&database]).await;
    let catalog = &job.catalogs().await[1][0];
    assert!(catalog.history);
    assert_eq!(catalog.truncations.len(), 2);
    let other = catalog
        .relations
        .iter()
        .find(|it| it.layout.name == "other");
    let content = &other.expect("other").content;
    assert!(matches!(content, Content::Continued), "{content:?}");
    let times: usize = job.chain.0[1]
        .get()
        .blobs
        .iter()
        .filter(|(name, _)| catalog.commit_times.iter().any(|it| it.object == **name))
        .map(|(_, bytes)| bytes.len() / 16)
        .sum();
    assert!(times >= 21, "{times}");
    let t = catalog
        .relations
        .iter()
        .find(|it| it.layout.name == "t")
        .expect("t");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let disk = holdfast_env::Env::system().disk;
    let mut fold = Fold::new(Keep::All, disk, path, 1 << 20);
    let mut commits = Vec::new();
    let mut batches = job
        .chain
        .rows(1, &catalog.versions, relation_range(t.layout.oid));
    while let Some(batch) = batches.next().await {
        for row in batch.expect("rows") {
            let entry = read_version_row(&row, &t.layout).expect("an entry");
            assert!(entry.version.position.commit >= catalog.start);
            assert!(
                Position::Lsn(holdfast_types::Lsn::at(entry.version.position.commit.0))
                    <= catalog.settled().position
            );
            commits.push(entry.version.position.commit);
            fold.put(entry).expect("put");
        }
    }
    commits.sort();
    commits.dedup();
    assert_eq!(commits.len(), 20);
    // After the eleventh commit v is 10, and 8 is -8.
    let history = fold.finish_history().expect("a history");
    let state = history
        .as_of(Lsn(commits[10].0 + 1), path, 1 << 20)
        .expect("a state");
    let mut rows = state.rows();
    let mut found = 0;
    while let Some(entry) = rows.next_entry().expect("rows") {
        if let holdfast_postgres::fold::Op::Put { row, .. } = &entry.op {
            let id = entry.version.key.parts().next().map(<[u8]>::to_vec);
            if id == Some(7_i32.to_be_bytes().to_vec()) {
                let v = row.fields().nth(1);
                assert_eq!(
                    v,
                    Some(holdfast_postgres::tuple::Field::Value(
                        &10_i32.to_be_bytes()
                    ))
                );
                found += 1;
            } else {
                assert_eq!(id, Some((-8_i32).to_be_bytes().to_vec()));
                found += 1;
            }
        }
    }
    assert_eq!(found, 2);
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn whatever_happens_between_layers_and_in_them() {
    let server = Server::shared();
    let database = server.create_database("between");
    server.psql(&database, TABLES);
    let mut job = Job::new(server, &database, 3);
    let change = |sql: &str| server.psql(&database, sql);
    // In the window of the full, after the plan: rewritten, truncated, renamed, dropped, new.
    let backup = job.backup(false);
    change("CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1)");
    change(
        "CREATE TABLE moved (id int PRIMARY KEY, v int); INSERT INTO moved SELECT i, i FROM generate_series(1, 50) i",
    );
    change(
        "CREATE TABLE shaped (id int PRIMARY KEY, v int); INSERT INTO shaped SELECT i, i FROM generate_series(1, 50) i",
    );
    let relations = job.member.begin(&backup).await.expect("begun");
    let again = job.member.begin(&backup).await.expect("begun again");
    assert_eq!(relations.len(), again.len());
    let definition = |relations: &[holdfast_source::LoggedRelation]| {
        relations.last().map(|it| it.relation.definition.clone())
    };
    assert_eq!(
        definition(&relations),
        definition(&again),
        "the hold is found in place"
    );
    change("DROP TABLE gone");
    change(
        "CREATE SCHEMA s; ALTER TABLE moved SET SCHEMA s; ALTER TABLE s.moved RENAME TO moved_on; UPDATE s.moved_on SET v = 0 WHERE id < 5",
    );
    // Its ranges are read in another form than planned; at the end nothing but the catalog's transactions tells.
    change("ALTER TABLE shaped ADD extra int");
    change("UPDATE t SET v = v + 1 WHERE id % 2 = 0");
    change("VACUUM FULL t");
    change("TRUNCATE other; INSERT INTO other (v) VALUES ('new')");
    let layer = crate::store::SharedLayer::default();
    job.read_all(&relations, &layer).await;
    change("ALTER TABLE shaped DROP extra");
    change("CREATE TABLE fresh (id int PRIMARY KEY, v text); INSERT INTO fresh VALUES (1, 'a')");
    job.settle_all(&backup, &relations, &layer)
        .await
        .expect("settled");
    job.chain.0.push(layer);
    job.compare(&[&database]).await;
    // Between: new keys, other types, a keyless table, a table that loses its key and gets it back.
    change(
        "INSERT INTO fresh VALUES (2, 'b'); ALTER TABLE t ALTER v TYPE bigint; UPDATE t SET v = 5000000000 WHERE id = 1",
    );
    change("INSERT INTO loose VALUES (99); TRUNCATE parted; INSERT INTO parted VALUES (5, 5)");
    change(
        "ALTER TABLE s.moved_on DROP CONSTRAINT moved_pkey; INSERT INTO s.moved_on VALUES (1, 1)",
    );
    change(
        "CREATE TABLE brand_new (id int PRIMARY KEY); INSERT INTO brand_new VALUES (3); DROP TABLE other",
    );
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    change(
        "DELETE FROM s.moved_on WHERE ctid IN (SELECT max(ctid) FROM s.moved_on GROUP BY id HAVING count(*) > 1)",
    );
    change(
        "ALTER TABLE s.moved_on ADD PRIMARY KEY (id); INSERT INTO brand_new VALUES (4); VACUUM FULL fresh; DELETE FROM fresh WHERE id = 1",
    );
    job.run(true).await.expect("an incremental");
    job.compare(&[&database]).await;
    change(
        "UPDATE s.moved_on SET v = 9; INSERT INTO brand_new VALUES (5); TRUNCATE brand_new; INSERT INTO brand_new VALUES (6)",
    );
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

/// A worker dies after it has placed the hold. The plan is made again, by another one, and is younger than the slot: a relation that was rewritten
/// between the two has its planned file at F, and changes in the stream from before the rewrite, which look like the ones after it. Without the
/// rule that such a relation is read whole, row 1 is 5 and not 6.
#[tokio::test]
async fn a_plan_that_is_younger_than_its_hold() {
    // Its own: what is newer than a slot is told by transactions' numbers, which others' slots blur.
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(Options::default())));
    let database = server.create_database("younger");
    server.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)",
    );
    server.psql(
        &database,
        "CREATE TABLE calm (id int PRIMARY KEY); INSERT INTO calm VALUES (1)",
    );
    let mut job = Job::new(server, &database, 5);
    job.member.begin(&job.backup(false)).await.expect("begun");
    server.psql(&database, "UPDATE t SET v = 5 WHERE id = 1");
    server.psql(&database, "ALTER TABLE t ALTER v TYPE int USING v + 1");
    // And one that takes a relation out of the publication for a while.
    server.psql(&database, "CREATE TABLE late (id int PRIMARY KEY)");
    job.run(false).await.expect("a full");
    job.compare(&[&database]).await;
    let catalogs = job.catalogs().await;
    let content = |layer: usize, name: &str| {
        let entries = &catalogs[layer][0].relations;
        let entry = entries.iter().find(|entry| entry.layout.name == name);
        entry.expect("it is there").content.clone()
    };
    assert!(matches!(content(0, "t"), Content::Whole { .. }));
    assert_eq!(content(0, "calm"), Content::Base);
    let publication = "holdfast_test_5";
    server.psql(
        &database,
        &format!("ALTER PUBLICATION {publication} DROP TABLE calm"),
    );
    server.psql(&database, "INSERT INTO calm VALUES (2)");
    server.psql(
        &database,
        &format!("ALTER PUBLICATION {publication} ADD TABLE calm"),
    );
    server.psql(&database, "INSERT INTO t VALUES (3, 3)");
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    server.psql(
        &database,
        &format!("ALTER PUBLICATION {publication} SET (publish = 'insert')"),
    );
    server.psql(&database, "DELETE FROM t WHERE id = 2");
    server.psql(
        &database,
        &format!(
            "ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')"
        ),
    );
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    server.psql(&database, "DELETE FROM t WHERE id = 3");
    job.run(false).await.expect("an incremental");
    job.compare(&[&database]).await;
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test]
async fn several_databases_of_a_server() {
    let server = Server::shared();
    let names = [server.create_database("one"), server.create_database("two")];
    for name in &names {
        server.psql(name, TABLES);
    }
    let mut job = Job::new(server, &names[0], 4);
    job.target = Target::Databases(names.to_vec());
    job.run(false).await.expect("a full");
    job.compare(&[&names[0], &names[1]]).await;
    server.psql(&names[1], "UPDATE t SET v = 0 WHERE id < 100");
    let third = server.create_database("three");
    server.psql(
        &third,
        "CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1)",
    );
    let mut all = names.to_vec();
    all.push(third.clone());
    job.target = Target::Databases(all);
    job.run(false).await.expect("an incremental");
    job.compare(&[&names[0], &names[1], &third]).await;
    server.psql(&third, "INSERT INTO x VALUES (2)");
    job.run(false).await.expect("an incremental");
    job.compare(&[&names[0], &names[1], &third]).await;
    job.member.release(job.hold).await.expect("released");
}
