//! Changes of the tables themselves, while they are written to and read.

use holdfast_postgres_testing::{Server, connect};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

use crate::workload::TABLES;

const SCHEMA: &str = "
CREATE TABLE loose (v text, n int);
INSERT INTO loose SELECT md5(i::text), i FROM generate_series(1, 50) i;
CREATE TABLE p (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE p0 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200);
INSERT INTO p SELECT i, i FROM generate_series(0, 199) i;
";

pub(crate) fn create(server: &Server, database: &str) {
    server.psql(database, SCHEMA);
}

/// Somebody who changes tables.
pub(crate) struct Changes {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Changes {
    /// It waits while a job is late: where tables are truncated and rewritten all the time, no backup finds its end.
    pub(crate) fn start(
        server: &'static Server,
        database: &str,
        seed: u64,
        is_late: Arc<AtomicBool>,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, database) = (Arc::clone(&is_over), database.to_owned());
        let task = tokio::spawn(async move {
            let client = connect(server, &database).await;
            let patience = client.batch_execute("SET lock_timeout = '2s'").await;
            patience.expect("set");
            let mut random = StdRng::seed_from_u64(seed * 1000);
            while !over.load(Ordering::Relaxed) {
                let sql = statement(&mut random);
                while is_late.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // It may lose against the writers, or what it names may not be there.
                if client.batch_execute(&sql).await.is_err() {
                    let _ = client.batch_execute("ROLLBACK").await;
                }
                let pause = Duration::from_millis(random.random_range(0..2500));
                tokio::time::sleep(pause).await;
            }
        });
        Self { is_over, task }
    }

    pub(crate) async fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic");
    }
}

fn statement(random: &mut StdRng) -> String {
    let n = random.random_range(0..5u32);
    let big = random.random_range(0..1_000_000u32);
    let table = TABLES[random.random_range(0..TABLES.len())];
    match random.random_range(0..26u32) {
        0 | 1 => format!("ALTER TABLE {table} ADD COLUMN c{n} int DEFAULT {big}"),
        2 => format!("ALTER TABLE {table} ADD COLUMN c{n} float8 DEFAULT random()"),
        3 | 4 => format!("ALTER TABLE {table} DROP COLUMN c{n}"),
        5 => format!("ALTER TABLE {table} ALTER COLUMN c{n} TYPE text"),
        6 => format!("VACUUM FULL {table}"),
        7 => "CLUSTER fm USING fm_pkey".to_owned(),
        8..=10 => format!(
            "CREATE TABLE extra_{n} (id int PRIMARY KEY, v text); INSERT INTO extra_{n} SELECT i, md5(i::text) FROM generate_series(1, 40) i"
        ),
        11 => format!("DROP TABLE extra_{n}"),
        12 => format!("ALTER TABLE extra_{n} RENAME TO extra_{}", (n + 1) % 5),
        13 => format!("UPDATE extra_{n} SET v = '{big}' WHERE id % 3 = 0"),
        14 => format!(
            "BEGIN; DROP TABLE extra_{n}; CREATE TABLE extra_{n} (id int PRIMARY KEY, v text); INSERT INTO extra_{n} VALUES (1, '{big}'); COMMIT"
        ),
        15 => "ALTER TABLE ft DROP CONSTRAINT ft_pkey, ADD CONSTRAINT ft_pkey PRIMARY KEY (id)"
            .to_owned(),
        16 => format!("CREATE INDEX ON {table} (n)"),
        17 => format!("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'm{n}'"),
        18 => format!("UPDATE fm SET m = 'm{n}' WHERE id % 50 = 7"),
        19 => format!(
            "INSERT INTO loose VALUES ('{big}', {n}); DELETE FROM loose WHERE n = {}",
            big % 50
        ),
        20 => "UPDATE loose SET n = n + 1 WHERE n % 7 = 0".to_owned(),
        21 => "ALTER TABLE p DETACH PARTITION p1".to_owned(),
        22 => "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (100) TO (200)".to_owned(),
        23 => format!(
            "UPDATE p SET v = {n} WHERE id % 9 = {n}; UPDATE p1 SET v = v + 1 WHERE id % 5 = {n}"
        ),
        24 => format!(
            "BEGIN; ALTER TABLE fg ADD COLUMN c{n} int; UPDATE fg SET c{n} = n; SAVEPOINT s; ALTER TABLE fg DROP COLUMN c{n}; ROLLBACK TO s; COMMIT"
        ),
        _ => format!("CREATE OR REPLACE VIEW seen AS SELECT id, {n} AS n FROM fm"),
    }
}
