//! What the leader says.

use actix::{AsyncContext, Context, Handler};
use holdfast_proto::v1::leader_message::Body;
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{Grant, Lease, LeaseReportBody, cluster_from_wire, v1, wire_to_fault};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

use super::agent_actor::{Agent, Held, Session, wrong_cluster};
use super::messages::{Ack, Inbound, Welcomed};
use crate::bounds::{FENCE_MARGIN, HEARTBEAT_LEAST};
use crate::task::{TaskHandle, Ticket};

impl Handler<Welcomed> for Agent {
    type Result = ();

    fn handle(&mut self, welcomed: Welcomed, _: &mut Self::Context) {
        if let Err(fault) = self.check_cluster(&welcomed.welcome.cluster_id) {
            welcomed.cut.cancel();
            self.end(fault);
            return;
        }
        self.cut_session();
        let welcome = &welcomed.welcome;
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms).max(HEARTBEAT_LEAST);
        let lease_ttl = Duration::from_millis(welcome.lease_ttl_ms)
            .saturating_sub(FENCE_MARGIN)
            .max(HEARTBEAT_LEAST);
        let now = self.now();
        self.session = Some(Session {
            id: welcomed.session,
            outbox: welcomed.outbox,
            cut: welcomed.cut,
            heartbeat,
            last_sent: None,
            last_heard: now,
        });
        self.leases.welcomed(welcomed.hello_sent, lease_ttl);
        self.refresh_gate();
        {
            let mut stats = self.shared.stats.update();
            stats.sessions += 1;
            stats.leader = Some(welcomed.leader);
        }
        for lease in welcome.dropped.iter().map(Lease::from) {
            info!(%lease, "the leader no longer knows this lease, dropping its task");
            self.drop_lease(lease, Some(LeaseReportBody::Released));
            self.introduced.remove(&lease);
        }
        self.settle_introduced();
        self.send_again();
    }
}

impl Agent {
    fn check_cluster(&mut self, wire: &[u8]) -> Result<(), Fault> {
        let Some(theirs) = cluster_from_wire(wire)? else {
            return Ok(());
        };
        match self.cluster {
            Some(mine) if mine != theirs => Err(wrong_cluster(mine, theirs)),
            _ => {
                self.cluster = Some(theirs);
                Ok(())
            }
        }
    }

    /// Leases that were announced and went between Hello and Welcome: the leader believes that they go on.
    fn settle_introduced(&mut self) {
        let gone: Vec<Lease> = self
            .introduced
            .iter()
            .filter(|lease| !self.held.contains_key(lease))
            .copied()
            .collect();
        self.introduced.clear();
        for lease in gone {
            self.release_unheld(lease);
        }
    }

    /// Sends every unanswered report over the new stream.
    fn send_again(&mut self) {
        let reports: Vec<v1::TaskReport> = self
            .held
            .values()
            .filter_map(|held| held.pending.as_ref())
            .map(|pending| v1::TaskReport::from(&pending.report))
            .collect();
        for report in reports {
            self.send(Up::Report(report));
        }
    }

    /// Tells the leader that a lease cannot be worked on.
    fn refuse(&mut self, lease: Lease, fault: Fault) {
        warn!(%lease, %fault, "refusing a lease");
        self.say_of(lease, LeaseReportBody::Failed { fault });
    }

