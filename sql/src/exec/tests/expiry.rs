//! EXPIRE BACKUPS.

use super::Scene;
use crate::exec::fake::FakeCluster;
use crate::rows::Value;
use holdfast_client::v1;

#[tokio::test]
async fn an_expiry_is_asked_for_as_it_is_written() {
    let scene = Scene::new(FakeCluster::new());
    let cases = [
        (
            "EXPIRE BACKUPS IN 's3://b/x' OLDER THAN '30d' DRY RUN",
            ["older_than: \"30d\"", "keep_fulls: 0", "dry_run: true"],
        ),
        (
            "EXPIRE BACKUPS FROM 's3://b/x' KEEP LAST 2 + 1 FULLS OLDER THAN '2026-11-23'",
            [
                "older_than: \"2026-11-23T00:00:00Z\"",
                "keep_fulls: 3",
                "dry_run: false",
            ],
        ),
        (
            "EXPIRE BACKUPS IN ('s3://b/x', 's3://b/y') KEEP LAST 8 FULLS",
            ["older_than: \"\"", "keep_fulls: 8", "s3://b/y"],
        ),
    ];
    for (sql, parts) in cases {
        let asked = scene.asks(sql).await;
        for part in parts {
            assert!(asked.contains(part), "{sql}: {part}: {asked}");
        }
    }
    for sql in [
        "EXPIRE BACKUPS IN 's3://b/x' KEEP LAST 0 FULLS",
        "EXPIRE BACKUPS IN 's3://b/x' KEEP LAST -1 FULLS",
    ] {
        assert_eq!(scene.error(sql).await.state, "22023", "{sql}");
    }
}

#[tokio::test]
async fn every_chain_has_a_row_with_what_becomes_of_it() {
    let scene = Scene::new(FakeCluster::new());
    scene.cluster.submitted_become(v1::Job {
        state: "succeeded".to_owned(),
        notes: vec!["one stayed".to_owned()],
        expired: vec![v1::ExpiredChain {
            subdir: "2026/11/23-190800.00".to_owned(),
            objects: 7,
            bytes: 70,
            refused: 1,
        }],
        ..v1::Job::default()
    });
    let sql = "EXPIRE BACKUPS IN 's3://b/x' OLDER THAN '30d'";
    let (answer, notices) = scene.run_with(sql, &[]).await;
    let Ok(crate::exec::Answer::Rows { tag, rows }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(tag, "EXPIRE BACKUPS");
    assert_eq!(notices, ["one stayed"]);
    let gone = &rows.rows[0];
    assert_eq!(gone[0], Value::text("/2026/11/23-190800.00"));
    assert_eq!(
        gone[3..7],
        [
            Value::Bool(true),
            Value::Null,
            Value::Int(7),
            Value::Int(70)
        ]
    );
    assert!(matches!(gone[7], Value::Int(_)), "{gone:?}");
    let left = &rows.rows[1];
    assert_eq!(left[3], Value::Bool(false));
    assert_eq!(
        left[4],
        Value::text("it is the newest that can be restored")
    );
    assert_eq!(left[5..], [Value::Null, Value::Null, Value::Null]);
    // Nobody waits, and nothing is removed.
    for end in [" WITH detached", " DRY RUN"] {
        let rows = scene.rows(&format!("{sql}{end}")).await;
        assert_eq!(rows.rows[0][5], Value::Null, "{end}");
        let has_job = rows.rows[0][7] != Value::Null;
        assert_eq!(has_job, end != " DRY RUN", "{end}");
    }
    let explained = scene.rows(&format!("EXPLAIN {sql}")).await;
    assert_eq!(
        explained.rows[1..],
        [
            vec![Value::text("chain /2026/11/23-190800.00 expires")],
            vec![Value::text(
                "chain /2026/11/24-190800.00 stays: it is the newest that can be restored"
            )],
        ]
    );
}
