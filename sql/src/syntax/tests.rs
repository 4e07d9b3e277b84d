//! Statement by statement: what is read, how it is printed, and what is said of what is wrong.

use super::{Printed, Secrets, parse};
use crate::error::SqlError;

fn printed(sql: &str, secrets: Secrets) -> String {
    let statements = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let printed = statements
        .iter()
        .map(|one| Printed(one, secrets).to_string());
    printed.collect::<Vec<_>>().join("; ")
}

/// What is read, and how it is printed when nothing is hidden.
const CANONICAL: &[(&str, &str)] = &[
    // Bare tables, lists of one, identifiers as URIs, LATEST.
    ("backup foo into 'x'", "BACKUP TABLE foo INTO 'x'"),
    ("BACKUP TABLE foo INTO ('x')", "BACKUP TABLE foo INTO 'x'"),
    (
        "BACKUP INTO LATEST IN unlogged",
        "BACKUP INTO LATEST IN 'unlogged'",
    ),
    ("BACKUP INTO latest", "BACKUP INTO 'latest'"),
    (
        "BACKUP INTO 'sub' IN ('a', $1)",
        "BACKUP INTO 'sub' IN ('a', $1)",
    ),
    (
        "BACKUP a, b.c, d.e.f, g.*, h.i.* INTO 'x'",
        "BACKUP TABLE a, b.c, d.e.f, g.*, h.i.* INTO 'x'",
    ),
    ("BACKUP TABLE * INTO 'x'", "BACKUP TABLE * INTO 'x'"),
    (
        "BACKUP DATABASE a, \"B c\" INTO 'x'",
        "BACKUP DATABASE a, \"B c\" INTO 'x'",
    ),
    (
        "BACKUP TABLE \"table\" INTO 'x'",
        "BACKUP TABLE \"table\" INTO 'x'",
    ),
    (
        "BACKUP DATABASE app OF SOURCE bank INTO 'x'",
        "BACKUP DATABASE app OF SOURCE bank INTO 'x'",
    ),
    (
        "BACKUP OF SOURCE bank INTO 'x'",
        "BACKUP OF SOURCE bank INTO 'x'",
    ),
    // AS OF SYSTEM TIME in all forms.
    (
        "BACKUP INTO 'x' AS OF SYSTEM TIME '-10s'",
        "BACKUP INTO 'x' AS OF SYSTEM TIME '-10s'",
    ),
    (
        "BACKUP INTO 'x' AS OF SYSTEM TIME 1763924880500000.0000000000",
        "BACKUP INTO 'x' AS OF SYSTEM TIME 1763924880500000.0000000000",
    ),
    (
        "BACKUP INTO 'x' AS OF SYSTEM TIME -interval '10s' WITH detached",
        "BACKUP INTO 'x' AS OF SYSTEM TIME -INTERVAL '10s' WITH OPTIONS (detached)",
    ),
    (
        "BACKUP INTO 'x' AS OF SYSTEM TIME now() - '10s'::interval",
        "BACKUP INTO 'x' AS OF SYSTEM TIME (now() - ('10s'::interval))",
    ),
    (
        "BACKUP INTO 'x' AS OF SYSTEM TIME $1",
        "BACKUP INTO 'x' AS OF SYSTEM TIME $1",
    ),
    // Options: one order, one form, false is not there.
    (
        "BACKUP INTO 'x' WITH kms = 'k', detached, revision_history",
        "BACKUP INTO 'x' WITH OPTIONS (revision_history = true, detached, kms = 'k')",
    ),
    (
        "BACKUP INTO 'x' WITH OPTIONS (DETACHED = FALSE)",
        "BACKUP INTO 'x'",
    ),
    (
        "BACKUP INTO 'x' WITH detached = true, revision_history = $1",
        "BACKUP INTO 'x' WITH OPTIONS (revision_history = $1, detached)",
    ),
    (
        "BACKUP INTO 'x' WITH revision_history = false",
        "BACKUP INTO 'x' WITH OPTIONS (revision_history = false)",
    ),
    (
        "BACKUP INTO 'x' WITH updates_cluster_monitoring_metrics, strict, coordinator_locality = 'region=eu', encryption_passphrase = 'p', start_chain = false",
        "BACKUP INTO 'x' WITH OPTIONS (encryption_passphrase = 'p', execution locality = 'region=eu', strict storage locality, updates_cluster_monitoring_metrics = true, start_chain = false)",
    ),
    (
        "BACKUP INTO 'x' WITH strict storage locality",
        "BACKUP INTO 'x' WITH OPTIONS (strict storage locality)",
    ),
    // RESTORE.
    ("RESTORE FROM LATEST IN 'x'", "RESTORE FROM 'latest' IN 'x'"),
    (
        "RESTORE TABLE a.b AS c FROM '2026/11/23-190800.00' IN ('x', 'y') AS OF SYSTEM TIME '-1h' INTO SOURCE s WITH into_db = d",
        "RESTORE TABLE a.b AS c FROM '2026/11/23-190800.00' IN ('x', 'y') AS OF SYSTEM TIME '-1h' INTO SOURCE s WITH OPTIONS (into_db = 'd')",
    ),
    (
        "RESTORE DATABASE a OF SOURCE s FROM LATEST IN 'x' WITH new_db_name = 'b', skip_missing_views, skip_missing_foreign_keys, grants, owners = false",
        "RESTORE DATABASE a FROM 'latest' IN 'x' INTO SOURCE s WITH OPTIONS (skip_missing_foreign_keys, skip_missing_views, new_db_name = 'b', grants = true, owners = false)",
    ),
    (
        "RESTORE SYSTEM USERS FROM LATEST IN 'x'",
        "RESTORE SYSTEM USERS FROM 'latest' IN 'x'",
    ),
    (
        "RESTORE FROM LATEST IN 'x' WITH unsafe_restore_incompatible_version, verify_backup_table_data, schema_only, debug = 1",
        "",
    ),
    (
        "VERIFY BACKUP LATEST IN 'x' LAYER '2026-11-23' WITH detached",
        "VERIFY BACKUP FROM 'latest' IN 'x' LAYER '2026-11-23' WITH OPTIONS (detached)",
    ),
    (
        "EXPIRE BACKUPS FROM 'x' OLDER THAN '30d'",
        "EXPIRE BACKUPS IN 'x' OLDER THAN '30d'",
    ),
    (
        "EXPIRE BACKUPS IN ('x', 'y') KEEP LAST 8 FULLS OLDER THAN $1 DRY RUN",
        "EXPIRE BACKUPS IN ('x', 'y') OLDER THAN $1 KEEP LAST 8 FULLS DRY RUN",
    ),
    (
        "EXPIRE BACKUPS IN 'x' KEEP LAST $1 FULLS WITH detached",
        "EXPIRE BACKUPS IN 'x' KEEP LAST $1 FULLS WITH OPTIONS (detached)",
    ),
    ("EXPIRE BACKUPS IN 'x'", ""),
    ("EXPIRE BACKUPS OLDER THAN '30d'", ""),
    ("EXPIRE BACKUPS IN 'x' OLDER THAN '1d' OLDER THAN '2d'", ""),
    ("EXPIRE BACKUPS IN 'x' KEEP LAST 8", ""),
    // SHOW BACKUP.
    ("SHOW BACKUPS IN 'x'", "SHOW BACKUPS IN 'x'"),
    (
        "SHOW BACKUPS IN 'x' OLDER THAN '-1h' NEWER THAN $1 WITH REVISION START TIME",
        "SHOW BACKUPS IN 'x' NEWER THAN $1 OLDER THAN '-1h' WITH OPTIONS (REVISION START TIME)",
    ),
    (
        "SHOW BACKUP LATEST IN 'x'",
        "SHOW BACKUP FROM 'latest' IN 'x'",
    ),
    (
        "SHOW BACKUP SCHEMAS FROM 's' IN 'x' WITH privileges, as_json, skip size",
        "SHOW BACKUP SCHEMAS FROM 's' IN 'x' WITH OPTIONS (as_json, privileges, skip size)",
    ),
    (
        "SHOW BACKUP files IN 'x'",
        "SHOW BACKUP FROM 'files' IN 'x'",
    ),
    (
        "SHOW BACKUP VALIDATE FROM LATEST IN 'x'",
        "SHOW BACKUP VALIDATE FROM 'latest' IN 'x'",
    ),
    (
        "ALTER BACKUP LATEST IN 'x' ADD NEW_KMS = ('a', 'b') WITH OLD_KMS = 'c'",
        "ALTER BACKUP 'latest' IN 'x' ADD NEW_KMS = ('a', 'b') WITH OLD_KMS = 'c'",
    ),
    // Jobs.
    ("SHOW JOBS", "SHOW JOBS"),
    ("SHOW AUTOMATIC JOBS", "SHOW AUTOMATIC JOBS"),
    ("SHOW JOB 1", "SHOW JOBS VALUES (1)"),
    (
        "SHOW JOB WHEN COMPLETE 1",
        "SHOW JOBS WHEN COMPLETE VALUES (1)",
    ),
    (
        "SHOW JOBS WITH EXECUTION DETAILS",
        "SHOW JOBS WITH OPTIONS (execution details)",
    ),
    (
        "SHOW JOBS WITH x AS (SHOW JOBS) SELECT job_id FROM x",
        "SHOW JOBS WITH x AS (SHOW JOBS) SELECT job_id FROM x",
    ),
    (
        "SHOW JOBS FOR SCHEDULE 7",
        "SHOW JOBS FOR SCHEDULES VALUES (7)",
    ),
    (
        "PAUSE JOB $1 WITH REASON = 'why'",
        "PAUSE JOBS VALUES ($1) WITH REASON = 'why'",
    ),
    ("PAUSE ALL BACKUP JOBS", "PAUSE ALL BACKUP JOBS"),
    (
        "CANCEL JOBS (SELECT job_id FROM [SHOW JOBS] WHERE status = 'running')",
        "CANCEL JOBS SELECT job_id FROM [SHOW JOBS] WHERE status = 'running'",
    ),
    (
        "RESUME JOBS FOR SCHEDULES VALUES (1), (2)",
        "RESUME JOBS FOR SCHEDULES VALUES (1), (2)",
    ),
    ("ALTER JOB 1 OWNER TO ann", "ALTER JOB 1 OWNER TO ann"),
    // Schedules.
    (
        "CREATE SCHEDULE IF NOT EXISTS 'daily' FOR BACKUP DATABASE a INTO 'x' WITH revision_history, detached RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS (first_run = 'now', 'ignore_existing_backups')",
        "CREATE SCHEDULE IF NOT EXISTS 'daily' FOR BACKUP DATABASE a INTO 'x' WITH revision_history = true, detached RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now', ignore_existing_backups",
    ),
    (
        "CREATE SCHEDULE FOR BACKUP INTO 'x' RECURRING '@hourly' FULL BACKUP '@weekly'",
        "CREATE SCHEDULE FOR BACKUP INTO 'x' RECURRING '@hourly' FULL BACKUP '@weekly'",
    ),
    (
        "ALTER BACKUP SCHEDULE 12 SET LABEL 'a', SET INTO 'x', SET WITH revision_history, SET FULL BACKUP '@weekly', SET RECURRING '@daily', SET SCHEDULE OPTION on_previous_running = 'skip', EXECUTE FULL IMMEDIATELY",
        "ALTER BACKUP SCHEDULE 12 SET LABEL 'a', SET INTO 'x', SET WITH revision_history = true, SET FULL BACKUP '@weekly', SET RECURRING '@daily', SET SCHEDULE OPTION on_previous_running = 'skip', EXECUTE FULL IMMEDIATELY",
    ),
    (
        "SHOW RUNNING SCHEDULES FOR BACKUP",
        "SHOW RUNNING SCHEDULES FOR BACKUP",
    ),
    ("SHOW SCHEDULE 1", "SHOW SCHEDULE 1"),
    ("SHOW CREATE ALL SCHEDULES", "SHOW CREATE ALL SCHEDULES"),
    (
        "DROP SCHEDULES SELECT id FROM [SHOW SCHEDULES]",
        "DROP SCHEDULES SELECT id FROM [SHOW SCHEDULES]",
    ),
    ("EXECUTE SCHEDULE 3", "EXECUTE SCHEDULES VALUES (3)"),
    // Connections.
    (
        "CREATE EXTERNAL CONNECTION IF NOT EXISTS c AS 's3://b'",
        "CREATE EXTERNAL CONNECTION IF NOT EXISTS 'c' AS 's3://b'",
    ),
    (
        "CHECK EXTERNAL CONNECTION 'c' WITH TRANSFER = '1MiB', CONCURRENTLY = 3",
        "CHECK EXTERNAL CONNECTION 'c' WITH OPTIONS (transfer = '1MiB', concurrently = '3')",
    ),
    (
        "SHOW CREATE ALL EXTERNAL CONNECTIONS",
        "SHOW CREATE ALL EXTERNAL CONNECTIONS",
    ),
    // What only we have.
    (
        "CREATE SOURCE bank AS '127.0.0.1:1'",
        "CREATE SOURCE bank MEMBERS (bank AT '127.0.0.1:1')",
    ),
    (
        "CREATE SOURCE IF NOT EXISTS s KIND postgres MEMBERS (a AT 'postgres://u@h/d' WITH (password = 'p', locality = 'zone=a'), b AT 'postgres://u@i/d')",
        "CREATE SOURCE IF NOT EXISTS s KIND postgres MEMBERS (a AT 'postgres://u@h/d' WITH OPTIONS (locality = 'zone=a', password = 'p'), b AT 'postgres://u@i/d')",
    ),
    (
        "ALTER SOURCE s SET MEMBERS (a AT 'x:1')",
        "ALTER SOURCE s MEMBERS (a AT 'x:1')",
    ),
    (
        "CHECK SOURCE s MEMBERS (a, b)",
        "CHECK SOURCE s MEMBERS (a, b)",
    ),
    ("DROP SOURCE IF EXISTS s", "DROP SOURCE IF EXISTS s"),
    (
        "SHOW WORKERS; SHOW CLUSTER; SHOW HOLDS; DROP HOLD 3;",
        "SHOW WORKERS; SHOW CLUSTER; SHOW HOLDS; DROP HOLD 3",
    ),
    (
        "SET CLUSTER SETTING part_size = 1",
        "SET CLUSTER SETTING part_size = 1",
    ),
    (
        "SET CLUSTER SETTING a.b TO $1",
        "SET CLUSTER SETTING a.b = $1",
    ),
    (
        "SHOW CLUSTER SETTING part_size",
        "SHOW CLUSTER SETTING part_size",
    ),
    (
        "CREATE USER ann WITH PASSWORD 'p'",
        "CREATE USER ann WITH PASSWORD 'p'",
    ),
    (
        "CREATE ROLE IF NOT EXISTS \"Ann B\" PASSWORD $1; ALTER ROLE ann PASSWORD 'p'",
        "CREATE USER IF NOT EXISTS \"Ann B\" WITH PASSWORD $1; ALTER USER ann WITH PASSWORD 'p'",
    ),
    (
        "DROP ROLE ann; DROP USER IF EXISTS ann; SHOW USERS",
        "DROP USER ann; DROP USER IF EXISTS ann; SHOW USERS",
    ),
    // The session.
    (
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY; COMMIT; ROLLBACK WORK",
        "BEGIN; COMMIT; ROLLBACK",
    ),
    (
        "SET application_name = 'x'; SET TIME ZONE 'UTC'",
        "SET application_name = 'x'; SET timezone = 'UTC'",
    ),
    (
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SHOW transaction_isolation",
    ),
    // Queries.
    (
        "SELECT count(*), max(created) AS newest FROM [SHOW JOBS] j WHERE j.status IN ('failed', 'canceled') AND NOT error IS NULL GROUP BY job_type ORDER BY 1 DESC NULLS LAST, newest LIMIT 5 OFFSET 1",
        "SELECT count(*), max(created) AS newest FROM [SHOW JOBS] AS j WHERE (j.status IN ('failed', 'canceled')) AND (NOT (error IS NULL)) GROUP BY job_type ORDER BY 1 DESC NULLS LAST, newest LIMIT 5 OFFSET 1",
    ),
    ("SELECT 1 + 2 * 3 - -4", "SELECT (1 + (2 * 3)) - (-4)"),
    (
        "SELECT a BETWEEN 1 AND 2 OR b NOT LIKE '%x'",
        "SELECT ((a >= 1) AND (a <= 2)) OR (b NOT LIKE '%x')",
    ),
    ("EXPLAIN BACKUP INTO 'x'", "EXPLAIN BACKUP INTO 'x'"),
    ("EXPLAIN PAUSE JOB 1", "EXPLAIN PAUSE JOBS VALUES (1)"),
];

