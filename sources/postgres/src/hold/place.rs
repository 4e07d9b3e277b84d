//! Placing a hold: publication, slot, and the wait for what is between its commit record and visibility.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

use super::blockers::{Blocker, remaining, writers};
use super::{HoldNames, publication, slot};
use crate::dsn::Dsn;
use crate::exact::import;
use crate::layout::{Layout, Lsn};
use crate::replication::{CreatedSlot, ReplicationSession, SystemIdentity};
use crate::session::{Purpose, Session};

/// How often is looked who is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A hold that is ready: the first range may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its names.
    pub names: HoldNames,
    /// L0: changes of transactions whose commit record lies here or later come out of the slot.
    pub start: Lsn,
    /// The server, at that moment.
    pub identity: SystemIdentity,
}

/// What placing a hold waits for, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The slot waits for transactions that wrote when it was asked for.
    ForWriters(Vec<Blocker>),
    /// Transactions are committed in the log and not visible yet: they wait for a standby, or for the disk.
    ForVisibility(Vec<Blocker>),
}

/// Places a hold on a database. Waits until every transaction that writes now, in any database of the server, has ended.
///
/// `show` is told now and then what is waited for.
///
/// # Errors
/// `DeadlineExceeded`, naming who was waited for, with nothing left behind but the publication; `AlreadyExists` if the slot exists (release it
/// first); `ResourceExhausted` without a free slot or WAL sender; or what else the server says.
pub async fn place(
    env: &Env,
    dsn: &Dsn,
    names: &HoldNames,
    layouts: &[Layout],
    deadline: Duration,
    show: &(dyn Fn(&Waiting) + Send + Sync),
) -> Result<Placed, Fault> {
    let session = Session::connect(env, dsn, Purpose::Control).await?;
    publication::publish(&session, &names.publication, layouts).await?;
    let mut slots = ReplicationSession::connect(env, dsn).await?;
    let identity = slots.identify().await?;
    let began = env.clock.monotonic();
    let ready = async {
        let slot = create(&session, &mut slots, &names.slot, false, deadline, show).await?;
        let left = deadline.saturating_sub(env.clock.monotonic().saturating_sub(began));
        wait_until_visible(env, dsn, &session, &slot, left, show).await?;
        Ok::<_, Fault>(slot)
    };
    let slot = match ready.await {
        Ok(slot) => slot,
        // The one that is there is not ours to drop.
        Err(fault) if fault.code == ErrorCode::AlreadyExists => return Err(fault),
        Err(fault) => {
            // It may have been made in the very moment that nobody waited any more.
            drop(slots);
            slot::drop_slot(&session, &names.slot).await?;
            return Err(fault);
        }
    };
    Ok(Placed {
        names: names.clone(),
        start: slot.consistent_point,
        identity,
    })
}

/// Makes a slot, and tells who it waits for.
///
/// # Errors
/// `DeadlineExceeded`, naming who was waited for; what else the server says.
pub(crate) async fn create(
    session: &Session,
    slots: &mut ReplicationSession,
    name: &str,
    temporary: bool,
    deadline: Duration,
    show: &(dyn Fn(&Waiting) + Send + Sync),
) -> Result<CreatedSlot, Fault> {
    let waiter = slots.pid();
    let creation = slots.create_slot(name, temporary, deadline);
    tokio::pin!(creation);
    let mut blockers = Vec::new();
    let result = loop {
        tokio::select! {
            created = &mut creation => break created,
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                // What is shown is for people: if looking fails, the wait goes on.
                if let Ok(found) = blocking(session, waiter).await {
                    blockers = found;
                    show(&Waiting::ForWriters(blockers.clone()));
                }
            }
        }
    };
    result.map_err(|fault| match fault.code {
        ErrorCode::DeadlineExceeded => {
            overdue("a slot waits for transactions that are writing", &blockers)
        }
        _ => fault,
    })
}

/// The transactions that the slot's maker waits for; all that write, where its lock does not tell.
async fn blocking(session: &Session, waiter: i32) -> Result<Vec<Blocker>, Fault> {
    let rows = session
        .query(
            "SELECT l.transactionid::text::int8 FROM pg_catalog.pg_locks l
             WHERE l.pid = $1 AND l.locktype = 'transactionid' AND NOT l.granted",
            &[&waiter],
        )
        .await?;
    let awaited: BTreeSet<u32> = rows
        .iter()
        .filter_map(|row| u32::try_from(row.get::<_, i64>(0)).ok())
        .collect();
    let writers = writers(session).await?;
    let named: Vec<Blocker> = writers
        .iter()
        .filter(|writer| awaited.contains(&writer.xid))
        .cloned()
        .collect();
    Ok(if named.is_empty() { writers } else { named })
}

