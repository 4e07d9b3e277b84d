//! Who keeps a relation locked.

use holdfast_types::Fault;

use super::Session;

/// How many of those who hold locks are named.
const NAMED: i64 = 3;

/// If `fault` is a lock that was not granted in time: the same with the relations and who has them locked. The session must be outside a
/// transaction. Holders are looked for after the fact, and may be gone.
pub(crate) async fn name_holders(session: &Session, relations: &[u32], fault: Fault) -> Fault {
    if !fault.message.contains("55P03") {
        return fault;
    }
    let Ok(rows) = session
        .query(
            "SELECT n.nspname::text || '.' || c.relname::text, l.pid,
                    coalesce(a.backend_type || ' of role ' || a.usename::text, a.backend_type, '?')
                    || CASE WHEN v.pid IS NULL THEN '' ELSE ', in VACUUM' END
                    || coalesce(', transaction open for ' || pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text, '')
             FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
             JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_catalog.pg_stat_progress_vacuum v ON v.pid = l.pid AND v.relid = c.oid
             WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY ($1) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
               AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
             ORDER BY a.xact_start LIMIT $2",
            &[&relations, &NAMED],
        )
        .await
    else {
        return fault;
    };
    let holders: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            // In a session for data a name may not be UTF-8.
            let relation: String = row.try_get(0).ok()?;
            let who: String = row.try_get(2).ok()?;
            Some(match row.get::<_, Option<i32>>(1) {
                Some(pid) => format!("{relation} is locked by process {pid} ({who})"),
                None => format!("{relation} is locked by a prepared transaction"),
            })
        })
        .collect();
    match holders.is_empty() {
        true => fault,
        false => fault.context(holders.join("; ")),
    }
}
