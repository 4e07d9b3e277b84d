//! Whole databases.

use crate::support::{
    Backup, Watch, contents, data_session, hidden_databases, make_everything, restore_of, run,
    run_or_die, schema_text, sums,
};
use holdfast_postgres::fingerprint::fingerprint;
use holdfast_postgres::restore::index_progress;
use holdfast_postgres::schema::{Plan, PlanOptions};
use holdfast_postgres_testing::{Options, Server};

#[track_caller]
fn assert_same(left: &str, right: &str) {
    if left != right {
        let differences: Vec<String> = left
            .lines()
            .zip(right.lines())
            .filter(|(left, right)| left != right)
            .take(12)
            .map(|(left, right)| format!("- {left}\n+ {right}"))
            .collect();
        panic!("they differ:\n{}", differences.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_object_comes_back_under_another_name_while_the_original_lives() {
    let server = Server::shared();
    let database = make_everything(server);
    let backup = Backup::take(server, &database).await;
    // The ways around a plain run of the archive are taken, not only provided.
    let plan = Plan::of(&backup.archive, &PlanOptions::default());
    let split = plan.indexes.iter().filter(|index| index.split.is_some());
    let validated = plan.after.iter().filter(|step| step.validated.is_some());
    assert!(split.count() > 15 && validated.count() > 5);
    let name = format!("{database}_again");
    let watch = Watch::default();
    let restore = restore_of(server, &backup, 101, &name);
    run(&backup, &restore, &watch).await.expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    assert_same(
        &schema_text(server, &database, None, true),
        &schema_text(server, &name, None, true).replace(&name, &database),
    );
    assert_same(&contents(server, &database), &contents(server, &name));
    assert_eq!(
        sums(server, &database, &backup).await,
        sums(server, &name, &backup).await
    );
    restore.publish(true, true).await.expect("said once more");
    restore.discard().await.expect("nothing to throw away");
    assert_eq!(
        server
            .psql(&name, "SELECT count(*) FROM app.customer")
            .trim(),
        "500"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_killed_at_any_step_goes_on_or_leaves_nothing() {
    let server = Server::shared();
    let database = make_everything(server);
    let backup = Backup::take(server, &database).await;
    let name = format!("{database}_killed");
    let mut kills = 0;
    // Each life ends a few steps later than the one before, counted from its own beginning.
    for die_at in (1..).step_by(9) {
        let watch = Watch {
            die_at: Some(die_at),
            ..Watch::default()
        };
        if run_or_die(&backup, &restore_of(server, &backup, 102, &name), &watch).await {
            break;
        }
        kills += 1;
        if kills == 5 || kills == 12 {
            let restore = restore_of(server, &backup, 102, &name);
            restore.discard().await.expect("discarded");
            restore.discard().await.expect("nothing left to discard");
            assert!(!hidden_databases(server).contains("_102_"));
        }
    }
    assert!(kills > 12, "only {kills} kills");
    assert_same(
        &schema_text(server, &database, None, false),
        &schema_text(server, &name, None, false),
    );
    assert_same(&contents(server, &database), &contents(server, &name));
    assert!(!hidden_databases(server).contains("_102_"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fingerprint_sees_one_changed_value_and_adds_up_over_pages() {
    let server = Server::shared();
    let database = server.create_database("sums");
    server.psql(
        &database,
        "CREATE TABLE t (a integer PRIMARY KEY, b text); INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 2000) AS n",
    );
    let backup = Backup::take(server, &database).await;
    let layout = &backup.tables.first().expect("one table").layout;
    let session = data_session(server, &database).await;
    let of = async |pages| {
        fingerprint(&session, layout, "public", "t", pages)
            .await
            .expect("summed")
    };
    let whole = of(None).await;
    assert_eq!(whole.rows.0, 2000);
    let mut parts = of(Some(0..10)).await;
    assert!(parts.rows.0 > 0 && parts.rows.0 < 2000);
    parts.merge(&of(Some(10..u32::MAX)).await);
    assert_eq!(whole, parts);
    server.psql(
        &database,
        "UPDATE t SET a = -a WHERE a = 7; UPDATE t SET a = -a WHERE a = -7",
    );
    assert_eq!(whole, of(None).await);
    server.psql(&database, "UPDATE t SET b = 'y' WHERE a = 7");
    assert_ne!(whole.digest, of(None).await.digest);
    let control = crate::support::session(server, &database).await;
    assert!(
        fingerprint(&control, layout, "public", "t", None)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_survives_crashes_of_the_server() {
    let old = Server::shared();
    let server = Server::start(Options::default());
    let database = make_everything(old);
    let backup = Backup::take(old, &database).await;
    server.psql(
        "postgres",
        "CREATE ROLE hf_owner; CREATE ROLE hf_reader; CREATE ROLE \"hf Odd\"\"Role\"",
    );
    let mut crashes = 0;
    for die_at in [30, 130, 210] {
        let watch = Watch {
            die_at: Some(die_at),
            ..Watch::default()
        };
        let restore = restore_of(&server, &backup, 103, "crashed");
        let outcome = {
            let running = run(&backup, &restore, &watch);
            let mut running = std::pin::pin!(running);
            tokio::select! {
                biased;
                () = watch.dying.notified() => {
                    server.kill();
                    crashes += 1;
                    running.await
                }
                outcome = &mut running => outcome,
            }
        };
        match outcome {
            Err(fault) => {
                assert!(fault.is_retryable(), "{fault:?}");
                server.launch();
            }
            Ok(()) => break,
        }
    }
    assert_eq!(crashes, 3);
    let session = crate::support::session(&server, "postgres").await;
    assert_eq!(index_progress(&session).await, Ok(Vec::new()));
    run(
        &backup,
        &restore_of(&server, &backup, 103, "crashed"),
        &Watch::default(),
    )
    .await
    .expect("restored at last");
    assert_same(
        &schema_text(old, &database, None, false),
        &schema_text(&server, "crashed", None, false),
    );
    assert_same(&contents(old, &database), &contents(&server, "crashed"));
}
