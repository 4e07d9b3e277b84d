//! Servers that somebody else runs, and servers that are too old.

use holdfast_postgres::preflight::{Request, Severity, check};
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres_testing::{Options, Server, Version};
use holdfast_types::ErrorCode;

use crate::{dsn, dsn_as, env};

/// Trap 24: page ranges need TID range scans.
#[tokio::test]
async fn a_server_older_than_14_is_refused() {
    let server = Server::start(Options::of(Version::V13));
    let fault = Session::connect(&env(), &dsn(&server, "postgres"), Purpose::Control).await;
    let fault = fault.expect_err("too old");
    assert_eq!(fault.code, ErrorCode::Unsupported, "{fault}");
    assert!(fault.message.contains("PostgreSQL 13"), "{fault}");
    assert!(fault.message.contains("14 is the oldest"), "{fault}");
    assert!(fault.hint.is_some(), "{fault}");
    let fault = check(&env(), &dsn(&server, "postgres"), &Request::default()).await;
    let fault = fault.expect_err("too old");
    assert_eq!(fault.code, ErrorCode::Unsupported, "{fault}");
}

/// Trap 51: who runs a server is told by the names of its settings, and what mends a finding is said in the provider's own terms. The server is an
/// ordinary one whose list of settings has such a name.
#[tokio::test]
async fn advice_is_the_providers_own() {
    let server = Server::start_alike(
        Options::default()
            .set("wal_level", "replica")
            .set("max_replication_slots", "0"),
    );
    server.psql("postgres", "CREATE ROLE backup LOGIN");
    let definition = server.psql("postgres", "SELECT pg_get_viewdef('pg_settings'::regclass)");
    let definition = definition.trim().trim_end_matches(';');
    let cases = [
        (
            None,
            [
                "ALTER SYSTEM SET wal_level",
                "ALTER SYSTEM SET max_replication_slots",
                "ALTER ROLE \"backup\" REPLICATION",
            ],
        ),
        (
            Some("rds.logical_replication"),
            [
                "rds.logical_replication = 1",
                "parameter group",
                "GRANT rds_replication TO \"backup\"",
            ],
        ),
        (
            Some("cloudsql.logical_decoding"),
            [
                "cloudsql.logical_decoding",
                "set the flag max_replication_slots",
                "ALTER ROLE \"backup\" REPLICATION",
            ],
        ),
        (
            Some("alloydb.logical_decoding"),
            [
                "alloydb.logical_decoding",
                "set the flag max_replication_slots",
                "ALTER ROLE \"backup\" REPLICATION",
            ],
        ),
        (
            Some("azure.extensions"),
            [
                "set the server parameter wal_level",
                "set the server parameter max_replication_slots",
                "ALTER ROLE \"backup\" REPLICATION",
            ],
        ),
    ];
    for (name, advice) in cases {
        if let Some(name) = name {
            // The view is what the preflight reads; settings of that kind exist in the provider's build alone.
            let fake = definition.replacen(
                "a.name",
                &format!(
                    "CASE a.name WHEN 'application_name' THEN '{name}' ELSE a.name END AS name"
                ),
                1,
            );
            server.psql(
                "postgres",
                &format!("SET allow_system_table_mods = on; CREATE OR REPLACE VIEW pg_catalog.pg_settings AS {fake}"),
            );
            let there = format!("SELECT count(*) FROM pg_settings WHERE name = '{name}'");
            assert_eq!(server.psql("postgres", &there), "1");
        }
        let report = check(
            &env(),
            &dsn_as(&server, "backup", "postgres"),
            &Request::default(),
        )
        .await
        .expect("a report");
        let mends: Vec<&str> = report
            .all_findings()
            .filter(|finding| finding.severity == Severity::NoLog)
            .filter_map(|finding| finding.mend.as_deref())
            .collect();
        for wanted in advice {
            assert!(
                mends.iter().any(|mend| mend.contains(wanted)),
                "{name:?}: {wanted}: {mends:#?}"
            );
        }
    }
}
