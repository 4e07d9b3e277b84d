//! Planning a backup of one member: the hold is placed, and the member is cut.

use holdfast_types::{BackupSpec, DatabaseName, ErrorCode, Fault};
use std::collections::BTreeMap;

use super::inlet::backup_of;
use super::noting::noting;
use crate::bounds::{LOGGED_DEADLINE, PLANNED_BYTES};
use crate::task::halt::Halt;
use crate::task::plan_batches::PlanBatches;
use crate::task::ticket::Ticket;

/// What a relation costs in a message besides its definition.
const RELATION_OVERHEAD: usize = 512;

pub(super) async fn run(ticket: &Ticket, spec: &BackupSpec, member: u32) -> Result<(), Halt> {
    let name = ticket.member(member)?.name.clone();
    let source = ticket.logged(spec.kind, member)?;
    let backup = backup_of(ticket, spec, member).await?;
    let doing = format!(
        "placing hold {} on member {name} and describing it",
        backup.hold
    );
    let beginning = source.begin(&backup);
    let beginning = ticket.write(&doing, LOGGED_DEADLINE, beginning);
    let (settling, others): (Vec<_>, Vec<_>) = noting(ticket, &backup.notes, &doing, beginning)
        .await?
        .into_iter()
        .partition(|planned| planned.settles);
    let mut bytes: BTreeMap<&DatabaseName, usize> = BTreeMap::new();
    for planned in &others {
        let relation = &planned.relation;
        let held = bytes.entry(&relation.name.database).or_default();
        *held += relation.definition.len() + RELATION_OVERHEAD;
        if *held > PLANNED_BYTES {
            return Err(Halt::Failed(
                Fault::new(
                    ErrorCode::ResourceExhausted,
                    format!(
                        "database \"{}\" of member {name} has more relations than one backup can settle",
                        relation.name.database.escape_debug()
                    ),
                )
                .hint("back up the tables that matter by name"),
            ));
        }
    }
    let mut batches = PlanBatches::new(ticket);
    for planned in &others {
        batches.relation(&planned.relation).await?;
        for (range, weight) in &planned.spans {
            batches.span(planned.relation.id, range, *weight).await?;
        }
    }
    // One member of several may have nothing of what is backed up.
    if settling.is_empty() && !(backup.partial && others.is_empty()) {
        return Err(broken(&name.to_string(), "names no database to settle"));
    }
    for planned in &settling {
        if !planned.relation.name.is_database() {
            return Err(broken(
                &name.to_string(),
                "settles something that is no database",
            ));
        }
        batches.relation(&planned.relation).await?;
        let weights = planned.spans.iter().map(|(_, weight)| *weight);
        batches.settling(planned.relation.id, weights.sum()).await?;
    }
    batches.finish().await
}

fn broken(member: &str, what: &str) -> Halt {
    Halt::Failed(Fault::new(
        ErrorCode::Internal,
        format!("the plan of member {member} {what}"),
    ))
}
