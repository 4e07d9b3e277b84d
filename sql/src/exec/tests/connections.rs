//! External connections.

use super::Scene;
use crate::exec::fake::FakeCluster;
use crate::rows::Value;

#[tokio::test]
async fn connections_are_made_altered_dropped_and_shown() {
    let scene = Scene::new(FakeCluster::new());
    let asked = scene
        .asks("CREATE EXTERNAL CONNECTION other AS 's3://bucket/x?AUTH=implicit'")
        .await;
    for part in [
        "name: \"other\"",
        "s3://bucket/x?AUTH=implicit",
        "alter: false",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let asked = scene
        .asks("ALTER EXTERNAL CONNECTION store AS 's3://bucket/y'")
        .await;
    assert!(asked.contains("alter: true"), "{asked}");
    for (sql, text) in [
        (
            "CREATE EXTERNAL CONNECTION IF NOT EXISTS store AS 's3://b'",
            "already exists, skipping",
        ),
        (
            "ALTER EXTERNAL CONNECTION IF EXISTS none AS 's3://b'",
            "does not exist, skipping",
        ),
    ] {
        let (answer, notices) = scene.run_with(sql, &[]).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert!(notices[0].contains(text), "{notices:?}");
    }
    let error = scene
        .error("CREATE EXTERNAL CONNECTION store AS 's3://b'")
        .await;
    assert_eq!(error.state, "42710");
    let error = scene
        .error("ALTER EXTERNAL CONNECTION none AS 's3://b'")
        .await;
    assert_eq!(error.state, "42704");
    let asked = scene.asks("DROP EXTERNAL CONNECTION store").await;
    assert!(asked.contains("drop_connection"), "{asked}");
    let shown = scene.rows("SHOW EXTERNAL CONNECTIONS").await;
    assert_eq!(shown.rows[0][2], Value::text("STORAGE"));
    let created = scene.rows("SHOW CREATE EXTERNAL CONNECTION store").await;
    let Value::Text(statement) = &created.rows[0][1] else {
        panic!("a statement");
    };
    assert!(
        statement.starts_with("CREATE EXTERNAL CONNECTION 'store' AS '"),
        "{statement}"
    );
}

#[tokio::test]
async fn every_worker_says_what_it_found() {
    let scene = Scene::new(FakeCluster::new());
    let checked = scene
        .rows("CHECK EXTERNAL CONNECTION store WITH transfer = '1MiB'")
        .await;
    assert_eq!(checked.rows[0][0], Value::text("w0"));
    assert_eq!(checked.rows[0][2], Value::Bool(true));
    assert_eq!(checked.rows[0][5], Value::text("2.0 KiB/s"));
    let rows = scene
        .rows("SELECT node, ok FROM [CHECK EXTERNAL CONNECTION store WITH transfer = '1MiB'] WHERE can_delete IS NOT NULL")
        .await;
    assert_eq!(rows.rows, [[Value::text("w0"), Value::Bool(true)]]);
    let rows = scene
        .rows("SELECT connection_name FROM [SHOW CREATE EXTERNAL CONNECTION store] WHERE create_statement LIKE 'CREATE %'")
        .await;
    assert_eq!(rows.rows, [[Value::text("store")]]);
    let asked = scene.cluster.asked().join("\n");
    assert!(
        asked.contains("transfer: 1048576") && asked.contains("\"external://store\""),
        "{asked}"
    );
}
