//! PostgreSQL servers as members of a source, and the application that writes to them all the while.

use holdfast_client::{ControlApi, v1};
use holdfast_env::Env;
use holdfast_postgres_testing::Server;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::Cluster;

/// How long nothing is written before and after an instant whose truth is recorded.
const QUIET: Duration = Duration::from_millis(300);

/// Registers servers as a source: each with its name, and the number of its zone.
///
/// # Panics
/// The cluster refuses.
pub async fn register_servers(cluster: &Cluster, source: &str, servers: &[(&str, &Server, usize)]) {
    let members = servers.iter().map(|(name, server, zone)| v1::Member {
        name: (*name).to_owned(),
        locality: format!("zone=z{zone}"),
        address: server.dsn("postgres"),
        ..v1::Member::default()
    });
    let request = v1::RegisterSourceRequest {
        name: source.to_owned(),
        kind: "postgres".to_owned(),
        members: members.collect(),
    };
    let registered = cluster.client().register_source(request).await;
    registered.expect("a new source");
}

fn pgbench(server: &Server, arguments: &[&str], database: &str) -> Command {
    let mut command = Command::new("/usr/lib/postgresql/15/bin/pgbench");
    command
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
        .arg(server.port().to_string())
        .args(arguments)
        .arg(database)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Makes the tables of pgbench: 100,000 accounts for each of `scale` branches.
///
/// # Panics
/// pgbench cannot do it.
pub fn make_bank(server: &Server, database: &str, scale: u32) {
    let scale = scale.to_string();
    let arguments = ["-i", "-q", "--foreign-keys", "-s", &scale];
    let status = pgbench(server, &arguments, database).status();
    let status = status.expect("pgbench starts: run `apt-get install postgresql-15`");
    assert!(status.success(), "pgbench -i failed");
    // Of a table without a key a layer has its end alone, and no commits in between.
    server.psql(
        database,
        "ALTER TABLE pgbench_history ADD COLUMN number bigserial PRIMARY KEY",
    );
}

/// Clients that move money until they are stopped.
#[derive(Debug)]
pub struct Pgbench(Child);

impl Pgbench {
    /// Starts some. Every client waits a moment between two transactions: the machine does other things too.
    ///
    /// # Panics
    /// pgbench does not start.
    #[must_use]
    pub fn start(server: &Server, database: &str) -> Self {
        let arguments = ["-n", "-c", "4", "-T", "3600", "-R", "150"];
        let mut command = pgbench(server, &arguments, database);
        Self(command.spawn().expect("pgbench starts"))
    }

    /// Stops them; what they had not committed is rolled back.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An instant, and what a bank was then.
#[derive(Debug, Clone)]
pub struct Truth {
    /// The instant, as `AS OF` takes it.
    pub at: String,
    /// The same as a place in the server's log.
    pub log: String,
    /// The bank's content.
    pub content: String,
}

/// Waits until nobody writes, and records what there is.
pub async fn record(server: &Server, database: &str) -> Truth {
    // The sessions of clients that were killed commit or roll back what they are at.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";
    while server.psql(database, busy) != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(QUIET).await;
    let truth = Truth {
        at: Env::system().clock.now().to_string(),
        log: server.psql(database, "SELECT pg_current_wal_insert_lsn()"),
        content: content(server, database),
    };
    tokio::time::sleep(QUIET).await;
    truth
}

/// Everything that is in a bank, in a line a table.
#[must_use]
pub fn content(server: &Server, database: &str) -> String {
    let tables = [
        "pgbench_accounts",
        "pgbench_branches",
        "pgbench_tellers",
        "pgbench_history",
    ];
    let sums = tables.map(|table| {
        format!(
            "SELECT '{table}', count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t"
        )
    });
    server.psql(database, &sums.join(" UNION ALL "))
}

/// Whether every transfer is whole: accounts, tellers and branches add up to the same, and to what the history says.
#[must_use]
pub fn adds_up(server: &Server, database: &str) -> bool {
    let sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers) \
         AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers) \
         AND (SELECT coalesce(sum(delta), 0) FROM pgbench_history) = (SELECT sum(tbalance) FROM pgbench_tellers)";
    server.psql(database, sql) == "t"
}

/// Names of slots and publications of Holdfast that are on a server.
#[must_use]
pub fn left_behind(server: &Server, database: &str) -> String {
    server.psql(
        database,
        "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname::text FROM pg_publication",
    )
}
