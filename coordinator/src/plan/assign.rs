//! The assignment of ready tasks to workers.
//!
//! Fair across jobs: the job with the fewest running tasks is served first, so that a small backup does not wait behind a large one.
//! Fair across members within a job, so that no member starves while another has work for everybody.

use holdfast_types::{Incarnation, JobId, Locality, TaskId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::locality::may_run;
use super::score::Score;

/// A worker as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where it is.
    pub locality: Locality,
    /// Tasks that it takes at once.
    pub slots: u32,
    /// Leases that it holds.
    pub busy: u32,
}

/// A task that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDemand {
    /// Which.
    pub task: TaskId,
    /// Where its member is; empty if it does not matter.
    pub place: Locality,
}

/// A job with ready tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDemand {
    /// Which.
    pub job: JobId,
    /// Only workers whose locality contains this.
    pub execution: Locality,
    /// Leases that the job has already.
    pub running: u32,
    /// Its ready tasks, the most urgent first.
    pub tasks: Vec<TaskDemand>,
}

/// A lease to give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// To whom.
    pub worker: WorkerId,
    /// To which life of it.
    pub incarnation: Incarnation,
}

/// The ready tasks of one job at one place.
struct Lane {
    place: Locality,
    given: u32,
    tasks: VecDeque<TaskId>,
}

/// One job's lanes.
struct Queue<'a> {
    demand: &'a JobDemand,
    lanes: Vec<Lane>,
}

impl<'a> Queue<'a> {
    fn new(demand: &'a JobDemand) -> Self {
        let mut lanes: BTreeMap<&Locality, VecDeque<TaskId>> = BTreeMap::new();
        for task in &demand.tasks {
            lanes.entry(&task.place).or_default().push_back(task.task);
        }
        let lanes = lanes
            .into_iter()
            .map(|(place, tasks)| Lane {
                place: place.clone(),
                given: 0,
                tasks,
            })
            .collect();
        Self { demand, lanes }
    }

    /// Gives one task of the lane that has been given the fewest to the best worker. Lanes that nobody can serve are dropped.
    fn serve(&mut self, workers: &mut [WorkerView]) -> Option<Assignment> {
        loop {
            let (index, lane) = self
                .lanes
                .iter_mut()
                .enumerate()
                .min_by_key(|(index, lane)| (lane.given, *index))?;
            let best = workers
                .iter_mut()
                .filter(|worker| {
                    worker.busy < worker.slots
                        && may_run(&worker.locality, &lane.place, &self.demand.execution)
                })
                .min_by(|a, b| score(a, &lane.place).cmp(&score(b, &lane.place)));
            let (Some(worker), Some(task)) = (best, lane.tasks.pop_front()) else {
                self.lanes.remove(index);
                continue;
            };
            worker.busy += 1;
            lane.given += 1;
            return Some(Assignment {
                task,
                worker: worker.id.clone(),
                incarnation: worker.incarnation,
            });
        }
    }
}

fn score<'a>(worker: &'a WorkerView, place: &Locality) -> Score<'a> {
    Score::new(
        &worker.id,
        &worker.locality,
        worker.busy,
        worker.slots,
        place,
    )
}

