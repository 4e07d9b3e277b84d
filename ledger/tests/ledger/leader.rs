//! A leader and workers that do whatever is owed, and nothing else: what they know, they read from the state.

use holdfast_ledger::{
    Action, Effect, ExpiredChain, Grant, PartRef, Report, ReportBody, TaskKind, TaskView,
};
use holdfast_types::{
    ByteCount, ControlVerb, Digest, Incarnation, JobId, JobKind, JobState, RowCount,
};

use crate::specs;
use crate::world::{World, checkpoint, plan_of, settling_plan_of};

/// What the leader proposes once it has performed an effect.
pub(crate) fn perform(world: &World, effect: &Effect) -> Option<Action> {
    match effect {
        Effect::StartJob { job } => Some(Action::StartJob { job: *job }),
        Effect::Dispatch { job } => dispatch(world, *job),
        Effect::StopTask { task, epoch, .. } => Some(Action::Reports {
            reports: vec![Report {
                task: *task,
                epoch: *epoch,
                body: ReportBody::Released,
            }],
        }),
        Effect::WritePart { job, part } => {
            let (number, entries) = world.ledger.job(*job)?.sealed_part()?;
            assert_eq!(number, *part);
            let sorted = entries.windows(2).all(|pair| {
                (pair[0].member, pair[0].relation) <= (pair[1].member, pair[1].relation)
            });
            assert!(sorted, "the file list is in order");
            Some(Action::PartWritten {
                job: *job,
                part: *part,
                object: PartRef {
                    name: format!("list-{job}-{part}"),
                    length: ByteCount(100 * entries.len() as u64),
                    digest: Digest::of(format!("{entries:?}").as_bytes()),
                    entries: entries.len() as u64,
                    store: 0,
                },
            })
        }
        Effect::CommitLayer { job } => {
            let parts = world.ledger.job(*job)?.parts();
            Some(Action::LayerCommitted {
                job: *job,
                manifest: Digest::of(format!("{job}{parts:?}").as_bytes()),
                length: ByteCount(1000),
            })
        }
        Effect::ReleaseHold { hold, member, .. } => Some(Action::HoldReleased {
            hold: *hold,
            member: member.clone(),
        }),
        Effect::AdvanceHold {
            hold,
            member,
            layer,
            ..
        } => Some(Action::HoldAdvanced {
            hold: *hold,
            member: member.clone(),
            layer: layer.clone(),
        }),
        Effect::ExpireChain { job, chain } => {
            let (job, chain) = (*job, chain.clone());
            let found = world.ledger.job(job)?;
            Some(match found.expiring() == Some(chain.as_str()) {
                false => Action::BeginExpiry { job, chain },
                true => Action::ChainExpired {
                    job,
                    chain,
                    removed: ExpiredChain {
                        objects: 3,
                        bytes: ByteCount(30),
                        refused: 0,
                    },
                    note: None,
                },
            })
        }
        Effect::SweepJob { job } => Some(Action::JobSwept {
            job: *job,
            objects: 1,
            bytes: ByteCount(10),
        }),
    }
}

fn dispatch(world: &World, job: JobId) -> Option<Action> {
    let ledger = &world.ledger;
    let record = ledger.job(job)?;
    let mut free: Vec<_> = ledger
        .workers()
        .map(|worker| (worker, worker.free_slots()))
        .collect();
    let mut grants = Vec::new();
    for ready in ledger.ready_tasks(job) {
        let found = free
            .iter_mut()
            .find(|(worker, slots)| *slots > 0 && record.admits(&worker.locality, ready.member));
        if let Some((worker, slots)) = found {
            *slots -= 1;
            grants.push(Grant {
                task: ready.task,
                worker: worker.id.clone(),
                incarnation: worker.incarnation,
            });
        }
    }
    (!grants.is_empty()).then_some(Action::GrantLeases { grants })
}

