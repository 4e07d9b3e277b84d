//! The slot of a hold.

use holdfast_types::{ErrorCode, Fault};
use tokio_postgres::types::ToSql;

use super::HoldNames;
use crate::exact::parse_lsn;
use crate::identifier::quote;
use crate::layout::Lsn;
use crate::replication::SystemIdentity;
use crate::session::Session;

/// Whether the log that a slot needs is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Kept for the slot beyond that.
    Extended,
    /// About to be removed: the slot can still be saved by moving it on.
    Unreserved,
    /// Removed.
    Lost,
}

/// A slot, as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// The database it decodes.
    pub database: Option<String>,
    /// Its output plugin.
    pub plugin: Option<String>,
    /// The process that uses it now.
    pub active_pid: Option<i32>,
    /// The oldest log that it keeps.
    pub restart: Lsn,
    /// Changes of transactions that committed before are not given again.
    pub confirmed: Lsn,
    /// Bytes of log that it keeps: from `restart` to the end.
    pub retained_bytes: u64,
    /// Bytes that may still be written before the slot is in danger; `None` without `max_slot_wal_keep_size`.
    pub safe_bytes: Option<u64>,
    /// Whether the log is there.
    pub wal_status: WalStatus,
    /// Why the server gave it up (16 and later), if it did.
    pub invalidated: Option<String>,
    /// How many transactions ago the catalogs' rows are kept that it needs.
    pub catalog_age: u64,
    /// How many transactions ago the oldest snapshot of any session is, which holds vacuum back on the server.
    pub oldest_snapshot_age: u64,
}

/// A slot; `None` if it does not exist.
///
/// # Errors
/// What the server says.
pub async fn state(session: &Session, slot: &str) -> Result<Option<SlotState>, Fault> {
    let invalidated = match session.info().major() {
        0..=15 => "NULL::text",
        16 => "CASE WHEN s.conflicting THEN 'it conflicted with recovery' END",
        _ => "s.invalidation_reason",
    };
    let rows = session
        .query(
            &format!(
                "SELECT s.database::text, s.plugin::text, s.active_pid, s.restart_lsn::text, s.confirmed_flush_lsn::text,
                    pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                        ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::int8,
                    s.safe_wal_size, s.wal_status, {invalidated},
                    coalesce(pg_catalog.age(s.catalog_xmin), 0),
                    coalesce((SELECT max(pg_catalog.age(a.backend_xmin)) FROM pg_catalog.pg_stat_activity a), 0)
                 FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1"
            ),
            &[&slot],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let position = |index: usize| parse_lsn(row.get::<_, Option<&str>>(index)).unwrap_or(Lsn::ZERO);
    let bytes = |index: usize| {
        let bytes: Option<i64> = row.get(index);
        bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0))
    };
    let age = |index: usize| u64::try_from(row.get::<_, i32>(index)).unwrap_or(0);
    Ok(Some(SlotState {
        database: row.get(0),
        plugin: row.get(1),
        active_pid: row.get(2),
        restart: position(3),
        confirmed: position(4),
        retained_bytes: bytes(5).unwrap_or(0),
        safe_bytes: bytes(6),
        wal_status: match row.get::<_, Option<&str>>(7) {
            Some("reserved") => WalStatus::Reserved,
            Some("extended") => WalStatus::Extended,
            Some("unreserved") => WalStatus::Unreserved,
            Some(_) | None => WalStatus::Lost,
        },
        invalidated: row.get(8),
        catalog_age: age(9),
        oldest_snapshot_age: age(10),
    }))
}

