//! Planning a backup of one member.

use holdfast_source::Source;
use holdfast_types::{BackupSpec, ByteCount, ErrorCode, Fault, Position, Relation, Target};
use std::sync::Arc;

use super::halt::Halt;
use super::plan_batches::PlanBatches;
use super::ticket::Ticket;
use super::window::window_of;
use crate::bounds::{SOURCE_CALL_DEADLINE, SOURCE_SCAN_DEADLINE};

/// Places the hold, describes the member as of the layer's end, and cuts it into spans.
pub(super) async fn run(
    ticket: &Ticket,
    spec: &BackupSpec,
    member: u32,
    span_size: ByteCount,
) -> Result<(), Halt> {
    let name = ticket.member(member)?.name.clone();
    let source = ticket.source(spec.kind, member)?;
    let end = Position::from(spec.end);
    // First the clock: whatever is committed from now on lies after the end, which is then settled.
    let doing = format!("asking member {name} for its position");
    ticket
        .read(&doing, SOURCE_CALL_DEADLINE, source.position(end))
        .await?;
    if let Some(hold) = ticket.grant.hold {
        let at = spec.parent.as_ref().map_or(spec.end, |parent| parent.end);
        let doing = format!("placing hold {hold} on member {name}");
        let holding = source.hold(hold, at.into());
        ticket.write(&doing, SOURCE_CALL_DEADLINE, holding).await?;
    }
    let doing = format!("describing member {name}");
    let relations = ticket
        .read(&doing, SOURCE_CALL_DEADLINE, describe(&source, spec))
        .await?;
    let mut batches = PlanBatches::new(ticket);
    for relation in &relations {
        batches.relation(relation).await?;
        if relation.name.is_database() {
            continue;
        }
        let doing = format!("planning {} of member {name}", relation.name);
        let planning = source.plan(relation.id, window_of(spec, relation), span_size);
        let ranges = ticket.read(&doing, SOURCE_SCAN_DEADLINE, planning).await?;
        for (range, weight) in &ranges {
            batches.span(relation.id, range, *weight).await?;
        }
    }
    batches.finish().await
}

/// The relations that the layer holds of the member, sorted by id.
async fn describe(source: &Arc<dyn Source>, spec: &BackupSpec) -> Result<Vec<Relation>, Fault> {
    let end = Position::from(spec.end);
    let mut relations = match source.describe(&spec.target, end).await {
        // One member of several need not have all that is asked for. Whether anybody has it is for the leader to see.
        Err(fault) if fault.code == ErrorCode::NotFound && spec.members.len() > 1 => {
            let mut all = source.describe(&Target::Source, end).await?;
            all.retain(|relation| spec.target.covers(&relation.name));
            all
        }
        other => other?,
    };
    let history = spec.parent.as_ref().filter(|_| spec.history);
    let after = history.map(|parent| Position::from(parent.end));
    if let Some(after) = after {
        relations.extend(source.dropped(&spec.target, after, end).await?);
    }
    let databases = source.describe_databases(&spec.target, after, end).await?;
    relations.extend(databases);
    relations.sort();
    relations.dedup_by_key(|relation| relation.id);
    Ok(relations)
}

/// The relation of a span, from the source itself if the grant does not bring it.
pub(super) async fn find_relation(
    source: &Arc<dyn Source>,
    spec: &BackupSpec,
    id: holdfast_types::RelationId,
) -> Result<Relation, Fault> {
    let relations = describe(source, spec).await?;
    relations
        .into_iter()
        .find(|relation| relation.id == id)
        .ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!("the member has no relation {id} at the end of the backup"),
            )
        })
}
