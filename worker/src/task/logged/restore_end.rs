//! The end of a restore on one member: it becomes visible, or goes.

use holdfast_proto::LeaseReportBody;
use holdfast_types::{RestoreSpec, RowCount};

use super::inlet::restore_of;
use super::noting::noting;
use crate::bounds::LOGGED_DEADLINE;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

pub(super) async fn finish(ticket: &Ticket, spec: &RestoreSpec, member: u32) -> Result<(), Halt> {
    let name = &ticket.member(member)?.name;
    let source = ticket.logged(spec.kind, member)?;
    let (restore, inlet) = restore_of(ticket, spec, member).await?;
    let doing = format!("finishing the restore on member {name}");
    let finishing = source.finish_restore(&restore, &inlet);
    let finishing = ticket.write(&doing, LOGGED_DEADLINE, finishing);
    let sum = noting(ticket, &restore.notes, &doing, finishing).await?;
    let body = LeaseReportBody::Done {
        rows: sum.rows,
        fingerprint: Some(sum.digest),
    };
    ticket.report(&ticket.reporter(), body).await
}

pub(super) async fn revert(ticket: &Ticket, spec: &RestoreSpec, member: u32) -> Result<(), Halt> {
    let name = &ticket.member(member)?.name;
    let source = ticket.logged(spec.kind, member)?;
    let doing = format!("undoing the restore on member {name}");
    let discarding = source.discard_restore(ticket.lease().task.job);
    ticket.write(&doing, LOGGED_DEADLINE, discarding).await?;
    let body = LeaseReportBody::Done {
        rows: RowCount(0),
        fingerprint: None,
    };
    ticket.report(&ticket.reporter(), body).await
}