/// Sees that a slot still gives every change from `from` on: it is there, it is ours, nothing that it needs is lost, nobody else moved it, and the
/// server is the one it was, in the same history.
///
/// # Errors
/// `HistoryGone` with what breaks the chain.
pub fn verify(
    state: Option<&SlotState>,
    database: &str,
    from: Lsn,
    then: &SystemIdentity,
    now: &SystemIdentity,
) -> Result<(), Fault> {
    let broken = |why: String| {
        Err(Fault::new(ErrorCode::HistoryGone, why)
            .hint("take a full backup: it starts a new chain"))
    };
    if now.system_id != then.system_id {
        return broken(
            "this is another server than the one that the chain was begun on".to_owned(),
        );
    }
    if now.timeline != then.timeline {
        return broken(format!(
            "the server's history branched (timeline {} was {}): it was promoted or restored",
            now.timeline, then.timeline
        ));
    }
    let Some(slot) = state else {
        return broken(
            "the replication slot is gone: somebody dropped it, or the server was restored"
                .to_owned(),
        );
    };
    if let Some(reason) = &slot.invalidated {
        return broken(format!("the server gave the replication slot up: {reason}"));
    }
    if slot.wal_status == WalStatus::Lost {
        return broken(
            "the server removed log that the replication slot needed (max_slot_wal_keep_size)"
                .to_owned(),
        );
    }
    if slot.plugin.as_deref() != Some("pgoutput") || slot.database.as_deref() != Some(database) {
        return broken("another replication slot has the hold's name".to_owned());
    }
    if slot.confirmed > from {
        return broken(format!(
            "the replication slot begins at {}, and changes are needed from {from} on: it was made anew or read by others",
            slot.confirmed
        ));
    }
    Ok(())
}

/// Lets the server discard what lies before `upto`. Call it when everything before is durable and committed, and never else. A position
/// that the slot has passed already is no error.
///
/// # Errors
/// `NotFound` without the slot, `Unavailable` while it is in use, or what else the server says.
pub async fn advance(session: &Session, slot: &str, upto: Lsn) -> Result<Lsn, Fault> {
    if let Some(state) = state(session, slot).await?
        && state.confirmed >= upto
    {
        return Ok(state.confirmed);
    }
    let upto = upto.to_string();
    let parameters: [&(dyn ToSql + Sync); 2] = [&slot, &upto];
    let statement = session.client().query_one(
        "SELECT end_lsn::text FROM pg_catalog.pg_replication_slot_advance($1::text::pg_catalog.name, $2::text::pg_catalog.pg_lsn)",
        &parameters,
    );
    let row = session.within(ADVANCE_DEADLINE, statement).await?;
    parse_lsn(row.get(0))
}

/// How long moving a slot on may take: the server reads the log again from the slot's restart point.
const ADVANCE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(1800);

/// Removes a hold: its slot, whoever uses it, and its publication. What is not there is no error.
///
/// # Errors
/// `Unavailable` if the slot's user does not let go; or what else the server says.
pub async fn release(session: &Session, names: &HoldNames) -> Result<(), Fault> {
    drop_slot(session, &names.slot).await?;
    // One that somebody else made is not ours to drop.
    if super::publication::kind(session, &names.publication).await? == Some(false) {
        return Ok(());
    }
    session
        .execute(&format!(
            "DROP PUBLICATION IF EXISTS {}",
            quote(&names.publication)
        ))
        .await
}

/// Drops a slot of ours, in use or not; one that is not there is no error.
pub(super) async fn drop_slot(session: &Session, name: &str) -> Result<(), Fault> {
    let mut tries = 0;
    while let Some(slot) = state(session, name).await? {
        let sql = "SELECT pg_catalog.pg_drop_replication_slot($1::text::pg_catalog.name)";
        match session.query(sql, &[&name]).await {
            Ok(_) => return Ok(()),
            Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
            Err(fault) if tries == RELEASE_TRIES => return Err(fault),
            Err(_) => {}
        }
        if let Some(pid) = slot.active_pid {
            // A reader or maker of ours that was left behind. The role may always end its own.
            let sql = "SELECT pg_catalog.pg_terminate_backend($1)";
            session.query(sql, &[&pid]).await?;
        }
        tries += 1;
        tokio::time::sleep(RELEASE_PAUSE).await;
    }
    Ok(())
}

/// How often a slot in use is tried to be dropped, and the pause between.
const RELEASE_TRIES: u32 = 20;
const RELEASE_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
