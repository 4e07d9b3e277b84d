//! The lease keeper: ends the leases of workers that fell silent.
//!
//! A worker stops by itself when it has had no acknowledged heartbeat for a lease's time; it is expired here only later than that, by
//! the margin. Both sides measure with their monotonic clocks, so that a jump of the wall clock ends nothing. A closed stream alone
//! expires nobody: the worker may be on its way back.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use holdfast_ledger::Action;
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{Incarnation, WorkerId};
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::office::Office;

/// How often silence is measured, as a part of the lease's time, within the bounds below.
const LOOKS_PER_LEASE: u32 = 10;
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// The lease keeper, alive as long as this is.
pub(crate) struct LeaseKeeper {
    _actor: Supervised<LeaseKeeperActor>,
}

impl LeaseKeeper {
    /// Starts the lease keeper of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let over = office.over.clone();
        Self {
            _actor: supervise("lease keeper", Backoff::default(), over, move || {
                LeaseKeeperActor {
                    core: Arc::clone(&core),
                    office: Arc::clone(&office),
                }
            }),
        }
    }
}

/// See the module.
struct LeaseKeeperActor {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl Actor for LeaseKeeperActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        self.look(context);
    }
}

impl LeaseKeeperActor {
    /// Expires who is silent, then looks again in a while: one look at a time, and at the pace of the present setting.
    fn look(&mut self, context: &mut Context<Self>) {
        let pause = (self.core.lease_ttl() / LOOKS_PER_LEASE).clamp(SHORTEST_LOOK, LONGEST_LOOK);
        let silent = self.silent();
        let work = expire(Arc::clone(&self.core), Arc::clone(&self.office), silent);
        let work = work
            .into_actor(self)
            .map(move |(), _, context: &mut Context<Self>| {
                context.run_later(pause, Self::look);
            });
        context.spawn(work);
    }

    fn silent(&self) -> Vec<(WorkerId, Incarnation)> {
        let now = self.core.env.clock.monotonic();
        let patience = self.core.lease_ttl() + self.core.config.lease_margin;
        let registered: Vec<(WorkerId, Incarnation)> = self.core.replica.read(|ledger| {
            ledger
                .workers()
                .map(|worker| (worker.id.clone(), worker.incarnation))
                .collect()
        });
        registered
            .into_iter()
            .filter(|(worker, incarnation)| {
                let heard = self.office.sessions.last_heard(worker, *incarnation);
                let since = heard.unwrap_or(self.office.began);
                now.saturating_sub(since) > patience
            })
            .collect()
    }
}

async fn expire(core: Arc<Core>, office: Arc<Office>, silent: Vec<(WorkerId, Incarnation)>) {
    for (worker, incarnation) in silent {
        tracing::warn!(%worker, "worker fell silent, its leases end");
        let action = Action::ExpireWorker {
            worker: worker.clone(),
            incarnation,
            clean: false,
        };
        match core.replica.propose(action).await {
            Ok(_) if mutant::is_broken(Promise::StaleIsRefused) => {}
            Ok(_) => {
                office.sessions.cut(&worker, incarnation);
                office.sessions.forget(&worker, incarnation);
            }
            // No quorum, or no longer the leader: the next look, here or elsewhere, finds it again.
            Err(fault) => tracing::warn!(%worker, %fault, "worker not expired yet"),
        }
    }
}