fn overdue(what: &str, blockers: &[Blocker]) -> Fault {
    let names: Vec<String> = blockers.iter().take(5).map(Blocker::to_string).collect();
    let names = match names.is_empty() {
        true => "unknown".to_owned(),
        false => names.join("; "),
    };
    Fault::new(ErrorCode::DeadlineExceeded, format!("{what}, and the deadline passed: {names}"))
        .hint("end these transactions (commit or roll back prepared ones), or try it again when they are over")
}

/// Waits until every transaction whose commit record lies before the slot's consistent point is visible to new snapshots.
///
/// Such a transaction is in the slot's snapshot, for that is built from commit records; and it holds the lock on its number until
/// after it has become visible to others (`ProcArrayEndTransaction` comes before the locks are released). So those to wait for are the
/// ones that hold such a lock now and are in the slot's snapshot. Others that hold one commit later, and come out of the slot.
/// An ordinary snapshot's list of running transactions does not tell: it says the same of both.
async fn wait_until_visible(
    env: &Env,
    dsn: &Dsn,
    session: &Session,
    created: &CreatedSlot,
    deadline: Duration,
    show: &(dyn Fn(&Waiting) + Send + Sync),
) -> Result<(), Fault> {
    let inside = Session::connect(env, dsn, Purpose::Control).await?;
    import(&inside, &created.snapshot).await?;
    let snapshot = Snapshot::read(&inside).await?;
    drop(inside);
    let waited: BTreeSet<u32> = writers(session)
        .await?
        .into_iter()
        .map(|writer| writer.xid)
        .filter(|xid| snapshot.shows(*xid))
        .collect();
    let ends = tokio::time::sleep(deadline);
    tokio::pin!(ends);
    loop {
        let blockers = remaining(session, &waited).await?;
        if blockers.is_empty() {
            return Ok(());
        }
        show(&Waiting::ForVisibility(blockers.clone()));
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = &mut ends => {
                return Err(overdue("transactions are committed and not visible yet (they wait for a standby?)", &blockers));
            }
        }
    }
}

/// Waits until every transaction that writes now, or is in commit, has ended: then all whose commit record lies before are visible. For a slot
/// whose snapshot is not there any more.
///
/// # Errors
/// `DeadlineExceeded`, naming who was waited for; or what the server says.
pub async fn wait_for_writers(
    session: &Session,
    deadline: Duration,
    show: &(dyn Fn(&Waiting) + Send + Sync),
) -> Result<(), Fault> {
    let writing = writers(session).await?;
    let waited: BTreeSet<u32> = writing.iter().map(|writer| writer.xid).collect();
    let ends = tokio::time::sleep(deadline);
    tokio::pin!(ends);
    loop {
        let blockers = remaining(session, &waited).await?;
        if blockers.is_empty() {
            return Ok(());
        }
        show(&Waiting::ForWriters(blockers.clone()));
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = &mut ends => {
                return Err(overdue("the hold waits for transactions that are writing", &blockers));
            }
        }
    }
}

/// Which transactions a snapshot shows.
#[derive(Debug)]
struct Snapshot {
    /// The first number that it does not know.
    end: u64,
    /// Those before that were running.
    running: BTreeSet<u64>,
}

impl Snapshot {
    async fn read(session: &Session) -> Result<Self, Fault> {
        let row = session
            .query_one(
                "SELECT pg_catalog.pg_snapshot_xmax(s)::text::int8,
                        ARRAY(SELECT x::text::int8 FROM pg_catalog.pg_snapshot_xip(s) AS x)
                 FROM pg_catalog.pg_current_snapshot() AS s",
                &[],
            )
            .await?;
        let number = |wide: i64| u64::try_from(wide).unwrap_or(0);
        Ok(Self {
            end: number(row.get(0)),
            running: row.get::<_, Vec<i64>>(1).into_iter().map(number).collect(),
        })
    }

    /// Whether a transaction that is or was just running is in it. Its number has 32 bits, and it is less than 2³¹ away from the
    /// snapshot's end, on either side.
    fn shows(&self, xid: u32) -> bool {
        let end = u32::try_from(self.end & u64::from(u32::MAX)).unwrap_or(0);
        let distance = i64::from(i32::from_ne_bytes(xid.wrapping_sub(end).to_ne_bytes()));
        match self.end.checked_add_signed(distance) {
            Some(wide) => wide < self.end && !self.running.contains(&wide),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_widened_around_the_snapshot() {
        let epoch = 1_u64 << 32;
        let snapshot = Snapshot {
            end: epoch + 2,
            running: BTreeSet::from([epoch - 1, epoch + 1]),
        };
        assert!(snapshot.shows(0), "of this epoch, ended");
        assert!(!snapshot.shows(1), "running");
        assert!(!snapshot.shows(2), "not begun");
        assert!(!snapshot.shows(u32::MAX), "running, of the epoch before");
        assert!(snapshot.shows(u32::MAX - 1), "ended, of the epoch before");
        let young = Snapshot {
            end: 800,
            running: BTreeSet::new(),
        };
        assert!(young.shows(799) && !young.shows(800) && !young.shows(u32::MAX));
    }
}
