//! J1 (within one state), J8, J9, J10, B2.

use holdfast_types::{ControlVerb, JobEvent, JobKind, JobState, Phase, Verdict};

use super::{Findings, InvariantId};
use crate::job::{Job, MAX_JOB_ERRORS, MAX_JOB_NOTES, MAX_NOTE, MAX_TRANSITIONS, Transition};
use crate::ledger::Ledger;
use crate::progress::member_spans;

/// Every event there is.
const EVENTS: [JobEvent; 10] = [
    JobEvent::Start,
    JobEvent::Control(ControlVerb::Pause),
    JobEvent::Control(ControlVerb::Resume),
    JobEvent::Control(ControlVerb::Cancel),
    JobEvent::Quiesced,
    JobEvent::Complete,
    JobEvent::Fail,
    JobEvent::Reverted { canceled: false },
    JobEvent::Reverted { canceled: true },
    JobEvent::RevertFail,
];

/// Whether some event takes a job from one state to another.
pub(super) fn is_legal(from: JobState, to: JobState) -> bool {
    EVENTS.into_iter().any(|event| {
        [false, true]
            .into_iter()
            .any(|doomed| from.next(event, doomed) == Ok(Verdict::Move(to)))
    })
}

pub(super) fn check(ledger: &Ledger, job: &Job, findings: &mut Findings) {
    check_transitions(job, findings);
    check_rest(job, findings);
    check_counters(job, findings);
    let id = job.id;
    findings.expect(
        InvariantId::B2,
        job.errors.len() <= MAX_JOB_ERRORS && job.transitions.len() <= MAX_TRANSITIONS,
        || format!("job {id} keeps too many errors or transitions"),
    );
    findings.expect(
        InvariantId::B2,
        job.notes.len() <= MAX_JOB_NOTES
            && job.notes.iter().all(|note| note.text.len() <= MAX_NOTE),
        || format!("job {id} keeps too many notes, or too long ones"),
    );
    findings.expect(
        InvariantId::K1,
        ledger.attention.contains(&id) == job.needs_attention(),
        || format!("job {id} is looked after wrongly"),
    );
}

fn check_transitions(job: &Job, findings: &mut Findings) {
    let id = job.id;
    for Transition { from, to, .. } in &job.transitions {
        findings.expect(InvariantId::J1, is_legal(*from, *to), || {
            format!("job {id} went from {from} to {to}")
        });
    }
    for pair in job.transitions.windows(2) {
        if let [first, second] = pair {
            findings.expect(InvariantId::J1, first.to == second.from, || {
                format!("job {id} left {} after entering {}", second.from, first.to)
            });
        }
    }
    let last = job.transitions.last().map(|transition| transition.to);
    findings.expect(
        InvariantId::J1,
        last.unwrap_or(JobState::Pending) == job.state,
        || format!("job {id} is {} without having entered it", job.state),
    );
    let terminal = job.state.is_terminal();
    findings.expect(
        InvariantId::J1,
        terminal == job.finished_at.is_some(),
        || {
            format!(
                "job {id} is {} and its end is {:?}",
                job.state, job.finished_at
            )
        },
    );
    let undone = matches!(
        job.state,
        JobState::Reverting
            | JobState::Failed
            | JobState::Canceled
            | JobState::RevertFailed
            | JobState::CancelRequested
    );
    let forward = matches!(
        job.state,
        JobState::Pending | JobState::Running | JobState::Succeeded
    );
    findings.expect(
        InvariantId::J1,
        if job.is_doomed() { !forward } else { !undone },
        || format!("job {id} is {}, and doomed: {}", job.state, job.is_doomed()),
    );
}

fn check_rest(job: &Job, findings: &mut Findings) {
    let resting =
        job.state.is_terminal() || matches!(job.state, JobState::Pending | JobState::Paused);
    findings.expect(
        InvariantId::J9,
        !resting || job.tasks.leased().is_empty(),
        || {
            format!(
                "job {} is {} and has {} leases",
                job.id,
                job.state,
                job.tasks.leased().len()
            )
        },
    );
    findings.expect(
        InvariantId::J9,
        job.state != JobState::Paused || job.lingering.is_empty(),
        || format!("job {} is paused while a worker may work for it", job.id),
    );
}

fn check_counters(job: &Job, findings: &mut Findings) {
    let id = job.id;
    let counters = &job.counters;
    let lanes = |value: fn(&crate::job::Lane) -> u64| job.lanes.iter().map(value).sum::<u64>();
    findings.expect(
        InvariantId::J10,
        lanes(|lane| lane.weight_total) == counters.weight_total
            && lanes(|lane| lane.weight_done) == counters.weight_done
            && lanes(|lane| u64::from(lane.spans_total)) == u64::from(counters.spans_total)
            && lanes(|lane| u64::from(lane.spans_done)) == u64::from(counters.spans_done)
            && counters.weight_done <= counters.weight_total
            && counters.spans_done <= counters.spans_total,
        || format!("job {id}: {counters:?} is not the sum of its members"),
    );
    if job.state == JobState::Succeeded || job.phase == Phase::Finishing {
        findings.expect(
            InvariantId::J10,
            counters.weight_done == counters.weight_total
                && counters.spans_done == counters.spans_total,
            || format!("job {id} has ended transferring without having done it all"),
        );
    }
    if job.is_doomed() || job.state.is_terminal() || job.phase == Phase::Planning {
        return;
    }
    let (spans, done) = job.tasks.spans();
    findings.expect(
        InvariantId::J10,
        (spans, done) == (counters.spans_total, counters.spans_done),
        || format!("job {id} has {done} of {spans} spans done and counts otherwise"),
    );
    for (member, lane) in job.members().into_iter().zip(&job.lanes) {
        findings.expect(
            InvariantId::J10,
            member_spans(job, member) == Some((lane.spans_total, lane.spans_done)),
            || format!("job {id} miscounts the spans of member {member:?}"),
        );
    }
    let unfinished: u64 = job.tasks.open_entries();
    let (unsealed, sealed, written) = job.list.counts();
    findings.expect(
        InvariantId::J10,
        unsealed == job.list.recount()
            && unfinished + unsealed + sealed + written == counters.objects,
        || {
            format!(
                "job {id} has {} objects, and knows {unfinished} + {unsealed} + {sealed} + {written}",
                counters.objects
            )
        },
    );
    findings.expect(
        InvariantId::J10,
        job.kind() == JobKind::Backup || counters.objects == 0,
        || format!("job {id} is no backup and has objects"),
    );
}

pub(super) fn check_requests(ledger: &Ledger, findings: &mut Findings) {
    for (key, id) in &ledger.requests {
        let own = ledger.job(*id).and_then(Job::request);
        findings.expect(InvariantId::J8, own == Some(key), || {
            format!("request key {key} stands for job {id}, which does not know it")
        });
    }
    for job in ledger.jobs() {
        let known = job
            .request
            .as_ref()
            .is_none_or(|key| ledger.requests.get(key) == Some(&job.id));
        findings.expect(InvariantId::J8, known, || {
            format!("job {} has a request key that stands for another", job.id)
        });
    }
}
