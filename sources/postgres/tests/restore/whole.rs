//! Whole databases.

use crate::support::{
    Backup, Watch, contents, hidden_databases, make_everything, restore_of, run, run_or_die,
    schema_text,
};
use holdfast_postgres_testing::Server;

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
    let name = format!("{database}_again");
    let watch = Watch::default();
    let restore = restore_of(server, &backup, 101, &name);
    run(&backup, &restore, &watch).await.expect("restored");
    assert_eq!(watch.warnings(), Vec::<String>::new());
    assert_same(
        &schema_text(server, &database, true),
        &schema_text(server, &name, true).replace(&name, &database),
    );
    assert_same(&contents(server, &database), &contents(server, &name));
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
        &schema_text(server, &database, false),
        &schema_text(server, &name, false),
    );
    assert_same(&contents(server, &database), &contents(server, &name));
    assert!(!hidden_databases(server).contains("_102_"));
}
