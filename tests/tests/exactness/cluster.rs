//! A cluster, one server, and the layers that it makes of it.

use holdfast_client::{ControlApi, v1};
use holdfast_postgres_testing::{Server, connect};
use holdfast_tests::{Cluster, Shape, eventually};
use rand::RngExt;
use rand::rngs::StdRng;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::Layer;
use crate::trouble::{Told, until_over};
use crate::workload::TABLES;

const SOURCE: &str = "exact";

/// A worker reads this slowly, so that things happen in the middle.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Instants of a history that are restored.
const INSTANTS: usize = 2;

pub(crate) struct World {
    cluster: Cluster,
    server: &'static Server,
    database: String,
    told: Told,
    /// Set while a job takes long.
    pub(crate) is_late: Arc<AtomicBool>,
}

impl World {
    pub(crate) async fn start(server: &'static Server, database: &str) -> Self {
        let shape = Shape {
            coordinators: 3,
            zones: 1,
            workers_per_zone: 3,
            slots: 2,
        };
        let cluster = Cluster::start(shape).await;
        cluster.small_parts(128 << 10, 512 << 10).await;
        // Nobody waits long for the dead, and trouble alone does not fail a job.
        for (name, value) in [
            ("lease_ttl_ms", 2000),
            ("task_backoff_ms", 100),
            ("max_task_attempts", 1000),
        ] {
            let set = cluster.client().set_setting(name, value).await;
            set.expect("a legal setting");
        }
        let member = v1::Member {
            name: "m0".to_owned(),
            locality: "zone=z0".to_owned(),
            address: server.dsn("postgres"),
            bytes_per_second: Some(BYTES_PER_SECOND),
            ..v1::Member::default()
        };
        let request = v1::RegisterSourceRequest {
            name: SOURCE.to_owned(),
            kind: "postgres".to_owned(),
            members: vec![member],
        };
        let registered = cluster.client().register_source(request).await;
        registered.expect("a new source");
        Self {
            cluster,
            server,
            database: database.to_owned(),
            told: Told::new(),
            is_late: Arc::default(),
        }
    }

    fn target(&self) -> Option<v1::Target> {
        Some(v1::Target {
            databases: vec![self.database.clone()],
            tables: Vec::new(),
        })
    }

    /// Takes a layer, in trouble.
    pub(crate) async fn backup(
        &mut self,
        append: bool,
        history: bool,
        random: &mut StdRng,
    ) -> Layer {
        let request = v1::SubmitBackupRequest {
            source: SOURCE.to_owned(),
            target: self.target(),
            ..self.cluster.backup_request(append, history)
        };
        let submitted = self.cluster.client().submit_backup(request).await;
        let job = submitted.expect("a backup job").job;
        // Of a full: where its hold begins, which is looked for whatever else happens.
        let before = tokio::spawn(begins(self.server));
        let (server, mut told) = (self.server, std::mem::take(&mut self.told));
        let late = Arc::clone(&self.is_late);
        let done = until_over(&mut self.cluster, server, job, random, &mut told, &late).await;
        self.told = told;
        assert_eq!(done.state, "succeeded", "{done:#?}");
        let before = before.await.expect("there is a slot");
        let end = eventually("the slot is moved on", || async {
            Some(server.psql("postgres", SLOT)).filter(|now| *now != before)
        })
        .await;
        Layer {
            as_of: done.as_of,
            end,
        }
    }

    /// Some times, with writers between them.
    pub(crate) async fn instants(&self, random: &mut StdRng) -> Vec<String> {
        let mut instants = Vec::new();
        for _ in 0..INSTANTS {
            let pause = Duration::from_millis(random.random_range(100..1500));
            tokio::time::sleep(pause).await;
            let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
            instants.push(self.server.psql("postgres", sql));
        }
        // Something is committed after the last.
        tokio::time::sleep(Duration::from_millis(500)).await;
        instants
    }

    /// Restores the database under another name, in trouble. Gives the tables that the layer has not at that instant, and without which the others were restored
    /// one by one.
    pub(crate) async fn restore(
        &mut self,
        as_of: &str,
        name: &str,
        random: &mut StdRng,
    ) -> Vec<&'static str> {
        let request = v1::SubmitRestoreRequest {
            target: self.target(),
            ..self.cluster.restore_request(as_of, name)
        };
        let job = self.restored(request, random).await;
        let error = job.error.as_ref().filter(|it| it.code == "not-covered");
        let Some(error) = error else {
            assert_eq!(job.state, "succeeded", "{job:#?}");
            return Vec::new();
        };
        let is_missing = |table: &&&str| {
            error
                .message
                .contains(&format!("public.{table} (page ranges"))
        };
        let missing: Vec<_> = TABLES.iter().filter(is_missing).copied().collect();
        let rest = TABLES.iter().filter(|table| !missing.contains(table));
        let tables = rest.map(|table| format!("{}.public.{table}", self.database));
        self.server.psql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
        let request = v1::SubmitRestoreRequest {
            target: Some(v1::Target {
                databases: Vec::new(),
                tables: tables.collect(),
            }),
            into_db: name.to_owned(),
            ..self.cluster.restore_request(as_of, "")
        };
        let job = self.restored(request, random).await;
        assert_eq!(job.state, "succeeded", "{job:#?}");
        missing
    }

    async fn restored(
        &mut self,
        request: v1::SubmitRestoreRequest,
        random: &mut StdRng,
    ) -> v1::Job {
        let submitted = self.cluster.client().submit_restore(request).await;
        let job = submitted.expect("a restore job").job;
        let (cluster, late) = (&mut self.cluster, &self.is_late);
        until_over(cluster, self.server, job, random, &mut self.told, late).await
    }

    /// What has happened.
    pub(crate) fn told(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.told {
            // Writing to a string cannot fail.
            let _ = write!(text, "{count} × {name}; ");
        }
        text
    }
}

/// Where the chain's slot stands: F, when a layer is done.
const SLOT: &str = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name LIKE 'holdfast%' AND NOT temporary";

/// Where the chain's slot stands, as soon as there is one.
async fn begins(server: &'static Server) -> String {
    let client = connect(server, "postgres").await;
    loop {
        let rows = client.query(SLOT, &[]).await.expect("slots");
        let begins = rows.first().and_then(|row| row.get::<_, Option<String>>(0));
        if let Some(begins) = begins {
            return begins;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
