//! What is judged after every look at the coordinators. The sentences stand in `docs/INVARIANTS.md`.

use holdfast_ledger::{Ledger, invariants};
use holdfast_types::{Digest, Epoch, JobId, JobState, RequestKey, TaskId};
use std::collections::{BTreeMap, BTreeSet};

use crate::outcome::Failure;

/// One running coordinator, as the driver sees it between two turns.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its host.
    pub(crate) host: String,
    /// Which life of the host: grows with every crash.
    pub(crate) life: u64,
    /// The term it is in, if it takes itself for the leader.
    pub(crate) leads: Option<u64>,
    /// Its state: a clone, which costs little.
    pub(crate) ledger: Ledger,
}

const ONE_LEADER: &str = "there is at most one leader in a term";
const APPLIED_GROWS: &str = "what a node has applied never goes back while it runs";
const SAME_STATE: &str = "the same applied index means the same history on every node";
const TERMINAL_ABSORBS: &str = "only legal job transitions happen, and terminal states absorb";
const EPOCHS_GROW: &str = "a task has at most one current lease, and its epochs strictly increase";
const RUNS_ONCE: &str = "a run of a schedule is at most one job, and a run never comes due again";
const PROGRESS_GROWS: &str = "checkpoints chain, and progress never goes back";

/// Remembers what was seen, and finds what may not be.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<u64, String>,
    applied: BTreeMap<(String, u64), u64>,
    histories: BTreeMap<u64, (Digest, String)>,
    jobs: BTreeMap<JobId, JobSeen>,
    epochs: BTreeMap<TaskId, (Epoch, Option<u64>)>,
    /// The newest state that was judged by itself.
    judged: u64,
}

#[derive(Debug, Clone, Copy)]
struct JobSeen {
    state: JobState,
    weight_done: u64,
    spans_done: u32,
    rows: u64,
}

impl Checker {
    /// Judges what is seen now.
    pub(crate) fn check(&mut self, seen: &[Seen]) -> Result<(), Failure> {
        for node in seen {
            self.check_node(node)?;
        }
        let Some(newest) = seen.iter().max_by_key(|node| node.ledger.applied().index) else {
            return Ok(());
        };
        let index = newest.ledger.applied().index;
        if index > self.judged {
            self.judged = index;
            self.check_state(&newest.ledger)?;
        }
        Ok(())
    }

    /// Terms that had a leader so far.
    pub(crate) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    fn check_node(&mut self, node: &Seen) -> Result<(), Failure> {
        if let Some(term) = node.leads {
            let leader = self
                .leaders
                .entry(term)
                .or_insert_with(|| node.host.clone());
            if *leader != node.host {
                let both = format!("{leader} and {} both lead term {term}", node.host);
                return Err(Failure::safety("R1", ONE_LEADER, both));
            }
        }
        let index = node.ledger.applied().index;
        let last = self
            .applied
            .entry((node.host.clone(), node.life))
            .or_default();
        if index < *last {
            let seen = format!("{} went from {last} to {index}", node.host);
            return Err(Failure::safety("R3", APPLIED_GROWS, seen));
        }
        *last = index;
        let digest = node.ledger.chain_digest();
        let (other, host) = self
            .histories
            .entry(index)
            .or_insert_with(|| (digest, node.host.clone()));
        if *other != digest {
            let seen = format!("{host} and {} differ at index {index}", node.host);
            return Err(Failure::safety("R5", SAME_STATE, seen));
        }
        Ok(())
    }

    /// Judges a state by itself and against what was seen of its jobs before.
    fn check_state(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        if let Some(violation) = invariants::check(ledger).into_iter().next() {
            let id = violation.id;
            return Err(Failure::safety(id.as_str(), id.sentence(), violation.what));
        }
        check_runs(ledger)?;
        for job in ledger.jobs() {
            let counters = job.counters();
            let now = JobSeen {
                state: job.state(),
                weight_done: counters.weight_done,
                spans_done: counters.spans_done,
                rows: counters.rows.0,
            };
            if let Some(before) = self.jobs.insert(job.id(), now) {
                check_job(job.id(), before, now)?;
            }
        }
        for task in ledger.jobs().flat_map(|job| job.leased_tasks()) {
            let holder = task.lease.as_ref().map(|lease| lease.incarnation.0);
            if let Some((epoch, before)) = self.epochs.insert(task.id, (task.epoch, holder)) {
                let stolen = epoch == task.epoch && before != holder;
                if task.epoch < epoch || stolen {
                    let seen =
                        format!("task {} went from epoch {epoch} to {}", task.id, task.epoch);
                    return Err(Failure::safety("J3", EPOCHS_GROW, seen));
                }
            }
        }
        Ok(())
    }
}

