//! Backups and restores of PostgreSQL servers by a cluster of real processes, while the application writes and processes are killed.

use holdfast_client::{ControlApi, v1};
use holdfast_postgres_testing::{Options, Server, Version};
use holdfast_tests::{
    Cluster, Pgbench, Shape, Truth, adds_up, content, eventually, left_behind, make_bank, record,
    register_servers, run,
};
use std::time::Duration;

const SOURCE: &str = "shop";

/// A cluster with three workers in each zone. Parts are small, so that there are many.
async fn cluster(zones: usize) -> Cluster {
    let shape = Shape {
        coordinators: 3,
        zones,
        workers_per_zone: 3,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    cluster.small_parts(1 << 20, 8 << 20).await;
    cluster
}

fn databases(names: &[&str]) -> Option<v1::Target> {
    Some(v1::Target {
        databases: names.iter().map(ToString::to_string).collect(),
        tables: Vec::new(),
    })
}

fn backup(cluster: &Cluster, append: bool, history: bool) -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        source: SOURCE.to_owned(),
        ..cluster.backup_request(append, history)
    }
}

fn restore(cluster: &Cluster, target: Option<v1::Target>) -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        from: cluster.collection(),
        subdir: "LATEST".to_owned(),
        target,
        ..v1::SubmitRestoreRequest::default()
    }
}

async fn start_backup(cluster: &Cluster, request: v1::SubmitBackupRequest) -> u64 {
    let submitted = cluster.client().submit_backup(request).await;
    submitted.expect("a backup job").job
}

async fn start_restore(cluster: &Cluster, request: v1::SubmitRestoreRequest) -> u64 {
    let submitted = cluster.client().submit_restore(request).await;
    submitted.expect("a restore job").job
}

