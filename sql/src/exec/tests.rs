//! Statements against a cluster that remembers what it was asked.

use std::sync::Arc;
use std::time::Duration;

use holdfast_client::v1;
use holdfast_env::Env;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fake::{FakeCluster, source};
use super::session::Transaction;
use super::{Answer, Executor, Session};
use crate::error::SqlError;
use crate::rows::{Rows, Value};
use crate::syntax::parse;

struct Scene {
    cluster: Arc<FakeCluster>,
    executor: Executor,
    session: Session,
    cancelled: CancellationToken,
}

impl Scene {
    fn new(cluster: FakeCluster) -> Self {
        let cluster = Arc::new(cluster);
        Self {
            executor: Executor::new(Arc::clone(&cluster) as _, Env::system()),
            cluster,
            session: Session::new("ann", "bank"),
            cancelled: CancellationToken::new(),
        }
    }

    /// The answer, and the notices.
    async fn run_with(
        &self,
        sql: &str,
        parameters: &[Value],
    ) -> (Result<Answer, SqlError>, Vec<String>) {
        let statement = parse(sql).expect(sql).remove(0);
        let (sender, mut receiver) = mpsc::channel(100);
        let answer = self
            .executor
            .run(
                &self.session,
                &statement,
                parameters,
                &sender,
                &self.cancelled,
            )
            .await;
        if let Ok(Answer::Rows { rows, .. }) = &answer {
            let columns = self.executor.columns(&self.session, &statement).expect(sql);
            assert_eq!(Some(&rows.columns), columns.as_ref(), "{sql}");
        }
        let mut notices = Vec::new();
        while let Ok(notice) = receiver.try_recv() {
            notices.push(notice.message);
        }
        (answer, notices)
    }

    async fn rows(&self, sql: &str) -> Rows {
        match self.run_with(sql, &[]).await.0 {
            Ok(Answer::Rows { rows, .. }) => rows,
            other => panic!("{sql}: {other:?}"),
        }
    }

    async fn done(&self, sql: &str) -> String {
        match self.run_with(sql, &[]).await.0 {
            Ok(Answer::Done(tag)) => tag,
            other => panic!("{sql}: {other:?}"),
        }
    }

    async fn error(&self, sql: &str) -> SqlError {
        self.run_with(sql, &[]).await.0.expect_err(sql)
    }

    /// What the cluster was asked by a statement.
    async fn asks(&self, sql: &str) -> String {
        let answer = self.run_with(sql, &[]).await.0;
        answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.cluster.asked().join("\n")
    }
}

#[tokio::test]
async fn a_backup_is_asked_for_as_it_was_written() {
    let scene = Scene::new(FakeCluster::new());
    for (sql, parts) in [
        (
            "BACKUP INTO 'file:///x'",
            &[
                "source: \"bank\"",
                "into: \"file:///x\"",
                "Some(Full(true))",
                "as_of: \"\"",
                "databases: []",
            ][..],
        ),
        (
            "BACKUP TABLE app.t INTO LATEST IN 'u' WITH revision_history",
            &[
                "AppendToLatest(true)",
                "tables: [\"app.t\"]",
                "revision_history: true",
            ],
        ),
        (
            "BACKUP TABLE app.t OF SOURCE shop INTO 'sub' IN 'u'",
            &[
                "source: \"shop\"",
                "AppendTo(\"sub\")",
                "tables: [\"app.public.t\"]",
            ],
        ),
        (
            "BACKUP DATABASE a, b INTO 'u' AS OF SYSTEM TIME '-1h' WITH start_chain = false, execution locality = 'zone=a'",
            &[
                "databases: [\"a\", \"b\"]",
                "as_of: \"-1h\"",
                "start_chain: Some(false)",
                "execution_locality: \"zone=a\"",
            ],
        ),
        (
            "BACKUP INTO 'u' AS OF SYSTEM TIME -INTERVAL '90s'",
            &["as_of: \"-90000ms\""],
        ),
        (
            "BACKUP INTO 'u' AS OF SYSTEM TIME '2026-11-23'::timestamptz",
            &["as_of: \"2026-11-23T00:00:00Z\""],
        ),
        (
            "BACKUP INTO 'u' AS OF SYSTEM TIME 1763924880500000.0000000007",
            &["as_of: \"1763924880500000.0000000007\""],
        ),
        (
            "RESTORE DATABASE a FROM LATEST IN 'u' WITH new_db_name = 'b'",
            &[
                "subdir: \"latest\"",
                "into_source: \"bank\"",
                "new_db_name: \"b\"",
            ],
        ),
        (
            "RESTORE TABLE a.t AS v FROM LATEST IN 'u' INTO SOURCE shop WITH into_schema = 's', grants = false, members = 'm0=m1, m2'",
            &[
                "tables: [\"a.public.t\"]",
                "new_table_name: \"v\"",
                "into_schema: \"s\"",
                "grants: Some(false)",
                "members: [\"m0=m1\", \"m2\"]",
            ],
        ),
        (
            "VERIFY BACKUP FROM LATEST IN 'u' LAYER '2026-11-23T19:08:00Z'",
            &["layer_end: \"2026-11-23T19:08:00Z\""],
        ),
    ] {
        let asked = scene.asks(sql).await;
        for part in parts {
            assert!(asked.contains(part), "{sql}: {part} is not in {asked}");
        }
    }
    let (answer, _) = scene
        .run_with(
            "BACKUP INTO $1 AS OF SYSTEM TIME $2 WITH revision_history = $3",
            &[Value::text("p"), Value::text("-5s"), Value::Bool(true)],
        )
        .await;
    assert!(answer.is_ok());
    let asked = scene.cluster.asked().join("");
    for part in ["into: \"p\"", "as_of: \"-5s\"", "revision_history: true"] {
        assert!(asked.contains(part), "{asked}");
    }
}

