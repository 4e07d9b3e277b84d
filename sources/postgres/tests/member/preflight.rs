use holdfast_postgres::layout::{Handling, WholeReason};
use holdfast_postgres::preflight::{Finding, Mode, Report, Request, Severity, check};
use holdfast_postgres_testing::{Options, Server, connect};

use crate::{dsn, dsn_as, env};

fn only(database: &str) -> Request {
    Request {
        databases: Some(vec![database.to_owned()]),
        ..Request::default()
    }
}

async fn look(server: &Server, role: &str, database: &str) -> Report {
    check(&env(), &dsn_as(server, role, database), &only(database))
        .await
        .expect("a report")
}

fn about<'a>(report: &'a Report, about: &str) -> Vec<&'a Finding> {
    report
        .all_findings()
        .filter(|finding| finding.about == about)
        .collect()
}

/// Follows the advice: runs every statement that mends something which keeps the backup from log mode or from being made.
fn mend(server: &Server, database: &str, report: &Report) {
    for finding in report
        .all_findings()
        .filter(|finding| finding.severity >= Severity::NoLog)
    {
        let mend = finding
            .mend
            .as_deref()
            .expect("everything that blocks can be mended");
        server.psql(database, mend);
    }
}

/// Traps 17, 37, 51: rights are looked at before anything is read, and the statements that are proposed mend what they say.
#[tokio::test]
async fn a_role_without_rights_is_told_what_it_lacks() {
    let server = Server::shared();
    let database = server.create_database("rights");
    server.psql(
        &database,
        "CREATE ROLE \"poor role\" LOGIN; CREATE ROLE owner;
         CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY); CREATE TABLE open (id int PRIMARY KEY);
         CREATE TABLE secret (id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
         CREATE MATERIALIZED VIEW seen AS SELECT 1;
         SELECT lo_create(0);
         ALTER TABLE open OWNER TO owner; ALTER TABLE secret OWNER TO owner; ALTER TABLE hidden.t OWNER TO owner",
    );
    let session = connect(server, &database).await;
    let escaped = server
        .dsn_as("poor%20role", &database)
        .parse()
        .expect("a connection string");
    let report = check(&env(), &escaped, &only(&database))
        .await
        .expect("a report");
    assert_eq!(report.mode, Mode::Snapshot, "{report}");
    assert!(
        report
            .reasons
            .iter()
            .any(|reason| reason.contains("replication slots")),
        "{report}"
    );
    assert!(
        report
            .reasons
            .iter()
            .any(|reason| reason.contains("publication")),
        "{report}"
    );
    let blocking: Vec<&str> = report
        .blocking()
        .map(|finding| finding.about.as_str())
        .collect();
    assert_eq!(
        blocking,
        [
            "hidden.t",
            "hidden.t",
            "public.open",
            "public.secret",
            "public.secret"
        ],
        "{report}"
    );
    assert_eq!(about(&report, "large objects").len(), 2, "{report}");

    mend(server, &database, &report);
    let report = check(&env(), &escaped, &only(&database))
        .await
        .expect("a report");
    assert_eq!(report.mode, Mode::Log, "{report}");
    assert_eq!(report.blocking().count(), 0, "{report}");
    let database_report = report.databases.first().expect("one database");
    let handling = |name: &str| {
        let found = database_report
            .relations
            .iter()
            .find(|relation| relation.layout.name == name);
        found.expect("it is there").layout.handling
    };
    assert_eq!(handling("open"), Handling::Whole(WholeReason::NotOwner));
    server.psql(&database, "GRANT owner TO \"poor role\"");
    let report = check(&env(), &escaped, &only(&database))
        .await
        .expect("a report");
    let open = report.databases[0]
        .relations
        .iter()
        .find(|relation| relation.layout.name == "open");
    assert_eq!(
        open.expect("it is there").layout.handling,
        Handling::Keyed,
        "{report}"
    );
    drop(session);
}