    fn granted(&mut self, wire: v1::TaskGrant, context: &Context<Self>) {
        let lease = Lease::new(wire.job, wire.task, wire.epoch);
        if self.held.contains_key(&lease) {
            debug!(%lease, "granted again");
            return;
        }
        let older: Vec<Lease> = self
            .held
            .keys()
            .filter(|held| held.task == lease.task && held.epoch < lease.epoch)
            .copied()
            .collect();
        for lease in older {
            self.drop_lease(lease, None);
        }
        let leaving = self.shared.lifecycle.leaving.is_cancelled();
        let permit = Arc::clone(&self.tasks).try_acquire_owned();
        let Some(permit) = permit
            .ok()
            .filter(|_| !leaving && self.shared.begun.begin(lease))
        else {
            return self.release_unheld(lease);
        };
        let grant = match Grant::try_from(wire) {
            Ok(grant) => grant,
            Err(fault) => return self.refuse(lease, fault),
        };
        if let Some(mine) = self.cluster.filter(|mine| *mine != grant.cluster) {
            return self.refuse(lease, wrong_cluster(mine, grant.cluster));
        }
        debug!(%lease, "granted");
        let ticket = Ticket::new(Arc::clone(&self.shared), grant, context.address());
        let held = Held {
            task: TaskHandle::start(ticket, permit),
            pending: None,
            queued: None,
        };
        self.held.insert(lease, held);
        self.shared.stats.update().leases = self.held.len();
    }

    fn stop(&mut self, stop: &v1::TaskStop) {
        let lease = Lease::new(stop.job, stop.task, stop.epoch);
        match self.held.get(&lease) {
            Some(held) => {
                info!(%lease, reason = stop.reason, "told to stop");
                held.task.stop();
            }
            None => self.release_unheld(lease),
        }
    }

    fn answered(&mut self, ack: v1::ReportAck) {
        let lease = Lease::new(ack.job, ack.task, ack.epoch);
        let Some(held) = self.held.get_mut(&lease) else {
            return;
        };
        let awaited = held
            .pending
            .take_if(|pending| pending.report.sequence == ack.sequence);
        let Some(pending) = awaited else { return };
        let is_final = pending.report.body.is_final();
        if !ack.accepted {
            let fault = ack.fault.map_or_else(
                || Fault::new(ErrorCode::StaleEpoch, "the lease is no longer current"),
                wire_to_fault,
            );
            info!(%lease, %fault, "the leader refused a report, dropping its task");
            // A lease that is over is confirmed to be over; a report that contradicts what is known ends the task for good.
            let last_word = match fault.code {
                ErrorCode::StaleEpoch => LeaseReportBody::Released,
                _ => LeaseReportBody::Failed {
                    fault: fault.clone(),
                },
            };
            // A receiver that is gone has nothing to learn.
            let _ = pending.ack.send(Ack::Refused(fault));
            self.drop_lease(lease, Some(last_word));
            return;
        }
        let _ = pending.ack.send(Ack::Accepted);
        self.shared.stats.update().reports += 1;
        if is_final {
            if let Some(held) = self.held.remove(&lease) {
                held.task.leave_alone();
            }
            self.shared.stats.update().leases = self.held.len();
        } else if let Some(next) = held.queued.take() {
            let wire = v1::TaskReport::from(&next.report);
            held.pending = Some(next);
            self.send(Up::Report(wire));
        }
    }

    fn heartbeat_answered(&mut self, ack: &v1::HeartbeatAck) {
        if self.leases.acknowledged(ack.sequence) {
            self.refresh_gate();
        }
        let now = self.now();
        if let Some(session) = &mut self.session {
            session.last_heard = now;
        }
    }
}

impl Handler<Inbound> for Agent {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, context: &mut Self::Context) {
        let current = self.session.as_ref().map(|session| session.id);
        if current != Some(inbound.session) {
            return;
        }
        match inbound.body {
            Body::HeartbeatAck(ack) => self.heartbeat_answered(&ack),
            Body::Grant(grant) => self.granted(grant, context),
            Body::Stop(stop) => self.stop(&stop),
            Body::ReportAck(ack) => self.answered(ack),
            Body::HoldOrder(release) => self.order_hold(release, context),
            Body::CheckOrder(order) => self.order_check(order, context),
            Body::StoreCheckOrder(order) => self.order_store_check(order, context),
            // These never come in the middle of a stream: the link ends it instead.
            Body::Welcome(_) | Body::NotLeader(_) | Body::Dismissed(_) => {}
        }
    }
}
