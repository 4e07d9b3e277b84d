//! Looking at members for the leader: how they would be backed up, and how holds on them stand.

use actix::{AsyncContext, Context, Handler};
use bytes::Bytes;
use holdfast_proto::v1::worker_message::Body;
use holdfast_proto::{CheckAnswer, CheckOrder, CheckReport, CheckWhat, to_json, v1};
use holdfast_source::{CheckFinding, CheckLevel, HoldStanding, MemberCheck};
use holdfast_types::{ErrorCode, Fault, Hlc, PositionKind};
use std::sync::Arc;
use tracing::warn;

use super::agent_actor::Agent;
use super::messages::CheckDone;
use crate::bounds::{CHECK_BYTES, CHECK_DEADLINE, CHECKS};
use crate::core::Core;
use crate::task::check_restore;

impl Agent {
    pub(super) fn order_check(&mut self, wire: v1::CheckOrder, context: &Context<Self>) {
        let question = wire.question;
        let refusal = match CheckOrder::try_from(wire) {
            Err(fault) => Err(fault),
            Ok(order) => match Arc::clone(&self.checks).try_acquire_owned() {
                Ok(permit) => Ok((order, permit)),
                Err(_) => Err(Fault::new(
                    ErrorCode::ResourceExhausted,
                    format!("this worker looks at {CHECKS} members already"),
                )
                .hint("try again in a moment")),
            },
        };
        let (order, permit) = match refusal {
            Ok(accepted) => accepted,
            Err(fault) => {
                return self.check_done(&CheckAnswer {
                    question,
                    outcome: Err(fault),
                });
            }
        };
        let shared = Arc::clone(&self.shared);
        let agent = context.address();
        tokio::task::spawn_local(async move {
            let outcome = look(&shared, &order).await;
            drop(permit);
            let answer = CheckAnswer { question, outcome };
            // An agent that is gone has nobody to answer to.
            let _ = agent.send(CheckDone(answer)).await;
        });
    }

    fn check_done(&mut self, answer: &CheckAnswer) {
        self.send(Body::CheckDone(answer.into()));
    }
}

impl Handler<CheckDone> for Agent {
    type Result = ();

    fn handle(&mut self, CheckDone(answer): CheckDone, _: &mut Self::Context) {
        if let Err(fault) = &answer.outcome {
            warn!(%fault, "a member cannot be looked at");
        }
        self.check_done(&answer);
    }
}

async fn look(shared: &Core, order: &CheckOrder) -> Result<CheckReport, Fault> {
    let what = match &order.what {
        CheckWhat::Backup => format!("looking at member {}", order.member.name),
        CheckWhat::Hold(hold) => format!("looking at hold {hold} on member {}", order.member.name),
        CheckWhat::Restore(..) => format!("looking at a restore onto member {}", order.member.name),
    };
    let looking = async {
        if !order.kind.is_logged() {
            return answers(shared, order).await.map(whole);
        }
        let source = shared.sources.logged(order.kind, &order.member)?;
        match &order.what {
            CheckWhat::Backup => source.check().await.map(whole),
            CheckWhat::Restore(spec, index) => check_restore(shared, source.as_ref(), spec, *index)
                .await
                .map(whole),
            CheckWhat::Hold(hold) => Ok(CheckReport {
                report: Bytes::new(),
                holds: source
                    .look_after_hold(*hold)
                    .await?
                    .into_iter()
                    .map(standing)
                    .collect(),
            }),
        }
    };
    match tokio::time::timeout(CHECK_DEADLINE, looking).await {
        Ok(outcome) => outcome.map_err(|fault| fault.context(what)),
        Err(_) => Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("{what} took longer than {} s", CHECK_DEADLINE.as_secs()),
        )),
    }
}

fn whole(report: MemberCheck) -> CheckReport {
    CheckReport {
        report: encode(report, CHECK_BYTES),
        holds: Vec::new(),
    }
}

fn standing(found: HoldStanding) -> v1::HoldStanding {
    v1::HoldStanding {
        member: String::new(),
        name: found.name,
        database: found.database,
        wal_retained_bytes: found.wal_retained_bytes,
        wal_budget_bytes: found.wal_budget_bytes,
        wal_status: found.wal_status,
        xmin_age: found.xmin_age,
        active: found.active,
    }
}

/// A source with time travel needs nothing but to be reached.
async fn answers(shared: &Core, order: &CheckOrder) -> Result<MemberCheck, Fault> {
    debug_assert_eq!(order.kind.position_kind(), PositionKind::Hlc);
    let source = shared.sources.member(order.kind, &order.member)?;
    let position = source.position(Hlc::ZERO.into()).await?;
    let databases = source.databases(position).await?;
    Ok(MemberCheck {
        server: format!("{} at {}", order.kind, order.member.address),
        mode: "every backup is of one instant, and history can be kept".to_owned(),
        findings: vec![CheckFinding {
            object: "server".to_owned(),
            level: CheckLevel::Fine,
            what: format!(
                "answers; it has {} databases, and its clock is at {position}",
                databases.len()
            ),
            remedy: None,
        }],
        holds: Vec::new(),
    })
}

/// The report as JSON, of at most about so many bytes: what blocks a backup stays, and what is fine goes first.
fn encode(mut report: MemberCheck, most: usize) -> Bytes {
    let whole = to_json(&report);
    if whole.len() <= most {
        return whole;
    }
    let lengths: Vec<usize> = (report.findings.iter())
        .map(|finding| to_json(finding).len() + 1)
        .collect();
    let mut room = most.saturating_sub(whole.len().saturating_sub(lengths.iter().sum()));
    let mut kept = vec![false; lengths.len()];
    for level in [CheckLevel::Blocks, CheckLevel::Handled, CheckLevel::Fine] {
        let places = report.findings.iter().zip(&lengths).zip(&mut kept);
        for ((finding, length), kept) in places {
            if finding.level == level && *length <= room {
                room -= length;
                *kept = true;
            }
        }
    }
    let left_out = kept.iter().filter(|kept| !**kept).count();
    let mut kept = kept.into_iter();
    report.findings.retain(|_| kept.next().unwrap_or_default());
    report.findings.push(CheckFinding {
        object: "this report".to_owned(),
        level: CheckLevel::Handled,
        what: format!("{left_out} more findings are left out: it is too long"),
        remedy: None,
    });
    to_json(&report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_keeps_what_matters() {
        let finding = |index: usize, level| CheckFinding {
            object: format!("shop.public.t{index}"),
            level,
            what: "x".repeat(80),
            remedy: None,
        };
        let levels = [CheckLevel::Fine, CheckLevel::Blocks, CheckLevel::Handled];
        let report = MemberCheck {
            findings: (0..300)
                .map(|index| finding(index, levels[index % 3]))
                .collect(),
            ..MemberCheck::default()
        };
        assert_eq!(encode(report.clone(), 1 << 20), to_json(&report));
        let short = encode(report, 30_000);
        assert!(short.len() < 30_500, "{} bytes", short.len());
        let read: MemberCheck = holdfast_proto::from_json(&short, "report").expect("legible");
        assert_eq!(read.blocking().count(), 100, "all of them");
        let of = |level| read.findings.iter().filter(|f| f.level == level).count();
        assert!(of(CheckLevel::Handled) > 50 && of(CheckLevel::Fine) == 0);
        let last = read.findings.last().expect("findings");
        assert!(
            last.what.contains("more findings are left out"),
            "{}",
            last.what
        );
    }
}
