//! A snapshot at an exact position, F: all transactions whose commit record lies before F are in it, and no others.
//!
//! A temporary slot gives it: its consistent point and its exported snapshot belong together. The snapshot is taken over at once by sessions
//! of our own ("holders"), which export it again, and the slot goes.
//!
//! # Crash consistency
//! Nothing remains of a snapshot whose holders are gone. Work under it is done again under a later one; importers that are under way finish.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::time::Duration;

use crate::dsn::Dsn;
use crate::hold::{Waiting, create_slot};
use crate::layout::{Lsn, Oid};
use crate::replication::ReplicationSession;
use crate::session::{Purpose, Session};

/// How often a snapshot is tried to be taken before its importer gives up: the exporting session lives for as long as this takes.
const HOLDERS: usize = 2;

/// A snapshot that can be imported while this lives.
#[derive(Debug)]
pub struct HeldSnapshot {
    lsn: Lsn,
    exact: bool,
    holders: Vec<Holder>,
}

#[derive(Debug)]
struct Holder {
    session: Session,
    snapshot: String,
}

impl HeldSnapshot {
    /// Takes a snapshot at an exact position. Waits until every transaction that is writing now, on the whole server, has ended.
    ///
    /// # Errors
    /// `DeadlineExceeded`, naming them, if they do not end in time, `ResourceExhausted` without a free slot, or what else the server says.
    pub async fn exact(env: &Env, dsn: &Dsn, deadline: Duration) -> Result<Self, Fault> {
        Self::exact_showing(env, dsn, deadline, &|_| {}).await
    }

    /// As [`HeldSnapshot::exact`]; `show` is told now and then who is waited for.
    ///
    /// # Errors
    /// As there.
    pub async fn exact_showing(
        env: &Env,
        dsn: &Dsn,
        deadline: Duration,
        show: &(dyn Fn(&Waiting) + Send + Sync),
    ) -> Result<Self, Fault> {
        let first = Session::connect(env, dsn, Purpose::Control).await?;
        let second = Session::connect(env, dsn, Purpose::Control).await?;
        let mut slots = ReplicationSession::connect(env, dsn).await?;
        // A temporary slot belongs to its session; the process makes the name its own.
        let name = format!("holdfast_exact_{}", slots.pid());
        let slot = create_slot(&first, &mut slots, &name, true, deadline, show).await?;
        let mut held = Self {
            lsn: slot.consistent_point,
            exact: true,
            holders: Vec::with_capacity(HOLDERS),
        };
        for session in [first, second] {
            import(&session, &slot.snapshot).await?;
            held.add(session).await?;
        }
        // Dropped with its session, but its hold on log and catalogs should not wait for that.
        slots.drop_slot(&name).await?;
        Ok(held)
    }

    /// Takes a snapshot without a slot, for snapshot mode. Its position is only an upper bound: the end of the log just after.
    ///
    /// # Errors
    /// What the server says.
    pub async fn plain(env: &Env, dsn: &Dsn) -> Result<Self, Fault> {
        let first = Session::connect(env, dsn, Purpose::Control).await?;
        let second = Session::connect(env, dsn, Purpose::Control).await?;
        first
            .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let mut held = Self {
            lsn: Lsn::ZERO,
            exact: false,
            holders: Vec::with_capacity(HOLDERS),
        };
        held.add(first).await?;
        import(&second, held.id()?).await?;
        held.lsn = log_end(&second).await?;
        held.add(second).await?;
        Ok(held)
    }

    async fn add(&mut self, session: Session) -> Result<(), Fault> {
        let row = session
            .query_one("SELECT pg_catalog.pg_export_snapshot()", &[])
            .await?;
        self.holders.push(Holder {
            snapshot: row.get(0),
            session,
        });
        Ok(())
    }

    /// The position: F, exclusive; or an upper bound if the snapshot is a plain one.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether the position is exact.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// What to import, in this process or another: see [`import`].
    ///
    /// # Errors
    /// `Unavailable` if no holder is left.
    pub fn id(&self) -> Result<&str, Fault> {
        let holder = self.holders.first();
        holder
            .map(|holder| holder.snapshot.as_str())
            .ok_or_else(lost)
    }

    /// Sees which holders still hold, drops the others and puts new ones in their place. Call it every now and then.
    ///
    /// # Errors
    /// `Unavailable` if no holder is left: the snapshot is gone.
    pub async fn keep(&mut self, env: &Env, dsn: &Dsn) -> Result<(), Fault> {
        let mut alive = Vec::with_capacity(HOLDERS);
        for holder in std::mem::take(&mut self.holders) {
            if holder.session.query_one("SELECT 1", &[]).await.is_ok() {
                alive.push(holder);
            }
        }
        self.holders = alive;
        let id = self.id()?.to_owned();
        while self.holders.len() < HOLDERS {
            let session = Session::connect(env, dsn, Purpose::Control).await?;
            import(&session, &id).await?;
            self.add(session).await?;
        }
        Ok(())
    }

    /// A session that is inside the snapshot, for catalog queries. It must not be used for anything that can fail.
    ///
    /// # Errors
    /// `Unavailable` if no holder is left.
    pub fn session(&self) -> Result<&Session, Fault> {
        self.holders
            .last()
            .map(|holder| &holder.session)
            .ok_or_else(lost)
    }
}

fn lost() -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the snapshot is gone: every session that held it ended",
    )
}

/// Begins a transaction in `session` that sees exactly what an exported snapshot does.
///
/// # Errors
/// `Unavailable` if the snapshot is gone; what else the server says.
pub async fn import(session: &Session, snapshot: &str) -> Result<(), Fault> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        crate::identifier::literal(snapshot)
    );
    match session.execute(&sql).await {
        Ok(()) => Ok(()),
        // "invalid snapshot identifier" (22023): its exporter ended. The other is of another database.
        Err(fault) if fault.message.contains("22023") || fault.message.contains("snapshot") => {
            session.execute("ROLLBACK").await?;
            Err(Fault::new(
                ErrorCode::Unavailable,
                "the snapshot cannot be imported: the session that exported it ended, or it is of another database",
            ))
        }
        Err(fault) => Err(fault),
    }
}

/// The end of the server's log, written or not: an upper bound for what is visible now. On a standby the end of what is replayed.
///
/// # Errors
/// What the server says.
pub async fn log_end(session: &Session) -> Result<Lsn, Fault> {
    let row = session
        .query_one(
            "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                          ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text",
            &[],
        )
        .await?;
    parse_lsn(row.get(0))
}

/// A position as the server wrote it.
pub(crate) fn parse_lsn(text: Option<&str>) -> Result<Lsn, Fault> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Fault::new(
            ErrorCode::Internal,
            "the server gave no position in its log",
        )
    })
}

/// A relation that the session's snapshot does not show as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    /// The relation.
    pub oid: Oid,
    /// It exists no more; otherwise its rows are in another file.
    pub dropped: bool,
}

/// Relations whose rows moved since the session's snapshot: truncated, rewritten or dropped. The snapshot sees them empty, or cannot read
/// them; rows that were read of them before this was asked count only if they are not in the answer.
///
/// # Errors
/// What the server says.
pub async fn moved_since(session: &Session) -> Result<Vec<Moved>, Fault> {
    let rows = session
        .query(
            "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid) IS NULL FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
             ORDER BY c.oid",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Moved {
            oid: Oid(row.get(0)),
            dropped: row.get(1),
        })
        .collect())
}
