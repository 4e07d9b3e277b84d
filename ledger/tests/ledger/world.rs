//! A ledger with its log; every command is checked against every invariant.

use std::collections::BTreeSet;

use holdfast_ledger::{
    Action, Checkpoint, Command, Effect, Grant, Ledger, LogPosition, Outcome, Report, ReportBody,
    ReportOutcome, TaskKind, TaskView, invariants,
};
use holdfast_types::{
    ByteCount, ControlVerb, Digest, Epoch, Fault, Hlc, HoldId, Incarnation, JobId, JobSpec,
    JobState, ObjectRef, PlannedSpan, Position, Relation, RelationId, RowCount, Sealed, Settled,
    SettledDatabase, TableName, TaskId, Timestamp,
};

use crate::specs;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) log: Vec<(LogPosition, Command)>,
    /// The proposer's clock.
    pub(crate) now: Timestamp,
    /// What the last command made owed.
    pub(crate) effects: Vec<Effect>,
    pub(crate) next_id: u64,
}

pub(crate) fn key(text: &str) -> Sealed {
    Sealed::from_sealed(text.as_bytes())
}

/// A relation `db.t<id>`.
pub(crate) fn relation(id: u64) -> Relation {
    Relation {
        id: RelationId(id),
        name: TableName {
            database: "db".into(),
            table: format!("t{id}"),
        },
        created_at: Position::Hlc(Hlc::ZERO),
        dropped_at: None,
        definition: vec![1, 2, 3],
    }
}

/// Spans that tile a relation at these bounds.
pub(crate) fn tile(id: u64, bounds: &[&str], weight: u64) -> Vec<PlannedSpan> {
    let mut starts = vec![""];
    starts.extend(bounds);
    let mut ends = bounds.to_vec();
    ends.push("");
    starts
        .into_iter()
        .zip(ends)
        .map(|(start, end)| PlannedSpan {
            relation: RelationId(id),
            start: key(start),
            end: key(end),
            weight: ByteCount(weight),
            settles: false,
        })
        .collect()
}

pub(crate) fn object(name: String, bytes: u64) -> ObjectRef {
    ObjectRef {
        digest: Digest::of(name.as_bytes()),
        name,
        length: ByteCount(bytes / 2),
        rows: RowCount(bytes / 10),
        logical: ByteCount(bytes),
    }
}

impl World {
    /// A cluster with source `app` on `eu` and `us`, and one worker of four slots in each.
    pub(crate) fn new() -> Self {
        let mut world = Self::default();
        world.done(Action::RegisterSource {
            source: specs::source("app", &["eu", "us"]),
        });
        for place in ["eu", "us"] {
            world.register(place, 1);
        }
        world
    }

    /// Applies a command and checks everything that must hold. The effects it returns must be owed, and all that it made owed
    /// must be among them.
    pub(crate) fn apply(&mut self, action: Action) -> Outcome {
        let witness = invariants::Witness::of(&self.ledger);
        let before: BTreeSet<_> = self.ledger.pending_effects().into_iter().collect();
        self.now = self.now.plus(holdfast_types::Millis(10));
        let position = LogPosition {
            term: 1,
            index: self.ledger.applied().index + 1,
        };
        let command = Command {
            at: self.now,
            action,
        };
        let (outcome, effects) = self.ledger.apply(position, &command);
        let mut violations = invariants::check(&self.ledger);
        violations.extend(witness.check_step(&command.action, &outcome, &self.ledger));
        assert!(
            violations.is_empty(),
            "after {:?} with {outcome:?}: {violations:?}",
            command.action
        );
        let after: BTreeSet<_> = self.ledger.pending_effects().into_iter().collect();
        let told: BTreeSet<_> = effects.iter().cloned().collect();
        assert!(
            told.is_subset(&after),
            "{:?} told what is not owed: {:?}",
            command.action,
            told.difference(&after)
        );
        let new: BTreeSet<_> = after.difference(&before).cloned().collect();
        assert!(
            new.is_subset(&told),
            "{:?} did not tell {:?}",
            command.action,
            new.difference(&told)
        );
        self.log.push((position, command));
        self.effects = effects;
        outcome
    }

    pub(crate) fn done(&mut self, action: Action) {
        assert_eq!(self.apply(action), Outcome::Done);
    }

