//! Backing up one span of a relation.

use holdfast_proto::SpanWork;
use holdfast_types::BackupSpec;

use super::inlet::backup_of;
use super::outlet::SpanOutlet;
use super::relation_of;
use crate::bounds::STORE_DEADLINE;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

pub(super) async fn run(ticket: &Ticket, spec: &BackupSpec, span: &SpanWork) -> Result<(), Halt> {
    let member = &ticket.member(span.member)?.name;
    let source = ticket.logged(spec.kind, span.member)?;
    let relation = relation_of(span)?;
    let range = ticket.open_range(&span.frontier, &span.end)?;
    let backup = backup_of(ticket, spec, span.member).await?;
    let opening = ticket.collection_for(span.member);
    let store = ticket
        .write("opening the collection", STORE_DEADLINE, opening)
        .await?;
    let doing = format!("reading {} of member {member}", relation.name);
    let notes = &backup.notes;
    let mut outlet = SpanOutlet::new(ticket, store, spec, span, range.clone(), &doing, notes);
    let writing = outlet.writing();
    let reading = source.read(&backup, relation, range, &mut outlet);
    let outcome = ticket.drive(&doing, &writing, reading).await;
    outlet.conclude(outcome)
}
