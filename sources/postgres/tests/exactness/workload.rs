//! Writers that do everything that has ever broken a logical backup.

use holdfast_postgres_testing::{Server, connect};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// The tables, all with out-of-line values.
pub(crate) const TABLES: [&str; 4] = ["fm", "fu", "ft", "fg"];

const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN tag AS text COLLATE \"C\" CHECK (length(value) < 40);
CREATE TABLE fm (id bigint PRIMARY KEY, n int, t text, big text, m mood, j jsonb);
ALTER TABLE fm ALTER big SET STORAGE EXTERNAL;
CREATE TABLE fu (a numeric, id uuid, b tag, n int, big text, arr int[], PRIMARY KEY (id, b));
ALTER TABLE fu ALTER big SET STORAGE EXTERNAL;
ALTER TABLE fu DROP COLUMN a;
CREATE TABLE ft (id int PRIMARY KEY, n int, big text);
ALTER TABLE ft ALTER big SET STORAGE EXTERNAL;
CREATE TABLE fg (id text COLLATE \"C\" PRIMARY KEY, n int, d int GENERATED ALWAYS AS (n * 2) STORED, big text, gone int, f float8);
ALTER TABLE fg ALTER big SET STORAGE EXTERNAL;
ALTER TABLE fg DROP COLUMN gone;
CREATE FUNCTION big(seed int) RETURNS text LANGUAGE sql AS
 $$ SELECT string_agg(md5((seed * 1000 + i)::text), '') FROM generate_series(1, 90) i $$;
INSERT INTO fm SELECT i, 0, 't' || i, big(i), 'ok', jsonb_build_object('i', i) FROM generate_series(1, 900) i;
INSERT INTO fu SELECT md5(i::text)::uuid, 'b' || i % 3, 0, big(i), ARRAY[i, NULL] FROM generate_series(1, 300) i;
INSERT INTO ft SELECT i, 0, big(i) FROM generate_series(1, 80) i;
INSERT INTO fg (id, n, big, f) SELECT 'k' || i, i, big(i), i / 7.0 FROM generate_series(1, 300) i;
";

/// Keys of `fm` are drawn from twice the rows that it begins with.
const KEYS: u32 = 1800;

pub(crate) fn create(server: &Server, database: &str) {
    server.psql(database, SCHEMA);
}

/// How often the writers truncate a table: a backup needs a moment between two.
#[derive(Debug, Clone)]
pub(crate) struct Truncating {
    /// One in so many of the statements that may.
    pub(crate) one_in: u32,
    /// Not at present.
    pub(crate) is_paused: Arc<AtomicBool>,
}

impl Truncating {
    fn is_due(&self, random: u32) -> bool {
        random.is_multiple_of(self.one_in) && !self.is_paused.load(Ordering::Relaxed)
    }
}

/// Running writers.
pub(crate) struct Workload {
    is_over: Arc<AtomicBool>,
    pub(crate) transactions: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts writers whose choices come from a seed.
    pub(crate) fn start(
        server: &'static Server,
        database: &str,
        seed: u64,
        count: u64,
        truncating: &Truncating,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(AtomicU64::new(0));
        let writers = (0..count)
            .map(|number| {
                let (is_over, database) = (Arc::clone(&is_over), database.to_owned());
                let transactions = Arc::clone(&transactions);
                let truncating = truncating.clone();
                tokio::spawn(async move {
                    let client = connect(server, &database).await;
                    let mut random = StdRng::seed_from_u64(seed * 100 + number);
                    if random.random_bool(0.5) {
                        let asynchronous = client.batch_execute("SET synchronous_commit = off");
                        asynchronous.await.expect("a setting");
                    }
                    let mut step = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        step += 1;
                        let gid = format!("{database}-{number}-{step}");
                        transaction(&client, &mut random, &truncating, &gid).await;
                        transactions.fetch_add(1, Ordering::Relaxed);
                        // Four writers at full speed leave nothing of two cores to the backup.
                        let pause = Duration::from_micros(random.random_range(0..8000));
                        tokio::time::sleep(pause).await;
                    }
                })
            })
            .collect();
        Self {
            is_over,
            transactions,
            writers,
        }
    }

    /// Lets the writers end their transactions.
    pub(crate) async fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("no writer panics");
        }
        self.transactions.load(Ordering::Relaxed)
    }
}