/// Five instants, with writers between them.
async fn live(server: &Server, database: &str) -> Vec<Truth> {
    let mut truths = Vec::new();
    for _ in 0..5 {
        let writers = Pgbench::start(server, database);
        tokio::time::sleep(Duration::from_secs(1)).await;
        writers.stop();
        truths.push(record(server, database).await);
    }
    truths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_through_kills_to_five_instants() {
    let server = Server::start(Options::default());
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 10);
    let mut cluster = cluster(1).await;
    register_servers(&cluster, SOURCE, &[("m0", &server, 0)]).await;

    let writers = Pgbench::start(&server, &bank);
    let full = v1::SubmitBackupRequest {
        target: databases(&[&bank]),
        ..backup(&cluster, false, false)
    };
    let job = start_backup(&cluster, full).await;
    cluster.until_fraction(job, 0.2).await;
    cluster.workers[0].kill();
    cluster.until_fraction(job, 0.4).await;
    let leader = cluster.leader().await;
    cluster.coordinators[leader].kill();
    cluster.until_fraction(job, 0.6).await;
    cluster.workers[1].kill();
    let done = cluster.succeeded(job).await;
    assert!(done.rows >= 1_000_000, "{done:#?}");
    cluster.coordinators[leader].restart();
    cluster.workers[0].restart();
    cluster.workers[1].restart();

    let incremental = v1::SubmitBackupRequest {
        target: databases(&[&bank]),
        ..backup(&cluster, true, false)
    };
    let job = start_backup(&cluster, incremental).await;
    cluster.workers[2].kill();
    cluster.succeeded(job).await;
    cluster.workers[2].restart();
    writers.stop();

    let truths = live(&server, &bank).await;
    let history = v1::SubmitBackupRequest {
        target: databases(&[&bank]),
        ..backup(&cluster, true, true)
    };
    let job = start_backup(&cluster, history).await;
    let leader = cluster.leader().await;
    cluster.coordinators[leader].kill();
    cluster.succeeded(job).await;
    cluster.coordinators[leader].restart();

    for (number, truth) in truths.iter().enumerate() {
        let name = format!("then_{number}");
        let as_of = match number % 2 {
            0 => &truth.at,
            _ => &truth.log,
        };
        let request = v1::SubmitRestoreRequest {
            as_of: as_of.clone(),
            new_db_name: name.clone(),
            ..restore(&cluster, databases(&[&bank]))
        };
        let job = start_restore(&cluster, request).await;
        if number == 0 {
            cluster.until_fraction(job, 0.3).await;
            cluster.workers[0].kill();
        }
        cluster.succeeded(job).await;
        assert_eq!(content(&server, &name), truth.content, "{as_of}");
        assert!(adds_up(&server, &name));
    }
    let schema = server.psql(
        "then_4",
        "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'holdfast%'",
    );
    assert_eq!(schema, "0", "no marks are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_killed_and_jobs_are_paused() {
    let server = Server::start(Options::default().set("fsync", "on"));
    let bank = server.create_database("bank");
    make_bank(&server, &bank, 5);
    let cluster = cluster(1).await;
    register_servers(&cluster, SOURCE, &[("m0", &server, 0)]).await;
    let job = start_backup(&cluster, backup(&cluster, false, false)).await;
    cluster.until_fraction(job, 0.2).await;
    cluster.control(job, "pause").await.expect("it runs");
    cluster
        .until(job, "paused", |job| job.state == "paused")
        .await;
    cluster.control(job, "resume").await.expect("it is paused");
    cluster.until_fraction(job, 0.4).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.launch();
    cluster.succeeded(job).await;
    let truth = content(&server, &bank);

    let request = v1::SubmitRestoreRequest {
        new_db_name: "again".to_owned(),
        ..restore(&cluster, databases(&[&bank]))
    };
    let job = start_restore(&cluster, request.clone()).await;
    cluster.until_fraction(job, 0.3).await;
    cluster.control(job, "pause").await.expect("it runs");
    cluster
        .until(job, "paused", |job| job.state == "paused")
        .await;
    cluster.control(job, "resume").await.expect("it is paused");
    cluster.until_fraction(job, 0.5).await;
    server.kill();
    server.launch();
    cluster.succeeded(job).await;
    assert_eq!(content(&server, "again"), truth);

    // What a cancelled restore made is gone, and it can be repeated at once.
    let request = v1::SubmitRestoreRequest {
        new_db_name: "third".to_owned(),
        ..request
    };
    let job = start_restore(&cluster, request.clone()).await;
    cluster.until_fraction(job, 0.3).await;
    cluster.control(job, "cancel").await.expect("it runs");
    cluster
        .until(job, "cancelled", |job| job.state == "canceled")
        .await;
    let count = "SELECT count(*) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')";
    assert_eq!(server.psql("postgres", count), "2");
    let job = start_restore(&cluster, request).await;
    cluster.succeeded(job).await;
    assert_eq!(content(&server, "third"), truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_cut_at_one_time_and_restored_onto_others() {
    let (west, east) = (
        Server::start(Options::default()),
        Server::start(Options::default()),
    );
    for (server, shard) in [(&west, 1), (&east, 2)] {
        server.psql("postgres", "CREATE DATABASE app TEMPLATE template0");
        server.psql(
            "app",
            &format!(
                "CREATE TABLE orders (id int PRIMARY KEY, shard int, note text);
                 INSERT INTO orders SELECT n, {shard}, repeat('x', 50) FROM generate_series(1, 20000) n"
            ),
        );
    }
    let mut cluster = cluster(2).await;
    register_servers(&cluster, SOURCE, &[("west", &west, 0), ("east", &east, 1)]).await;
    // Nobody but the workers of its zone goes to a member.
    for worker in &mut cluster.workers[3..] {
        worker.kill();
    }
    let job = start_backup(&cluster, backup(&cluster, false, false)).await;
    cluster
        .until(job, "waiting for zone z1", |job| {
            job.waiting.iter().any(|why| why.contains("zone=z1"))
        })
        .await;
    for worker in &mut cluster.workers[3..] {
        worker.restart();
    }
    cluster.succeeded(job).await;
    west.psql("app", "UPDATE orders SET note = 'paid' WHERE id % 100 = 0");
    east.psql("app", "DELETE FROM orders WHERE id > 19000");
    let job = start_backup(&cluster, backup(&cluster, true, false)).await;
    cluster.succeeded(job).await;

    let sum = "SELECT count(*), sum(hashtextextended(o::text, 0)::numeric) FROM orders o";
    let (new_west, new_east) = (
        Server::start(Options::of(Version::V15)),
        Server::start(Options::of(Version::V18)),
    );
    register_servers(
        &cluster,
        "copy",
        &[("west", &new_west, 0), ("east", &new_east, 1)],
    )
    .await;
    let request = v1::SubmitRestoreRequest {
        into_source: "copy".to_owned(),
        ..restore(&cluster, databases(&["app"]))
    };
    let job = start_restore(&cluster, request).await;
    cluster.succeeded(job).await;
    assert_eq!(new_west.psql("app", sum), west.psql("app", sum));
    assert_eq!(new_east.psql("app", sum), east.psql("app", sum));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_holds_and_bad_input() {
    let server = Server::start(Options::default());
    server.psql("postgres", "CREATE DATABASE app TEMPLATE template0");
    server.psql(
        "app",
        "CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, v text);
         INSERT INTO sales.orders SELECT n, n::text FROM generate_series(1, 1000) n;
         CREATE TABLE sales.lines (id int PRIMARY KEY REFERENCES sales.orders); INSERT INTO sales.lines VALUES (1);
         CREATE TABLE loose (v text); INSERT INTO loose VALUES ('a'), ('a')",
    );
    let cluster = cluster(1).await;
    register_servers(&cluster, SOURCE, &[("m0", &server, 0)]).await;
    let client = cluster.client();

    // What is refused, and why.
    let wrong = v1::SubmitBackupRequest {
        as_of: "-10s".to_owned(),
        ..backup(&cluster, false, false)
    };
    let fault = client
        .submit_backup(wrong)
        .await
        .expect_err("a log has no past");
    assert!(fault.message.contains("as of the past"), "{fault}");
    let hint = fault.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("AS OF"), "{hint}");
    let fault = client
        .submit_backup(backup(&cluster, true, false))
        .await
        .expect_err("nothing to append to");
    assert!(fault.message.contains("latest backup"), "{fault}");
    let unknown = v1::SubmitBackupRequest {
        target: databases(&["nowhere"]),
        ..backup(&cluster, false, false)
    };
    let job = start_backup(&cluster, unknown).await;
    let failed = cluster.until_over(job, "failed").await;
    assert!(
        failed
            .error
            .is_some_and(|fault| fault.message.contains("nowhere"))
    );
    eventually("the failed job holds nothing", || async {
        left_behind(&server, "app").is_empty().then_some(())
    })
    .await;

    // Without a chain nothing is held, and nothing can be appended.
    let alone = v1::SubmitBackupRequest {
        start_chain: Some(false),
        target: databases(&["app"]),
        ..backup(&cluster, false, false)
    };
    let job = start_backup(&cluster, alone).await;
    cluster.succeeded(job).await;
    eventually("nothing is held", || async {
        left_behind(&server, "app").is_empty().then_some(())
    })
    .await;
    let fault = client
        .submit_backup(v1::SubmitBackupRequest {
            target: databases(&["app"]),
            ..backup(&cluster, true, false)
        })
        .await
        .expect_err("no chain was started");
    assert!(fault.hint.is_some(), "{fault}");

    // Tables into a database that exists.
    server.psql("postgres", "CREATE DATABASE other TEMPLATE template0");
    let tables = Some(v1::Target {
        databases: Vec::new(),
        tables: vec!["app.sales.orders".to_owned(), "app.public.loose".to_owned()],
    });
    let request = v1::SubmitRestoreRequest {
        into_db: "other".to_owned(),
        ..restore(&cluster, tables)
    };
    let job = start_restore(&cluster, request.clone()).await;
    cluster.succeeded(job).await;
    let orders = "SELECT count(*), sum(id), count(DISTINCT v) FROM sales.orders";
    assert_eq!(server.psql("other", orders), "1000|500500|1000");
    assert_eq!(server.psql("other", "SELECT * FROM loose"), "a\na");
    // Once more, onto what exists.
    let job = start_restore(&cluster, request).await;
    let failed = cluster.until_over(job, "failed").await;
    let fault = failed.error.expect("a reason");
    assert!(fault.message.contains("already"), "{fault:?}");
    assert_eq!(server.psql("other", orders), "1000|500500|1000");
    let request = restore(&cluster, databases(&["app"]));
    let job = start_restore(&cluster, request).await;
    let failed = cluster.until_over(job, "failed").await;
    assert!(
        failed
            .error
            .is_some_and(|fault| fault.message.contains("app"))
    );
    assert_eq!(server.psql("app", orders), "1000|500500|1000");
}

/// `holdfast job show`, as people and as programs see it.
fn shown(cluster: &Cluster, job: u64) -> (String, serde_json::Value) {
    let address = &cluster.coordinator_addresses()[0];
    let line = ["--coordinator", address, "job", "show", &job.to_string()];
    let text = run(&line);
    assert_eq!(text.code, 0, "{}", text.stderr);
    let json = run(&[&line[..], &["--json"]].concat());
    (text.stdout, json.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_tells_what_it_is_busy_with_and_what_did_not_go_as_usual() {
    let server = Server::start(Options::default());
    server.psql("postgres", "CREATE ROLE gone_role");
    server.psql("postgres", "CREATE DATABASE app TEMPLATE template0");
    // An index build that waits while a file is there.
    server.psql(
        "app",
        "CREATE TABLE parent (id int PRIMARY KEY, o oid);
         CREATE TABLE child (id int PRIMARY KEY, parent int CONSTRAINT child_parent REFERENCES parent);
         SET session_replication_role = replica; INSERT INTO child VALUES (1, 1); RESET session_replication_role;
         CREATE FUNCTION waits(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            WHILE (pg_catalog.pg_stat_file('gate', true)).size IS NOT NULL LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP; RETURN $1; END $$;
         CREATE INDEX gated ON child (waits(id)); GRANT SELECT ON child TO gone_role",
    );
    let cluster = cluster(1).await;
    register_servers(&cluster, SOURCE, &[("m0", &server, 0)]).await;
    let request = v1::SubmitBackupRequest {
        target: databases(&["app"]),
        ..backup(&cluster, false, false)
    };
    let job = start_backup(&cluster, request).await;
    cluster.succeeded(job).await;
    let (text, json) = shown(&cluster, job);
    let oids = "database app: public.parent: columns of type oid keep their numbers";
    assert!(text.contains(&format!("note: {oids}")), "{text}");
    let notes = json["notes"].as_array().expect("a list");
    let is_oids = |note: &&serde_json::Value| note.as_str().is_some_and(|it| it.starts_with(oids));
    assert_eq!(notes.iter().filter(is_oids).count(), 1, "{json:#}");

    server.psql("app", "DROP OWNED BY gone_role; DROP ROLE gone_role");
    server.psql("postgres", "COPY (SELECT 1) TO PROGRAM 'cat > gate'");
    let request = v1::SubmitRestoreRequest {
        new_db_name: "again".to_owned(),
        ..restore(&cluster, databases(&["app"]))
    };
    let job = start_restore(&cluster, request).await;
    cluster
        .until(job, "only the index that waits is left", |job| {
            let mut running = job.members.iter().flat_map(|member| &member.running);
            running.any(|task| {
                task.step.as_ref().is_some_and(|step| {
                    step.phase == "indexes of database again"
                        && (step.done, step.total) == (2, 3)
                        && step.now.iter().any(|name| name.contains("gated"))
                })
            })
        })
        .await;
    let (text, json) = shown(&cluster, job);
    assert!(text.contains("running, finishing"), "{text}");
    assert!(
        text.contains("indexes of database again: 2 of 3, ") && text.contains("gated"),
        "{text}"
    );
    let rights = "database again: rights: those of roles that do not exist are left out: gone_role";
    assert!(text.contains(&format!("note: {rights}")), "{text}");
    let step = &json["members"][0]["running"][0]["step"];
    assert_eq!(step["done"], 2, "{json:#}");
    server.psql(
        "postgres",
        "COPY (SELECT 1) TO PROGRAM 'cat > gone && rm gone gate'",
    );
    cluster.succeeded(job).await;
    let (text, _) = shown(&cluster, job);
    assert!(
        text.contains("note: database again: put back NOT VALID: "),
        "{text}"
    );
    assert!(text.contains(rights), "{text}");
}
