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
