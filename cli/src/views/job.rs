//! Jobs.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;

use super::hold::StandingView;
use super::{seconds, sheet, some};
use crate::output::Table;

/// A job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    kind: String,
    description: String,
    pub(crate) state: String,
    running_status: Option<String>,
    created: Option<String>,
    started: Option<String>,
    finished: Option<String>,
    fraction_completed: f64,
    error: Option<FaultView>,
    execution_errors: Vec<String>,
    pause_reason: Option<String>,
    bytes_read: u64,
    bytes_written: u64,
    bytes_redone: u64,
    rows: u64,
    total_weight: u64,
    done_weight: u64,
    rate: f64,
    eta_seconds: Option<f64>,
    members: Vec<JobMemberView>,
    waiting: Vec<String>,
    hold: Option<String>,
    hold_age_seconds: Option<f64>,
    path: Option<String>,
    collection: Option<String>,
    source: Option<String>,
    as_of: Option<String>,
    tasks_total: u64,
    tasks_done: u64,
    tasks_leased: u64,
    applied_index: u64,
    /// What did not go as usual.
    pub(crate) notes: Vec<String>,
    notes_left_out: bool,
    hold_standings: Vec<StandingView>,
    /// Of an expiry: the chains that are removed.
    expired: Vec<ExpiredChainView>,
}

#[derive(Debug, Clone, Serialize)]
struct ExpiredChainView {
    subdir: String,
    objects: u64,
    bytes: u64,
    refused: u64,
}

impl From<v1::ExpiredChain> for ExpiredChainView {
    fn from(chain: v1::ExpiredChain) -> Self {
        Self {
            subdir: chain.subdir,
            objects: chain.objects,
            bytes: chain.bytes,
            refused: chain.refused,
        }
    }
}

impl ExpiredChainView {
    fn text(&self) -> String {
        let stayed = match self.refused {
            0 => String::new(),
            refused => format!(", {refused} stayed"),
        };
        let (objects, bytes) = (self.objects, ByteCount(self.bytes));
        format!("{}: {objects} objects, {bytes}{stayed}", self.subdir)
    }
}

/// An error.
#[derive(Debug, Clone, Serialize)]
struct FaultView {
    code: String,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct JobMemberView {
    name: String,
    locality: Option<String>,
    total_weight: u64,
    done_weight: u64,
    tasks_total: u64,
    tasks_done: u64,
    running: Vec<RunningTaskView>,
}

#[derive(Debug, Clone, Serialize)]
struct RunningTaskView {
    task: u32,
    worker: String,
    epoch: u64,
    relation: Option<String>,
    doing: Option<String>,
    idle_ms: u64,
    step: Option<StepView>,
}

/// How far a task is with a phase of many steps.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StepView {
    pub(crate) phase: String,
    done: u64,
    total: u64,
    bytes_done: u64,
    bytes_total: u64,
    now: Vec<String>,
}

impl From<v1::TaskStep> for StepView {
    fn from(step: v1::TaskStep) -> Self {
        Self {
            phase: step.phase,
            done: step.done,
            total: step.total,
            bytes_done: step.bytes_done,
            bytes_total: step.bytes_total,
            now: step.now,
        }
    }
}

impl StepView {
    /// `indexes of database bank: 1 of 3, 2.0 GiB of 3.0 GiB, now index a, index b`.
    pub(crate) fn text(&self) -> String {
        let bytes = match (self.bytes_done, self.bytes_total) {
            (0, 0) => String::new(),
            (done, 0) => ByteCount(done).to_string(),
            (done, total) => format!("{} of {}", ByteCount(done), ByteCount(total)),
        };
        let steps = match self.total {
            0 => String::new(),
            total => format!("{} of {total}", self.done),
        };
        let now = match self.now.is_empty() {
            true => String::new(),
            false => format!("now {}", self.now.join(", ")),
        };
        let parts: Vec<String> = [steps, bytes, now]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        match parts.is_empty() {
            true => self.phase.clone(),
            false => format!("{}: {}", self.phase, parts.join(", ")),
        }
    }
}

