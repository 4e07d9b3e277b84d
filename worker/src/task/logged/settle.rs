//! Settling a database, when all other spans of its member are done.

use holdfast_proto::SpanWork;
use holdfast_types::{BackupSpec, KeyRange};

use super::inlet::backup_of;
use super::noting::noting;
use super::outlet::SpanOutlet;
use super::relation_of;
use crate::bounds::STORE_DEADLINE;
use crate::task::halt::Halt;
use crate::task::ticket::Ticket;

pub(super) async fn run(ticket: &Ticket, spec: &BackupSpec, span: &SpanWork) -> Result<(), Halt> {
    let member = &ticket.member(span.member)?.name;
    let source = ticket.logged(spec.kind, span.member)?;
    let relation = relation_of(span)?;
    let backup = backup_of(ticket, spec, span.member).await?;
    let opening = ticket.collection_for(span.member);
    let store = ticket
        .write("opening the collection", STORE_DEADLINE, opening)
        .await?;
    let doing = format!("settling {} of member {member}", relation.name);
    let notes = &backup.notes;
    let mut outlet = SpanOutlet::new(ticket, store, spec, span, KeyRange::all(), &doing, notes);
    let writing = outlet.writing();
    // A settling span reports nothing before its end, so that notes can be told meanwhile.
    let settling = source.settle(&backup, relation, &span.planned, &mut outlet);
    let settling = ticket.drive(&doing, &writing, settling);
    let outcome = match noting(ticket, notes, &doing, settling).await {
        Ok(found) => {
            let writing = outlet.writing();
            ticket.drive(&doing, &writing, outlet.settle(found)).await
        }
        Err(halt) => Err(halt),
    };
    outlet.conclude(outcome)
}
