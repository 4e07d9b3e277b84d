//! The server: version, log level, rights, room.

use holdfast_env::Env;
use holdfast_types::Fault;
use tokio_postgres::Row;

use super::Request;
use super::provider::Provider;
use super::report::{Finding, Severity};
use crate::dsn::Dsn;
use crate::identifier::literal;
use crate::replication::ReplicationSession;
use crate::session::{NEWEST, Session};

/// A transaction that has written for this long is named: a hold waits for its end.
const LONG_SECONDS: f64 = 300.0;

/// A limit on a slot's log below this is easily passed while a backup runs.
const SMALL_KEEP_MB: i64 = 1024;

const FACTS: &str = "
SELECT pg_catalog.current_setting('wal_level'),
       r.rolreplication OR r.rolsuper OR coalesce((SELECT pg_catalog.pg_has_role(m.oid, 'USAGE') FROM pg_catalog.pg_roles m
                                                   WHERE m.rolname = 'rds_replication'), false),
       pg_catalog.current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       pg_catalog.current_setting('max_wal_senders')::int8,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'),
       pg_catalog.current_setting('max_connections')::int8
         - CASE WHEN r.rolsuper THEN 0 ELSE pg_catalog.current_setting('superuser_reserved_connections')::int8 END
         - coalesce(pg_catalog.current_setting('reserved_connections', true)::int8, 0)
         - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'),
       r.rolconnlimit::int8,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usename = current_user AND a.backend_type = 'client backend'),
       (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
       coalesce((SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout'), 0),
       coalesce((SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'old_snapshot_threshold'), -1)
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Looks at the server; `databases` is how many slots a backup takes.
pub(super) async fn look(
    env: &Env,
    dsn: &Dsn,
    session: &Session,
    databases: usize,
    request: &Request,
) -> Result<Vec<Finding>, Fault> {
    let provider = Provider::find(session).await?;
    let row = session.query_one(FACTS, &[]).await?;
    let mut findings = Vec::new();
    let info = session.info();
    if info.major() > NEWEST {
        findings.push(Finding::new(
            Severity::Warning,
            "version",
            format!(
                "PostgreSQL {} is newer than what Holdfast was tested with ({NEWEST})",
                info.major()
            ),
        ));
    }
    if info.in_recovery {
        findings.push(
            Finding::new(
                Severity::NoLog,
                "server",
                "it is a standby, on which nothing can be published",
            )
            .mend("register the primary for incrementals and history"),
        );
    }
    log_level(&row, provider, &mut findings);
    replication_right(&row, provider, &info.user, &mut findings);
    room(&row, provider, databases, &mut findings);
    connections(&row, request, &mut findings);
    limits(&row, &mut findings);
    // All else being well, the door itself is tried: poolers and proxies keep it closed.
    if !findings
        .iter()
        .any(|finding| finding.severity >= Severity::NoLog)
        && let Err(fault) = try_replication(env, dsn).await
    {
        let mend = "connect to the server directly: a pooler or proxy may not pass the replication protocol on";
        findings.push(
            Finding::new(Severity::NoLog, "replication connection", fault.message).mend(mend),
        );
    }
    findings.extend(transactions(session).await?);
    findings.extend(idle_slots(session).await?);
    Ok(findings)
}

async fn try_replication(env: &Env, dsn: &Dsn) -> Result<(), Fault> {
    let mut session = ReplicationSession::connect(env, dsn).await?;
    session.identify().await.map(drop)
}

fn log_level(row: &Row, provider: Provider, findings: &mut Vec<Finding>) {
    let level: &str = row.get(0);
    if level != "logical" {
        let message = format!("it is {level}, so that the log cannot be decoded into changes");
        findings
            .push(Finding::new(Severity::NoLog, "wal_level", message).mend(provider.logical_log()));
    }
}

fn replication_right(row: &Row, provider: Provider, role: &str, findings: &mut Vec<Finding>) {
    if !row.get::<_, bool>(1) {
        let about = format!("role {role}");
        let message = "it may not make replication slots";
        findings.push(
            Finding::new(Severity::NoLog, about, message).mend(provider.replication_right(role)),
        );
    }
}

fn room(row: &Row, provider: Provider, databases: usize, findings: &mut Vec<Finding>) {
    // One slot a database, and one for a moment at its end.
    let needed = i64::try_from(databases)
        .unwrap_or(i64::MAX)
        .saturating_add(1);
    let (slots, used): (i64, i64) = (row.get(2), row.get(3));
    if slots - used < needed {
        let message =
            format!("{used} of {slots} slots are taken, and the backup needs {needed} more");
        findings.push(
            Finding::new(Severity::NoLog, "max_replication_slots", message)
                .mend(provider.raise("max_replication_slots", used + needed)),
        );
    }
    let (senders, used): (i64, i64) = (row.get(4), row.get(5));
    if senders - used < 1 {
        let message =
            format!("{used} of {senders} WAL senders are taken, and making a slot needs one");
        findings.push(
            Finding::new(Severity::NoLog, "max_wal_senders", message)
                .mend(provider.raise("max_wal_senders", used + 2)),
        );
    }
}

fn connections(row: &Row, request: &Request, findings: &mut Vec<Finding>) {
    let needed = i64::try_from(request.connections).unwrap_or(i64::MAX);
    let free: i64 = row.get(6);
    let (limit, own): (i64, i64) = (row.get(7), row.get(8));
    let free = match limit {
        0.. => free.min(limit - own),
        _ => free,
    };
    if free < needed {
        findings.push(Finding::new(
            Severity::Warning,
            "connections",
            format!(
                "{} are free for this role, and a backup takes up to {needed}: it waits for the application",
                free.max(0)
            ),
        ));
    }
}

fn limits(row: &Row, findings: &mut Vec<Finding>) {
    let keep: i64 = row.get(9);
    match keep {
        0..SMALL_KEEP_MB => findings.push(
            Finding::new(
                Severity::Warning,
                "max_slot_wal_keep_size",
                format!("the server gives a slot up when it is {keep} MB behind: a chain breaks easily"),
            )
            .mend("ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'; SELECT pg_reload_conf();"),
        ),
        i64::MIN..0 => findings.push(Finding::new(
            Severity::Note,
            "max_slot_wal_keep_size",
            "the server sets a slot no limit: only Holdfast's own budget keeps a stuck slot from filling the disk",
        )),
        SMALL_KEEP_MB.. => {}
    }
    let idle: i64 = row.get(10);
    if idle > 0 {
        findings.push(
            Finding::new(
                Severity::Warning,
                "idle_replication_slot_timeout",
                format!("the server gives a slot up that was not read for {idle} (its unit is the server's): backups must be more frequent"),
            )
            .mend("ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();"),
        );
    }
    let threshold: i64 = row.get(11);
    if threshold >= 0 {
        findings.push(
            Finding::new(
                Severity::Warning,
                "old_snapshot_threshold",
                "long reads can fail with \"snapshot too old\"",
            )
            .mend("ALTER SYSTEM SET old_snapshot_threshold = -1; -- then restart the server"),
        );
    }
}

/// Transactions that a hold would wait for.
async fn transactions(session: &Session) -> Result<Vec<Finding>, Fault> {
    let prepared = session
        .query(
            "SELECT p.gid, p.database::text, pg_catalog.date_trunc('second', p.prepared)::text
             FROM pg_catalog.pg_prepared_xacts p ORDER BY p.prepared",
            &[],
        )
        .await?;
    let mut findings: Vec<Finding> = prepared
        .iter()
        .map(|row| {
            let (gid, database, since): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let message = format!(
                "prepared at {since} in database {database}: a hold waits for its end, and until then vacuum cannot clean up"
            );
            let about = format!("prepared transaction {gid}");
            Finding::new(Severity::Warning, about, message)
                .mend(format!("COMMIT PREPARED {0}; -- or: ROLLBACK PREPARED {0};", literal(&gid)))
        })
        .collect();
    let writers = session
        .query(
            "SELECT a.pid, coalesce(a.usename::text, '?'), pg_catalog.date_trunc('second', a.xact_start)::text
             FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL
               AND a.xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1) ORDER BY a.xact_start",
            &[&LONG_SECONDS],
        )
        .await?;
    findings.extend(writers.iter().map(|row| {
        let (pid, role, since): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        let message =
            format!("of role {role}, it has been writing since {since}: a hold waits for its end");
        Finding::new(
            Severity::Warning,
            format!("transaction of process {pid}"),
            message,
        )
        .mend(format!("SELECT pg_terminate_backend({pid});"))
    }));
    Ok(findings)
}

/// A slot that nobody reads and that keeps this much log is named: the disk is the server's, whoever made the slot.
const LARGE_LOG_BYTES: i64 = 1 << 30;

/// Slots that nobody reads now and that keep much log.
async fn idle_slots(session: &Session) -> Result<Vec<Finding>, Fault> {
    let rows = session
        .query(
            "SELECT slot, kept FROM (
                 SELECT s.slot_name::text AS slot, pg_catalog.pg_wal_lsn_diff(
                     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                          ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::int8 AS kept
                 FROM pg_catalog.pg_replication_slots s WHERE NOT s.active) i
             WHERE kept >= $1 ORDER BY slot",
            &[&LARGE_LOG_BYTES],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let (slot, kept): (String, i64) = (row.get(0), row.get(1));
            let message = format!(
                "nobody reads it now, and it keeps {} MiB of log",
                kept >> 20
            );
            Finding::new(
                Severity::Warning,
                format!("replication slot {slot}"),
                message,
            )
            .mend(format!(
                "SELECT pg_drop_replication_slot({}); -- if nobody needs it",
                literal(&slot)
            ))
        })
        .collect())
}
