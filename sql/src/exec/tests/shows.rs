//! What is shown: jobs, backups, sources, plans.

use std::time::Duration;

use holdfast_client::v1;

use super::Scene;
use crate::exec::fake::FakeCluster;
use crate::rows::{Rows, Value};

fn job(id: u64, kind: &str, state: &str, finished: &str) -> v1::Job {
    v1::Job {
        id,
        kind: kind.to_owned(),
        description: "x".repeat(150),
        state: state.to_owned(),
        created: "2026-11-23T19:00:00Z".to_owned(),
        started: format!("2026-11-23T19:0{}:00Z", id % 10),
        finished: finished.to_owned(),
        ..v1::Job::default()
    }
}

fn with_jobs() -> Scene {
    let scene = Scene::new(FakeCluster::new());
    for job in [
        job(1, "BACKUP", "succeeded", "2026-11-23T19:10:00Z"),
        job(2, "BACKUP", "running", ""),
        job(3, "RESTORE", "failed", "2026-11-23T19:20:00Z"),
        job(4, "BACKUP", "paused", ""),
    ] {
        scene.cluster.put(job);
    }
    scene
}

#[tokio::test]
async fn jobs_are_shown_in_the_models_order_and_form() {
    let scene = with_jobs();
    let rows = scene.rows("SHOW JOBS").await;
    let names: Vec<&str> = rows
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(
        names[..6],
        [
            "job_id",
            "job_type",
            "description",
            "statement",
            "user_name",
            "status"
        ]
    );
    let ids: Vec<&Value> = rows.rows.iter().map(|row| &row[0]).collect();
    assert_eq!(
        ids,
        [
            &Value::Int(4),
            &Value::Int(2),
            &Value::Int(3),
            &Value::Int(1)
        ]
    );
    let length = |rows: &Rows| match &rows.rows[0][2] {
        Value::Text(text) => text.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(length(&rows), 100);
    assert_eq!(length(&scene.rows("SHOW JOB 1").await), 150);
    assert!(scene.rows("SHOW JOB 99").await.rows.is_empty());
    assert!(scene.rows("SHOW AUTOMATIC JOBS").await.rows.is_empty());

    for (sql, expected) in [
        (
            "SELECT job_id FROM [SHOW JOBS] WHERE status = 'failed'",
            vec![3],
        ),
        (
            "WITH x AS (SHOW JOBS) SELECT job_id FROM x WHERE job_type = 'BACKUP' ORDER BY job_id LIMIT 2",
            vec![1, 2],
        ),
        ("SELECT count(*) FROM [SHOW JOBS]", vec![4]),
        (
            "SELECT * FROM (SELECT max(job_id) FROM [SHOW JOBS]) y",
            vec![4],
        ),
        (
            "SELECT job_id FROM [SHOW JOBS SELECT job_id FROM [SHOW JOBS] WHERE status = 'running']",
            vec![2],
        ),
    ] {
        let rows = scene.rows(sql).await;
        let ids: Vec<Vec<Value>> = expected
            .into_iter()
            .map(|id| vec![Value::Int(id)])
            .collect();
        assert_eq!(rows.rows, ids, "{sql}");
    }
    assert_eq!(scene.error("SELECT * FROM jobs").await.state, "42P01");
}

#[tokio::test]
async fn jobs_are_paused_resumed_and_cancelled_with_a_count() {
    let scene = with_jobs();
    assert_eq!(
        scene.done("PAUSE JOB 2 WITH REASON = 'noise'").await,
        "PAUSE JOBS 1"
    );
    assert!(scene.cluster.asked()[0].contains("verb: \"pause\", reason: \"noise\""));
    assert_eq!(
        scene.done("CANCEL JOBS VALUES (2), (4), (2)").await,
        "CANCEL JOBS 2"
    );
    assert_eq!(
        scene
            .done("RESUME JOBS SELECT job_id FROM [SHOW JOBS] WHERE status = 'paused'")
            .await,
        "RESUME JOBS 1"
    );
    scene.cluster.asked();
    for (sql, tag, ids) in [
        ("PAUSE ALL BACKUP JOBS", "PAUSE JOBS 1", &["job: 2"][..]),
        ("RESUME ALL BACKUP JOBS", "RESUME JOBS 1", &["job: 4"]),
        (
            "CANCEL ALL BACKUP JOBS",
            "CANCEL JOBS 2",
            &["job: 4", "job: 2"],
        ),
        ("PAUSE ALL RESTORE JOBS", "PAUSE JOBS 0", &[]),
    ] {
        assert_eq!(scene.done(sql).await, tag);
        let asked = scene.cluster.asked();
        assert_eq!(asked.len(), ids.len(), "{sql}");
        for (asked, id) in asked.iter().zip(ids) {
            assert!(asked.contains(id), "{sql}: {asked}");
        }
    }
    let error = scene.error("PAUSE JOBS VALUES (2), (1)").await;
    assert_eq!(error.state, "55000");
    assert_eq!(
        error.detail.as_deref(),
        Some("1 jobs before it were changed")
    );
    assert_eq!(scene.error("PAUSE JOB 99").await.state, "42704");
    assert_eq!(scene.error("PAUSE JOB -1").await.state, "22023");
    assert_eq!(scene.error("PAUSE JOB 'x'").await.state, "22P02");
}

#[tokio::test]
async fn when_complete_waits_for_the_end() {
    let scene = with_jobs();
    let ending = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        scene
            .cluster
            .put(job(2, "BACKUP", "succeeded", "2026-11-23T19:30:00Z"));
    };
    let (rows, ()) = tokio::join!(
        scene.rows("SHOW JOBS WHEN COMPLETE VALUES (2), (3)"),
        ending
    );
    let states: Vec<&Value> = rows.rows.iter().map(|row| &row[5]).collect();
    assert_eq!(states, [&Value::text("succeeded"), &Value::text("failed")]);
}

