//! Schedules.

use super::Scene;
use crate::exec::fake::FakeCluster;
use crate::rows::Value;

#[tokio::test]
async fn a_schedule_is_asked_for_as_it_was_written() {
    let scene = Scene::new(FakeCluster::new());
    let asked = scene
        .asks(
            "CREATE SCHEDULE 'nightly' FOR BACKUP TABLE app.t OF SOURCE shop INTO 'u' WITH revision_history \
             RECURRING '@hourly' FULL BACKUP '@daily' \
             WITH SCHEDULE OPTIONS first_run = 'now', on_execution_failure = 'pause', ignore_existing_backups",
        )
        .await;
    for part in [
        "label: \"nightly\"",
        "source: \"shop\"",
        "tables: [\"app.public.t\"]",
        "revision_history: true",
        "recurring: \"@hourly\"",
        "full_backup: \"@daily\"",
        "first_run: \"now\"",
        "on_execution_failure: \"pause\"",
        "ignore_existing_backups: true",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let asked = scene
        .asks("CREATE SCHEDULE FOR BACKUP INTO 'u' RECURRING '@hourly' FULL BACKUP ALWAYS")
        .await;
    assert!(asked.contains("full_backup: \"ALWAYS\""), "{asked}");
    let (answer, notices) = scene
        .run_with(
            "CREATE SCHEDULE IF NOT EXISTS 'nightly' FOR BACKUP INTO 'u' RECURRING '@daily'",
            &[],
        )
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    assert!(notices[0].contains("already exists"), "{notices:?}");
}

#[tokio::test]
async fn a_pair_is_changed_by_either_half() {
    let scene = Scene::new(FakeCluster::new());
    let asked = scene
        .asks(
            "ALTER BACKUP SCHEDULE 71 SET LABEL 'l', SET INTO 'v', SET RECURRING '@daily', SET FULL BACKUP ALWAYS, \
             SET WITH revision_history = false, SET SCHEDULE OPTION on_previous_running = 'skip', EXECUTE FULL IMMEDIATELY",
        )
        .await;
    for part in [
        "schedule: 71",
        "label: Some(\"l\")",
        "(\"at\", \"v\", [])",
        "recurring: Some(\"@daily\")",
        "full_backup: Some(\"ALWAYS\")",
        "revision_history: Some(false)",
        "on_previous_running: Some(\"skip\")",
        "schedule: 70, verb: \"run\"",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let asked = scene
        .asks("ALTER BACKUP SCHEDULE 70 EXECUTE IMMEDIATELY")
        .await;
    assert!(
        asked.contains("schedule: 71, verb: \"run\""),
        "the incrementals: {asked}"
    );
    for (sql, text) in [
        (
            "ALTER BACKUP SCHEDULE 70 SET LABEL 'a', SET LABEL 'b'",
            "SET LABEL at most once",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET SCHEDULE OPTION first_run = 'now'",
            "CREATE SCHEDULE only",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET SCHEDULE OPTION on_previus_running = 'skip'",
            "no schedule option",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET SCHEDULE OPTION on_previous_running",
            "needs a value",
        ),
    ] {
        let error = scene.error(sql).await;
        assert!(error.message.contains(text), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn schedules_are_shown_in_the_models_columns() {
    let scene = Scene::new(FakeCluster::new());
    let made = scene
        .rows("CREATE SCHEDULE FOR BACKUP INTO 'u' RECURRING '@hourly'")
        .await;
    assert_eq!(
        made.rows[0][2],
        Value::text("PAUSED: Waiting for initial backup to complete")
    );
    assert_eq!(made.rows[1][2], Value::text("ACTIVE"));
    let shown = scene.rows("SHOW SCHEDULES FOR BACKUP").await;
    let cells = |row: usize, column: usize| shown.rows[row][column].clone();
    assert_eq!(cells(1, 9), Value::text("NO_WAIT"));
    assert_eq!(cells(1, 10), Value::text("RETRY_SCHED"));
    assert_eq!(cells(0, 12), Value::text("INCREMENTAL"));
    let Value::Text(statement) = cells(0, 11) else {
        panic!("a statement");
    };
    assert!(
        statement.starts_with("BACKUP OF SOURCE bank INTO LATEST IN 's3://b/x'"),
        "{statement}"
    );
    assert_eq!(scene.rows("SHOW PAUSED SCHEDULES").await.rows.len(), 1);
    assert_eq!(scene.rows("SHOW SCHEDULE 70").await.rows.len(), 1);
    let created = scene.rows("SHOW CREATE SCHEDULE 71").await;
    let Value::Text(statement) = created.rows[0][1].clone() else {
        panic!("a statement");
    };
    for part in ["'nightly'", "RECURRING '@hourly'", "FULL BACKUP '@daily'"] {
        assert!(statement.contains(part), "{part}: {statement}");
    }
    let all = scene.rows("SHOW CREATE ALL SCHEDULES").await;
    assert_eq!(all.rows.len(), 2);
    let one = "SELECT schedule_id FROM [SHOW CREATE ALL SCHEDULES] WHERE create_statement LIKE '%nightly%' ORDER BY 1 LIMIT 1";
    assert_eq!(scene.rows(one).await.rows.len(), 1);
    let error = scene.error("SHOW SCHEDULE 1").await;
    assert_eq!(error.state, "42704");
}

#[tokio::test]
async fn several_schedules_are_controlled_at_once() {
    let scene = Scene::new(FakeCluster::new());
    assert_eq!(scene.done("PAUSE SCHEDULE 70").await, "PAUSE SCHEDULES 1");
    let sql = "RESUME SCHEDULES SELECT id FROM [SHOW SCHEDULES]";
    assert_eq!(scene.done(sql).await, "RESUME SCHEDULES 2");
    // The incrementals go with their fulls, and are not asked to go again.
    scene.cluster.asked();
    let sql = "DROP SCHEDULES VALUES (70), (71)";
    assert_eq!(scene.done(sql).await, "DROP SCHEDULES 2");
    assert_eq!(scene.cluster.asked().len(), 1);
    let error = scene.error("EXECUTE SCHEDULE 70").await;
    assert!(error.message.contains("EXECUTE IMMEDIATELY"), "{error:?}");
}
