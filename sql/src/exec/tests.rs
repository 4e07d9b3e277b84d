//! Statements against a cluster that remembers what it was asked.

mod connections;
mod encryption;
mod expiry;
mod schedules;
mod shows;
mod users;

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
                "(\"at\", \"file:///x\", [])",
                "layer: Some(Full)",
                "as_of: \"\"",
                "databases: []",
            ][..],
        ),
        (
            "BACKUP TABLE app.t INTO LATEST IN 'u' WITH revision_history",
            &[
                "layer: Some(AppendToLatest)",
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
    for part in [
        "(\"at\", \"p\", [])",
        "as_of: \"-5s\"",
        "revision_history: true",
    ] {
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
        "BACKUP INTO 'u' WITH updates_cluster_monitoring_metrics",
        "RESTORE FROM LATEST IN 'u' WITH skip_missing_views",
        "RESTORE FROM LATEST IN 'u' WITH unsafe_restore_incompatible_version",
        "RESTORE SYSTEM USERS FROM LATEST IN 'u'",
        "SHOW BACKUP FILES FROM LATEST IN 'u'",
        "SHOW BACKUP FROM LATEST IN 'u' WITH privileges",
        "SHOW BACKUPS IN 'u' WITH REVISION START TIME",
        "SHOW JOBS WITH EXECUTION DETAILS",
        "CREATE SCHEDULE FOR BACKUP INTO 'u' WITH start_chain RECURRING '@daily'",
        "CREATE SCHEDULE FOR BACKUP INTO 'u' RECURRING '@daily' WITH SCHEDULE OPTIONS updates_cluster_last_backup_time_metric",
        "CHECK EXTERNAL CONNECTION c WITH time = '1s'",
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