#[tokio::test]
async fn what_is_handled_is_told() {
    let server = Server::shared();
    let database = server.create_database("told");
    server.psql(
        &database,
        "CREATE TABLE fine (id int PRIMARY KEY); CREATE TABLE keyless (a int); CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
         CREATE TABLE odd (id int PRIMARY KEY, a aclitem, b oid, c int GENERATED ALWAYS AS (id + 1) STORED)",
    );
    let report = look(server, "postgres", &database).await;
    assert_eq!(
        (report.mode, report.reasons.len()),
        (Mode::Log, 0),
        "{report}"
    );
    assert_eq!(report.blocking().count(), 0, "{report}");
    assert!(about(&report, "public.fine").is_empty());
    assert!(
        about(&report, "public.keyless")[0]
            .mend
            .as_deref()
            .is_some_and(|mend| mend.contains("ADD PRIMARY KEY"))
    );
    // In text, computed again, numbers of type oid, and names of roles: copied whole.
    assert_eq!(about(&report, "public.odd").len(), 4, "{report}");
    // Everything is looked at where no database is named, and a missing one is an error.
    let report = check(&env(), &dsn(server, &database), &Request::default())
        .await
        .expect("a report");
    assert!(report.databases.iter().any(|found| found.name == database));
    assert!(
        !report
            .databases
            .iter()
            .any(|found| found.name.starts_with("template"))
    );
    check(&env(), &dsn(server, &database), &only("nowhere"))
        .await
        .expect_err("no such database");
    let wanted = Request {
        snapshot_mode: true,
        ..only(&database)
    };
    let report = check(&env(), &dsn(server, &database), &wanted)
        .await
        .expect("a report");
    assert_eq!(report.mode, Mode::Snapshot);
    let handlings: Vec<Handling> = report.databases[0]
        .relations
        .iter()
        .map(|relation| relation.layout.handling)
        .collect();
    assert!(
        !handlings.contains(&Handling::Keyed)
            && handlings.contains(&Handling::Whole(WholeReason::SnapshotMode))
    );
}

/// Traps 11, 48, 51, 52: a server that cannot decode, has no room, or holds on to old transactions.
#[tokio::test]
async fn a_server_without_logical_decoding_gets_snapshot_mode() {
    let options = Options::default()
        .set("wal_level", "replica")
        .set("max_replication_slots", "1")
        .set("max_slot_wal_keep_size", "64MB")
        .set("old_snapshot_threshold", "1h");
    let server = Server::start(options);
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY); SELECT pg_create_physical_replication_slot('taken');
         BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s old'",
    );
    let report = look(&server, "postgres", "postgres").await;
    assert_eq!(report.mode, Mode::Snapshot, "{report}");
    for name in ["wal_level", "max_replication_slots"] {
        assert_eq!(
            about(&report, name)[0].severity,
            Severity::NoLog,
            "{report}"
        );
    }
    for name in [
        "max_slot_wal_keep_size",
        "old_snapshot_threshold",
        "prepared transaction it's old",
    ] {
        assert_eq!(
            about(&report, name)[0].severity,
            Severity::Warning,
            "{report}"
        );
    }
    // The advice mends it.
    for finding in report.all_findings() {
        for statement in finding
            .mend
            .iter()
            .filter(|mend| mend.starts_with("ALTER SYSTEM"))
        {
            server.psql("postgres", statement);
        }
    }
    server.psql("postgres", "ROLLBACK PREPARED 'it''s old'");
    server.stop();
    server.launch();
    let report = look(&server, "postgres", "postgres").await;
    assert_eq!(report.mode, Mode::Log, "{report}");
    let worst = report.all_findings().map(|finding| finding.severity).max();
    assert!(worst <= Some(Severity::Note), "{report}");
}

#[tokio::test]
async fn a_server_without_room_for_wal_senders_gets_snapshot_mode() {
    let options = Options::default()
        .set("max_wal_senders", "0")
        .set("max_replication_slots", "5");
    let server = Server::start(options);
    let report = look(&server, "postgres", "postgres").await;
    assert_eq!(
        about(&report, "max_wal_senders")[0].severity,
        Severity::NoLog,
        "{report}"
    );
    mend(&server, "postgres", &report);
    server.stop();
    server.launch();
    let report = look(&server, "postgres", "postgres").await;
    assert_eq!(report.mode, Mode::Log, "{report}");
}

/// Trap 4: a standby is backed up in snapshot mode, exactly.
#[tokio::test]
async fn a_standby_gets_snapshot_mode() {
    let primary = Server::shared();
    let database = primary.create_database("standby");
    primary.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
    );
    let standby = Server::standby_of(primary);
    let report = look(&standby, "postgres", &database).await;
    assert_eq!(report.mode, Mode::Snapshot, "{report}");
    assert_eq!(about(&report, "server")[0].severity, Severity::NoLog);
    let held = holdfast_postgres::exact::HeldSnapshot::plain(&env(), &dsn(&standby, &database))
        .await
        .expect("a snapshot");
    let session = crate::data(&standby, &database).await;
    holdfast_postgres::exact::import(&session, held.id().expect("held"))
        .await
        .expect("imports");
    let rows: i64 = session
        .query_one("SELECT count(*) FROM public.t", &[])
        .await
        .expect("rows")
        .get(0);
    assert_eq!(rows, 1);
}