#[tokio::test]
async fn a_statement_waits_for_its_job_and_tells_how_it_ended() {
    let scene = Scene::new(FakeCluster::new());
    let rows = scene.rows("BACKUP INTO 'u'").await;
    let expected = [
        Value::Int(7),
        Value::text("succeeded"),
        Value::Float(1.0),
        Value::Int(10),
    ];
    assert_eq!(rows.rows, [expected]);
    assert_eq!(
        scene.rows("BACKUP INTO 'u' WITH detached").await.rows,
        [[Value::Int(8)]]
    );

    let fault = v1::Fault {
        code: "corrupted".to_owned(),
        message: "object x is damaged".to_owned(),
        hint: String::new(),
    };
    for (state, error, code, message) in [
        ("failed", Some(fault), "XX001", "job 9: object x is damaged"),
        ("canceled", None, "57014", "job 10 was canceled"),
        (
            "paused",
            None,
            "55000",
            "job 11 was paused before it completed",
        ),
    ] {
        scene.cluster.submitted_become(v1::Job {
            state: state.to_owned(),
            error,
            ..v1::Job::default()
        });
        let error = scene.error("RESTORE FROM LATEST IN 'u'").await;
        assert_eq!((error.state, error.message.as_str()), (code, message));
    }
}

#[tokio::test]
async fn a_cancelled_wait_leaves_the_job_running_and_says_so() {
    let scene = Scene::new(FakeCluster::new());
    scene.cluster.submitted_become(v1::Job {
        state: "running".to_owned(),
        ..v1::Job::default()
    });
    let cancelled = scene.cancelled.clone();
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancelled.cancel();
    };
    let ((answer, _), ()) = tokio::join!(scene.run_with("BACKUP INTO 'u'", &[]), cancelling);
    let error = answer.expect_err("cancelled");
    assert_eq!(error.state, "57014");
    assert_eq!(
        error.detail.as_deref(),
        Some("job 7 goes on in the background")
    );
    assert!(error.hint.unwrap_or_default().contains("CANCEL JOB 7"));
    // Nobody asked the cluster to stop it.
    assert!(!scene.cluster.asked().join("").contains("cancel"));
}

#[tokio::test]
async fn the_source_is_the_named_one_the_sessions_or_the_only_one() {
    let mut scene = Scene::new(FakeCluster::new());
    scene.session = Session::new("ann", "elsewhere");
    let error = scene.error("BACKUP INTO 'u'").await;
    assert_eq!(error.state, "42704");
    assert!(error.hint.unwrap_or_default().contains("bank, shop"));
    assert!(
        scene
            .asks("BACKUP OF SOURCE shop INTO 'u'")
            .await
            .contains("\"shop\"")
    );
    assert_eq!(
        scene.error("BACKUP OF SOURCE nowhere INTO 'u'").await.state,
        "42704"
    );
    // A restore goes to what was backed up, which the cluster knows.
    assert!(
        scene
            .asks("RESTORE FROM LATEST IN 'u'")
            .await
            .contains("into_source: \"\"")
    );

    let cluster = FakeCluster::new().with_sources(vec![source("only", "mvcc")]);
    let scene = Scene::new(cluster);
    let (answer, notices) = scene.run_with("BACKUP INTO 'u'", &[]).await;
    assert!(answer.is_ok());
    assert_eq!(notices, ["the source is only, the only one there is"]);
}

