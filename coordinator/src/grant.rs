//! A lease as its worker is told of it.

use holdfast_ledger::{Ledger, Setting, TaskKind, TaskView};
use holdfast_node::ClusterKey;
use holdfast_proto::{planned_to_wire, sealed_to_wire, to_json, v1};
use holdfast_types::JobSpec;

use crate::spec_cache::SpecCache;

/// The message that grants a leased task. `None` if the ledger no longer knows the job or its cluster, or if secrets do not open.
pub(crate) fn task_grant(
    ledger: &Ledger,
    specs: &SpecCache,
    key: &ClusterKey,
    task: &TaskView,
) -> Option<v1::TaskGrant> {
    let job = ledger.job(task.id.job)?;
    let cluster = ledger.cluster()?;
    let member = task.member.unwrap_or_default();
    let spec = match specs.of(ledger, key, job) {
        Ok(spec) => spec,
        Err(fault) => {
            tracing::error!(job = %task.id.job, %fault, "a lease cannot be granted");
            return None;
        }
    };
    let work = match &task.kind {
        TaskKind::Plan => v1::task_grant::Work::Plan(v1::PlanWork {
            member,
            span_size: ledger.settings().get(Setting::SpanSize),
        }),
        TaskKind::Span {
            relation,
            start,
            end,
            frontier,
            settles,
            ..
        } => v1::task_grant::Work::Span(v1::SpanWork {
            member,
            relation: relation.0,
            start: sealed_to_wire(start),
            end: sealed_to_wire(end),
            frontier: sealed_to_wire(frontier),
            relation_record: match job.spec().as_ref() {
                // A verification numbers layers, which the specification lists.
                JobSpec::Verify(_) | JobSpec::Expire(_) => None,
                JobSpec::Backup(_) | JobSpec::Restore(_) => job.relation_of_task(task.id),
            }
            .map(to_json)
            .unwrap_or_default(),
            settles: *settles,
            planned: match settles {
                true => job
                    .planned_with(task.id)
                    .iter()
                    .map(planned_to_wire)
                    .collect(),
                false => Vec::new(),
            },
        }),
        TaskKind::Finish => v1::task_grant::Work::Finish(v1::FinishWork {
            member,
            relations: to_json(job.relations(member).as_ref()),
        }),
        TaskKind::Revert => v1::task_grant::Work::Revert(v1::RevertWork { member }),
    };
    Some(v1::TaskGrant {
        job: task.id.job.0,
        task: task.id.index,
        epoch: task.epoch.0,
        spec,
        hold: job.hold().map_or(0, |hold| hold.0),
        cluster_id: cluster.0.to_vec().into(),
        work: Some(work),
    })
}
