//! Restoring one span.

use holdfast_proto::SpanWork;
use holdfast_types::RestoreSpec;
use tokio::sync::RwLock;

use super::inlet::restore_of;
use super::progress::Checkpoints;
use super::relation_of;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

pub(super) async fn run(ticket: &Ticket, spec: &RestoreSpec, span: &SpanWork) -> Result<(), Halt> {
    let member = &ticket.member(span.member)?.name;
    let source = ticket.logged(spec.kind, span.member)?;
    let relation = relation_of(span)?;
    let range = ticket.open_range(&span.frontier, &span.end)?;
    let (restore, inlet) = restore_of(ticket, spec, span.member).await?;
    let doing = format!("loading {} on member {member}", relation.name);
    let mut progress = Checkpoints::of(ticket, span, range.clone(), &doing, &restore.notes);
    let loading = source.load(&restore, relation, range, &inlet, &mut progress);
    // A load writes to the member alone, which takes back what nobody waits for.
    let outcome = ticket.drive(&doing, &RwLock::new(()), loading).await;
    progress.conclude(outcome)
}
