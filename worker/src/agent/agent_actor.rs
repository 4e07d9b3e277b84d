//! The agent's state, and what it does by its clocks.

use actix::{Actor, AsyncContext, Context, Handler};
use holdfast_proto::v1::worker_message::Body;
use holdfast_proto::{Lease, LeaseReport, LeaseReportBody, v1};
use holdfast_types::{ClusterId, ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::fence::LeaseClock;
use super::link::Link;
use super::messages::{Ack, Dismissal, Introduce, SessionEnded, SubmitReport, TaskGone};
use crate::bounds::{
    ACTIVITIES, CHECKS, GOODBYE_LINGER, HOLD_ORDERS, SHUTDOWN_GRACE, SILENT_HEARTBEATS,
    TASKS_PER_SLOT, TICK,
};
use crate::core::Core;
use crate::task::TaskHandle;

/// The number of a report about a lease that this worker does not hold.
const UNHELD: u64 = u64::MAX;

/// A stream to a leader that has taken this worker on.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) outbox: mpsc::Sender<v1::WorkerMessage>,
    pub(super) cut: CancellationToken,
    pub(super) heartbeat: Duration,
    pub(super) last_sent: Option<Duration>,
    pub(super) last_heard: Duration,
}

/// A report that the leader has not answered.
pub(super) struct Pending {
    pub(super) report: LeaseReport,
    pub(super) ack: oneshot::Sender<Ack>,
}

/// A lease this worker holds.
pub(super) struct Held {
    pub(super) task: TaskHandle,
    pub(super) pending: Option<Pending>,
    /// A last report that came while another was unanswered: the task's reporter had died.
    pub(super) queued: Option<Pending>,
}

/// See the module above.
pub(crate) struct Agent {
    pub(super) shared: Arc<Core>,
    pub(super) leases: LeaseClock,
    pub(super) cluster: Option<ClusterId>,
    pub(super) session: Option<Session>,
    pub(super) held: BTreeMap<Lease, Held>,
    /// Tasks without a lease that still exist, with what the leader is to be told when they do not.
    dying: BTreeMap<Lease, Option<LeaseReportBody>>,
    /// Leases named in the last Hello.
    pub(super) introduced: BTreeSet<Lease>,
    /// One permit per task that may exist, with or without a lease. A task that dies gives its own back.
    pub(super) tasks: Arc<Semaphore>,
    pub(super) hold_orders: Arc<Semaphore>,
    pub(super) checks: Arc<Semaphore>,
    most_tasks: usize,
    last_tick: Duration,
    leaving_until: Option<Duration>,
    has_left: bool,
    /// Ends the link when the agent is gone.
    _link: Option<DropGuard>,
}

