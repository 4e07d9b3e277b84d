//! Keys of encrypted backups.

use super::Scene;
use crate::exec::fake::FakeCluster;

#[tokio::test]
async fn keys_go_with_every_statement_that_needs_them_and_are_never_shown() {
    let scene = Scene::new(FakeCluster::new());
    for sql in [
        "BACKUP INTO 'u' WITH kms = ('aws:///k?AWS_SECRET_ACCESS_KEY=hush', 'gs:///k')",
        "RESTORE FROM LATEST IN 'u' WITH kms = ('aws:///k?AWS_SECRET_ACCESS_KEY=hush', 'gs:///k')",
        "VERIFY BACKUP LATEST IN 'u' WITH kms = ('aws:///k?AWS_SECRET_ACCESS_KEY=hush', 'gs:///k')",
    ] {
        let asked = scene.asks(sql).await;
        assert!(asked.contains("kms: 2"), "{sql}: {asked}");
        assert!(!asked.contains("hush"), "{sql}: {asked}");
    }
    let asked = scene
        .asks("BACKUP INTO LATEST IN 'u' WITH encryption_passphrase = 'hush'")
        .await;
    assert!(asked.contains("passphrase: true"), "{asked}");
    assert!(!asked.contains("hush"), "{asked}");
    let asked = scene
        .asks(
            "ALTER BACKUP 'sub' IN 'u' ADD NEW_KMS = ('aws:///new') WITH OLD_KMS = ('aws:///old')",
        )
        .await;
    assert!(asked.contains("subdir: \"sub\""), "{asked}");
    let error = scene
        .error("ALTER BACKUP 'u' ADD NEW_KMS = ('aws:///new') WITH OLD_KMS = ('aws:///old')")
        .await;
    assert_eq!(error.state, "0A000");
}

#[tokio::test]
async fn a_schedule_takes_keys_and_shows_none() {
    let scene = Scene::new(FakeCluster::new());
    for (sql, expected) in [
        (
            "CREATE SCHEDULE FOR BACKUP INTO 'u' WITH encryption_passphrase = 'hush' RECURRING '@daily'",
            "passphrase: true, kms: 0",
        ),
        (
            "CREATE SCHEDULE FOR BACKUP INTO 'u' WITH kms = ('aws:///k?AWS_SECRET_ACCESS_KEY=hush', 'gs:///k') RECURRING '@daily'",
            "passphrase: false, kms: 2",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET WITH encryption_passphrase = 'hush', SET WITH revision_history = false",
            "passphrase: true, kms: 0",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET WITH kms = 'aws:///k?AWS_SECRET_ACCESS_KEY=hush'",
            "passphrase: false, kms: 1",
        ),
    ] {
        let asked = scene.asks(sql).await;
        assert!(asked.contains(expected), "{sql}: {asked}");
        assert!(!asked.contains("hush"), "{sql}: {asked}");
    }
    for (sql, text) in [
        (
            "ALTER BACKUP SCHEDULE 70 SET WITH encryption_passphrase = 'hush', SET WITH kms = 'aws:///k'",
            "at most once",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET WITH encryption_passphrase = ''",
            "the passphrase is empty",
        ),
        (
            "ALTER BACKUP SCHEDULE 70 SET WITH start_chain = true",
            "SET WITH start_chain",
        ),
        (
            "CREATE SCHEDULE FOR BACKUP INTO 'u' WITH kms = 'k', encryption_passphrase = 'hush' RECURRING '@daily'",
            "cannot have both",
        ),
    ] {
        let error = scene.error(sql).await;
        assert!(error.message.contains(text), "{sql}: {error:?}");
        assert!(!format!("{error:?}").contains("hush"), "{sql}: {error:?}");
    }
    let shown = "encryption_passphrase = '*****'";
    for sql in [
        "SHOW CREATE SCHEDULE 71",
        "SHOW SCHEDULE 70",
        "SHOW SCHEDULES FOR BACKUP",
    ] {
        let rows = format!("{:?}", scene.rows(sql).await.rows);
        assert!(rows.contains(shown), "{sql}: {rows}");
        assert!(rows.contains("kms = 'aws:///k'"), "{sql}: {rows}");
    }
}