/// One transaction, which may fail: keys collide, locks are waited for in circles.
async fn transaction(client: &Client, random: &mut StdRng, truncating: &Truncating, gid: &str) {
    let kind = random.random_range(0..100u32);
    let mut sql = String::new();
    let statements = random.random_range(1..4);
    if kind < 8 {
        // A prepared transaction, open for a while, committed or not.
        sql = format!(
            "BEGIN; {}; PREPARE TRANSACTION '{gid}'",
            statement(random, truncating)
        );
        if client.batch_execute(&sql).await.is_err() {
            let _ = client.batch_execute("ROLLBACK").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..15))).await;
        let end = if random.random_bool(0.8) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        let ended = client
            .batch_execute(&format!("{end} PREPARED '{gid}'"))
            .await;
        ended.expect("prepared");
        return;
    }
    let is_single = kind < 50;
    if kind == 10 && truncating.is_due(random.random_range(0..200)) {
        // Alone, it explains the table's new file node.
        sql.push_str("TRUNCATE ft");
    } else if is_single {
        sql.push_str(&statement(random, truncating));
    } else {
        sql.push_str("BEGIN;");
        for number in 0..statements {
            if random.random_bool(0.3) {
                let lost = statement(random, truncating);
                sql.push_str(&format!("SAVEPOINT s{number}; {lost}; "));
                sql.push_str(&format!("ROLLBACK TO s{number};"));
            }
            if random.random_bool(0.2) {
                sql.push_str(&format!("SAVEPOINT r{number};"));
            }
            sql.push_str(&statement(random, truncating));
            sql.push(';');
        }
        sql.push_str(if random.random_bool(0.1) {
            "ROLLBACK"
        } else {
            "COMMIT"
        });
    }
    if client.batch_execute(&sql).await.is_err() {
        // Some errors leave the transaction open, others there is none to end.
        let _ = client.batch_execute("ROLLBACK").await;
    }
}

fn statement(random: &mut StdRng, truncating: &Truncating) -> String {
    let (k, l) = (random.random_range(0..KEYS), random.random_range(0..KEYS));
    let n = random.random_range(0..1_000_000u32);
    let u = format!("md5('{}')::uuid", k % 600);
    let g = k % 400;
    match random.random_range(0..22u32) {
        0 | 1 => format!("UPDATE fm SET n = n + 1 WHERE id = {k}"),
        2 => format!("UPDATE fm SET big = big({n}) WHERE id = {k}"),
        // The key changes and the big value does not: the log has no part of it.
        3..=5 => format!("UPDATE fm SET id = {l}, n = n + 1 WHERE id = {k}"),
        6 => format!(
            "UPDATE fm SET id = id + {KEYS} WHERE id = {k}; UPDATE fm SET id = {l} WHERE id = {k} + {KEYS}"
        ),
        7 => format!("DELETE FROM fm WHERE id = {k}"),
        8 => format!(
            "DELETE FROM fm WHERE id = {k}; INSERT INTO fm VALUES ({k}, {n}, NULL, big({n}), 'sad', NULL)"
        ),
        9 | 10 => format!(
            "INSERT INTO fm VALUES ({k}, {n}, 'new', big({n}), 'happy', '[1]') ON CONFLICT (id) DO UPDATE SET n = excluded.n"
        ),
        11 => format!("UPDATE fm SET big = NULL, t = 'null' WHERE id = {k}"),
        12 => format!("UPDATE fm SET n = n + 1 WHERE id BETWEEN {k} AND {k} + 40"),
        13 => format!("DELETE FROM fm WHERE id BETWEEN {k} AND {k} + 10"),
        14 => format!(
            "INSERT INTO fm SELECT i, {n}, 'many', big(i), 'ok', '{{}}' FROM generate_series({k}, {k} + 8) i ON CONFLICT DO NOTHING"
        ),
        15 => format!("UPDATE fu SET n = n + 1 WHERE id = {u}"),
        16 => format!("UPDATE fu SET b = 'b' || {n} % 5 WHERE id = {u}"),
        17 => format!(
            "INSERT INTO fu VALUES ({u}, 'b1', {n}, big({n}), '{{}}') ON CONFLICT (id, b) DO UPDATE SET arr = '{{1,2}}', n = 7"
        ),
        18 => format!("UPDATE fg SET n = {n} WHERE id = 'k{g}'"),
        19 => format!(
            "UPDATE fg SET id = 'k{}', f = f + 0.1 WHERE id = 'k{g}'",
            l % 400
        ),
        20 => format!(
            "INSERT INTO ft SELECT {k} % 200, {n}, big({n}) ON CONFLICT (id) DO UPDATE SET n = {n}"
        ),
        _ if truncating.is_due(n) => format!(
            "TRUNCATE ft; INSERT INTO ft SELECT i, {n}, big(i) FROM generate_series(1, {k} % 30) i"
        ),
        _ => format!("UPDATE ft SET n = n + 1 WHERE id = {k} % 200"),
    }
}
