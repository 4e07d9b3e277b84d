//! Holds, as clients see them, and how they are given up.

use holdfast_ledger::{Action, HoldRecord, Outcome};
use holdfast_proto::v1;
use holdfast_types::{Fault, HoldId, Timestamp};

use crate::core::Core;
use crate::replica::unexpected;

/// A hold as clients see it.
pub(super) fn hold_view(
    hold: &HoldRecord,
    now: Timestamp,
    standings: Vec<v1::HoldStanding>,
) -> v1::Hold {
    let state = match hold.releasing {
        Some(_) => "releasing",
        None => "active",
    };
    let chain = hold.chain.as_ref();
    v1::Hold {
        id: hold.id.0,
        job: hold.job.0,
        source: hold.source.to_string(),
        position: hold.position.to_string(),
        age_seconds: now.since(hold.created_at).0 as f64 / 1000.0,
        state: state.to_owned(),
        collection: chain.map_or_else(String::new, |chain| chain.collection.clone()),
        chain: chain.map_or_else(String::new, |chain| chain.layer.full.clone()),
        standings,
    }
}

/// Gives a hold up. What follows from it is said of the hold as it was.
pub(super) async fn drop_hold(core: &Core, id: HoldId) -> Result<v1::DropHoldResponse, Fault> {
    core.replica.linearizable().await?;
    let warning = core
        .replica
        .read(|ledger| ledger.hold(id).map(what_follows))
        .unwrap_or_default();
    match core.replica.propose(Action::DropHold { hold: id }).await? {
        Outcome::Done => Ok(v1::DropHoldResponse {
            warning,
            no_op: false,
        }),
        Outcome::NoOp => Ok(v1::DropHoldResponse {
            warning,
            no_op: true,
        }),
        Outcome::Refused(fault) => Err(fault),
        other => Err(unexpected(&other)),
    }
}

fn what_follows(hold: &HoldRecord) -> String {
    match &hold.chain {
        Some(chain) => format!(
            "the members of {} let the history go that chain {} in {} continues with: its next incremental is refused, and a \
             new full backup starts another chain. What the chain holds can be restored as before.",
            hold.source, chain.layer.full, chain.collection
        ),
        None => format!("the members of {} let its history go", hold.source),
    }
}
