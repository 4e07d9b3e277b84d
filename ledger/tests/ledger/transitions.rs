//! Every (state, event) pair: `JobState::next` as a table, and the ledger's answer to every request in every state.

use holdfast_ledger::{Action, Outcome, ReportBody};
use holdfast_types::{ControlVerb, ErrorCode, Fault, JobEvent, JobId, JobSpec, JobState, Verdict};

use crate::specs;
use crate::world::World;

const P: ControlVerb = ControlVerb::Pause;
const R: ControlVerb = ControlVerb::Resume;
const C: ControlVerb = ControlVerb::Cancel;

/// The model system's matrix: where a request leads, `Some(same)` if it is a no-op, `None` if it is refused.
fn matrix(state: JobState, verb: ControlVerb, doomed: bool) -> Option<JobState> {
    use JobState::{
        CancelRequested, Canceled, PauseRequested, Paused, Pending, Reverting, Running,
    };
    match (verb, state) {
        (P, Pending | Running | Reverting) => Some(PauseRequested),
        (P, Paused | PauseRequested) => Some(state),
        (R, Paused) => Some(if doomed { Reverting } else { Running }),
        (R, Running | Reverting) => Some(state),
        (C, Pending | Running) => Some(CancelRequested),
        (C, Paused) if !doomed => Some(CancelRequested),
        (C, Canceled | CancelRequested) => Some(state),
        _ => None,
    }
}

#[test]
fn requests_follow_the_matrix() {
    for state in JobState::ALL {
        for doomed in [false, true] {
            for verb in [P, R, C] {
                let verdict = state.next(JobEvent::Control(verb), doomed);
                let expected = matrix(state, verb, doomed);
                match verdict {
                    Ok(Verdict::Move(to)) => assert_eq!(Some(to), expected),
                    Ok(Verdict::NoOp) => assert_eq!(Some(state), expected),
                    Err(_) => assert_eq!(None, expected, "{state} {verb:?} {doomed}"),
                }
            }
        }
    }
}

#[test]
fn all_other_events_are_legal_in_few_places() {
    use JobState::{
        CancelRequested, Canceled, Failed, PauseRequested, Paused, Pending, RevertFailed,
        Reverting, Running, Succeeded,
    };
    let events = [
        JobEvent::Start,
        JobEvent::Quiesced,
        JobEvent::Complete,
        JobEvent::Fail,
        JobEvent::Reverted { canceled: false },
        JobEvent::Reverted { canceled: true },
        JobEvent::RevertFail,
    ];
    for state in JobState::ALL {
        for doomed in [false, true] {
            for event in events {
                let expected = match (event, state) {
                    (JobEvent::Start, Pending) => Some(Running),
                    (JobEvent::Quiesced, PauseRequested) => Some(Paused),
                    (JobEvent::Quiesced, CancelRequested) => Some(Reverting),
                    (JobEvent::Complete, Running) => Some(Succeeded),
                    (JobEvent::Complete, PauseRequested | Paused) if !doomed => Some(Succeeded),
                    (JobEvent::Fail, Pending | Running | PauseRequested) if !doomed => {
                        Some(Reverting)
                    }
                    (JobEvent::Reverted { canceled: false }, Reverting) => Some(Failed),
                    (JobEvent::Reverted { canceled: true }, Reverting) => Some(Canceled),
                    (JobEvent::RevertFail, Reverting) => Some(RevertFailed),
                    _ => None,
                };
                let found = match state.next(event, doomed) {
                    Ok(Verdict::Move(to)) => Some(to),
                    Ok(Verdict::NoOp) => panic!("{event:?} is never a no-op"),
                    Err(_) => None,
                };
                assert_eq!(found, expected, "{state} {event:?} {doomed}");
            }
        }
    }
}