impl From<v1::Job> for JobView {
    fn from(job: v1::Job) -> Self {
        let held = job.hold != 0;
        Self {
            id: job.id.to_string(),
            kind: job.kind,
            description: job.description,
            state: job.state,
            running_status: some(job.running_status),
            created: some(job.created),
            started: some(job.started),
            finished: some(job.finished),
            fraction_completed: job.fraction_completed,
            error: job.error.map(|fault| FaultView {
                code: fault.code,
                message: fault.message,
                hint: some(fault.hint),
            }),
            execution_errors: job.execution_errors,
            pause_reason: some(job.pause_reason),
            bytes_read: job.bytes_read,
            bytes_written: job.bytes_written,
            bytes_redone: job.bytes_redone,
            rows: job.rows,
            total_weight: job.total_weight,
            done_weight: job.done_weight,
            rate: job.rate,
            eta_seconds: (job.eta_seconds >= 0.0).then_some(job.eta_seconds),
            members: job.members.into_iter().map(JobMemberView::from).collect(),
            waiting: job.waiting,
            hold: held.then(|| job.hold.to_string()),
            hold_age_seconds: held.then_some(job.hold_age_seconds),
            path: some(job.path),
            collection: some(job.collection),
            source: some(job.source),
            as_of: some(job.as_of),
            tasks_total: job.tasks_total,
            tasks_done: job.tasks_done,
            tasks_leased: job.tasks_leased,
            applied_index: job.applied_index,
            notes: job.notes,
            notes_left_out: job.notes_left_out,
            hold_standings: (job.hold_standings.into_iter())
                .map(StandingView::from)
                .collect(),
            expired: (job.expired.into_iter())
                .map(ExpiredChainView::from)
                .collect(),
        }
    }
}

impl From<v1::JobMember> for JobMemberView {
    fn from(member: v1::JobMember) -> Self {
        Self {
            name: member.name,
            locality: some(member.locality),
            total_weight: member.total_weight,
            done_weight: member.done_weight,
            tasks_total: member.tasks_total,
            tasks_done: member.tasks_done,
            running: member
                .running
                .into_iter()
                .map(|task| RunningTaskView {
                    task: task.task,
                    worker: task.worker,
                    epoch: task.epoch,
                    relation: some(task.relation),
                    doing: some(task.doing),
                    idle_ms: task.idle_ms,
                    step: task.step.map(StepView::from),
                })
                .collect(),
        }
    }
}

impl JobView {
    /// Everything about the job, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = sheet([
            ("job", self.id.clone()),
            ("what", self.description.clone()),
            ("state", self.state_text()),
            (
                "error",
                self.error.as_ref().map_or_else(String::new, fault_text),
            ),
            ("retried", self.execution_errors.join("; ")),
            ("waiting", self.waiting.join("; ")),
            ("created", self.created.clone().unwrap_or_default()),
            ("started", self.started.clone().unwrap_or_default()),
            ("finished", self.finished.clone().unwrap_or_default()),
            ("as of", self.as_of.clone().unwrap_or_default()),
            ("collection", self.collection.clone().unwrap_or_default()),
            ("path", self.path.clone().unwrap_or_default()),
            ("progress", self.progress_text()),
            ("rows", self.rows.to_string()),
            ("read", ByteCount(self.bytes_read).to_string()),
            ("written", ByteCount(self.bytes_written).to_string()),
            ("redone", ByteCount(self.bytes_redone).to_string()),
            ("hold", self.hold_text()),
        ]);
        let mut table = Table::new(&["member", "locality", "done", "of", "tasks", "running"]);
        for member in &self.members {
            let running: Vec<String> = member.running.iter().map(RunningTaskView::text).collect();
            table.row([
                member.name.clone(),
                member.locality.clone().unwrap_or_default(),
                ByteCount(member.done_weight).to_string(),
                ByteCount(member.total_weight).to_string(),
                format!("{}/{}", member.tasks_done, member.tasks_total),
                running.join("; "),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&format!("\n{table}\n"));
        }
        let standings = StandingView::table(&self.hold_standings);
        if !standings.is_empty() {
            text.push_str(&format!("\n{standings}\n"));
        }
        for chain in &self.expired {
            text.push_str(&format!("\nremoved {}\n", chain.text()));
        }
        let notes = self.notes_text();
        if !notes.is_empty() {
            text.push_str(&format!("\n{}\n", notes.join("\n")));
        }
        text.trim_end().to_owned()
    }

    /// What did not go as usual, a line each.
    pub(crate) fn notes_text(&self) -> Vec<String> {
        let notes = self.notes.iter().map(|note| format!("note: {note}"));
        let more = self
            .notes_left_out
            .then(|| "note: there was more to say than is kept: see the workers' logs".to_owned());
        notes.chain(more).collect()
    }

    /// A job that ended or was paused, in one line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{} {} {}: {} rows, {} read, {} written, {} redone",
            self.kind,
            self.id,
            self.state,
            self.rows,
            ByteCount(self.bytes_read),
            ByteCount(self.bytes_written),
            ByteCount(self.bytes_redone)
        )
    }

    /// One line of a watch.
    pub(crate) fn line(&self) -> String {
        format!("{} {} {}", self.id, self.state_text(), self.progress_text())
    }

    fn state_text(&self) -> String {
        match (&self.running_status, &self.pause_reason) {
            (Some(status), None) if self.state == "running" => {
                // Why it waits has a line of its own.
                let waits = self.waiting.contains(status);
                let status = if waits { "waiting" } else { status };
                format!("{}, {status}", self.state)
            }
            (_, Some(reason)) => format!("{} ({reason})", self.state),
            _ => self.state.clone(),
        }
    }

    fn progress_text(&self) -> String {
        let mut text = format!(
            "{:.1}%, {} of {}",
            self.fraction_completed * 100.0,
            ByteCount(self.done_weight),
            ByteCount(self.total_weight)
        );
        if self.rate >= 1.0 {
            text.push_str(&format!(", {}/s", ByteCount(self.rate as u64)));
            if let Some(eta) = self.eta_seconds {
                text.push_str(&format!(", {} left", seconds(eta)));
            }
        }
        text
    }

    fn hold_text(&self) -> String {
        match (&self.hold, self.hold_age_seconds) {
            (Some(hold), Some(age)) => format!("{hold}, for {}", seconds(age)),
            _ => String::new(),
        }
    }
}

