//! Asking members something, through a worker near them.

use holdfast_proto::{CheckOrder, CheckWhat, v1};
use holdfast_types::{ErrorCode, Fault, Incarnation, MemberRecord, SourceKind, WorkerId};
use std::time::Duration;

use crate::core::Core;
use crate::office::{CheckOutcome, Office};
use crate::questions::Question;

/// How often one looks whether the worker that was asked is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Has a member looked at, or one hold on it, or what a restore would make there: who was asked (empty: nobody was there), and the answer. There is no end to the waiting but
/// that of the worker's stream.
pub(crate) async fn ask_member(
    core: &Core,
    office: &Office,
    kind: SourceKind,
    member: &MemberRecord,
    what: CheckWhat,
) -> (String, CheckOutcome) {
    let nearest = core
        .replica
        .read(|ledger| office.nearest(ledger, &member.locality));
    let Some((worker, incarnation)) = nearest else {
        return (String::new(), Err(nobody(member)));
    };
    let question = office.checks.ask(&worker);
    let order = CheckOrder {
        question: question.id,
        kind,
        member: member.clone(),
        what,
    };
    let body = v1::leader_message::Body::CheckOrder((&order).into());
    let outcome = match office.sessions.send(&worker, incarnation, body) {
        None => Err(gone(&worker)),
        Some(_) => wait(office, question, &worker, incarnation).await,
    };
    (worker.to_string(), outcome)
}

async fn wait(
    office: &Office,
    mut question: Question<'_, CheckOutcome>,
    worker: &WorkerId,
    incarnation: Incarnation,
) -> CheckOutcome {
    loop {
        match tokio::time::timeout(GLANCE, &mut question.answer).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => return Err(gone(worker)),
            Err(_) if office.sessions.is_open(worker, incarnation) => {}
            Err(_) => return Err(gone(worker)),
        }
    }
}

fn gone(worker: &WorkerId) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("worker {worker}, which was asked, went away"),
    )
    .hint("try again in a moment")
}

fn nobody(member: &MemberRecord) -> Fault {
    let place = &member.locality;
    if place.is_empty() {
        return Fault::new(ErrorCode::Unavailable, "no worker is connected")
            .hint("start one with `holdfast start --role worker`");
    }
    Fault::new(
        ErrorCode::Unavailable,
        format!(
            "no worker is connected that may touch member {}, which is in {place}",
            member.name
        ),
    )
    .hint(format!(
        "start one there with `holdfast start --role worker --locality {place}`"
    ))
}