/// A restore (which has something to undo) brought to a state, and whether it is doomed there.
fn bring(state: JobState, doomed: bool) -> Option<(World, JobId)> {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu"]));
    let fail = Action::FailJob {
        job,
        fault: Fault::new(ErrorCode::Internal, "a reason"),
    };
    if state == JobState::Pending {
        return (!doomed).then_some((world, job));
    }
    world.done(Action::StartJob { job });
    let plan = world.lease_all(job).pop().expect("a plan");
    match (state, doomed) {
        (JobState::Running, false) => {}
        (JobState::PauseRequested, false) => {
            world.control(job, P);
        }
        (JobState::PauseRequested | JobState::Paused | JobState::Reverting, true)
        | (JobState::Failed | JobState::RevertFailed, true) => {
            world.apply(fail);
            world.accepted(&plan, ReportBody::Released);
            let revert = world.lease_all(job).pop().expect("a revert");
            if matches!(state, JobState::PauseRequested | JobState::Paused) {
                world.control(job, P);
            }
            match state {
                JobState::Paused => world.accepted(&revert, ReportBody::Released),
                JobState::Failed => world.accepted(
                    &revert,
                    ReportBody::Done {
                        rows: Default::default(),
                        fingerprint: None,
                    },
                ),
                JobState::RevertFailed => world.accepted(
                    &revert,
                    ReportBody::Failed {
                        fault: Fault::new(ErrorCode::Internal, "it does not go"),
                    },
                ),
                _ => {}
            }
        }
        (JobState::Paused, false) => {
            world.control(job, P);
            world.accepted(&plan, ReportBody::Released);
        }
        (JobState::CancelRequested | JobState::Canceled, true) => {
            world.control(job, C);
            if state == JobState::Canceled {
                world.accepted(&plan, ReportBody::Released);
                world.run_to_end();
            }
        }
        (JobState::Succeeded, false) => world.run_to_end(),
        _ => return None,
    }
    assert_eq!(world.state(job), state);
    Some((world, job))
}

#[test]
fn the_ledger_answers_every_request_in_every_state() {
    let mut reached = 0;
    for state in JobState::ALL {
        for doomed in [false, true] {
            for verb in [P, R, C] {
                let Some((mut world, job)) = bring(state, doomed) else {
                    continue;
                };
                reached += 1;
                let outcome = world.control(job, verb);
                match matrix(state, verb, doomed) {
                    None => {
                        let Outcome::Refused(fault) = outcome else {
                            panic!("{state} {verb:?}: {outcome:?}");
                        };
                        assert_eq!(fault.code, ErrorCode::FailedPrecondition);
                        let words = match verb {
                            P => "cannot be requested to be paused",
                            R => "cannot be resumed",
                            C => "cannot be requested to be canceled",
                        };
                        let expected = format!("job {job}: job with status {state} {words}");
                        assert_eq!(fault.message, expected);
                        assert_eq!(world.state(job), state);
                    }
                    Some(expected) => {
                        let now = world.state(job);
                        assert_eq!(outcome, Outcome::State(now));
                        // A request that waits for leases is granted at once where there are none.
                        let settled = match expected {
                            JobState::PauseRequested if now != expected => JobState::Paused,
                            JobState::CancelRequested if now == JobState::Canceled => now,
                            JobState::CancelRequested if now == JobState::Reverting => now,
                            other => other,
                        };
                        assert_eq!(now, settled, "{state} {verb:?}");
                    }
                }
                world.run_to_end();
            }
        }
    }
    assert_eq!(reached, 12 * 3, "states that can be reached, doomed or not");
}

#[test]
fn a_job_that_was_never_started_can_be_paused_resumed_and_canceled() {
    let mut world = World::new();
    let job = world.submit(JobSpec::Backup(specs::full("app", &["eu"], 10)));
    assert_eq!(world.control(job, P), Outcome::State(JobState::Paused));
    assert_eq!(world.control(job, R), Outcome::State(JobState::Running));
    assert_eq!(
        world.ledger.ready_tasks(job).count(),
        1,
        "it is planned now"
    );
    let other = world.submit(JobSpec::Backup(specs::full("app", &["eu"], 11)));
    assert_eq!(world.control(other, C), Outcome::State(JobState::Canceled));
    world.run_to_end();
}
