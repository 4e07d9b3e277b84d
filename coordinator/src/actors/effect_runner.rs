//! The actor that performs one kind of effect: everything owed is run until it has succeeded, a bounded number at once, each again after
//! a growing rest if it failed. What fails is shown with its job.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures::future::LocalBoxFuture;
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_types::{Fault, JobId};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::agenda::{Agenda, Rests};
use crate::core::Core;
use crate::office::Office;

/// How often resting effects are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How an attempt ended that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Not yet: nothing is wrong, it is only too early. Tried again without a word.
    Later,
    /// It failed and may work another time.
    Retry(Fault),
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self::Retry(fault)
    }
}

/// One kind of effect.
pub(crate) trait Perform: 'static {
    /// Which effect.
    type Key: Ord + Clone + Debug + Send + 'static;

    /// What it does, as shown with the job: "writing the manifest".
    fn describe(key: &Self::Key) -> &'static str;

    /// The job that it belongs to, if any.
    fn job(key: &Self::Key) -> Option<JobId>;

    /// How many are run at once.
    const AT_ONCE: usize;

    /// Makes it happen, and known to the ledger. Idempotent. A permanent error fails the job and is a success here: the effect is no
    /// longer owed.
    fn perform(&self, key: Self::Key) -> LocalBoxFuture<'static, Result<(), Setback>>;
}

/// The way to an effect runner. It takes the full list of what is owed, as often as it changes.
pub(crate) struct EffectRunner<P: Perform>(Supervised<RunnerActor<P>>);

impl<P: Perform> EffectRunner<P> {
    /// Starts a runner for an office.
    pub(crate) fn start(
        name: &'static str,
        core: Arc<Core>,
        office: Arc<Office>,
        performer: P,
    ) -> Self {
        let performer = Arc::new(performer);
        let rests = Rests {
            first: core.config.effect_rest_first,
            most: core.config.effect_rest_most,
        };
        let over = office.over.clone();
        Self(supervise(name, Backoff::default(), over, move || {
            RunnerActor {
                core: Arc::clone(&core),
                office: Arc::clone(&office),
                performer: Arc::clone(&performer),
                agenda: Agenda::new(rests, P::AT_ONCE),
            }
        }))
    }

    /// Tells what is owed at present. Returns whether it was taken; if not, tell again.
    pub(crate) fn owe(&self, owed: BTreeSet<P::Key>) -> bool {
        self.0.try_send(Owed(owed)).is_ok()
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Owed<K>(BTreeSet<K>);

/// See the module.
pub(crate) struct RunnerActor<P: Perform> {
    core: Arc<Core>,
    office: Arc<Office>,
    performer: Arc<P>,
    agenda: Agenda<P::Key>,
}

impl<P: Perform> Actor for RunnerActor<P> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        context.run_interval(TICK, Self::start_due);
    }
}

impl<P: Perform> Handler<Owed<P::Key>> for RunnerActor<P> {
    type Result = ();

    fn handle(&mut self, message: Owed<P::Key>, context: &mut Context<Self>) {
        self.agenda.set_owed(message.0);
        self.start_due(context);
    }
}

impl<P: Perform> RunnerActor<P> {
    fn start_due(&mut self, context: &mut Context<Self>) {
        for key in self.agenda.take_due(self.core.env.clock.monotonic()) {
            let work = self.performer.perform(key.clone());
            let work =
                work.into_actor(self)
                    .map(move |result, actor, context: &mut Context<Self>| {
                        actor.ended(&key, result);
                        actor.start_due(context);
                    });
            context.spawn(work);
        }
    }

    fn ended(&mut self, key: &P::Key, result: Result<(), Setback>) {
        let what = P::describe(key);
        match result {
            Ok(()) => {
                self.agenda.succeeded(key);
                if let Some(job) = P::job(key) {
                    self.office.notes.settled(job, what);
                }
            }
            Err(Setback::Later) => {
                self.agenda.postponed(key, self.core.env.clock.monotonic());
            }
            Err(Setback::Retry(fault)) => {
                let failures = self.agenda.failed(key, self.core.env.clock.monotonic());
                tracing::warn!(%fault, failures, effect = what, ?key, "effect failed, trying again");
                if let Some(job) = P::job(key) {
                    self.office.notes.trouble(job, what, fault);
                }
            }
        }
    }
}
