//! Planning the restore of one member.

use futures::StreamExt;
use holdfast_format::MemberPlan;
use holdfast_source::RestoreTable;
use holdfast_types::{
    ByteCount, ErrorCode, Fault, RelationId, RestoreMember, RestoreSpec, TableName,
};
use std::collections::BTreeMap;

use super::cut::Cutter;
use super::halt::Halt;
use super::layers::JobLayers;
use super::plan_batches::PlanBatches;
use super::ticket::Ticket;
use crate::bounds::{MANIFEST_DEADLINE, SOURCE_CALL_DEADLINE};

/// Makes the tables on the member, and cuts what the layers hold of them into spans.
pub(super) async fn run(
    ticket: &Ticket,
    spec: &RestoreSpec,
    member: u32,
    span_size: ByteCount,
) -> Result<(), Halt> {
    let restored = restore_member(spec, member)?;
    let source = ticket.source(spec.kind, member)?;
    let layers = ticket
        .read(
            "reading the manifests",
            MANIFEST_DEADLINE,
            ticket.shared.layers.of_job(ticket),
        )
        .await?;
    let plan = layers.member(&restored.from)?;
    let tables: Vec<RestoreTable> = plan
        .relations
        .iter()
        .map(|held| RestoreTable {
            relation: held.relation.clone(),
            name: target_name(spec, &held.relation.name),
        })
        .collect();
    let doing = format!("making the tables on member {}", restored.member.name);
    let job = ticket.lease().task.job;
    let preparing = source.prepare_restore(job, &tables, spec.into_existing);
    ticket
        .write(&doing, SOURCE_CALL_DEADLINE, preparing)
        .await?;
    let cutting = cut(&layers, plan, span_size);
    let mut cutters = ticket
        .read("reading the file lists", MANIFEST_DEADLINE, cutting)
        .await?;
    let mut batches = PlanBatches::new(ticket);
    for held in &plan.relations {
        let id = held.relation.id;
        batches.relation(&held.relation).await?;
        let spans = cutters.remove(&id).map(Cutter::cut).unwrap_or_default();
        for (range, weight) in &spans {
            batches.span(id, range, *weight).await?;
        }
    }
    batches.finish().await
}

/// Reads every layer's file list once, and gathers where each relation's objects start.
async fn cut(
    layers: &JobLayers,
    plan: &MemberPlan,
    span_size: ByteCount,
) -> Result<BTreeMap<RelationId, Cutter>, Fault> {
    let mut cutters: BTreeMap<RelationId, (usize, Cutter)> = plan
        .relations
        .iter()
        .map(|held| (held.relation.id, (held.first_layer, Cutter::new(span_size))))
        .collect();
    for (index, layer) in layers.layers.iter().enumerate() {
        let mut stream = layers.store.entries(layer);
        while let Some(batch) = stream.next().await {
            for entry in batch?.iter().filter(|entry| entry.member == plan.index) {
                if let Some((first, cutter)) = cutters.get_mut(&entry.relation)
                    && index >= *first
                {
                    cutter.add(&entry.range.start, entry.object.logical);
                }
            }
        }
        cutters
            .values_mut()
            .for_each(|(_, cutter)| cutter.end_layer());
    }
    Ok(cutters
        .into_iter()
        .map(|(id, (_, cutter))| (id, cutter))
        .collect())
}

/// A member of a restore.
pub(super) fn restore_member(spec: &RestoreSpec, member: u32) -> Result<&RestoreMember, Fault> {
    spec.members.get(member as usize).ok_or_else(|| {
        Fault::new(
            ErrorCode::Internal,
            format!("the restore has no member {member}"),
        )
    })
}

/// The name that a table of the backup gets.
pub(super) fn target_name(spec: &RestoreSpec, name: &TableName) -> TableName {
    TableName {
        database: spec
            .renamed
            .get(&name.database)
            .unwrap_or(&name.database)
            .clone(),
        table: name.table.clone(),
    }
}