/// What a worker reports next of a task that it holds. `choice` decides between legal ways.
pub(crate) fn work(world: &World, view: &TaskView, choice: u64) -> ReportBody {
    let backup = world
        .ledger
        .job(view.id.job)
        .is_some_and(|job| job.kind() == JobKind::Backup);
    match &view.kind {
        TaskKind::Plan if choice.is_multiple_of(5) => ReportBody::Plan {
            sequence: 0,
            relations: Vec::new(),
            spans: Vec::new(),
            last: true,
        },
        TaskKind::Plan if choice % 3 == 2 => settling_plan_of(2),
        TaskKind::Plan => plan_of(choice % 3),
        TaskKind::Span {
            start,
            end,
            frontier,
            ..
        } => {
            // One step further inside the span, if there is one between the frontier and the end.
            let inner = (b'a'..=b'z')
                .map(|letter| [letter])
                .find(|letter| {
                    frontier.as_bytes() < letter.as_slice()
                        && (end.is_open_end() || letter.as_slice() < end.as_bytes())
                        && start.as_bytes() < letter.as_slice()
                })
                .filter(|_| choice % 4 != 3);
            let to = inner.map(|letter| char::from(letter[0]).to_string());
            checkpoint(
                view,
                to.as_deref(),
                10 + choice % 50,
                backup && !choice.is_multiple_of(7),
            )
        }
        TaskKind::Finish | TaskKind::Revert => ReportBody::Done {
            rows: RowCount(3),
            fingerprint: None,
        },
    }
}

impl World {
    /// Performs everything that is owed, once. Returns whether anything changed.
    pub(crate) fn perform_pending(&mut self) -> bool {
        let mut any = false;
        for effect in self.ledger.pending_effects() {
            if let Some(action) = perform(self, &effect) {
                self.apply(action);
                any = true;
            }
        }
        any
    }

    /// Lets every lease make one step.
    pub(crate) fn work_all(&mut self, seed: u64) {
        let leases: Vec<_> = self
            .ledger
            .unsettled_jobs()
            .flat_map(|job| job.leased_tasks())
            .collect();
        for (step, view) in (0u64..).zip(leases) {
            let body = work(self, &view, seed + 4 * step);
            self.report(view.id, view.epoch, body);
            // A plan that an earlier process began cannot be gone on with: it starts over under a new lease.
            let unplanned = self.ledger.task(view.id).is_some_and(|now| {
                now.kind == TaskKind::Plan && now.lease.is_some() && now.epoch == view.epoch
            });
            if unplanned {
                self.report(view.id, view.epoch, ReportBody::Released);
            }
        }
    }

    /// Workers come, paused jobs are resumed, everything owed is done, by a leader that knows only the state: every job must end, and
    /// nothing may be left.
    pub(crate) fn run_to_end(&mut self) {
        const MAX_ROUNDS: u64 = 3_000;
        for place in ["eu", "us"] {
            self.apply(Action::RegisterWorker {
                worker: format!("healer-{place}").parse().expect("a name"),
                incarnation: Incarnation(1),
                locality: specs::locality(&format!("region={place}")),
                slots: 64,
                version: "1".into(),
            });
        }
        for round in 0..MAX_ROUNDS {
            let paused: Vec<_> = self
                .ledger
                .jobs()
                .filter(|job| job.state() == JobState::Paused)
                .map(|job| job.id())
                .collect();
            for job in paused {
                self.control(job, ControlVerb::Resume);
            }
            self.perform_pending();
            self.work_all(round);
            if self.ledger.pending_effects().is_empty()
                && self.ledger.unsettled_jobs().next().is_none()
            {
                break;
            }
        }
        assert_eq!(self.ledger.pending_effects(), [], "nothing is owed");
        let left = self.ledger.holds().find(|hold| hold.chain.is_none());
        assert_eq!(left, None, "no job's hold is left");
        for job in self.ledger.jobs() {
            assert!(job.state().is_terminal(), "job {} is over", job.id());
            if job.state() == JobState::Succeeded {
                let progress = self.ledger.progress(job.id()).expect("a job");
                assert_eq!(progress.fraction_millionths, 1_000_000);
            }
        }
        for worker in self.ledger.workers() {
            assert_eq!(worker.leases().count(), 0, "{worker:?} holds nothing");
        }
    }
}
