//! Random commands, most of them nearly legal, against one ledger; all invariants after every step.

use std::collections::{BTreeMap, VecDeque};

use holdfast_ledger::{Action, Checkpoint, Grant, Ledger, PartRef, Report, ReportBody, TaskView};
use holdfast_types::{
    ByteCount, ControlVerb, Digest, Epoch, ErrorCode, Fault, HoldId, HoldUse, Incarnation, JobId,
    JobSpec, JobState, Millis, Phase, RowCount, RunResult, ScheduleVerb, ScheduledLayer, TaskId,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::leader::{perform, work};
use crate::specs;
use crate::users;
use crate::world::{World, key};

/// One decision: what to do, and two numbers that choose how.
pub(crate) type Choice = (u8, u16, u16);

/// Reports that were sent, to be sent again later.
const REMEMBERED: usize = 12;

struct Fuzz {
    world: World,
    sent: VecDeque<Report>,
}

fn pick<T>(items: Vec<T>, by: u16) -> Option<T> {
    let count = items.len();
    items.into_iter().nth(usize::from(by) % count.max(1))
}

impl Fuzz {
    fn ledger(&self) -> &Ledger {
        &self.world.ledger
    }

    fn job(&self, by: u16) -> JobId {
        let jobs = self.ledger().jobs().map(|job| job.id()).collect();
        pick(jobs, by).unwrap_or(JobId(u64::from(by)))
    }

    /// A job whose manifest may be written and is not known to be.
    fn committing(&self, by: u16) -> Option<JobId> {
        let jobs = self.ledger().jobs();
        let jobs = jobs.filter(|job| job.is_committing() && !job.is_committed());
        pick(jobs.map(|job| job.id()).collect(), by)
    }

    fn lease(&self, by: u16) -> Option<TaskView> {
        let leases = self
            .ledger()
            .unsettled_jobs()
            .flat_map(|job| job.leased_tasks());
        pick(leases.collect(), by)
    }

    fn action(&mut self, (op, a, b): Choice) -> Option<Action> {
        let crowded = self.ledger().unsettled_jobs().count() > 4;
        let action = match op % 28 {
            0 => self.register(a, b),
            1 if b.is_multiple_of(4) => Action::ExpireWorker {
                worker: worker(a),
                incarnation: Incarnation(u64::from(b % 2)),
                clean: b.is_multiple_of(12),
            },
            2 if !crowded => self.submit(a, b),
            3 => Action::StartJob { job: self.job(a) },
            4 => Action::ControlJob {
                job: self.job(a),
                verb: match b % 8 {
                    0 => ControlVerb::Cancel,
                    1 | 2 => ControlVerb::Pause,
                    _ => ControlVerb::Resume,
                },
                reason: (b.is_multiple_of(5)).then(|| "because".to_owned()),
            },
            5 if b.is_multiple_of(12) => Action::FailJob {
                job: self.job(a),
                fault: Fault::new(ErrorCode::Internal, "outside of any task"),
            },
            5 | 6 => self.grant(a, b),
            1 | 7..=10 | 20..=23 => self.good_report(a, b)?,
            11 => self.bad_report(a, b)?,
            12 => {
                let again = usize::from(a) % self.sent.len().max(1);
                let reports = vec![self.sent.get(again)?.clone()];
                Action::Reports { reports }
            }
            13 => Action::PartWritten {
                job: self.job(a),
                part: u32::from(b % 3),
                object: PartRef {
                    name: "odd".into(),
                    length: ByteCount(1),
                    digest: Digest::of(b"odd"),
                    entries: u64::from(b % 4),
                    store: 0,
                },
            },
            14 => Action::LayerCommitted {
                job: self.committing(a).unwrap_or(self.job(a)),
                manifest: Digest::of(&b.to_le_bytes()),
                length: ByteCount(9),
            },
            15 => self.loose_end(a, b),
            24 => Action::ControlJob {
                job: self.committing(a)?,
                verb: [ControlVerb::Pause, ControlVerb::Cancel][usize::from(b % 2)],
                reason: None,
            },
            16 if b.is_multiple_of(2) => Action::SetSetting {
                name: [
                    "part_list_threshold",
                    "max_task_attempts",
                    "max_jobs",
                    "wrong",
                ][usize::from(a % 4)]
                .into(),
                value: u64::from(b % 14) / 2,
            },
            17 if b.is_multiple_of(2) => self.source(a, b),
            17 => users::any(a, b),
            25 => self.schedule(a, b),
            _ => {
                let effect = pick(self.ledger().pending_effects(), a)?;
                perform(&self.world, &effect)?
            }
        };
        Some(action)
    }

    fn register(&self, a: u16, b: u16) -> Action {
        Action::RegisterWorker {
            worker: worker(a),
            incarnation: Incarnation(u64::from(b % 2)),
            locality: specs::locality(if a.is_multiple_of(2) {
                "region=eu"
            } else {
                "region=us"
            }),
            slots: u32::from(b % 5),
            version: "1".into(),
        }
    }

    fn submit(&mut self, a: u16, b: u16) -> Action {
        let members: &[&str] = if b.is_multiple_of(3) {
            &["eu"]
        } else {
            &["eu", "us"]
        };
        let layers: Vec<_> = self.ledger().catalogue().iter().collect();
        let spec = match a % 6 {
            0 | 1 => {
                let mut spec = specs::full("app", members, u64::from(b % 8) + 10);
                if b.is_multiple_of(4) {
                    spec.hold = HoldUse::StartChain;
                }
                JobSpec::Backup(spec)
            }
            2 | 3 => match pick(layers, b) {
                Some(layer) => {
                    let second = layer.end.wall.as_millis() / 1000 + u64::from(b % 3);
                    let mut spec = specs::incremental(layer, members, second);
                    let held = self
                        .ledger()
                        .holds()
                        .find(|hold| hold.is_of_chain(&layer.collection, &layer.path.full));
                    if let Some(hold) = held.filter(|_| !b.is_multiple_of(7)) {
                        spec.hold = HoldUse::Chain(hold.id);
                    }
                    JobSpec::Backup(spec)
                }
                None => JobSpec::Backup(specs::full("nowhere", members, 10)),
            },
            4 => specs::restore("app", members),
            _ => specs::verify(),
        };
        let mut action = self.world.submission(spec);
        if let Action::SubmitJob {
            request, hold, job, ..
        } = &mut action
        {
            *request =
                (b.is_multiple_of(2)).then(|| format!("key-{}", b % 8).parse().expect("a key"));
            if b % 16 == 1 {
                *hold = HoldId(1_001);
            }
            if b % 16 == 3 {
                *job = JobId(1);
            }
        }
        action
    }

    fn grant(&self, a: u16, b: u16) -> Action {
        let ready = self
            .ledger()
            .unsettled_jobs()
            .flat_map(|job| self.ledger().ready_tasks(job.id()).take(4))
            .map(|ready| ready.task);
        let odd = TaskId {
            job: self.job(a),
            index: u32::from(b % 8),
        };
        let task = pick(ready.collect(), a)
            .filter(|_| !b.is_multiple_of(8))
            .unwrap_or(odd);
        let incarnation = self
            .ledger()
            .worker(&worker(b))
            .map(|known| known.incarnation);
        Action::GrantLeases {
            grants: vec![Grant {
                task,
                worker: worker(b),
                incarnation: incarnation.unwrap_or_default(),
            }],
        }
    }

    fn good_report(&mut self, a: u16, b: u16) -> Option<Action> {
        let view = self.lease(a)?;
        let body = match b % 16 {
            0 => ReportBody::Released,
            1 => ReportBody::Failed {
                fault: Fault::new(
                    [
                        ErrorCode::Unavailable,
                        ErrorCode::StorageFull,
                        ErrorCode::Cancelled,
                        ErrorCode::HistoryGone,
                    ][usize::from(b / 16 % 4)],
                    "a failure",
                ),
            },
            2 => ReportBody::Notes {
                notes: vec![format!("note {}", b / 16), "x".repeat(usize::from(b / 8))],
            },
            _ => work(&self.world, &view, u64::from(b)),
        };
        Some(self.send(view.id, view.epoch, body))
    }

    fn bad_report(&mut self, a: u16, b: u16) -> Option<Action> {
        let view = self.lease(a)?;
        let good = work(&self.world, &view, u64::from(b));
        let (epoch, body) = match b % 6 {
            0 => (Epoch(view.epoch.0.saturating_sub(1)), good),
            1 => (view.epoch.next(), good),
            2 => (
                view.epoch,
                ReportBody::Checkpoint(Checkpoint {
                    from: key(["", "b", "g"][usize::from(b / 6 % 3)]),
                    to: key(["", "g", "h"][usize::from(b / 18 % 3)]),
                    last: b.is_multiple_of(4),
                    objects: Vec::new(),
                    read: ByteCount(5),
                    written: ByteCount(5),
                    rows: RowCount(1),
                    settled: None,
                }),
            ),
            3 => (
                view.epoch,
                ReportBody::Plan {
                    sequence: u32::from(b % 3),
                    relations: Vec::new(),
                    spans: crate::world::tile(1, &["m"], 5),
                    last: b.is_multiple_of(2),
                },
            ),
            4 => (
                view.epoch,
                ReportBody::Done {
                    rows: RowCount(0),
                    fingerprint: None,
                },
            ),
            _ => (Epoch(view.epoch.0 + 7), ReportBody::Released),
        };
        Some(self.send(view.id, epoch, body))
    }

    fn send(&mut self, task: TaskId, epoch: Epoch, body: ReportBody) -> Action {
        let report = Report { task, epoch, body };
        self.sent.push_back(report.clone());
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        Action::Reports {
            reports: vec![report],
        }
    }

    fn loose_end(&mut self, a: u16, b: u16) -> Action {
        match a % 3 {
            0 => {
                let hold = pick(self.ledger().holds().map(|hold| hold.id).collect(), b);
                Action::HoldReleased {
                    hold: hold.unwrap_or_default(),
                    member: ["eu", "us"][usize::from(b % 2)].parse().expect("a name"),
                }
            }
            1 => Action::JobSwept {
                job: self.job(b),
                objects: 1,
                bytes: ByteCount(1),
            },
            _ => {
                if b.is_multiple_of(8) {
                    self.world.now = self.world.now.plus(Millis(30 * 24 * 3600 * 1000));
                }
                let hold = pick(self.ledger().holds().map(|hold| hold.id).collect(), b);
                match hold.filter(|_| b.is_multiple_of(5)) {
                    Some(hold) => Action::DropHold { hold },
                    None => Action::ForgetJobs {
                        jobs: vec![self.job(b), self.job(b / 2)],
                    },
                }
            }
        }
    }

    fn schedule(&self, a: u16, b: u16) -> Action {
        let all: Vec<_> = self.ledger().schedules().collect();
        let due = all
            .iter()
            .find_map(|schedule| Some((schedule.id, schedule.next_run?)));
        let schedule = pick(all.iter().map(|it| it.id).collect(), b).unwrap_or_default();
        let next = self.world.now.plus(Millis(u64::from(b)));
        match a % 12 {
            0 => Action::CreateSchedule {
                schedule: Box::new(specs::schedule(
                    u64::from(b % 16),
                    (b.is_multiple_of(2)).then_some(u64::from(b / 16 % 16)),
                    next,
                )),
                if_not_exists: b.is_multiple_of(5),
            },
            1 => Action::AlterSchedule {
                schedule,
                change: Box::new(specs::change(b, next)),
            },
            2 | 3 => Action::ControlSchedule {
                schedule,
                verb: match b % 8 {
                    0 => ScheduleVerb::Drop,
                    1 | 2 => ScheduleVerb::Pause,
                    3..=5 => ScheduleVerb::Resume { next },
                    _ => ScheduleVerb::RunNow,
                },
            },
            4 => Action::PlanSchedule { schedule, next },
            _ => {
                let (schedule, due) = due.unwrap_or((schedule, next));
                Action::FireSchedule {
                    schedule,
                    due,
                    next,
                    result: Box::new(match b % 8 {
                        0 => RunResult::Skipped,
                        1 => RunResult::Refused(Fault::new(ErrorCode::ChainRule, "broken")),
                        2 => RunResult::Refused(Fault::new(ErrorCode::Unavailable, "no store")),
                        _ => RunResult::Job(self.job(b / 8)),
                    }),
                    opened_by: (!b.is_multiple_of(3)).then_some(u32::from(b / 3 % 3)),
                }
            }
        }
    }

    fn source(&self, a: u16, b: u16) -> Action {
        let name = ["app", "other"][usize::from(b % 2)];
        match a % 3 {
            0 => Action::RegisterSource {
                source: specs::source(name, &["us", "eu"]),
            },
            1 => Action::UpdateSource {
                source: specs::source(name, if b % 4 < 2 { &["eu", "us"] } else { &["eu"] }),
            },
            _ => Action::DropSource {
                source: name.parse().expect("a name"),
            },
        }
    }
}

fn worker(by: u16) -> holdfast_types::WorkerId {
    ["worker-eu", "worker-us", "worker-all"][usize::from(by % 3)]
        .parse()
        .expect("a name")
}

/// Replaces the ledger by one read from its own snapshot.
fn reload(world: &mut World) {
    let mut bytes = Vec::new();
    world
        .ledger
        .write_snapshot(&mut bytes)
        .expect("memory takes everything");
    let read = Ledger::read_snapshot(bytes.as_slice()).expect("it was just written");
    assert_eq!(read.digest(), world.ledger.digest());
    assert_eq!(read.pending_effects(), world.ledger.pending_effects());
    world.ledger = read;
}

pub(crate) fn replay(world: &World) -> Ledger {
    let mut ledger = Ledger::new();
    for (position, command) in &world.log {
        ledger.apply(*position, command);
    }
    ledger
}

/// Plays the choices; snapshots are taken and read back at some of them. `look` sees the state after every step.
pub(crate) fn play(choices: Vec<Choice>, mut look: impl FnMut(&Ledger)) -> World {
    let mut fuzz = Fuzz {
        world: World::new(),
        sent: VecDeque::new(),
    };
    let mut batch = Vec::new();
    for choice in choices {
        let Some(action) = fuzz.action(choice) else {
            continue;
        };
        if choice.1.is_multiple_of(11) && !matches!(action, Action::Reports { .. }) {
            batch.push(action);
            continue;
        }
        if batch.len() > 1 {
            fuzz.world.apply(Action::Batch(std::mem::take(&mut batch)));
        }
        fuzz.world.apply(action);
        look(fuzz.ledger());
        if choice.2.is_multiple_of(23) {
            reload(&mut fuzz.world);
        }
    }
    fuzz.world
}

pub(crate) fn choices() -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec(any::<Choice>(), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// R5, R6 and all of the ledger's own: random commands, snapshots taken and read back at random points, every effect lost and computed
    /// again, and in the end everything is over and nothing is left.
    #[test]
    fn nothing_breaks_an_invariant(choices in choices()) {
        let mut world = play(choices, |_| {});
        let replayed = replay(&world);
        prop_assert_eq!(replayed.digest(), world.ledger.digest());
        prop_assert_eq!(replayed.chain_digest(), world.ledger.chain_digest());
        world.run_to_end();
        prop_assert_eq!(replay(&world).digest(), world.ledger.digest());
    }
}

/// What a state shows that is worth having been reached.
fn marks(ledger: &Ledger) -> Vec<String> {
    let mut marks = Vec::new();
    for job in ledger.jobs() {
        let kind = job.kind();
        marks.push(format!("{kind} {}", job.state()));
        if !job.state().is_terminal() {
            marks.push(format!("{kind} {}", job.phase()));
        }
        let counters = job.counters();
        let shown = [
            ("revoked lease", job.lingering().next().is_some()),
            ("revoked lease after the end", {
                job.state().is_terminal() && job.lingering().next().is_some()
            }),
            ("sealed part", job.sealed_part().is_some()),
            ("two parts", job.parts().len() > 1),
            ("redone", counters.bytes_redone.0 > 0),
            ("layer of a canceled job", {
                job.is_committed() && job.state() == JobState::Canceled
            }),
            ("swept", job.swept().is_some()),
        ];
        let shown = shown.into_iter().filter(|(_, seen)| *seen);
        marks.extend(shown.map(|(mark, _)| mark.to_owned()));
    }
    if ledger
        .catalogue()
        .iter()
        .any(|layer| layer.parent.is_some())
    {
        marks.push("incremental layer".into());
    }
    if ledger.holds().any(|hold| hold.releasing.is_some()) {
        marks.push("hold being released".into());
    }
    for schedule in ledger.schedules() {
        let last = schedule.last.as_ref();
        let shown = [
            ("run under way", {
                ledger.runs_under_way(schedule.id).next().is_some()
            }),
            ("run that succeeded", {
                last.is_some_and(|last| last.job.is_some() && last.result == Some(Ok(())))
            }),
            ("run that could not begin", {
                last.is_some_and(|last| last.job.is_none())
            }),
            ("incrementals that wait", schedule.waits_for_full),
            ("incrementals that need wait no more", {
                schedule.layer == ScheduledLayer::Incremental && schedule.is_active()
            }),
            ("failures in a row", schedule.failures_in_a_row > 1),
        ];
        let shown = shown.into_iter().filter(|(_, seen)| *seen);
        marks.extend(shown.map(|(mark, _)| mark.to_owned()));
    }
    marks
}

/// A fuzz that never gets anywhere finds nothing: what is rare must be reached again and again.
#[test]
fn the_fuzz_reaches_what_is_rare() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let choices = choices()
            .new_tree(&mut runner)
            .expect("choices can be made")
            .current();
        play(choices, |ledger| {
            for mark in marks(ledger) {
                *seen.entry(mark).or_default() += 1;
            }
        });
    }
    let kinds = ["BACKUP", "RESTORE", "VERIFY"];
    let mut wanted: Vec<String> = [
        "revoked lease",
        "revoked lease after the end",
        "sealed part",
        "two parts",
        "redone",
        "layer of a canceled job",
        "swept",
        "incremental layer",
        "hold being released",
        "RESTORE revert-failed",
        "run under way",
        "run that succeeded",
        "run that could not begin",
        "incrementals that wait",
        "incrementals that need wait no more",
        "failures in a row",
    ]
    .map(str::to_owned)
    .to_vec();
    for kind in kinds {
        wanted.extend(
            JobState::ALL
                .into_iter()
                .filter(|state| *state != JobState::RevertFailed)
                // Only a restore has something to undo that takes time.
                .filter(|state| *state != JobState::Reverting || kind == "RESTORE")
                .map(|state| format!("{kind} {state}")),
        );
        wanted.push(format!("{kind} {}", Phase::Transferring));
    }
    let missing: Vec<_> = wanted
        .iter()
        .filter(|mark| !seen.contains_key(*mark))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:#?}");
}