#[tokio::test]
async fn backups_are_listed_and_shown_layer_by_layer() {
    let scene = Scene::new(FakeCluster::new());
    let paths = scene.rows("SHOW BACKUPS IN 'u'").await;
    assert_eq!(
        paths.rows,
        [
            [Value::text("/2026/11/23-190800.00")],
            [Value::text("/2026/11/24-190800.00")]
        ]
    );
    let paths = scene
        .rows("SHOW BACKUPS IN 'u' NEWER THAN '2026-11-24' OLDER THAN '2026-11-25'")
        .await;
    assert_eq!(paths.rows, [[Value::text("/2026/11/24-190800.00")]]);

    let rows = scene
        .rows("SHOW BACKUP FROM LATEST IN 'u' WITH check_files")
        .await;
    let shown: Vec<String> = (rows.rows.iter())
        .map(|row| {
            let cells = row.iter().map(|value| match value {
                Value::Null => "-".to_owned(),
                Value::Text(text) => text.clone(),
                Value::Int(number) => number.to_string(),
                Value::Time(time) => time.to_string(),
                other => format!("{other:?}"),
            });
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "- - bank database full - 2026-11-23T19:08:00Z 0 0 - - 0 m0",
            "bank public accounts table full - 2026-11-23T19:08:00Z 60 6 - - 30 m0",
            "bank app ledger table full - 2026-11-23T19:08:00Z 40 4 - - 20 m0",
            "- - bank database incremental 2026-11-23T19:08:00Z 2026-11-23T20:08:00Z 0 0 - - 0 m0",
            "bank public accounts table incremental 2026-11-23T19:08:00Z 2026-11-23T20:08:00Z 60 6 - - 30 m0",
            "bank app ledger table incremental 2026-11-23T19:08:00Z 2026-11-23T20:08:00Z 40 4 - - 20 m0",
        ]
    );
    let (_, notices) = scene.run_with("SHOW BACKUP FROM LATEST IN 'u'", &[]).await;
    assert_eq!(notices, ["restorable: 2026-11-23T19:08:00Z"]);
    let rows = scene
        .rows("SHOW BACKUP FROM LATEST IN 'u' WITH as_json")
        .await;
    assert!(
        matches!(&rows.rows[0][0], Value::Json(json) if json.contains("\"backup_type\":\"full\""))
    );
    let rows = scene.rows("SHOW BACKUP VALIDATE FROM LATEST IN 'u'").await;
    assert_eq!(rows.rows, [[Value::text("No problems found!")]]);
}

#[tokio::test]
async fn missing_files_are_an_error_that_lists_ten() {
    let mut cluster = FakeCluster::new();
    cluster.backup.problems = (0..12)
        .map(|number| format!("object {number} is missing"))
        .collect();
    let scene = Scene::new(cluster);
    let error = scene
        .error("SHOW BACKUP FROM LATEST IN 'u' WITH check_files")
        .await;
    assert_eq!(
        (error.state, error.message.as_str()),
        ("XX001", "files are missing from the backup")
    );
    let detail = error.detail.unwrap_or_default();
    assert!(
        detail.contains("object 9 is missing") && detail.ends_with("… and 2 more"),
        "{detail}"
    );
}