#[test]
fn statements_are_printed_in_one_form() {
    for (sql, canonical) in CANONICAL {
        if canonical.is_empty() {
            assert!(parse(sql).is_err(), "{sql}");
            continue;
        }
        assert_eq!(printed(sql, Secrets::Shown), *canonical, "{sql}");
        assert_eq!(printed(canonical, Secrets::Shown), *canonical);
    }
}

#[test]
fn secrets_are_hidden_unless_asked_for() {
    for (sql, hidden) in [
        (
            "BACKUP INTO 's3://k:hush@b?x=hush' WITH encryption_passphrase = 'hush', kms = ('aws:///hush', $1)",
            "BACKUP INTO '*****' WITH OPTIONS (encryption_passphrase = '*****', kms = ('*****', $1))",
        ),
        (
            "RESTORE FROM 'sub' IN $1 WITH encryption_passphrase = 'hush'",
            "RESTORE FROM 'sub' IN $1 WITH OPTIONS (encryption_passphrase = '*****')",
        ),
        ("SHOW BACKUPS IN 'hush'", "SHOW BACKUPS IN '*****'"),
        (
            "SHOW BACKUP FROM LATEST IN 'hush'",
            "SHOW BACKUP FROM 'latest' IN '*****'",
        ),
        (
            "CREATE SCHEDULE FOR BACKUP INTO 'hush' RECURRING '@daily'",
            "CREATE SCHEDULE FOR BACKUP INTO '*****' RECURRING '@daily'",
        ),
        (
            "ALTER BACKUP SCHEDULE 1 SET INTO 's3://user:hush@bucket/x?AWS_SECRET_ACCESS_KEY=hush&AUTH=specified'",
            "ALTER BACKUP SCHEDULE 1 SET INTO 's3://user:redacted@bucket/x?AWS_SECRET_ACCESS_KEY=redacted&AUTH=specified'",
        ),
        (
            "CREATE EXTERNAL CONNECTION c AS 's3://bucket?AWS_SECRET_ACCESS_KEY=hush'",
            "CREATE EXTERNAL CONNECTION 'c' AS 's3://bucket?AWS_SECRET_ACCESS_KEY=redacted'",
        ),
        (
            "CREATE SOURCE s AS 'postgres://u:hush@h/d' WITH password = 'hush'",
            "CREATE SOURCE s MEMBERS (s AT 'postgres://u:redacted@h/d' WITH OPTIONS (password = '*****'))",
        ),
        (
            "CREATE USER ann PASSWORD 'hush'",
            "CREATE USER ann WITH PASSWORD '*****'",
        ),
        (
            "ALTER BACKUP 's' IN 'hush' ADD NEW_KMS = 'hush' WITH OLD_KMS = 'hush'",
            "ALTER BACKUP 's' IN '*****' ADD NEW_KMS = '*****' WITH OLD_KMS = '*****'",
        ),
    ] {
        let text = printed(sql, Secrets::Hidden);
        assert_eq!(text, hidden, "{sql}");
        assert!(!text.contains("hush"), "{text}");
    }
}

