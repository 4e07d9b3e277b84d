//! Looking after holds while nobody reads them: they cost the server's disk either way.

use holdfast_source::HoldStanding;
use holdfast_types::{ErrorCode, Fault, HoldId};

use super::holds::any_database;
use super::{PostgresMember, budget};
use crate::catalog::databases;
use crate::hold::{self, HoldNames, SlotState, WalStatus};
use crate::session::Session;

/// See [`holdfast_source::LoggedSource::look_after_hold`].
pub(super) async fn look_after(
    member: &PostgresMember,
    hold: HoldId,
) -> Result<Vec<HoldStanding>, Fault> {
    let session = any_database(member).await?;
    let mut standings = Vec::new();
    for database in databases(&session).await? {
        let names = member.hold_names(hold, database.oid)?;
        let Some(state) = hold::state(&session, &names.slot).await? else {
            continue;
        };
        if state.invalidated.is_some() || matches!(state.wal_status, WalStatus::Lost) {
            return Err(lost(&names.slot, &state));
        }
        budget::check(member, &session, hold, &names, None).await?;
        if let Err(fault) = let_update(member, &database.name, &names).await {
            tracing::warn!(database = %database.name, %fault, "a publication is not looked after");
        }
        standings.push(standing(member, &session, names.slot, state).await?);
    }
    Ok(standings)
}

/// A table that has lost its primary key meanwhile cannot be updated while it is published: it is taken out, and the next layer reads it
/// whole.
async fn let_update(
    member: &PostgresMember,
    database: &str,
    names: &HoldNames,
) -> Result<(), Fault> {
    let session = member.control(database).await?;
    for table in hold::unpublish_unidentified(&session, &names.publication).await? {
        tracing::warn!(
            database,
            schema = %table.schema,
            table = %table.name,
            "a table without a primary key is published no more, so that it can be updated"
        );
    }
    Ok(())
}

fn lost(slot: &str, state: &SlotState) -> Fault {
    let why = state
        .invalidated
        .as_deref()
        .unwrap_or("its log was removed");
    Fault::new(
        ErrorCode::HistoryGone,
        format!("the server has given replication slot {slot} up: {why}"),
    )
    .hint("take a full backup: it starts a new chain; back up more often, or let the server keep more log for slots")
}

/// A slot as everybody is shown it.
pub(super) async fn standing(
    member: &PostgresMember,
    session: &Session,
    name: String,
    state: SlotState,
) -> Result<HoldStanding, Fault> {
    let status = match state.wal_status {
        WalStatus::Reserved => "reserved",
        WalStatus::Extended => "extended",
        WalStatus::Unreserved => "unreserved",
        WalStatus::Lost => "lost",
    };
    Ok(HoldStanding {
        name,
        database: state.database.unwrap_or_default(),
        wal_retained_bytes: state.retained_bytes,
        wal_budget_bytes: budget::budget(member, session).await?,
        wal_status: match state.invalidated {
            Some(reason) => format!("{status}: {reason}"),
            None => status.to_owned(),
        },
        xmin_age: state.catalog_age,
        active: state.active_pid.is_some(),
    })
}
