//! A node without a vote asks the others whether it is still a member.
//!
//! A voter that was removed behind its back asks for votes and is told. One without a vote never asks for any: a learner that was removed while it
//! was cut off, or a node that was removed and started again, which finds its removal in its log and not that it was committed.

use std::sync::Arc;

use crate::core::Core;
use crate::leadership::Standing;
use crate::peers::CallError;
use crate::wire::ForwardRequest;
use holdfast_types::{ErrorCode, NodeId};

/// Starts to ask, until the node stops or knows that it was removed.
pub(crate) fn start(core: Arc<Core>) {
    drop(tokio::spawn(async move {
        let mut stop = core.stop.subscribe();
        let pause = 2 * core.config.election_max;
        while tokio::time::timeout(pause, stop.changed()).await.is_err() {
            if *core.standing.borrow() != Standing::Running {
                return;
            }
            ask(&core).await;
        }
    }));
}

async fn ask(core: &Core) {
    let own = core.config.node.0;
    let metrics = core.metrics();
    let members = metrics.membership_config.membership().clone();
    let is_voter = members.voter_ids().any(|voter| voter == own);
    if is_voter || core.identity.cluster().is_none() {
        return;
    }
    for (node, at) in members.nodes().filter(|(node, _)| **node != own) {
        let timeout = core.config.election_max;
        let to = (NodeId(*node), at.addr.as_str());
        if let Err(CallError::Refused(fault)) =
            core.forward(to, &ForwardRequest::Hello, timeout).await
            && fault.code == ErrorCode::NotFound
        {
            core.verdict.send_replace(Standing::Removed);
            return;
        }
    }
}