/// Runs of schedules are told by their requests: the ledger itself knows whose a job is only when the leader has told it.
fn check_runs(ledger: &Ledger) -> Result<(), Failure> {
    let requests = ledger.jobs().filter_map(|job| job.request());
    match twice(requests) {
        None => Ok(()),
        Some(run) => {
            let seen = format!("there are two jobs of {run}");
            Err(Failure::safety("S1", RUNS_ONCE, seen))
        }
    }
}

/// The first run, `schedule-<id>-<due>`, that two requests are of.
fn twice<'a>(requests: impl Iterator<Item = &'a RequestKey>) -> Option<String> {
    let mut runs = BTreeSet::new();
    let of_runs = requests.filter(|request| request.is_of_a_run());
    of_runs
        .map(|request| {
            request
                .as_str()
                .splitn(4, '-')
                .take(3)
                .collect::<Vec<_>>()
                .join("-")
        })
        .find(|run| !runs.insert(run.clone()))
}

fn check_job(id: JobId, before: JobSeen, now: JobSeen) -> Result<(), Failure> {
    if before.state.is_terminal() && before.state != now.state {
        let seen = format!("job {id} went from {} to {}", before.state, now.state);
        return Err(Failure::safety("J1", TERMINAL_ABSORBS, seen));
    }
    let back = now.weight_done < before.weight_done
        || now.spans_done < before.spans_done
        || now.rows < before.rows;
    if back && !now.state.is_terminal() {
        let seen = format!("job {id} went from {before:?} to {now:?}");
        return Err(Failure::safety("J4", PROGRESS_GROWS, seen));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_ledger::LogPosition;

    fn at(index: u64) -> Ledger {
        let mut ledger = Ledger::new();
        ledger.advance_to(LogPosition {
            index,
            ..ledger.applied()
        });
        ledger
    }

    fn seen(host: &str, life: u64, leads: Option<u64>, index: u64) -> Seen {
        Seen {
            host: host.to_owned(),
            life,
            leads,
            ledger: at(index),
        }
    }

    fn id(result: Result<(), Failure>) -> &'static str {
        match result {
            Ok(()) => "",
            Err(Failure::Safety { id, .. }) => id,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn two_leaders_in_one_term_are_found() {
        let mut checker = Checker::default();
        assert_eq!(
            id(checker.check(&[seen("a", 0, Some(3), 1), seen("b", 0, None, 1)])),
            ""
        );
        assert_eq!(id(checker.check(&[seen("b", 0, Some(4), 1)])), "");
        assert_eq!(id(checker.check(&[seen("b", 0, Some(3), 1)])), "R1");
    }

    #[test]
    fn going_back_is_found_unless_the_node_was_restarted() {
        let mut checker = Checker::default();
        assert_eq!(id(checker.check(&[seen("a", 0, None, 5)])), "");
        assert_eq!(id(checker.check(&[seen("a", 1, None, 2)])), "");
        assert_eq!(id(checker.check(&[seen("a", 1, None, 1)])), "R3");
    }

    #[test]
    fn two_jobs_of_one_run_are_found() {
        let found = |requests: &[&str]| {
            let keys = requests.iter().map(|key| key.parse().expect("legal"));
            twice(keys.collect::<Vec<RequestKey>>().iter())
        };
        assert_eq!(
            found(&[
                "ann-1",
                "schedule-7-100",
                "schedule-7-200",
                "schedule-8-100"
            ]),
            None
        );
        let again = found(&["schedule-7-100", "schedule-7-100-5"]);
        assert_eq!(again.as_deref(), Some("schedule-7-100"));
    }

    #[test]
    fn jobs_that_go_back_are_found() {
        let job = |state, weight_done| JobSeen {
            state,
            weight_done,
            spans_done: 0,
            rows: 0,
        };
        let check = |before, now| id(check_job(JobId(1), before, now));
        assert_eq!(
            check(job(JobState::Running, 1), job(JobState::Paused, 2)),
            ""
        );
        assert_eq!(
            check(job(JobState::Running, 2), job(JobState::Running, 1)),
            "J4"
        );
        assert_eq!(
            check(job(JobState::Failed, 2), job(JobState::Running, 2)),
            "J1"
        );
    }
}
