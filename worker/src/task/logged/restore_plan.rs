//! Planning the restore of one member: what the rows go into is made, and the work is cut.

use holdfast_types::{ErrorCode, Fault, RestoreSpec};

use super::inlet::restore_of;
use super::noting::noting;
use crate::bounds::LOGGED_DEADLINE;
use crate::task::halt::Halt;
use crate::task::plan_batches::PlanBatches;
use crate::task::ticket::Ticket;

pub(super) async fn run(ticket: &Ticket, spec: &RestoreSpec, member: u32) -> Result<(), Halt> {
    let name = ticket.member(member)?.name.clone();
    let source = ticket.logged(spec.kind, member)?;
    let (restore, inlet) = restore_of(ticket, spec, member).await?;
    let doing = format!("preparing the restore on member {name}");
    let beginning = source.begin_restore(&restore, &inlet);
    let beginning = ticket.write(&doing, LOGGED_DEADLINE, beginning);
    let planned = noting(ticket, &restore.notes, &doing, beginning).await?;
    let mut batches = PlanBatches::new(ticket);
    for relation in &planned {
        if relation.settles {
            return Err(Halt::Failed(Fault::new(
                ErrorCode::Internal,
                format!("the restore on member {name} has nothing to settle"),
            )));
        }
        batches.relation(&relation.relation).await?;
        for (range, weight) in &relation.spans {
            batches.span(relation.relation.id, range, *weight).await?;
        }
    }
    batches.finish().await
}
