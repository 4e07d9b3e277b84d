//! J2, and J4 and J5 as far as one state shows them.

use holdfast_types::{Phase, Sealed};

use super::{Findings, InvariantId};
use crate::job::Job;
use crate::tasks::{Segment, SlotRef};

pub(super) fn check(job: &Job, findings: &mut Findings) {
    for segment in &job.tasks.segments {
        check_tiling(job, segment, findings);
        for slot in 0..segment.len() {
            if let Some(SlotRef::Open(active)) = segment.slot(slot) {
                check_chain(job, segment, slot, active, findings);
            }
        }
    }
    let planned = job.phase != Phase::Planning && !job.is_doomed() && !job.state.is_terminal();
    findings.expect(
        InvariantId::J2,
        !planned || job.tasks.segments.len() == job.members().len(),
        || format!("job {} has members without a plan", job.id),
    );
}

/// Spans share their bounds, so a gap cannot be; what could go wrong is where a relation begins, and an empty span.
fn check_tiling(job: &Job, segment: &Segment, findings: &mut Findings) {
    let id = job.id;
    let mut weight = 0u64;
    let mut forgotten = false;
    for group in segment.groups() {
        findings.expect(
            InvariantId::J2,
            segment
                .start(group.first)
                .is_none_or(|start| start.is_open_end()),
            || format!("job {id}: relation {} does not start open", group.relation),
        );
    }
    for slot in 0..segment.len() {
        match segment.span_weight(slot) {
            Some(own) => weight = weight.saturating_add(own),
            None => forgotten = true,
        }
        let (Some(start), Some(end)) = (segment.start(slot), segment.end(slot)) else {
            continue;
        };
        findings.expect(InvariantId::J2, start != end || start.is_open_end(), || {
            format!("job {id}: span {slot} is empty")
        });
        let first = slot
            .checked_sub(1)
            .is_none_or(|before| segment.relation(before) != segment.relation(slot));
        findings.expect(InvariantId::J2, first || !start.is_open_end(), || {
            format!("job {id}: span {slot} starts over")
        });
    }
    findings.expect(
        InvariantId::J10,
        forgotten || weight == segment.weight(),
        || format!("job {id}: the spans do not add up to their weight"),
    );
}

/// The objects of an unfinished span lead from its start to its frontier without a hole.
fn check_chain(
    job: &Job,
    segment: &Segment,
    slot: u32,
    active: &crate::tasks::Active,
    findings: &mut Findings,
) {
    let id = job.id;
    let start = segment.start(slot).unwrap_or_default();
    let end = segment.end(slot).unwrap_or_default();
    findings.expect(
        InvariantId::J5,
        active.frontier == start || !active.frontier.is_open_end(),
        || format!("job {id}: span {slot} is unfinished at the open end"),
    );
    findings.expect(
        InvariantId::J4,
        segment
            .span_weight(slot)
            .is_some_and(|weight| active.credited <= weight),
        || format!("job {id}: span {slot} is credited with more than it weighs"),
    );
    let mut bounds: Vec<(&Sealed, &Sealed)> = active
        .entries
        .iter()
        .map(|entry| (&entry.from, &entry.to))
        .collect();
    bounds.dedup();
    // Checkpoints without objects leave holes here; what is there must still be in order and end at or before the frontier.
    for pair in bounds.windows(2) {
        if let [(_, to), (from, _)] = pair {
            findings.expect(
                InvariantId::J4,
                !to.is_open_end() && **from != start && (to == from || **to != end),
                || format!("job {id}: the objects of span {slot} do not chain"),
            );
        }
    }
}
