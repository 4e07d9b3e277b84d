//! One worker's stream, from its greeting to its end.

use holdfast_ledger::{Action, Checkpoint, Report, ReportBody};
use holdfast_proto::{
    CheckAnswer, HoldAnswer, Lease, LeaseReport, LeaseReportBody, fault_to_wire, v1, wire_to_fault,
};
use holdfast_types::{ErrorCode, Fault};
use prost::Message;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tonic::Streaming;
use v1::leader_message::Body as Down;
use v1::worker_message::Body as Up;

use super::greeting::{Announced, Refusal, greet};
use super::holder::check_holder;
use crate::actors::committer::{Incoming, MAX_REPORT_BYTES};
use crate::core::Core;
use crate::grant::task_grant;
use crate::office::InOffice;
use crate::sessions::Outbox;

/// How long a worker may take from opening a stream to saying hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a stream to its end.
pub(super) async fn run(
    core: Arc<Core>,
    mut inbound: Streaming<v1::WorkerMessage>,
    outbox: Outbox,
) {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let Ok(Ok(Some(v1::WorkerMessage {
        body: Some(Up::Hello(hello)),
    }))) = first
    else {
        let fault = Fault::new(
            ErrorCode::InvalidArgument,
            "a worker's stream must begin with a hello",
        );
        say(&outbox, dismissed(&fault)).await;
        return;
    };
    // The worker may give up while it waits for the other holder of its id: then nobody reads the answer.
    let greeted = tokio::select! {
        biased;
        greeted = greet(&core, hello) => greeted,
        () = outbox.closed() => return,
    };
    match greeted {
        Ok((present, announced)) => converse(&core, &present, &announced, inbound, outbox).await,
        Err(Refusal::NotLeader) => say(&outbox, not_leader(&core)).await,
        Err(Refusal::Dismissed(fault)) => {
            tracing::warn!(%fault, "worker dismissed");
            say(&outbox, dismissed(&fault)).await;
        }
    }
}

async fn say(outbox: &Outbox, body: Down) {
    // The worker has gone: nothing is lost.
    let _ = outbox
        .send(Ok(v1::LeaderMessage { body: Some(body) }))
        .await;
}

fn dismissed(fault: &Fault) -> Down {
    Down::Dismissed(v1::Dismissed {
        fault: Some(fault_to_wire(fault)),
    })
}

/// What a worker is told that has come to the wrong node.
pub(crate) fn not_leader(core: &Core) -> Down {
    Down::NotLeader(v1::NotLeader {
        leader: core.replica.leader_address().unwrap_or_default(),
        coordinators: core.replica.addresses(),
    })
}

async fn converse(
    core: &Arc<Core>,
    present: &InOffice,
    announced: &Announced,
    mut inbound: Streaming<v1::WorkerMessage>,
    outbox: Outbox,
) {
    let office = &present.office;
    let (worker, incarnation) = (&announced.worker, announced.incarnation);
    // Before the session is known to others, so that it is the first that the worker reads.
    say(&outbox, welcome(core, announced)).await;
    let now = core.env.clock.monotonic();
    let (id, closed) = office.sessions.open(worker, incarnation, outbox, now);
    tracing::info!(%worker, incarnation = incarnation.0, "worker connected");
    grant_again(core, present, announced);
    loop {
        let message = tokio::select! {
            biased;
            () = closed.cancelled() => break,
            () = office.over.cancelled() => break,
            message = inbound.message() => message,
        };
        let Ok(Some(message)) = message else { break };
        office
            .sessions
            .heard(worker, incarnation, core.env.clock.monotonic());
        if hear(core, present, announced, message).await.is_break() {
            break;
        }
        // A report may have waited for its place in the queue: the worker was not silent meanwhile.
        office
            .sessions
            .heard(worker, incarnation, core.env.clock.monotonic());
    }
    office.sessions.close(worker, id);
    tracing::info!(%worker, incarnation = incarnation.0, "worker's stream ended");
}

