//! Who is waited for.

use holdfast_types::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::session::Session;

/// A transaction that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its number.
    pub xid: u32,
    /// Its backend; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// Who, where, since when: `role app, database shop, from 10.0.0.7, transaction open since 2026-11-23 19:08:00+00`; the name of a prepared transaction.
    pub who: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({})", self.who),
            None => write!(f, "prepared transaction {} ({})", self.xid, self.who),
        }
    }
}

/// Transactions that hold their number's lock now, on the whole server: those that write, and those between their commit record and their
/// visibility. Subtransactions are left out where they can be told.
pub(super) async fn writers(session: &Session) -> Result<Vec<Blocker>, Fault> {
    let rows = session
        .query(
            "SELECT l.transactionid::text::int8, l.pid,
                    CASE WHEN l.pid IS NULL THEN coalesce((SELECT 'gid ' || p.gid || ', since ' || p.prepared::text
                              FROM pg_catalog.pg_prepared_xacts p WHERE p.transaction = l.transactionid), 'in commit')
                         ELSE 'role ' || coalesce(a.usename::text, '?') || ', database ' || coalesce(a.datname::text, '?')
                              || coalesce(', from ' || host(a.client_addr), '') || ', ' || coalesce(a.state, 'unknown')
                              || ', transaction open since '
                              || coalesce(pg_catalog.date_trunc('second', a.xact_start)::text, '?') END
             FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
               AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
             ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Blocker {
            xid: u32::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            pid: row.get(1),
            who: row.get(2),
        })
        .collect())
}

/// Those of `waited` that are still there.
pub(super) async fn remaining(
    session: &Session,
    waited: &BTreeSet<u32>,
) -> Result<Vec<Blocker>, Fault> {
    let mut now: BTreeMap<u32, Blocker> = writers(session)
        .await?
        .into_iter()
        .map(|blocker| (blocker.xid, blocker))
        .collect();
    now.retain(|xid, _| waited.contains(xid));
    Ok(now.into_values().collect())
}
