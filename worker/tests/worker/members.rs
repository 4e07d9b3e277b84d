//! What a leader asks of members besides jobs: holds that move and end, and how things stand.

use holdfast_proto::v1::leader_message::Body as Down;
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{CheckAnswer, CheckOrder, CheckWhat, HoldOrder, from_json, v1};
use holdfast_source::MemberCheck;
use holdfast_types::{ErrorCode, HoldId, Lsn, Position, SourceKind};

use crate::support::jobs::{Job, fill_log, spec};
use crate::support::{Leader, Misuse, World, at, local, member};

#[test]
fn holds_move_and_end_on_request() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        Job::new(70, spec(None, false)).plan(&mut present).await;
        let order = |advance_to| HoldOrder {
            hold: HoldId(5),
            source: "shop".parse().expect("a name"),
            kind: SourceKind::Postgres,
            member: member(),
            advance_to,
        };
        let cases = [
            (Some(Position::from(Lsn::at(90))), Some(90), None),
            (Some(at(90).into()), Some(90), Some("not of the log")),
            (None, None, None),
            (None, None, None),
        ];
        for (advance_to, expected, error) in cases {
            present
                .say(Down::HoldOrder(v1::HoldOrder::from(&order(advance_to))))
                .await;
            let Some(Up::HoldDone(done)) = present.hear().await else {
                panic!("no answer");
            };
            assert_eq!((done.hold, done.member.as_str()), (5, "m1"));
            let message = done.fault.map(|fault| fault.message);
            assert_eq!(message.is_some(), error.is_some(), "{message:?}");
            assert!(
                message
                    .unwrap_or_default()
                    .contains(error.unwrap_or_default())
            );
            assert_eq!(world.log.holds().get(&HoldId(5)).copied(), expected);
        }
    });
}

#[test]
fn members_are_looked_at_on_request() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        Job::new(70, spec(None, false)).plan(&mut present).await;
        world.log.write(1, Some(1));
        let mut asked = 0;
        let mut ask = async |kind| {
            asked += 1;
            let order = CheckOrder {
                question: asked,
                kind,
                member: member(),
                what: CheckWhat::Backup,
            };
            present
                .say(Down::CheckOrder(v1::CheckOrder::from(&order)))
                .await;
            let Some(Up::CheckDone(done)) = present.hear().await else {
                panic!("no answer");
            };
            let answer = CheckAnswer::from(done);
            assert_eq!(answer.question, asked);
            answer
                .outcome
                .map(|report| from_json::<MemberCheck>(&report.report, "report").expect("legible"))
        };
        let log = ask(SourceKind::Postgres).await.expect("a report");
        assert_eq!(log.server, "a log");
        assert_eq!(log.holds[0].wal_retained_bytes, 1);
        let mvcc = ask(SourceKind::Mvcc).await.expect("a report");
        assert_eq!(mvcc.server, "mvcc at unused:1");
        assert_eq!((mvcc.findings.len(), mvcc.blocking().count()), (1, 0));
        world.log.misbehave(Some(Misuse::GoesOn));
        let fault = ask(SourceKind::Postgres).await.expect_err("nobody there");
        assert_eq!(fault.code, ErrorCode::Unavailable);
        assert!(fault.message.contains("looking at member m1"), "{fault}");
    });
}

#[test]
fn holds_are_looked_after_on_request() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        Job::new(70, spec(None, false)).plan(&mut present).await;
        world.log.write(1, Some(1));
        let cases = [
            (SourceKind::Postgres, 5, Some(1)),
            (SourceKind::Postgres, 6, None),
        ];
        for (kind, hold, expected) in cases {
            let order = CheckOrder {
                question: hold,
                kind,
                member: member(),
                what: CheckWhat::Hold(HoldId(hold)),
            };
            present
                .say(Down::CheckOrder(v1::CheckOrder::from(&order)))
                .await;
            let Some(Up::CheckDone(done)) = present.hear().await else {
                panic!("no answer");
            };
            let report = CheckAnswer::from(done).outcome.expect("a look");
            let kept = report.holds.first().map(|hold| hold.wal_retained_bytes);
            assert_eq!((kept, report.report.len()), (expected, 0));
        }
    });
}

#[test]
fn so_many_members_are_looked_at_at_once() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        world.log.permits.forget_permits(usize::MAX);
        for question in 0..17 {
            let order = CheckOrder {
                question,
                kind: SourceKind::Postgres,
                member: member(),
                what: CheckWhat::Backup,
            };
            present
                .say(Down::CheckOrder(v1::CheckOrder::from(&order)))
                .await;
        }
        let Some(Up::CheckDone(done)) = present.hear().await else {
            panic!("no answer");
        };
        let answer = CheckAnswer::from(done);
        let fault = answer.outcome.expect_err("one too many");
        assert_eq!(
            (answer.question, fault.code),
            (16, ErrorCode::ResourceExhausted)
        );
        world.log.permits.add_permits(100);
        for _ in 0..16 {
            assert!(matches!(present.hear().await, Some(Up::CheckDone(_))));
        }
    });
}
