//! What the coordinator asks of the state.

use holdfast_types::{
    ConnectionName, ConnectionRecord, HoldId, JobId, JobSpec, Locality, RequestKey, ScheduleId,
    SourceName, SourceRecord, TaskId, UserName, UserRecord, WorkerId,
};

use crate::catalogue::Catalogue;
use crate::hold::HoldRecord;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::pending::Stage;
use crate::schedule::ScheduleRecord;
use crate::settings::Settings;
use crate::tasks::{Place, ReadyTask, Segment, SlotRef, StepRun, TaskView, Work};
use crate::worker::WorkerRecord;

impl Ledger {
    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All registered sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = &SourceRecord> {
        self.sources.values()
    }

    /// A registered source.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&SourceRecord> {
        self.sources.get(name)
    }

    /// All external connections, by name.
    pub fn connections(&self) -> impl Iterator<Item = &ConnectionRecord> {
        self.connections.values()
    }

    /// An external connection.
    #[must_use]
    pub fn connection(&self, name: &ConnectionName) -> Option<&ConnectionRecord> {
        self.connections.get(name)
    }

    /// All users of the SQL port, by name.
    pub fn users(&self) -> impl Iterator<Item = &UserRecord> {
        self.users.values()
    }

    /// A user of the SQL port.
    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&UserRecord> {
        self.users.get(name)
    }

    /// All registered workers, by id.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.workers.values()
    }

    /// A registered worker.
    #[must_use]
    pub fn worker(&self, id: &WorkerId) -> Option<&WorkerRecord> {
        self.workers.get(id)
    }

    /// All jobs, by id: the oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// The jobs that are not terminal, and those terminal ones after which something is still to be cleared away.
    pub fn unsettled_jobs(&self) -> impl Iterator<Item = &Job> {
        self.attention.iter().filter_map(|id| self.jobs.get(id))
    }

    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// The job that a request key made.
    #[must_use]
    pub fn job_of_request(&self, key: &RequestKey) -> Option<JobId> {
        self.requests.get(key).copied()
    }

    /// All schedules, by id: the oldest first.
    pub fn schedules(&self) -> impl Iterator<Item = &ScheduleRecord> {
        self.schedules.values()
    }

    /// A schedule.
    #[must_use]
    pub fn schedule(&self, id: ScheduleId) -> Option<&ScheduleRecord> {
        self.schedules.get(&id)
    }

    /// The runs of a schedule that are under way, the oldest first.
    pub fn runs_under_way(&self, id: ScheduleId) -> impl Iterator<Item = &Job> {
        self.unsettled_jobs().filter(move |job| {
            let is_of = job.scheduled().is_some_and(|run| run.schedule == id);
            is_of && !job.state().is_terminal()
        })
    }

    /// All holds, by id.
    pub fn holds(&self) -> impl Iterator<Item = &HoldRecord> {
        self.holds.values()
    }

    /// A hold.
    #[must_use]
    pub fn hold(&self, id: HoldId) -> Option<&HoldRecord> {
        self.holds.get(&id)
    }

    /// The layers that this cluster has written.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The tasks that a worker holds, each with all that is needed to do it.
    pub fn leases_of(&self, worker: &WorkerId) -> impl Iterator<Item = TaskView> + '_ {
        self.workers
            .get(worker)
            .into_iter()
            .flat_map(WorkerRecord::leases)
            .filter_map(|task| self.task(task))
    }

    /// An unfinished task with all that is needed to do it: O(log n).
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<TaskView> {
        self.jobs.get(&id.job)?.tasks.view(id.job, id.index)
    }

    /// Tasks of a job that wait for a worker, member by member, in order. Lazy: take as many as there are free slots. None
    /// unless the job's state allows dispatch.
    pub fn ready_tasks(&self, job: JobId) -> Box<dyn Iterator<Item = ReadyTask> + '_> {
        let Some(job) = self.jobs.get(&job) else {
            return Box::new(std::iter::empty());
        };
        let members = job.members();
        Box::new(
            members
                .into_iter()
                .flat_map(move |member| self.ready_of(job, member)),
        )
    }

    /// Tasks of one member of a job that wait for a worker, in order; `None` for those of a verification.
    pub fn ready_tasks_of(
        &self,
        job: JobId,
        member: Option<u32>,
    ) -> Box<dyn Iterator<Item = ReadyTask> + '_> {
        match self.jobs.get(&job) {
            Some(job) => self.ready_of(job, member),
            None => Box::new(std::iter::empty()),
        }
    }

    fn ready_of<'a>(
        &'a self,
        job: &'a Job,
        member: Option<u32>,
    ) -> Box<dyn Iterator<Item = ReadyTask> + 'a> {
        let tasks = &job.tasks;
        match job.stage() {
            Stage::Idle => Box::new(std::iter::empty()),
            Stage::Plans => self.ready_steps(job, &tasks.plans, member),
            Stage::Finishes => self.ready_steps(job, &tasks.finishes, member),
            Stage::Reverts => self.ready_steps(job, &tasks.reverts, member),
            Stage::Spans => Box::new(
                segment_of(&tasks.segments, member)
                    .into_iter()
                    .flat_map(Segment::ready_slots_with_first)
                    .filter_map(move |(segment, slot)| {
                        let work = match segment.slot(slot)? {
                            SlotRef::Open(active) => Some(&active.work),
                            SlotRef::Fresh | SlotRef::Done(_) => None,
                        };
                        Some(self.ready(job, segment.first + slot, member, work))
                    }),
            ),
        }
    }

    fn ready_steps<'a>(
        &'a self,
        job: &'a Job,
        run: &'a StepRun,
        member: Option<u32>,
    ) -> Box<dyn Iterator<Item = ReadyTask> + 'a> {
        Box::new(
            run.ready()
                .filter(move |(_, step)| step.member == member)
                .map(move |(index, step)| self.ready(job, index, member, Some(&step.work))),
        )
    }

    fn ready(&self, job: &Job, index: u32, member: Option<u32>, work: Option<&Work>) -> ReadyTask {
        let rests_until = work.and_then(|work| {
            work.failed_at
                .map(|at| at.plus(self.settings.backoff(work.attempts)))
        });
        ReadyTask {
            task: TaskId { job: job.id, index },
            member,
            rests_until,
        }
    }

    /// How many tasks of a member wait for a worker.
    pub(crate) fn ready_count(&self, job: &Job, member: Option<u32>) -> u32 {
        if job.stage() == Stage::Spans {
            return segment_of(&job.tasks.segments, member).map_or(0, Segment::ready_count);
        }
        u32::try_from(self.ready_of(job, member).count()).unwrap_or(u32::MAX)
    }
}

