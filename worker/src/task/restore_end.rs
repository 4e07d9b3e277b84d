//! The end of a restore on one member: its tables become visible, or go.

use holdfast_proto::LeaseReportBody;
use holdfast_types::{KeyRange, Relation, RestoreSpec, RowSum};

use super::halt::Halt;
use super::restore_plan::target_name;
use super::ticket::Ticket;
use crate::bounds::{SOURCE_CALL_DEADLINE, SOURCE_SCAN_DEADLINE};

/// Counts and digests what was loaded, and publishes it. The sum is reported: the leader compares its rows with those that the checkpoints
/// counted.
pub(super) async fn finish(
    ticket: &Ticket,
    spec: &RestoreSpec,
    member: u32,
    relations: &[Relation],
) -> Result<(), Halt> {
    let name = &ticket.member(member)?.name;
    let source = ticket.source(spec.kind, member)?;
    let job = ticket.lease().task.job;
    let mut sum = RowSum::default();
    for relation in relations.iter().filter(|held| !held.name.is_database()) {
        let table = target_name(spec, &relation.name);
        let doing = format!("checking {table} on member {name}");
        let counting = source.fingerprint(Some(job), &table, KeyRange::all(), None);
        let found = ticket.read(&doing, SOURCE_SCAN_DEADLINE, counting).await?;
        sum.merge(&RowSum {
            rows: found.rows,
            bytes: found.bytes,
            digest: found.digest,
        });
    }
    let doing = format!("publishing the tables on member {name}");
    ticket
        .write(&doing, SOURCE_CALL_DEADLINE, source.publish(job))
        .await?;
    let body = LeaseReportBody::Done {
        rows: sum.rows,
        fingerprint: Some(sum.digest),
    };
    ticket.report(&ticket.reporter(), body).await
}

/// Undoes what was not published.
pub(super) async fn revert(ticket: &Ticket, spec: &RestoreSpec, member: u32) -> Result<(), Halt> {
    let name = &ticket.member(member)?.name;
    let source = ticket.source(spec.kind, member)?;
    let doing = format!("undoing the restore on member {name}");
    let discarding = source.discard_restore(ticket.lease().task.job);
    ticket
        .write(&doing, SOURCE_SCAN_DEADLINE, discarding)
        .await?;
    let body = LeaseReportBody::Done {
        rows: Default::default(),
        fingerprint: None,
    };
    ticket.report(&ticket.reporter(), body).await
}