/// Gives at most `most` ready tasks to workers with free slots. The same input gives the same answer, whatever the order of
/// `jobs` and `workers`.
#[must_use]
pub fn assign(jobs: &[JobDemand], workers: &[WorkerView], most: usize) -> Vec<Assignment> {
    let mut workers = workers.to_vec();
    let mut queues: BTreeMap<JobId, Queue<'_>> = jobs
        .iter()
        .map(|demand| (demand.job, Queue::new(demand)))
        .collect();
    let mut turns: BTreeSet<(u32, JobId)> = jobs.iter().map(|job| (job.running, job.job)).collect();
    let mut assignments = Vec::new();
    while assignments.len() < most
        && let Some((running, job)) = turns.pop_first()
    {
        let served = queues
            .get_mut(&job)
            .and_then(|queue| queue.serve(&mut workers));
        if let Some(assignment) = served {
            assignments.push(assignment);
            turns.insert((running.saturating_add(1), job));
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Locality {
        text.parse().expect("a legal locality")
    }

    fn worker(id: &str, locality: &str, slots: u32, busy: u32) -> WorkerView {
        WorkerView {
            id: WorkerId::new(id).expect("a legal id"),
            incarnation: Incarnation(1),
            locality: at(locality),
            slots,
            busy,
        }
    }

    fn demand(job: u64, running: u32, tasks: &[(u32, &str)]) -> JobDemand {
        JobDemand {
            job: JobId(job),
            execution: Locality::default(),
            running,
            tasks: tasks
                .iter()
                .map(|(index, place)| TaskDemand {
                    task: TaskId {
                        job: JobId(job),
                        index: *index,
                    },
                    place: at(place),
                })
                .collect(),
        }
    }

    const ALL: usize = 100;

    fn pairs(assignments: &[Assignment]) -> Vec<String> {
        assignments
            .iter()
            .map(|assignment| format!("{}→{}", assignment.task, assignment.worker))
            .collect()
    }

    #[test]
    fn tasks_go_to_their_locality_and_wait_if_nobody_is_there() {
        let workers = [
            worker("e", "region=eu", 2, 0),
            worker("u", "region=us", 2, 0),
        ];
        let jobs = [demand(
            1,
            0,
            &[(0, "region=eu"), (1, "region=us"), (2, "region=ap")],
        )];
        assert_eq!(pairs(&assign(&jobs, &workers, ALL)), ["1/0→e", "1/1→u"]);
    }

    #[test]
    fn the_job_with_the_fewest_running_tasks_comes_first() {
        let workers = [worker("w", "", 3, 0)];
        let many: Vec<(u32, &str)> = (0..10).map(|index| (index, "")).collect();
        let jobs = [demand(1, 5, &many), demand(2, 3, &many)];
        assert_eq!(
            pairs(&assign(&jobs, &workers, ALL)),
            ["2/0→w", "2/1→w", "1/0→w"]
        );
    }

    #[test]
    fn a_full_member_does_not_hold_up_another() {
        let workers = [
            worker("e", "region=eu", 1, 1),
            worker("u", "region=us", 1, 0),
        ];
        let jobs = [demand(
            1,
            1,
            &[(0, "region=eu"), (1, "region=eu"), (2, "region=us")],
        )];
        assert_eq!(pairs(&assign(&jobs, &workers, ALL)), ["1/2→u"]);
    }

    #[test]
    fn members_take_turns() {
        let workers = [worker("w", "region=eu,zone=a", 4, 0)];
        let jobs = [demand(
            1,
            0,
            &[
                (0, "region=eu"),
                (1, "region=eu"),
                (2, "region=eu"),
                (3, "zone=a"),
                (4, "zone=a"),
            ],
        )];
        assert_eq!(
            pairs(&assign(&jobs, &workers, ALL)),
            ["1/0→w", "1/3→w", "1/1→w", "1/4→w"]
        );
    }

    fn any_locality() -> impl Strategy<Value = Locality> {
        prop_oneof![
            Just(""),
            Just("region=eu"),
            Just("region=us"),
            Just("region=eu,zone=a"),
            Just("region=eu,zone=b"),
        ]
        .prop_map(at)
    }

    fn any_workers() -> impl Strategy<Value = Vec<WorkerView>> {
        prop::collection::vec((any_locality(), 0u32..5, 0u32..5), 0..6).prop_map(|list| {
            list.into_iter()
                .enumerate()
                .map(|(index, (locality, slots, busy))| WorkerView {
                    locality,
                    ..worker(&format!("w{index}"), "", slots, busy)
                })
                .collect()
        })
    }

    fn any_jobs() -> impl Strategy<Value = Vec<JobDemand>> {
        let job = (
            any_locality(),
            0u32..4,
            prop::collection::vec(any_locality(), 0..12),
        );
        prop::collection::vec(job, 0..4).prop_map(|list| {
            list.into_iter()
                .enumerate()
                .map(|(job, (execution, running, places))| {
                    let job = JobId(job as u64 + 1);
                    let tasks = (0u32..)
                        .zip(places)
                        .map(|(index, place)| TaskDemand {
                            task: TaskId { job, index },
                            place,
                        })
                        .collect();
                    JobDemand {
                        job,
                        execution,
                        running,
                        tasks,
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_assignment_is_legal_and_none_is_missed(
            jobs in any_jobs(),
            workers in any_workers(),
            most in 0usize..30,
        ) {
            let given = assign(&jobs, &workers, most);
            prop_assert!(given.len() <= most);
            let tasks: BTreeSet<TaskId> = given.iter().map(|given| given.task).collect();
            prop_assert_eq!(tasks.len(), given.len(), "a task was given twice");
            let mut busy: BTreeMap<&WorkerId, u32> =
                workers.iter().map(|worker| (&worker.id, worker.busy)).collect();
            for assignment in &given {
                *busy.get_mut(&assignment.worker).expect("a known worker") += 1;
            }
            let fits = |worker: &WorkerView, job: &JobDemand, task: &TaskDemand| {
                may_run(&worker.locality, &task.place, &job.execution)
            };
            for worker in &workers {
                prop_assert!(busy[&worker.id] <= worker.slots.max(worker.busy));
            }
            for job in &jobs {
                for task in &job.tasks {
                    let to = given.iter().find(|given| given.task == task.task);
                    match to {
                        Some(to) => prop_assert!(workers
                            .iter()
                            .any(|worker| worker.id == to.worker && fits(worker, job, task))),
                        // Nothing ready is left behind while a slot that fits it is free.
                        None if given.len() < most => prop_assert!(!workers
                            .iter()
                            .any(|w| busy[&w.id] < w.slots && fits(w, job, task))),
                        None => {}
                    }
                }
            }
        }

        #[test]
        fn the_order_of_the_input_does_not_matter(jobs in any_jobs(), workers in any_workers()) {
            let given = assign(&jobs, &workers, 20);
            let (mut jobs, mut workers) = (jobs, workers);
            jobs.reverse();
            workers.reverse();
            prop_assert_eq!(given, assign(&jobs, &workers, 20));
        }
    }
}
