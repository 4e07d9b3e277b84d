//! One task: its actor, and how it begins and ends.

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, WrapFuture};
use holdfast_proto::{LeaseReportBody, Work};
use holdfast_types::{ErrorCode, Fault, JobSpec};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::activity::Activity;
use super::halt::Halt;
use super::stage::gone;
use super::ticket::Ticket;
use super::{backup_plan, backup_span, logged, restore_end, restore_plan, restore_span, verify};
use crate::agent::TaskGone;
use crate::bounds::QUIET_DEADLINE;

/// A task, as the agent holds it. Dropping it stops the task at once, without a word to the leader.
pub(crate) struct TaskHandle {
    address: Addr<TaskActor>,
    stop: CancellationToken,
    abort: DropGuard,
    activity: Activity,
}

impl TaskHandle {
    /// Starts the task. The permit is given back when nothing of it exists any more.
    pub(crate) fn start(ticket: Ticket, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stop: ticket.stop.clone(),
            abort: ticket.abort.clone().drop_guard(),
            activity: ticket.activity.clone(),
            address: TaskActor {
                begun: Some((ticket, permit)),
            }
            .start(),
        }
    }

    /// Tells the task to end in order and to give its lease back.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Lets the task, which has reported its end, go by itself.
    pub(crate) fn leave_alone(self) {
        self.abort.disarm();
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.address.connected()
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }
}

struct TaskActor {
    begun: Option<(Ticket, OwnedSemaphorePermit)>,
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some((ticket, permit)) = self.begun.take() else {
            return context.stop();
        };
        let life = async move {
            live(&ticket).await;
            drop(permit);
            // An agent that is gone has forgotten its tasks.
            let _ = ticket.agent.send(TaskGone(ticket.lease())).await;
        };
        context.spawn(life.into_actor(self).map(|(), _, context| context.stop()));
    }
}

/// The whole life of a task.
async fn live(ticket: &Ticket) {
    // The flow runs as a task of the runtime of its own, so that its panic is an error and not ours.
    let mut flow = tokio::task::spawn_local(perform(ticket.clone()));
    let joined = tokio::select! {
        biased;
        () = ticket.abort.cancelled() => None,
        joined = &mut flow => Some(joined),
    };
    let end = match joined {
        Some(Ok(end)) => end,
        Some(Err(_)) => Err(Halt::Failed(gone("flow"))),
        None => {
            flow.abort();
            // Waits until the flow is dropped; that it was cancelled is known.
            let _ = flow.await;
            Err(Halt::Dropped)
        }
    };
    ticket.alive.close();
    if tokio::time::timeout(QUIET_DEADLINE, ticket.alive.wait())
        .await
        .is_err()
    {
        warn!(lease = %ticket.lease(), "a stage of the task does not end");
    }
    ticket
        .abort
        .run_until_cancelled(conclude(ticket, end))
        .await;
}

/// Tells the leader how the task ended, if it is to be told.
async fn conclude(ticket: &Ticket, end: Result<(), Halt>) {
    let lease = ticket.lease();
    let body = match end {
        Ok(()) => {
            debug!(%lease, "finished");
            ticket.shared.stats.update().finished += 1;
            return;
        }
        Err(Halt::Dropped) => return,
        Err(Halt::Stopped) => {
            info!(%lease, "giving the lease back");
            ticket.shared.stats.update().released += 1;
            LeaseReportBody::Released
        }
        Err(Halt::Failed(fault)) => {
            warn!(%lease, %fault, "task failed");
            ticket.shared.stats.update().failed += 1;
            LeaseReportBody::Failed { fault }
        }
    };
    if let Err(halt) = ticket.report(&ticket.reporter(), body).await {
        debug!(%lease, ?halt, "the last report does not count");
    }
}

/// The task's work, from beginning to end.
async fn perform(ticket: Ticket) -> Result<(), Halt> {
    let slots = Arc::clone(&ticket.shared.slots);
    let _slot = tokio::select! {
        biased;
        () = ticket.stop.cancelled() => return Err(Halt::Stopped),
        slot = slots.acquire_owned() => slot.map_err(|_| Halt::Stopped)?,
    };
    let grant = Arc::clone(&ticket.grant);
    match (&grant.spec, &grant.work) {
        (JobSpec::Backup(spec), work) if spec.kind.is_logged() => {
            logged::back_up(&ticket, spec, work).await
        }
        (JobSpec::Restore(spec), work) if spec.kind.is_logged() => {
            logged::restore(&ticket, spec, work).await
        }
        (JobSpec::Backup(spec), Work::Plan { member, span_size }) => {
            backup_plan::run(&ticket, spec, *member, *span_size).await
        }
        (JobSpec::Backup(spec), Work::Span(span)) => backup_span::run(&ticket, spec, span).await,
        (JobSpec::Restore(spec), Work::Plan { member, span_size }) => {
            restore_plan::run(&ticket, spec, *member, *span_size).await
        }
        (JobSpec::Restore(spec), Work::Span(span)) => restore_span::run(&ticket, spec, span).await,
        (JobSpec::Restore(spec), Work::Finish { member, relations }) => {
            restore_end::finish(&ticket, spec, *member, relations).await
        }
        (JobSpec::Restore(spec), Work::Revert { member }) => {
            restore_end::revert(&ticket, spec, *member).await
        }
        (JobSpec::Verify(spec), Work::Plan { span_size, .. }) => {
            verify::plan(&ticket, spec, *span_size).await
        }
        (JobSpec::Verify(spec), Work::Span(span)) => verify::run(&ticket, spec, span).await,
        (spec, work) => Err(Halt::Failed(Fault::new(
            ErrorCode::Internal,
            format!("a {} has no such task: {}", spec.kind(), name(work)),
        ))),
    }
}

fn name(work: &Work) -> &'static str {
    match work {
        Work::Plan { .. } => "plan",
        Work::Span(_) => "span",
        Work::Finish { .. } => "finish",
        Work::Revert { .. } => "revert",
    }
}
