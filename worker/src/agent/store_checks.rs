//! Trying stores out for the leader: writing, reading back, looking for what other workers wrote, and removing.

use actix::{AsyncContext, Context, Handler};
use holdfast_proto::v1::worker_message::Body;
use holdfast_proto::{fault_to_wire, from_json, v1};
use holdfast_types::{CollectionAccess, ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

use super::agent_actor::Agent;
use super::messages::StoreCheckDone;
use crate::bounds::{CHECK_DEADLINE, CHECKS};
use crate::core::Core;

impl Agent {
    pub(super) fn order_store_check(
        &mut self,
        order: v1::StoreCheckOrder,
        context: &Context<Self>,
    ) {
        let question = order.question;
        let Ok(permit) = Arc::clone(&self.checks).try_acquire_owned() else {
            let fault = Fault::new(
                ErrorCode::ResourceExhausted,
                format!("this worker looks at {CHECKS} things already"),
            )
            .hint("try again in a moment");
            return self.send(Body::StoreCheckDone(failed(question, &fault)));
        };
        let shared = Arc::clone(&self.shared);
        let agent = context.address();
        tokio::task::spawn_local(async move {
            let done = match tokio::time::timeout(CHECK_DEADLINE, check(&shared, &order)).await {
                Ok(Ok(done)) => done,
                Ok(Err(fault)) => failed(question, &fault),
                Err(_) => {
                    let fault = Fault::new(
                        ErrorCode::DeadlineExceeded,
                        format!(
                            "trying {} out took longer than {} s",
                            order.collection,
                            CHECK_DEADLINE.as_secs()
                        ),
                    );
                    failed(question, &fault)
                }
            };
            drop(permit);
            // An agent that is gone has nobody to answer to.
            let _ = agent.send(StoreCheckDone(done)).await;
        });
    }
}

impl Handler<StoreCheckDone> for Agent {
    type Result = ();

    fn handle(&mut self, StoreCheckDone(done): StoreCheckDone, _: &mut Self::Context) {
        if let Some(fault) = &done.fault {
            warn!(message = %fault.message, "a store cannot be used");
        }
        self.send(Body::StoreCheckDone(done));
    }
}

fn failed(question: u64, fault: &Fault) -> v1::StoreCheckDone {
    v1::StoreCheckDone {
        question,
        fault: Some(fault_to_wire(fault)),
        ..v1::StoreCheckDone::default()
    }
}

async fn check(shared: &Core, order: &v1::StoreCheckOrder) -> Result<v1::StoreCheckDone, Fault> {
    let access: CollectionAccess = from_json(&order.access, "store_check.access")?;
    let store = shared.open_collection(&order.collection, &access).await?;
    let done = v1::StoreCheckDone {
        question: order.question,
        ..v1::StoreCheckDone::default()
    };
    if order.transfer > 0 {
        let report = store.write_probe(&order.probe, order.transfer).await?;
        return Ok(v1::StoreCheckDone {
            transferred: report.bytes,
            write_us: micros(report.wrote),
            read_us: micros(report.read),
            ..done
        });
    }
    let mut unseen = Vec::new();
    for other in &order.others {
        if !store.sees_probe(other).await? {
            unseen.push(other.clone());
        }
    }
    Ok(v1::StoreCheckDone {
        can_delete: store.remove_probe(&order.probe).await?,
        unseen,
        ..done
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