impl Segment {
    pub(crate) fn ready_slots_with_first(&self) -> impl Iterator<Item = (&Self, u32)> {
        self.ready_slots().map(move |slot| (self, slot))
    }
}

impl Job {
    /// Where workers must be to work on a member (`None`: on a verification): those whose locality contains both the member's and
    /// the job's execution locality.
    #[must_use]
    pub fn needed_localities(&self, member: Option<u32>) -> (Locality, Locality) {
        let own = member
            .and_then(|member| {
                let members = self.spec.members();
                members
                    .get(member as usize)
                    .map(|member| member.locality.clone())
            })
            .unwrap_or_default();
        (own, self.spec.execution_locality().clone())
    }

    /// Whether a worker in `locality` may work on a member (`None`: on a verification).
    #[must_use]
    pub fn admits(&self, locality: &Locality, member: Option<u32>) -> bool {
        let member_locality = match (member, self.spec.as_ref()) {
            (Some(member), JobSpec::Backup(spec)) => spec
                .members
                .get(member as usize)
                .map(|member| &member.member.locality),
            (Some(member), JobSpec::Restore(spec)) => spec
                .members
                .get(member as usize)
                .map(|member| &member.member.locality),
            (_, JobSpec::Verify(_) | JobSpec::Expire(_)) | (None, _) => None,
        };
        locality.contains(self.spec.execution_locality())
            && member_locality.is_none_or(|needed| locality.contains(needed))
    }

    /// The tasks under a lease, each with all that is needed to do it.
    pub fn leased_tasks(&self) -> impl Iterator<Item = TaskView> + '_ {
        self.tasks
            .leased()
            .iter()
            .filter_map(|&index| self.tasks.view(self.id, index))
    }

    /// What a task is about, in words: `member eu-1, relation bank.accounts`.
    #[must_use]
    pub fn task_name(&self, task: TaskId) -> String {
        self.describe_task(task.index)
    }

    /// The relation that a span task is about, as its member's plan described it.
    #[must_use]
    pub fn relation_of_task(&self, task: TaskId) -> Option<&holdfast_types::Relation> {
        let place: Place = self.tasks.locate(task.index)?;
        let (segment, slot) = self.tasks.segment_of(place)?;
        let id = segment.relation(slot)?;
        let lane = self
            .lanes
            .get(segment.member.unwrap_or_default() as usize)?;
        lane.relations.iter().find(|relation| relation.id == id)
    }
}

/// The segment of a member: there is one for each, in their order.
pub(crate) fn segment_of(segments: &[Segment], member: Option<u32>) -> Option<&Segment> {
    segments
        .get(member.unwrap_or_default() as usize)
        .filter(|segment| segment.member == member)
}