impl Agent {
    pub(crate) fn new(shared: Arc<Core>) -> Self {
        let most_tasks = shared.config.slots as usize * TASKS_PER_SLOT;
        Self {
            cluster: shared.config.cluster,
            shared,
            leases: LeaseClock::default(),
            session: None,
            held: BTreeMap::new(),
            dying: BTreeMap::new(),
            introduced: BTreeSet::new(),
            tasks: Arc::new(Semaphore::new(most_tasks)),
            hold_orders: Arc::new(Semaphore::new(HOLD_ORDERS)),
            checks: Arc::new(Semaphore::new(CHECKS)),
            most_tasks,
            last_tick: Duration::ZERO,
            leaving_until: None,
            has_left: false,
            _link: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.env.clock.monotonic()
    }

    /// Puts a message into the stream. Without a stream, or if the stream does not drain, it is lost: whatever matters is sent again
    /// after the next Welcome.
    pub(super) fn send(&mut self, body: Body) {
        let Some(session) = &self.session else { return };
        let message = v1::WorkerMessage { body: Some(body) };
        if session.outbox.try_send(message).is_err() {
            warn!("the leader does not read this worker's messages, closing the stream");
            self.cut_session();
        }
    }

    pub(super) fn cut_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.cut.cancel();
        }
        self.shared.stats.update().leader = None;
    }

    /// Lets go of a lease and stops its task at once. The leader gets the last word, if there is one, when nothing of the task exists any
    /// more.
    pub(super) fn drop_lease(&mut self, lease: Lease, last_word: Option<LeaseReportBody>) {
        if self.held.remove(&lease).is_some() {
            self.dying.insert(lease, last_word);
            let mut stats = self.shared.stats.update();
            stats.lost += 1;
            stats.leases = self.held.len();
        }
    }

    fn drop_all(&mut self) {
        while let Some((lease, _)) = self.held.first_key_value() {
            let lease = *lease;
            self.drop_lease(lease, None);
        }
    }

    /// Tells the leader that a lease which it believes in is not held: at once, or when nothing of its task exists any more.
    pub(super) fn release_unheld(&mut self, lease: Lease) {
        match self.dying.get_mut(&lease) {
            Some(last_word) => {
                last_word.get_or_insert(LeaseReportBody::Released);
            }
            None => self.say_of(lease, LeaseReportBody::Released),
        }
    }

    /// Reports on a lease that this worker does not hold. Nobody waits for the acknowledgement: a leader that still wants to know asks
    /// again.
    pub(super) fn say_of(&mut self, lease: Lease, body: LeaseReportBody) {
        let report = LeaseReport {
            lease,
            sequence: UNHELD,
            body,
        };
        self.send(Body::Report(v1::TaskReport::from(&report)));
    }

    /// Tasks that went without a last word: their leases must not look alive.
    fn bury_the_dead(&mut self) {
        let dead: Vec<Lease> = self
            .held
            .iter()
            .filter(|(_, held)| !held.task.is_alive())
            .map(|(lease, _)| *lease)
            .collect();
        for lease in dead {
            self.bury(lease);
        }
    }

    /// Nothing of a task exists any more.
    fn bury(&mut self, lease: Lease) {
        if self.held.contains_key(&lease) {
            warn!(%lease, "task ended without a report");
            self.drop_lease(lease, Some(LeaseReportBody::Released));
        }
        if let Some(last_word) = self.dying.remove(&lease).flatten() {
            self.say_of(lease, last_word);
        }
    }

    pub(super) fn refresh_gate(&self) {
        self.shared.gate.set(self.leases.deadline());
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = self.now();
        if self.leases.is_past(now) {
            self.fence();
        }
        if self.shared.lifecycle.leaving.is_cancelled() && !self.has_left {
            self.leave(now, context);
        }
        self.bury_the_dead();
        self.keep_session(now);
    }

    /// No leader was heard for as long as a lease lasts: everything stops.
    fn fence(&mut self) {
        if !self.held.is_empty() {
            warn!(
                leases = self.held.len(),
                "no leader was heard for as long as a lease lasts, stopping all tasks"
            );
            self.shared.stats.update().fenced += 1;
        }
        self.leases.fenced();
        self.refresh_gate();
        self.drop_all();
        self.cut_session();
    }

    fn keep_session(&mut self, now: Duration) {
        let since_tick = now.saturating_sub(std::mem::replace(&mut self.last_tick, now));
        let Some(session) = &mut self.session else {
            return;
        };
        if since_tick > session.heartbeat {
            // This process stood still: what the leader said meanwhile is yet to be read.
            session.last_heard = now;
        }
        if now.saturating_sub(session.last_heard) > session.heartbeat * SILENT_HEARTBEATS {
            warn!("the leader is silent, looking for another one");
            self.cut_session();
            return;
        }
        let due = session
            .last_sent
            .is_none_or(|sent| now.saturating_sub(sent) >= session.heartbeat);
        if due {
            session.last_sent = Some(now);
            let heartbeat = v1::Heartbeat {
                sequence: self.leases.sending(now),
                activities: self
                    .held
                    .iter()
                    .take(ACTIVITIES)
                    .map(|(lease, held)| held.task.activity().to_wire(*lease))
                    .collect(),
            };
            self.send(Body::Heartbeat(heartbeat));
        }
    }

    /// Gives everything back, then says goodbye.
    fn leave(&mut self, now: Duration, context: &mut Context<Self>) {
        let until = match self.leaving_until {
            Some(until) => until,
            None => {
                info!(leases = self.held.len(), "shutting down");
                self.held.values().for_each(|held| held.task.stop());
                let until = now.saturating_add(SHUTDOWN_GRACE);
                self.leaving_until = Some(until);
                until
            }
        };
        let quiet = self.held.is_empty() && self.tasks.available_permits() == self.most_tasks;
        if !quiet && now < until {
            return;
        }
        if quiet {
            // Dropping the outbox after it ends the stream in order.
            self.send(Body::Goodbye(v1::Goodbye {}));
        } else {
            warn!(
                leases = self.held.len(),
                "shutting down with leases that were not given back"
            );
        }
        self.shared.gate.set(None);
        self.drop_all();
        let session = self.session.take();
        let wait = match &session {
            Some(_) if quiet => GOODBYE_LINGER,
            _ => Duration::ZERO,
        };
        let cut = session.map(|session| session.cut);
        self.has_left = true;
        context.run_later(wait, move |agent, _| {
            if let Some(cut) = cut {
                cut.cancel();
            }
            agent.finish_leaving();
        });
    }

    fn finish_leaving(&self) {
        self.shared.lifecycle.end(Ok(()));
        self.shared.lifecycle.over.cancel();
    }

    /// Ends for good.
    pub(super) fn end(&mut self, fault: Fault) {
        self.shared.gate.set(None);
        self.drop_all();
        self.cut_session();
        self.shared.lifecycle.end(Err(fault));
        self.shared.lifecycle.over.cancel();
    }
}

