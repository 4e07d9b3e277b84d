//! Users.

use super::Scene;
use crate::exec::Answer;
use crate::exec::fake::FakeCluster;
use crate::rows::Value;

#[tokio::test]
async fn users_are_made_altered_dropped_and_shown() {
    let scene = Scene::new(FakeCluster::new());
    for (sql, asked, tag) in [
        (
            "CREATE USER bob WITH PASSWORD 'canary'",
            "PutUserRequest { name: \"bob\", alter: false",
            "CREATE ROLE",
        ),
        (
            "ALTER USER ann PASSWORD 'canary'",
            "PutUserRequest { name: \"ann\", alter: true",
            "ALTER ROLE",
        ),
        ("DROP USER ann", "(\"drop_user\", \"ann\")", "DROP ROLE"),
    ] {
        let (answer, notices) = scene.run_with(sql, &[]).await;
        assert_eq!(answer, Ok(Answer::Done(tag.to_owned())), "{sql}");
        assert!(notices.is_empty(), "{notices:?}");
        let last = scene.cluster.asked().pop().unwrap_or_default();
        assert!(last.contains(asked), "{last}");
        assert!(!last.contains("canary"), "{last}");
    }
    for (sql, text) in [
        (
            "CREATE USER IF NOT EXISTS ann PASSWORD 'x'",
            "user ann already exists, skipping",
        ),
        (
            "DROP USER IF EXISTS bob",
            "user bob does not exist, skipping",
        ),
    ] {
        let (answer, notices) = scene.run_with(sql, &[]).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(notices, [text]);
    }
    for (sql, state) in [
        ("CREATE USER ann PASSWORD 'x'", "42710"),
        ("ALTER USER bob PASSWORD 'x'", "42704"),
        ("DROP USER bob", "42704"),
        ("CREATE USER bob", "0A000"),
    ] {
        assert_eq!(scene.error(sql).await.state, state, "{sql}");
    }
    let shown = scene.rows("SHOW USERS").await;
    assert_eq!(shown.rows[0][0], Value::text("ann"));
    let shown = scene.rows("SELECT username FROM [SHOW USERS]").await;
    assert_eq!(shown.rows, [[Value::text("ann")]]);
}

#[tokio::test]
async fn a_password_may_be_a_placeholder_and_is_never_shown() {
    let scene = Scene::new(FakeCluster::new());
    let parameters = [Value::text("canary")];
    let (answer, _) = scene
        .run_with("CREATE USER bob PASSWORD $1", &parameters)
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    let explained = scene
        .rows("EXPLAIN CREATE USER bob PASSWORD 'canary'")
        .await;
    assert_eq!(
        explained.rows[0][0],
        Value::text("CREATE USER bob WITH PASSWORD '*****'")
    );
}
