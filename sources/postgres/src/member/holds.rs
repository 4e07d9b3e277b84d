//! Holds after the backup: moved on, and ended.

use futures::{StreamExt, stream};
use holdfast_types::{ErrorCode, Fault, HoldId, Position};

use super::PostgresMember;
use super::catalog::end_after;
use crate::catalog::{Database, databases};
use crate::hold;
use crate::session::{Purpose, Session};

/// Databases that are looked into at once.
const AT_ONCE: usize = 3;

/// Databases in which to look for the others.
const OTHERS: [&str; 2] = ["postgres", "template1"];

/// See [`holdfast_source::LoggedSource::advance_hold`].
pub(super) async fn advance(
    member: &PostgresMember,
    hold: HoldId,
    to: Position,
) -> Result<(), Fault> {
    let upto = end_after(to)?;
    let session = any_database(member).await?;
    for database in databases(&session).await? {
        let names = member.hold_names(hold, database.oid)?;
        // Slots are seen from every database, and moved from their own.
        if hold::state(&session, &names.slot).await?.is_none() {
            continue;
        }
        let own = member.control(&database.name).await?;
        hold::advance(&own, &names.slot, upto)
            .await
            .map_err(|fault| fault.context(&database.name))?;
    }
    Ok(())
}

/// See [`holdfast_source::LoggedSource::release`].
pub(super) async fn release(member: &PostgresMember, hold: HoldId) -> Result<(), Fault> {
    let session = any_database(member).await?;
    if session.info().in_recovery {
        // Nothing can have been placed on a standby.
        return Ok(());
    }
    let mut entered = databases(&session).await?;
    entered.retain(|database| database.allows_connections && database.may_connect);
    let mut releases = Vec::new();
    for database in &entered {
        releases.push(release_one(member, hold, database));
    }
    // One database that cannot be entered must not keep the others' log.
    let released: Vec<_> = stream::iter(releases).buffered(AT_ONCE).collect().await;
    released.into_iter().collect()
}

/// A session in the database of the address or, if that was dropped since or never was there, in one that almost every server has: all
/// databases are seen from each.
pub(super) async fn any_database(member: &PostgresMember) -> Result<Session, Fault> {
    let mut outcome = Session::connect(&member.env, &member.dsn, Purpose::Control).await;
    for other in OTHERS.into_iter().filter(|it| *it != member.dsn.database) {
        match &outcome {
            Err(fault) if fault.code == ErrorCode::NotFound => {}
            _ => break,
        }
        // The first error says what is wrong with the address.
        if let Ok(session) = member.control(other).await {
            outcome = Ok(session);
        }
    }
    outcome
}

async fn release_one(
    member: &PostgresMember,
    hold: HoldId,
    database: &Database,
) -> Result<(), Fault> {
    let names = member.hold_names(hold, database.oid)?;
    let released = match member.control(&database.name).await {
        Ok(session) => hold::release(&session, &names).await,
        // It was dropped meanwhile, and all that was in it.
        Err(fault) if fault.code == ErrorCode::NotFound => Ok(()),
        Err(fault) => Err(fault),
    };
    released.map_err(|fault| fault.context(&database.name))
}