fn error(sql: &str) -> SqlError {
    parse(sql).expect_err(sql)
}

#[test]
fn errors_point_at_the_token_and_say_what_was_expected() {
    for (sql, position, message, detail, hint) in [
        (
            "BACKPU INTO 'x'",
            1,
            "at or near \"BACKPU\"",
            "expected",
            "did you mean BACKUP?",
        ),
        (
            "BACKUP foo INOT 'x'",
            12,
            "at or near \"INOT\"",
            "expected OF, INTO",
            "did you mean INTO?",
        ),
        ("BACKUP INTO", 12, "at end of input", "expected a URI", ""),
        (
            "BACKUP INTO 'x' WITH revision_histroy",
            22,
            "\"revision_histroy\"",
            "expected an option",
            "did you mean revision_history?",
        ),
        (
            "BACKUP INTO 'x' WITH detached = $1",
            33,
            "\"$1\"",
            "expected TRUE, FALSE",
            "",
        ),
        (
            "BACKUP INTO 'x' WITH detached = false, detached",
            40,
            "detached option specified multiple times",
            "",
            "",
        ),
        ("BACKUP INTO 'x' extra", 17, "at or near \"extra\"", "", ""),
        ("BACKUP ROLE x INTO 'y'", 13, "at or near \"x\"", "", ""),
        (
            "RESTORE ROLE x FROM LATEST IN 'y'",
            14,
            "at or near \"x\"",
            "",
            "",
        ),
        (
            "SHOW JBOS",
            6,
            "at or near \"JBOS\"",
            "",
            "did you mean JOBS?",
        ),
        (
            "SHOW BACKUPS FROM 'x'",
            14,
            "at or near \"FROM\"",
            "expected IN",
            "",
        ),
        (
            "SHOW BACKUPS IN 'x' NEWER THAN '-1h' NEWER THAN '-2h'",
            38,
            "NEWER THAN specified multiple times",
            "",
            "",
        ),
        (
            "CREATE SCHEDULE IF NOT EXISTS FOR BACKUP INTO 'x' RECURRING '@daily'",
            17,
            "needs a label",
            "",
            "",
        ),
        (
            "ALTER BACKUP SCHEDULE 1 SET WITH detached revision_history",
            43,
            "\"revision_history\"",
            "",
            "",
        ),
        (
            "PAUSE JOBS",
            11,
            "at end of input",
            "expected FOR, VALUES, WITH, SELECT",
            "",
        ),
        (
            "SELECT * FROM jobs JOIN x",
            20,
            "not supported yet: JOIN",
            "",
            "",
        ),
        (
            "SELECT * FROM [BACKUP INTO 'x']",
            16,
            "rows are read from a SHOW statement",
            "",
            "",
        ),
        ("ä BACKUP", 1, "\"ä\"", "", ""),
        ("SHOW JOBS; BACKUP 'x'", 19, "at or near a text", "", ""),
    ] {
        let error = error(sql);
        assert_eq!(error.position, Some(position), "{sql}: {error:?}");
        assert!(error.message.contains(message), "{sql}: {error:?}");
        assert!(error.detail.unwrap_or_default().contains(detail), "{sql}");
        assert_eq!(error.hint.unwrap_or_default(), hint, "{sql}");
    }
}

