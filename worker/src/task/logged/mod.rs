//! Tasks of sources whose history is a log ([`holdfast_source::LoggedSource`]): the source reads and writes, and the worker gives it what
//! it puts its objects into ([`outlet`]) and takes them from ([`inlet`]), and tells the leader.
//!
//! # Concurrency
//! The source's call is the flow: it is dropped when the task is told to stop, but not in the middle of a write to the collection.
//!
//! # Memory
//! An object that is written is in memory as stored until it is put, and what the source gave last besides, which is packed while it reads on; the
//! source ends it when it has a part's size. Of an object of tuples
//! that is read a block is in memory, of objects of row versions some blocks each.

mod draft;
mod inlet;
mod lane;
mod listing;
mod merge;
mod noting;
mod outlet;
mod plan;
mod progress;
mod restore_check;
mod restore_end;
mod restore_plan;
mod restore_span;
mod settle;
mod span;

pub(super) use listing::Listings;
pub(crate) use restore_check::check_restore;

use holdfast_proto::Work;
use holdfast_types::{BackupSpec, ErrorCode, Fault, RestoreSpec};

use super::halt::Halt;
use super::ticket::Ticket;

/// Does a task of a backup.
pub(super) async fn back_up(ticket: &Ticket, spec: &BackupSpec, work: &Work) -> Result<(), Halt> {
    match work {
        Work::Plan { member, .. } => plan::run(ticket, spec, *member).await,
        Work::Span(span) if span.settles => settle::run(ticket, spec, span).await,
        Work::Span(span) => span::run(ticket, spec, span).await,
        Work::Finish { .. } | Work::Revert { .. } => Err(unknown("backup")),
    }
}

/// Does a task of a restore.
pub(super) async fn restore(ticket: &Ticket, spec: &RestoreSpec, work: &Work) -> Result<(), Halt> {
    match work {
        Work::Plan { member, .. } => restore_plan::run(ticket, spec, *member).await,
        Work::Span(span) => restore_span::run(ticket, spec, span).await,
        Work::Finish { member, .. } => restore_end::finish(ticket, spec, *member).await,
        Work::Revert { member } => restore_end::revert(ticket, spec, *member).await,
    }
}

fn unknown(job: &str) -> Halt {
    Halt::Failed(Fault::new(
        ErrorCode::Internal,
        format!("a {job} has no such task"),
    ))
}

/// The error of a source that does not keep to its contract.
fn misused(what: &str) -> Fault {
    Fault::new(ErrorCode::Internal, format!("the source {what}"))
        .hint("this is a defect of holdfast: please report it")
}

/// The relation of a span: only its plan knows it.
fn relation_of(span: &holdfast_proto::SpanWork) -> Result<&holdfast_types::Relation, Fault> {
    span.record.as_ref().ok_or_else(|| {
        Fault::new(
            ErrorCode::Internal,
            format!("the grant does not bring relation {}", span.relation),
        )
    })
}