impl Actor for Agent {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if self.shared.lifecycle.over.is_cancelled() {
            return;
        }
        self.shared.gate.set(None);
        let over = self.shared.lifecycle.over.child_token();
        let link = Link::new(Arc::clone(&self.shared), context.address()).run();
        self._link = Some(over.clone().drop_guard());
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = link => {}
            }
        });
        context.run_interval(TICK, |agent, context| {
            if !agent.shared.lifecycle.over.is_cancelled() {
                agent.tick(context);
            }
        });
    }
}

impl Handler<Introduce> for Agent {
    type Result = actix::MessageResult<Introduce>;

    fn handle(&mut self, _: Introduce, _: &mut Self::Context) -> Self::Result {
        if self.has_left {
            // A leader that took it on again would lease it tasks, and count them as lost when the process ends.
            return actix::MessageResult(None);
        }
        self.introduced = self.held.keys().copied().collect();
        let config = &self.shared.config;
        actix::MessageResult(Some(v1::Hello {
            worker: config.id.to_string(),
            incarnation: self.shared.incarnation.0,
            locality: config.locality.to_string(),
            slots: config.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: self
                .cluster
                .map(|cluster| cluster.0.to_vec().into())
                .unwrap_or_default(),
            held: self
                .introduced
                .iter()
                .map(|lease| v1::HeldLease::from(*lease))
                .collect(),
            key_check: config.cluster_key.check_value().into(),
        }))
    }
}

impl Handler<SessionEnded> for Agent {
    type Result = ();

    fn handle(&mut self, ended: SessionEnded, _: &mut Self::Context) {
        if self.has_left {
            // The leader has read the goodbye.
            return self.finish_leaving();
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.id == ended.session)
        {
            self.cut_session();
        }
    }
}

impl Handler<Dismissal> for Agent {
    type Result = ();

    fn handle(&mut self, Dismissal(fault): Dismissal, _: &mut Self::Context) {
        if !fault.is_retryable() {
            self.end(fault);
        }
    }
}

impl Handler<SubmitReport> for Agent {
    type Result = ();

    fn handle(&mut self, submitted: SubmitReport, _: &mut Self::Context) {
        let SubmitReport { report, ack } = submitted;
        // Without a lease the report is nothing: dropping `ack` says so.
        let Some(held) = self.held.get_mut(&report.lease) else {
            return;
        };
        let pending = Pending { report, ack };
        if held.pending.is_some() {
            held.queued = Some(pending);
            return;
        }
        let wire = v1::TaskReport::from(&pending.report);
        held.pending = Some(pending);
        self.send(Body::Report(wire));
    }
}

impl Handler<TaskGone> for Agent {
    type Result = ();

    fn handle(&mut self, TaskGone(lease): TaskGone, _: &mut Self::Context) {
        self.bury(lease);
    }
}

/// The error of a leader that is not of this worker's cluster.
pub(super) fn wrong_cluster(mine: ClusterId, theirs: ClusterId) -> Fault {
    Fault::new(
        ErrorCode::WrongCluster,
        format!("this worker belongs to cluster {mine}, and the leader leads cluster {theirs}"),
    )
    .hint("check the coordinator addresses that the worker was started with")
}