#[tokio::test]
async fn sources_and_settings_are_made_and_shown() {
    let scene = Scene::new(FakeCluster::new());
    let asked = scene
        .asks("CREATE SOURCE s MEMBERS (a AT 'postgres://u@h/d' WITH (password = 'p', max_rate = '64MiB', streams = 2), b AT 'postgres://u@i/d')")
        .await;
    for part in [
        "kind: \"postgres\"",
        "bytes_per_second: Some(67108864)",
        "streams: Some(2)",
        "password: \"p\"",
    ] {
        assert!(asked.contains(part), "{asked}");
    }
    assert!(
        scene
            .asks("CREATE SOURCE s AS '127.0.0.1:1'")
            .await
            .contains("kind: \"mvcc\"")
    );
    assert_eq!(
        scene.error("CREATE SOURCE bank AS 'x:1'").await.state,
        "42710"
    );
    let (answer, notices) = scene
        .run_with("CREATE SOURCE IF NOT EXISTS bank AS 'x:1'", &[])
        .await;
    assert!(answer.is_ok() && notices[0].contains("skipping"));
    assert!(scene.done("DROP SOURCE IF EXISTS nowhere").await == "DROP SOURCE");
    assert_eq!(scene.error("DROP SOURCE nowhere").await.state, "42704");
    assert!(
        scene
            .asks("ALTER SOURCE shop AS 'postgres://u@h/d'")
            .await
            .contains("kind: \"postgres\"")
    );
    assert_eq!(
        scene
            .error("CREATE SOURCE s AS 'x:1' WITH streams = 'many'")
            .await
            .state,
        "22023"
    );

    let rows = scene.rows("SHOW CREATE SOURCE bank").await;
    let created = "CREATE SOURCE bank KIND mvcc MEMBERS (m0 AT '127.0.0.1:1' WITH OPTIONS (locality = 'zone=a', password = '*****'))";
    assert_eq!(rows.rows, [[Value::text("bank"), Value::text(created)]]);
    assert_eq!(scene.rows("SHOW SOURCES").await.rows.len(), 2);
    assert_eq!(scene.rows("SHOW SOURCE bank").await.rows.len(), 1);
    let rows = scene.rows("CHECK SOURCE shop").await;
    assert_eq!(
        rows.rows[1][3..7],
        [
            Value::text("wal_level"),
            Value::text("blocks"),
            Value::text("is replica"),
            Value::text("set it to logical")
        ]
    );

    assert_eq!(
        scene.rows("SHOW CLUSTER SETTINGS").await.rows[0][0],
        Value::text("max_jobs")
    );
    assert_eq!(
        scene.rows("SHOW CLUSTER SETTING part_size").await.rows,
        [[Value::Int(5)]]
    );
    let error = scene.error("SHOW CLUSTER SETTING part_sise").await;
    assert_eq!(error.hint.as_deref(), Some("did you mean part_size?"));
    assert!(
        scene
            .asks("SET CLUSTER SETTING part_size = 3 * 2")
            .await
            .contains("(\"set_setting\", \"part_size\", 6)")
    );
    assert!(scene.asks("DROP HOLD 3").await.contains("3"));
    for sql in ["SHOW WORKERS", "SHOW CLUSTER"] {
        assert_eq!(scene.rows(sql).await.rows.len(), 1, "{sql}");
    }
    for sql in ["SHOW HOLDS", "SHOW COORDINATORS"] {
        assert!(scene.rows(sql).await.rows.is_empty(), "{sql}");
    }
}

#[tokio::test]
async fn explain_tells_without_doing() {
    let scene = Scene::new(FakeCluster::new());
    let text = |rows: Rows| {
        let lines = rows.rows.into_iter().flatten().map(|value| match value {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let shown = text(
        scene
            .rows("EXPLAIN BACKUP DATABASE a INTO LATEST IN 's3://hush'")
            .await,
    );
    for part in [
        "BACKUP DATABASE a INTO LATEST IN '*****'",
        "source: bank of kind mvcc",
        "target: a",
        "layer: an incremental on 2026/11/23-190800.00 from 2026-11-23T20:08:00Z",
        "member: m0 in zone=a, workers near it: w0",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(!shown.contains("hush"));
    let shown = text(scene.rows("EXPLAIN RESTORE FROM LATEST IN 'u'").await);
    assert!(shown.contains("plan: RESTORE the whole source"), "{shown}");
    let asked = scene.cluster.asked();
    assert!(
        asked.iter().all(|asked| !asked.contains("SubmitBackup")),
        "{asked:?}"
    );
    assert!(text(scene.rows("EXPLAIN SHOW WORKERS").await).contains("columns: worker_id"));
}