    pub(crate) fn refused(&mut self, action: Action) -> Fault {
        let digest = self.ledger.pending_effects();
        match self.apply(action) {
            Outcome::Refused(fault) => {
                assert_eq!(self.ledger.pending_effects(), digest);
                fault
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn register(&mut self, place: &str, incarnation: u64) {
        self.done(Action::RegisterWorker {
            worker: format!("worker-{place}").parse().expect("a name"),
            incarnation: Incarnation(incarnation),
            locality: specs::locality(&format!("region={place}")),
            slots: 4,
            version: "1".into(),
        });
    }

    pub(crate) fn expire(&mut self, place: &str, incarnation: u64, clean: bool) {
        self.done(Action::ExpireWorker {
            worker: format!("worker-{place}").parse().expect("a name"),
            incarnation: Incarnation(incarnation),
            clean,
        });
    }

    pub(crate) fn submission(&mut self, spec: JobSpec) -> Action {
        self.next_id += 1;
        Action::SubmitJob {
            job: JobId(self.next_id),
            hold: HoldId(self.next_id + 1_000),
            spec: Box::new(spec),
            request: None,
        }
    }

    /// Submits a job that must be accepted.
    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        let action = self.submission(spec);
        match self.apply(action) {
            Outcome::Job {
                job,
                existed: false,
            } => job,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Submits and starts a full of `app`.
    pub(crate) fn started_backup(&mut self) -> JobId {
        let job = self.submit(JobSpec::Backup(specs::full("app", &["eu", "us"], 10)));
        self.done(Action::StartJob { job });
        job
    }

    /// A full of `app` whose members are planned: on each, relation 1 in spans `..g`, `g..p`, `p..` of 100 bytes.
    pub(crate) fn planned_backup(&mut self) -> JobId {
        let job = self.started_backup();
        self.plan(job);
        job
    }

    /// Plans every member.
    pub(crate) fn plan(&mut self, job: JobId) {
        for view in self.lease_all(job) {
            self.accepted(&view, plan_of(1));
        }
    }

    /// Leases every ready task to the worker of its member's place (of a verification: any).
    pub(crate) fn lease_all(&mut self, job: JobId) -> Vec<TaskView> {
        let ready: Vec<_> = self.ledger.ready_tasks(job).collect();
        let mut leased = Vec::new();
        for task in ready {
            let place = if task.member == Some(1) { "us" } else { "eu" };
            if self.lease(task.task, place).is_ok() {
                leased.push(self.ledger.task(task.task).expect("it is there"));
            }
        }
        leased
    }

    pub(crate) fn lease(&mut self, task: TaskId, place: &str) -> Result<Epoch, Fault> {
        let worker = format!("worker-{place}").parse().expect("a name");
        let incarnation = self
            .ledger
            .worker(&worker)
            .map(|worker| worker.incarnation)
            .unwrap_or_default();
        let grants = vec![Grant {
            task,
            worker,
            incarnation,
        }];
        match self.apply(Action::GrantLeases { grants }) {
            Outcome::Leases(mut epochs) => epochs.pop().expect("one grant, one answer"),
            other => panic!("no lease: {other:?}"),
        }
    }

    pub(crate) fn report(&mut self, task: TaskId, epoch: Epoch, body: ReportBody) -> ReportOutcome {
        let reports = vec![Report { task, epoch, body }];
        match self.apply(Action::Reports { reports }) {
            Outcome::Reports(mut outcomes) => outcomes.pop().expect("one report, one answer"),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn accepted(&mut self, view: &TaskView, body: ReportBody) {
        let outcome = self.report(view.id, view.epoch, body);
        assert_eq!(outcome, ReportOutcome::Accepted);
    }

    /// A leased task with its present frontier.
    pub(crate) fn view(&self, task: TaskId) -> TaskView {
        self.ledger.task(task).expect("an unfinished task")
    }

    pub(crate) fn control(&mut self, job: JobId, verb: ControlVerb) -> Outcome {
        self.apply(Action::ControlJob {
            job,
            verb,
            reason: None,
        })
    }

    pub(crate) fn state(&self, job: JobId) -> JobState {
        self.ledger.job(job).expect("a job").state()
    }
}

/// The whole plan of a member in one batch: one relation in three spans.
pub(crate) fn plan_of(id: u64) -> ReportBody {
    ReportBody::Plan {
        sequence: 0,
        relations: vec![relation(id)],
        spans: tile(id, &["g", "p"], 100),
        last: true,
    }
}

/// As [`plan_of`], with two spans of another relation that settle the rest.
pub(crate) fn settling_plan_of(id: u64) -> ReportBody {
    let mut spans = tile(id, &["g", "p"], 100);
    spans.extend(
        tile(id + 100, &["m"], 50)
            .into_iter()
            .map(|span| PlannedSpan {
                settles: true,
                ..span
            }),
    );
    ReportBody::Plan {
        sequence: 0,
        relations: vec![relation(id), relation(id + 100)],
        spans,
        last: true,
    }
}

pub(crate) fn settled(second: u64) -> Settled {
    Settled {
        position: specs::hlc(second).into(),
        at: specs::hlc(second),
    }
}

/// A checkpoint of a span from its frontier to `to`; `None`: to its end, as the last.
pub(crate) fn checkpoint(
    view: &TaskView,
    to: Option<&str>,
    read: u64,
    with_object: bool,
) -> ReportBody {
    let TaskKind::Span {
        end,
        frontier,
        settles,
        ..
    } = &view.kind
    else {
        panic!("{view:?} is no span");
    };
    let name = format!(
        "{}-{}-{}-{}",
        view.id.job,
        view.id.index,
        view.epoch,
        to.unwrap_or("end")
    );
    ReportBody::Checkpoint(Checkpoint {
        from: frontier.clone(),
        to: to.map_or_else(|| end.clone(), key),
        last: to.is_none(),
        objects: if with_object {
            vec![object(name, read)]
        } else {
            Vec::new()
        },
        read: ByteCount(read),
        written: ByteCount(read / 2),
        rows: RowCount(read / 10),
        settled: (*settles && to.is_none()).then(|| SettledDatabase {
            end: settled(read),
            relations: vec![relation(1000 + u64::from(view.id.index))],
            keeps_history: true,
        }),
    })
}