fn welcome(core: &Core, announced: &Announced) -> Down {
    let (cluster, current) = core.replica.read(|ledger| {
        let current: BTreeSet<Lease> = ledger
            .leases_of(&announced.worker)
            .map(|task| Lease {
                task: task.id,
                epoch: task.epoch,
            })
            .collect();
        (ledger.cluster(), current)
    });
    Down::Welcome(v1::Welcome {
        cluster_id: cluster.map_or_else(Vec::new, |id| id.0.to_vec()).into(),
        lease_ttl_ms: millis(core.lease_ttl()),
        heartbeat_ms: millis(core.heartbeat()),
        dropped: announced
            .held
            .difference(&current)
            .map(|lease| v1::HeldLease::from(*lease))
            .collect(),
        coordinators: core.replica.addresses(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tells a worker of the leases that it has without knowing: their grants were lost with an older stream, or with an older leader.
fn grant_again(core: &Core, present: &InOffice, announced: &Announced) {
    let office = &present.office;
    let unknown: Vec<v1::TaskGrant> = core.replica.read(|ledger| {
        ledger
            .leases_of(&announced.worker)
            .filter(|task| {
                !announced.held.contains(&Lease {
                    task: task.id,
                    epoch: task.epoch,
                })
            })
            .filter_map(|task| task_grant(ledger, &office.specs, &core.config.cluster_key, &task))
            .collect()
    });
    for grant in unknown {
        office
            .sessions
            .send(&announced.worker, announced.incarnation, Down::Grant(grant));
    }
}

/// Takes one message. Breaks if the stream is to end.
async fn hear(
    core: &Arc<Core>,
    present: &InOffice,
    announced: &Announced,
    message: v1::WorkerMessage,
) -> ControlFlow<()> {
    let office = &present.office;
    let (worker, incarnation) = (&announced.worker, announced.incarnation);
    match message.body {
        Some(Up::Heartbeat(heartbeat)) => {
            office
                .sessions
                .note_activities(worker, heartbeat.activities);
            // Silence, not an error: the worker's own clock decides when it has waited too long.
            if core.replica.leads_for_sure() {
                let ack = v1::HeartbeatAck {
                    sequence: heartbeat.sequence,
                };
                office
                    .sessions
                    .send(worker, incarnation, Down::HeartbeatAck(ack));
            }
            ControlFlow::Continue(())
        }
        Some(Up::Report(report)) => hear_report(core, present, announced, report).await,
        Some(Up::HoldDone(done)) => {
            match HoldAnswer::try_from(done) {
                Ok(answer) => office.answer_hold(answer),
                Err(fault) => tracing::warn!(%worker, %fault, "malformed word on a hold"),
            }
            ControlFlow::Continue(())
        }
        Some(Up::CheckDone(done)) => {
            let answer = CheckAnswer::from(done);
            let checks = &office.checks;
            checks.answer(worker, answer.question, answer.outcome);
            ControlFlow::Continue(())
        }
        Some(Up::StoreCheckDone(mut done)) => {
            let question = done.question;
            let outcome = match done.fault.take() {
                None => Ok(done),
                Some(fault) => Err(wire_to_fault(fault)),
            };
            office.store_checks.answer(worker, question, outcome);
            ControlFlow::Continue(())
        }
        Some(Up::Goodbye(_)) => {
            say_goodbye(core, present, announced).await;
            ControlFlow::Break(())
        }
        Some(Up::Hello(_)) | None => {
            tracing::warn!(%worker, "worker breaks the protocol, closing its stream");
            ControlFlow::Break(())
        }
    }
}

async fn hear_report(
    core: &Core,
    present: &InOffice,
    announced: &Announced,
    wire: v1::TaskReport,
) -> ControlFlow<()> {
    let bytes = wire.encoded_len();
    let named = v1::ReportAck {
        job: wire.job,
        task: wire.task,
        epoch: wire.epoch,
        sequence: wire.sequence,
        accepted: false,
        fault: None,
    };
    let report = if bytes > MAX_REPORT_BYTES {
        Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "a report of {bytes} bytes is beyond the limit of {MAX_REPORT_BYTES}: use smaller batches"
            ),
        ))
    } else {
        LeaseReport::try_from(wire).and_then(|report| {
            let (worker, incarnation) = (&announced.worker, announced.incarnation);
            let checked = core
                .replica
                .read(|ledger| check_holder(ledger, report.lease, worker, incarnation));
            checked
                .inspect_err(|fault| tracing::warn!(%worker, %fault, "report refused"))
                .map(|()| report)
        })
    };
    match report {
        Ok(report) => {
            let incoming = Incoming {
                worker: announced.worker.clone(),
                incarnation: announced.incarnation,
                sequence: report.sequence,
                report: into_ledger(report),
                bytes,
            };
            match present.committer.submit(incoming).await {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        }
        Err(fault) => {
            let ack = v1::ReportAck {
                fault: Some(fault_to_wire(&fault)),
                ..named
            };
            present.office.sessions.send(
                &announced.worker,
                announced.incarnation,
                Down::ReportAck(ack),
            );
            ControlFlow::Continue(())
        }
    }
}

/// A worker that says goodbye holds nothing any more: its leases end at once.
async fn say_goodbye(core: &Core, present: &InOffice, announced: &Announced) {
    let action = Action::ExpireWorker {
        worker: announced.worker.clone(),
        incarnation: announced.incarnation,
        clean: true,
    };
    match core.replica.propose(action).await {
        Ok(_) => present
            .office
            .sessions
            .forget(&announced.worker, announced.incarnation),
        Err(fault) => {
            tracing::warn!(worker = %announced.worker, %fault, "goodbye not noted; the lease will end by itself");
        }
    }
}

fn into_ledger(report: LeaseReport) -> Report {
    let body = match report.body {
        LeaseReportBody::Plan {
            batch,
            relations,
            spans,
            last,
        } => ReportBody::Plan {
            sequence: batch,
            relations,
            spans,
            last,
        },
        LeaseReportBody::Checkpoint {
            from,
            to,
            last,
            objects,
            read,
            written,
            rows,
            settled,
        } => ReportBody::Checkpoint(Checkpoint {
            from,
            to,
            last,
            objects,
            read,
            written,
            rows,
            settled,
        }),
        LeaseReportBody::Done { rows, fingerprint } => ReportBody::Done { rows, fingerprint },
        LeaseReportBody::Notes { notes } => ReportBody::Notes { notes },
        LeaseReportBody::Released => ReportBody::Released,
        LeaseReportBody::Failed { fault } => ReportBody::Failed { fault },
    };
    Report {
        task: report.lease.task,
        epoch: report.lease.epoch,
        body,
    }
}
