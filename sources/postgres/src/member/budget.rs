//! How much log a hold may keep on the server's disk.
//!
//! A slot that nobody moves on fills the disk and stops the application. So a hold has a budget: most of what the server itself allows a slot
//! (`max_slot_wal_keep_size`), so that a chain ends in good order before the server breaks it, or [`DEFAULT_BUDGET`] where the server sets
//! no limit; or what [`super::Limits::wal_budget`] says. Beyond it the hold is given up: the disk is the application's.

use holdfast_source::Notes;
use holdfast_types::{ErrorCode, Fault, HoldId};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{PostgresMember, holds};
use crate::hold::{self, HoldNames};
use crate::session::Session;

/// The budget where neither the server nor the operator sets one. A disk for a database of some size has that much, and a day of most
/// applications' log fits in.
pub const DEFAULT_BUDGET: u64 = 64 << 30;

/// Of what the server allows a slot, the part that is used: it looks only at checkpoints.
const OF_THE_SERVERS: (u64, u64) = (9, 10);

/// Percent of the budget from which on the log is warned of, and after how many more again.
const WARN_AT: u64 = 80;
const WARN_STEP: u64 = 5;

/// How long one look is good for while parts are read.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// Slots that are remembered.
const REMEMBERED: usize = 1024;

/// What was seen of a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    at: Duration,
    /// The step that was last warned of.
    warned: u64,
}

/// When each slot was looked at.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<BTreeMap<String, Look>>);

impl Looks {
    fn is_fresh(&self, slot: &str, now: Duration) -> bool {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks
            .get(slot)
            .is_some_and(|look| now.saturating_sub(look.at) < GOOD_FOR)
    }

    /// Notes a look; `true` if that much was not warned of yet.
    fn note(&self, slot: &str, now: Duration, percent: u64) -> bool {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= REMEMBERED {
            looks.clear();
        }
        let look = looks.entry(slot.to_owned()).or_default();
        look.at = now;
        let step = match percent {
            WARN_AT.. => 1 + (percent - WARN_AT) / WARN_STEP,
            _ => 0,
        };
        let is_news = step > look.warned;
        look.warned = step;
        is_news
    }
}

/// As [`check`], but not again for a while.
pub(super) async fn check_now_and_then(
    member: &PostgresMember,
    session: &Session,
    hold: HoldId,
    names: &HoldNames,
    notes: &Notes,
) -> Result<(), Fault> {
    let now = member.env.clock.monotonic();
    match member.looks.is_fresh(&names.slot, now) {
        true => Ok(()),
        false => check(member, session, hold, names, Some(notes)).await,
    }
}

/// Looks at what a hold keeps. Beyond the budget all of the hold is released: its slots keep the same log. The session is for control, or
/// between transactions. A job's is noted with the job from [`WARN_AT`] percent on; what no job uses is warned of in the log.
///
/// # Errors
/// `HistoryGone` if it was; what the server says.
pub(super) async fn check(
    member: &PostgresMember,
    session: &Session,
    hold: HoldId,
    names: &HoldNames,
    notes: Option<&Notes>,
) -> Result<(), Fault> {
    let Some(state) = hold::state(session, &names.slot).await? else {
        // Whoever needs it will say so.
        return Ok(());
    };
    let budget = budget(member, session).await?;
    let kept = state.retained_bytes;
    let percent =
        u64::try_from(u128::from(kept) * 100 / u128::from(budget.max(1))).unwrap_or(u64::MAX);
    if kept <= budget {
        let now = member.env.clock.monotonic();
        if member.looks.note(&names.slot, now, percent) {
            warn(&names.slot, percent, budget, notes);
        }
        return Ok(());
    }
    // Not noted as a look: if this is interrupted, the hold is still there, and must be found again at once.
    holds::release(member, hold).await?;
    Err(Fault::new(
        ErrorCode::HistoryGone,
        format!(
            "replication slot {} kept {} MiB of log on the server's disk, and its budget is {} MiB: it was dropped, for the disk is the application's",
            names.slot,
            kept >> 20,
            budget >> 20
        ),
    )
    .hint("take a full backup: it starts a new chain; back up more often, or raise the budget if the disk has room"))
}

fn warn(slot: &str, percent: u64, budget: u64, notes: Option<&Notes>) {
    let text = format!(
        "replication slot {slot} keeps {percent} % of the {} MiB of log that it may keep on the server's disk: beyond that it is dropped",
        budget >> 20
    );
    match notes {
        Some(notes) => notes.add(text),
        None => tracing::warn!("{text}"),
    }
}

/// Bytes of log that a hold may keep.
pub(super) async fn budget(member: &PostgresMember, session: &Session) -> Result<u64, Fault> {
    if let Some(budget) = member.limits.wal_budget {
        return Ok(budget);
    }
    let row = session
        .query_one(
            "SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'",
            &[],
        )
        .await?;
    let mebibytes: i64 = row.get(0);
    Ok(match u64::try_from(mebibytes) {
        Ok(mebibytes) => (mebibytes << 20) / OF_THE_SERVERS.1 * OF_THE_SERVERS.0,
        Err(_) => DEFAULT_BUDGET,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_warned_of_once() {
        let looks = Looks::default();
        let note =
            |second: u64, percent: u64| looks.note("s", Duration::from_secs(second), percent);
        assert!(!note(1, 79));
        assert!(note(2, 81) && !note(3, 84));
        assert!(note(4, 86) && note(5, 99));
        assert!(!note(6, 10) && note(7, 80));
        assert!(looks.is_fresh("s", Duration::from_secs(16)));
        assert!(!looks.is_fresh("s", Duration::from_secs(17)));
        assert!(!looks.is_fresh("t", Duration::from_secs(7)));
    }
}