impl RunningTaskView {
    fn text(&self) -> String {
        let step = self.step.as_ref();
        format!(
            "{} on {}: {}{} (idle {} ms)",
            self.relation.as_deref().unwrap_or("task"),
            self.worker,
            self.doing.as_deref().unwrap_or("starting"),
            step.map_or_else(String::new, |step| format!("; {}", step.text())),
            self.idle_ms
        )
    }
}

fn fault_text(fault: &FaultView) -> String {
    match &fault.hint {
        Some(hint) => format!("{} ({hint})", fault.message),
        None => fault.message.clone(),
    }
}

/// A list of jobs.
#[derive(Debug, Serialize)]
pub(crate) struct JobsView {
    jobs: Vec<JobView>,
}

impl From<v1::ListJobsResponse> for JobsView {
    fn from(list: v1::ListJobsResponse) -> Self {
        Self {
            jobs: list.jobs.into_iter().map(JobView::from).collect(),
        }
    }
}

impl JobsView {
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["job", "kind", "state", "done", "read", "redone", "what"]);
        for job in &self.jobs {
            table.row([
                job.id.clone(),
                job.kind.clone(),
                job.state_text(),
                format!("{:.1}%", job.fraction_completed * 100.0),
                ByteCount(job.bytes_read).to_string(),
                ByteCount(job.bytes_redone).to_string(),
                job.description.clone(),
            ]);
        }
        if table.is_empty() {
            "no jobs".to_owned()
        } else {
            table.to_string()
        }
    }
}

/// An accepted job.
#[derive(Debug, Serialize)]
pub(crate) struct SubmittedView {
    job: String,
    existed: bool,
    path: Option<String>,
}

impl From<v1::SubmitJobResponse> for SubmittedView {
    fn from(response: v1::SubmitJobResponse) -> Self {
        Self {
            job: response.job.to_string(),
            existed: response.existed,
            path: some(response.path),
        }
    }
}

impl SubmittedView {
    pub(crate) fn text(&self) -> String {
        let path = self.path.as_deref().unwrap_or_default();
        let existed = if self.existed {
            " (it existed: the request key was used before)"
        } else {
            ""
        };
        format!("job {} {path}{existed}", self.job)
    }
}

/// What became of a control request.
#[derive(Debug, Serialize)]
pub(crate) struct ControlledView {
    no_op: bool,
    job: JobView,
}

