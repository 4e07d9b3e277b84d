//! Ending and moving holds on members, for the leader.

use actix::{AsyncContext, Context, Handler};
use holdfast_proto::v1::worker_message::Body;
use holdfast_proto::{HoldAnswer, HoldOrder, v1};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use tracing::warn;

use super::agent_actor::Agent;
use super::messages::HoldDone;
use crate::bounds::{HOLD_ORDERS, SOURCE_CALL_DEADLINE};
use crate::core::Core;

impl Agent {
    pub(super) fn order_hold(&mut self, wire: v1::HoldOrder, context: &Context<Self>) {
        let order = match HoldOrder::try_from(wire) {
            Ok(order) => order,
            // Without a legible member there is nobody to answer for.
            Err(fault) => return warn!(%fault, "cannot read what is to become of a hold"),
        };
        let Ok(permit) = Arc::clone(&self.hold_orders).try_acquire_owned() else {
            let fault = Fault::new(
                ErrorCode::ResourceExhausted,
                format!("this worker sees to {HOLD_ORDERS} holds already"),
            );
            return self.hold_done(&answer(&order, Err(fault)));
        };
        let shared = Arc::clone(&self.shared);
        let agent = context.address();
        tokio::task::spawn_local(async move {
            let outcome = carry_out(&shared, &order).await;
            drop(permit);
            // An agent that is gone will be asked again.
            let _ = agent.send(HoldDone(answer(&order, outcome))).await;
        });
    }

    fn hold_done(&mut self, answer: &HoldAnswer) {
        self.send(Body::HoldDone(answer.into()));
    }
}

fn answer(order: &HoldOrder, outcome: Result<(), Fault>) -> HoldAnswer {
    HoldAnswer {
        hold: order.hold,
        member: order.member.name.clone(),
        advance_to: order.advance_to,
        outcome,
    }
}

async fn carry_out(shared: &Core, order: &HoldOrder) -> Result<(), Fault> {
    let doing = match order.advance_to {
        None => "ending",
        Some(_) => "moving",
    };
    let what = format!(
        "{doing} hold {} on member {}",
        order.hold, order.member.name
    );
    let acting = async {
        if order.kind.is_logged() {
            let source = shared.sources.logged(order.kind, &order.member)?;
            return match order.advance_to {
                None => source.release(order.hold).await,
                Some(position) => source.advance_hold(order.hold, position).await,
            };
        }
        let source = shared.sources.member(order.kind, &order.member)?;
        match order.advance_to {
            None => source.release(order.hold).await,
            Some(position) => source.hold(order.hold, position).await,
        }
    };
    match tokio::time::timeout(SOURCE_CALL_DEADLINE, acting).await {
        Ok(outcome) => outcome.map_err(|fault| fault.context(what)),
        Err(_) => Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("{what} took longer than {SOURCE_CALL_DEADLINE:?}"),
        )),
    }
}

impl Handler<HoldDone> for Agent {
    type Result = ();

    fn handle(&mut self, HoldDone(answer): HoldDone, _: &mut Self::Context) {
        self.hold_done(&answer);
    }
}