#[tokio::test]
async fn nothing_that_cannot_be_done_is_ignored() {
    let scene = Scene::new(FakeCluster::new());
    for sql in [
        "BACKUP INTO 'u' WITH encryption_passphrase = 'p'",
        "BACKUP INTO 'u' WITH kms = 'k'",
        "BACKUP INTO ('u', 'v')",
        "BACKUP INTO 'u' WITH strict storage locality",
        "BACKUP INTO 'u' WITH updates_cluster_monitoring_metrics",
        "RESTORE FROM LATEST IN 'u' WITH skip_missing_views",
        "RESTORE FROM LATEST IN 'u' WITH unsafe_restore_incompatible_version",
        "RESTORE SYSTEM USERS FROM LATEST IN 'u'",
        "SHOW BACKUP FILES FROM LATEST IN 'u'",
        "SHOW BACKUP FROM LATEST IN 'u' WITH privileges",
        "SHOW BACKUPS IN 'u' WITH REVISION START TIME",
        "SHOW JOBS WITH EXECUTION DETAILS",
        "CREATE SCHEDULE FOR BACKUP INTO 'u' WITH kms = 'k' RECURRING '@daily'",
        "CREATE SCHEDULE FOR BACKUP INTO 'u' RECURRING '@daily' WITH SCHEDULE OPTIONS updates_cluster_last_backup_time_metric",
        "CREATE EXTERNAL CONNECTION c AS 's3://b'",
        "SHOW EXTERNAL CONNECTIONS",
        "ALTER BACKUP LATEST IN 'u' ADD NEW_KMS = 'a' WITH OLD_KMS = 'b'",
        "CREATE USER ann",
        "EXPLAIN CREATE USER ann",
        "ALTER JOB 1 OWNER TO ann",
    ] {
        let error = scene.error(sql).await;
        assert_eq!(error.state, "0A000", "{sql}: {error:?}");
        assert!(
            error.message.starts_with("not supported yet: "),
            "{sql}: {error:?}"
        );
    }
    assert!(scene.cluster.asked().is_empty());
}

#[tokio::test]
async fn what_the_model_refuses_before_a_job_is_refused() {
    let mut scene = Scene::new(FakeCluster::new());
    for (sql, code, what) in [
        (
            "BACKUP INTO 'u' WITH kms = 'k', encryption_passphrase = 'p'",
            "22023",
            "both",
        ),
        (
            "RESTORE DATABASE a FROM LATEST IN 'u' WITH into_db = 'b'",
            "22023",
            "cannot use \"into_db\"",
        ),
        (
            "RESTORE DATABASE a, b FROM LATEST IN 'u' WITH new_db_name = 'c'",
            "22023",
            "new_db_name",
        ),
        (
            "RESTORE FROM LATEST IN 'u' WITH verify_backup_table_data",
            "22023",
            "schema_only",
        ),
        ("BACKUP t INTO 'u'", "42602", "without its database"),
        (
            "BACKUP INTO 'u' AS OF SYSTEM TIME 'soon'",
            "22023",
            "neither",
        ),
        (
            "BACKUP INTO 'u' AS OF SYSTEM TIME '10s'",
            "22023",
            "must be negative",
        ),
        (
            "BACKUP INTO 'u' WITH execution locality = 'a=b=c='",
            "22023",
            "execution locality",
        ),
        (
            "BACKUP INTO LATEST IN 'no-such'",
            "58P01",
            "completed latest backup",
        ),
        ("BACKUP INTO $1", "42P02", "$1"),
    ] {
        let error = scene.error(sql).await;
        assert_eq!(error.state, code, "{sql}: {error:?}");
        assert!(error.message.contains(what), "{sql}: {error:?}");
    }
    scene.session.transaction = Transaction::Open;
    let error = scene.error("BACKUP INTO 'u'").await;
    assert_eq!(error.state, "25001");
    assert!(error.message.contains("without DETACHED option"));
    let (answer, notices) = scene.run_with("BACKUP INTO 'u' WITH detached", &[]).await;
    assert!(answer.is_ok() && notices.len() == 1, "{notices:?}");
}

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
        "into: Some(\"v\")",
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
async fn schedules_are_shown_in_the_models_columns_and_without_secrets() {
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
        statement.starts_with("BACKUP OF SOURCE bank INTO LATEST IN 's3://b/x"),
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
    for rows in [made, shown, created, all] {
        assert!(!format!("{rows:?}").contains("hush"), "{rows:?}");
    }
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