#[test]
fn old_forms_are_answered_with_the_new_ones() {
    for (sql, what, instead) in [
        ("BACKUP TO 'x'", "BACKUP … TO was removed", "INTO"),
        (
            "BACKUP TABLE a TO 'x' INCREMENTAL FROM 'y'",
            "BACKUP … TO was removed",
            "INTO LATEST IN",
        ),
        (
            "BACKUP INTO 'x' INCREMENTAL FROM 'y'",
            "INCREMENTAL FROM was removed",
            "INTO LATEST IN",
        ),
        (
            "RESTORE FROM 's3://x'",
            "RESTORE … FROM 'uri' was removed",
            "FROM LATEST IN",
        ),
        (
            "RESTORE TABLE a.b FROM ('s3://x', 's3://y')",
            "RESTORE … FROM 'uri' was removed",
            "FROM LATEST IN",
        ),
        (
            "SHOW BACKUP 's3://x'",
            "SHOW BACKUP 'uri' was removed",
            "SHOW BACKUP FROM LATEST IN",
        ),
        (
            "SHOW BACKUP SCHEMAS 's3://x'",
            "SHOW BACKUP … without IN was removed",
            "SHOW BACKUP FROM",
        ),
        (
            "SHOW BACKUP CONNECTION 's3://x'",
            "SHOW BACKUP CONNECTION was removed",
            "CHECK EXTERNAL CONNECTION",
        ),
        ("BACKUP TENANT 5 INTO 'x'", "virtual clusters", "source"),
    ] {
        let error = error(sql);
        assert_eq!(error.state, "0A000", "{sql}");
        assert!(error.message.contains(what), "{sql}: {error:?}");
        assert!(error.hint.unwrap_or_default().contains(instead), "{sql}");
        assert!(error.position.is_some(), "{sql}");
    }
    for option in [
        "incremental_location = 'x'",
        "include_all_virtual_clusters",
        "revision stream",
    ] {
        let error = error(&format!("BACKUP INTO 'x' WITH {option}"));
        assert_eq!(
            (error.state, error.position),
            ("0A000", Some(22)),
            "{option}"
        );
    }
    for kind in ["IMPORT", "CHANGEFEED"] {
        assert_eq!(error(&format!("PAUSE ALL {kind} JOBS")).state, "0A000");
    }
}

#[test]
fn nesting_is_bounded() {
    for sql in [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("SELECT {}true", "NOT ".repeat(10_000)),
        format!("{}SHOW JOBS", "EXPLAIN ".repeat(10_000)),
        format!(
            "{}SELECT 1{}",
            "SELECT * FROM (".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("SHOW JOBS {}SELECT 1", "(".repeat(10_000)),
    ] {
        let error = parse(&sql).expect_err("too deep");
        assert_eq!(error.state, "54001", "{error:?}");
    }
}
