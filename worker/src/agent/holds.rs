//! Ending holds on members, for the leader.

use actix::{AsyncContext, Context, Handler};
use holdfast_proto::v1::worker_message::Body;
use holdfast_proto::{HoldRelease, fault_to_wire, v1};
use holdfast_types::{ErrorCode, Fault, HoldId, MemberName};
use std::sync::Arc;
use tracing::warn;

use super::agent_actor::Agent;
use super::messages::HoldEnded;
use crate::bounds::{HOLD_RELEASES, SOURCE_CALL_DEADLINE};
use crate::core::Core;

impl Agent {
    pub(super) fn release_hold(&mut self, wire: v1::ReleaseHold, context: &Context<Self>) {
        let release = match HoldRelease::try_from(wire) {
            Ok(release) => release,
            // Without a legible member there is nobody to answer for.
            Err(fault) => return warn!(%fault, "cannot read a request to end a hold"),
        };
        let (hold, member) = (release.hold, release.member.name.clone());
        let Ok(permit) = Arc::clone(&self.hold_releases).try_acquire_owned() else {
            let fault = Fault::new(
                ErrorCode::ResourceExhausted,
                format!("this worker ends {HOLD_RELEASES} holds already"),
            );
            return self.hold_ended(hold, &member, Err(fault));
        };
        let shared = Arc::clone(&self.shared);
        let agent = context.address();
        tokio::task::spawn_local(async move {
            let outcome = end_hold(&shared, &release).await;
            drop(permit);
            // An agent that is gone will be asked again.
            let _ = agent
                .send(HoldEnded {
                    hold,
                    member,
                    outcome,
                })
                .await;
        });
    }

    fn hold_ended(&mut self, hold: HoldId, member: &MemberName, outcome: Result<(), Fault>) {
        self.send(Body::HoldReleased(v1::HoldReleaseDone {
            hold: hold.0,
            member: member.to_string(),
            fault: outcome.err().as_ref().map(fault_to_wire),
        }));
    }
}

async fn end_hold(shared: &Core, release: &HoldRelease) -> Result<(), Fault> {
    let what = format!(
        "ending hold {} on member {}",
        release.hold, release.member.name
    );
    let source = shared.sources.member(release.kind, &release.member)?;
    match tokio::time::timeout(SOURCE_CALL_DEADLINE, source.release(release.hold)).await {
        Ok(outcome) => outcome.map_err(|fault| fault.context(what)),
        Err(_) => Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("{what} took longer than {SOURCE_CALL_DEADLINE:?}"),
        )),
    }
}

impl Handler<HoldEnded> for Agent {
    type Result = ();

    fn handle(&mut self, ended: HoldEnded, _: &mut Self::Context) {
        self.hold_ended(ended.hold, &ended.member, ended.outcome);
    }
}