impl ControlledView {
    pub(crate) fn new(job: v1::Job, no_op: bool) -> Self {
        Self {
            no_op,
            job: job.into(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let already = if self.no_op { " already" } else { "" };
        format!("job {} is{already} {}", self.job.id, self.job.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn job() -> v1::Job {
        v1::Job {
            id: 1_234_567_890_123_456_789,
            kind: "BACKUP".into(),
            description: "BACKUP the whole source OF SOURCE bank".into(),
            state: "running".into(),
            running_status: "transferring".into(),
            created: "2026-11-23T19:08:00Z".into(),
            fraction_completed: 0.25,
            bytes_read: 3 << 20,
            bytes_written: 1 << 20,
            rows: 1000,
            total_weight: 12 << 20,
            done_weight: 3 << 20,
            rate: 1_048_576.0,
            eta_seconds: 9.0,
            hold: 7,
            hold_age_seconds: 3.5,
            members: vec![v1::JobMember {
                name: "m1".into(),
                locality: "region=eu".into(),
                total_weight: 12 << 20,
                done_weight: 3 << 20,
                tasks_total: 4,
                tasks_done: 1,
                running: vec![v1::RunningTask {
                    task: 2,
                    worker: "w1".into(),
                    epoch: 1,
                    relation: "app.accounts".into(),
                    doing: "reading".into(),
                    idle_ms: 12,
                    step: None,
                }],
            }],
            ..v1::Job::default()
        }
    }

    #[test]
    fn a_job_is_shown_whole() {
        assert_eq!(
            JobView::from(job()).text(),
            "\
job:       1234567890123456789
what:      BACKUP the whole source OF SOURCE bank
state:     running, transferring
created:   2026-11-23T19:08:00Z
progress:  25.0%, 3.0 MiB of 12.0 MiB, 1.0 MiB/s, 9.0 s left
rows:      1000
read:      3.0 MiB
written:   1.0 MiB
redone:    0 B
hold:      7, for 3.5 s

MEMBER  LOCALITY   DONE     OF        TASKS  RUNNING
m1      region=eu  3.0 MiB  12.0 MiB  1/4    app.accounts on w1: reading (idle 12 ms)"
        );
    }

    #[test]
    fn steps_standings_and_notes_are_shown() {
        let mut told = job();
        told.members[0].running[0].step = Some(v1::TaskStep {
            phase: "indexes of database bank".into(),
            done: 1,
            total: 3,
            bytes_done: 2 << 30,
            bytes_total: 3 << 30,
            now: vec!["index a".into(), "index b".into()],
        });
        told.hold_standings = vec![v1::HoldStanding {
            member: "m1".into(),
            name: "holdfast_t_7_5".into(),
            database: "bank".into(),
            wal_retained_bytes: 1 << 20,
            wal_budget_bytes: 4 << 20,
            wal_status: "reserved".into(),
            xmin_age: 12,
            active: true,
        }];
        told.notes = vec!["database bank: one".into(), "two".into()];
        told.notes_left_out = true;
        let view = JobView::from(told.clone());
        let text = view.text();
        let running = "reading; indexes of database bank: 1 of 3, 2.0 GiB of 3.0 GiB, now index a, index b (idle 12 ms)";
        assert!(text.contains(running), "{text}");
        assert!(
            text.ends_with(
                "
MEMBER  DATABASE  SLOT            LOG KEPT  OF       STATE     XMIN AGE
m1      bank      holdfast_t_7_5  1.0 MiB   4.0 MiB  reserved  12

note: database bank: one
note: two
note: there was more to say than is kept: see the workers' logs"
            ),
            "{text}"
        );
        let value = serde_json::to_value(view).expect("serialises");
        assert_eq!(value["notes"][1], "two");
        assert_eq!(value["notes_left_out"], true);
        assert_eq!(value["hold_standings"][0]["xmin_age"], 12);
        assert_eq!(value["members"][0]["running"][0]["step"]["done"], 1);
        let waiting = StepView::from(v1::TaskStep {
            phase: "waiting for transactions that write".into(),
            now: vec!["process 7".into()],
            ..v1::TaskStep::default()
        });
        assert_eq!(
            waiting.text(),
            "waiting for transactions that write: now process 7"
        );
        let bare = StepView::from(v1::TaskStep {
            phase: "the schema".into(),
            ..v1::TaskStep::default()
        });
        assert_eq!(bare.text(), "the schema");
    }

    #[test]
    fn ids_are_strings_and_nothing_is_null_in_json() {
        let value = serde_json::to_value(JobView::from(job())).expect("serialises");
        assert_eq!(value["id"], "1234567890123456789");
        assert_eq!(value["hold"], "7");
        assert!(value["finished"].is_null() && value["error"].is_null());
        assert_eq!(value["members"][0]["running"][0]["worker"], "w1");
        let unknown = JobView::from(v1::Job {
            eta_seconds: -1.0,
            ..v1::Job::default()
        });
        let value = serde_json::to_value(unknown).expect("serialises");
        assert!(value["eta_seconds"].is_null() && value["hold"].is_null());
    }

    #[test]
    fn a_reason_to_wait_is_told_once() {
        let why = "no live worker in locality region=eu";
        let waiting = JobView::from(v1::Job {
            running_status: why.into(),
            waiting: vec![why.into()],
            ..job()
        });
        let text = waiting.text();
        assert!(text.contains("state:     running, waiting\n"), "{text}");
        assert_eq!(text.matches(why).count(), 1, "{text}");
    }

    #[test]
    fn lists_are_tables() {
        let list = JobsView::from(v1::ListJobsResponse { jobs: vec![job()] });
        assert_eq!(
            list.text(),
            "\
JOB                  KIND    STATE                  DONE   READ     REDONE  WHAT
1234567890123456789  BACKUP  running, transferring  25.0%  3.0 MiB  0 B     BACKUP the whole source OF SOURCE bank"
        );
        let empty = JobsView::from(v1::ListJobsResponse::default());
        assert_eq!(empty.text(), "no jobs");
    }
}
