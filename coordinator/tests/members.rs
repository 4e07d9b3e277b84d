//! What members say of themselves, and what they keep: checks and holds.

mod scene;

use holdfast_client::ControlApi;
use holdfast_proto::{v1, wire_to_fault};
use holdfast_types::{ErrorCode, Fault};
use scene::{FakeWorker, Manner, Place, Scene, Trio, full, incremental, play, source, until};
use std::time::Duration;

const EU: &str = "region=eu";
const US: &str = "region=us";

fn check(members: &[&str]) -> v1::CheckSourceRequest {
    v1::CheckSourceRequest {
        name: "bank".into(),
        members: members.iter().map(ToString::to_string).collect(),
    }
}

fn fault(checked: &v1::CheckedMember) -> Fault {
    assert!(checked.report.is_empty());
    wire_to_fault(checked.fault.clone().expect("a fault"))
}

#[test]
fn each_member_is_looked_at_by_a_worker_of_its_locality() {
    play(async {
        let scene = Scene::start(&[EU, US, "region=eu,zone=b", EU]).await;
        let eu = scene.worker("w-eu", EU, Manner::Diligent(1)).await;
        let us = scene.worker("w-us", US, Manner::Clumsy(1)).await;
        let answer = scene.api.check_source(check(&[])).await.expect("an answer");
        let names: Vec<&str> = answer.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["m1", "m2", "m3", "m4"]);
        let [one, two, three, four] = &answer.members[..] else {
            unreachable!("four");
        };
        assert_eq!((one.worker.as_str(), one.locality.as_str()), ("w-eu", EU));
        assert_eq!(one.report, r#"{"server":"m1 of kind mvcc"}"#);
        assert_eq!((one.fault.is_some(), four.fault.is_some()), (false, false));
        assert_eq!(two.worker, "w-us");
        assert_eq!(fault(two).message, "the member is not at home");
        assert_eq!(three.worker, "");
        let nobody = fault(three);
        assert_eq!(nobody.code, ErrorCode::Unavailable);
        assert!(
            nobody.message.contains("m3, which is in region=eu,zone=b"),
            "{nobody}"
        );
        assert_eq!(eu.seen.borrow().looked_at, ["m1", "m4"]);
        assert_eq!(us.seen.borrow().looked_at, ["m2"]);

        let some = scene.api.check_source(check(&["m4", "m1"])).await;
        let names: Vec<String> = (some.expect("an answer").members.into_iter())
            .map(|member| member.name)
            .collect();
        assert_eq!(names, ["m1", "m4"]);
    });
}

#[test]
fn what_does_not_exist_is_named() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let unknown = v1::CheckSourceRequest {
            name: "shop".into(),
            ..check(&[])
        };
        for (request, text) in [
            (unknown, "there is no source shop"),
            (check(&["m1", "m7"]), "source bank has no member m7"),
        ] {
            let fault = scene.api.check_source(request).await.expect_err(text);
            assert_eq!(fault.code, ErrorCode::NotFound);
            assert!(
                fault.message.contains(text) && fault.hint.is_some(),
                "{fault}"
            );
        }
        let answer = scene.api.check_source(check(&[])).await.expect("an answer");
        assert!(fault(&answer.members[0]).message.contains("no worker"));
    });
}

#[test]
fn a_worker_that_goes_away_is_not_waited_for() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let deaf = scene.worker("w", EU, Manner::Deaf(1)).await;
        let dying = async {
            until("it was asked", || async {
                (!deaf.seen.borrow().looked_at.is_empty()).then_some(())
            })
            .await;
            drop(deaf);
        };
        let asking =
            tokio::time::timeout(Duration::from_secs(5), scene.api.check_source(check(&[])));
        let (answer, ()) = tokio::join!(asking, dying);
        let answer = answer.expect("in time").expect("an answer");
        let fault = fault(&answer.members[0]);
        assert_eq!(fault.code, ErrorCode::Unavailable);
        assert!(fault.message.contains("worker w"), "{fault}");
    });
}

#[test]
fn any_node_passes_the_question_on_to_the_leader() {
    play(async {
        let trio = Trio::start().await;
        let client = trio.client();
        let request = source("bank", &[EU]);
        client.register_source(request).await.expect("registered");
        let (leader, follower) = (trio.leader().await, trio.follower().await);
        let _worker = FakeWorker::join(&Place::of(&trio, leader), "w", 1, EU, Manner::Diligent(1))
            .await
            .expect("taken on");
        for node in [leader, follower] {
            let answer = trio.api(node).check_source(check(&[])).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.members[0].report, r#"{"server":"m1 of kind mvcc"}"#);
        }
        let answer = client.check_source(check(&[])).await.expect("over gRPC");
        assert_eq!(answer.members[0].worker, "w");
    });
}

/// A source whose history is a log.
async fn register_shop(scene: &Scene) {
    let mut shop = source("shop", &[EU]);
    shop.kind = "postgres".into();
    shop.members[0].address = "postgres://backup@db:5432/shop".into();
    scene.api.register_source(shop).await.expect("registered");
}

fn of_shop(request: v1::SubmitBackupRequest) -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        source: "shop".into(),
        ..request
    }
}

async fn holds(scene: &Scene) -> Vec<v1::Hold> {
    scene.api.cluster_status().await.expect("a status").holds
}

#[test]
fn holds_are_looked_after_while_nobody_reads_them() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        register_shop(&scene).await;
        let worker = scene.worker("w", EU, Manner::Diligent(1)).await;
        worker.seen.borrow_mut().log_kept = 70;
        let full_job = scene.submit(of_shop(full())).await;
        scene.job_in(full_job, "succeeded").await;
        let standing = until("it was looked at", || async {
            holds(&scene).await.first()?.standings.first().cloned()
        })
        .await;
        assert_eq!(
            (standing.member.as_str(), standing.wal_retained_bytes),
            ("m1", 70)
        );
        assert_eq!(standing.wal_budget_bytes, 100);

        // Its member gives it up: so does the cluster.
        worker.seen.borrow_mut().log_kept = 170;
        until("the hold is gone", || async {
            holds(&scene).await.is_empty().then_some(())
        })
        .await;
        let refused = scene.api.submit_backup(of_shop(incremental())).await;
        assert_eq!(refused.expect_err("no chain").code, ErrorCode::ChainRule);

        // One that a job needs stays in the books: the job has the last word.
        drop(worker);
        let idle = scene.worker("w2", EU, Manner::Idle(1)).await;
        idle.seen.borrow_mut().log_kept = 170;
        scene.submit(of_shop(full())).await;
        until("a span is leased", || async {
            (!idle.held().is_empty()).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let left = holds(&scene).await;
        assert_eq!((left.len(), left[0].state.as_str()), (1, "active"));
        assert!(left[0].standings.is_empty());
    });
}

#[test]
fn a_chain_s_hold_is_given_up_when_no_job_needs_it() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        register_shop(&scene).await;
        let idle = scene.worker("w1", EU, Manner::Idle(2)).await;
        let job = scene.submit(of_shop(full())).await;
        until("spans are leased", || async {
            (!idle.held().is_empty()).then_some(())
        })
        .await;
        let holds = || holds(&scene);
        let hold = holds().await.remove(0);
        assert_eq!((hold.job, hold.chain.as_str()), (job, ""));
        let needed = scene.api.drop_hold(hold.id).await.expect_err("needed");
        assert_eq!(needed.code, ErrorCode::FailedPrecondition);
        assert!(needed.message.contains(&format!("job {job}")), "{needed}");
        let unknown = scene.api.drop_hold(77).await.expect_err("unknown");
        assert_eq!(unknown.code, ErrorCode::NotFound);

        drop(idle);
        let worker = scene.worker("w2", EU, Manner::Diligent(2)).await;
        let done = scene.job_in(job, "succeeded").await;
        let hold = until("the hold is the chain's", || async {
            let hold = holds().await.remove(0);
            (!hold.chain.is_empty()).then_some(hold)
        })
        .await;
        assert_eq!(
            (&hold.chain, &hold.state),
            (&done.path, &"active".to_owned())
        );
        assert_eq!(hold.collection, "memory://vault");
        let second = scene.submit(of_shop(incremental())).await;
        scene.job_in(second, "succeeded").await;

        let dropped = until("the hold is free", || async {
            scene.api.drop_hold(hold.id).await.ok()
        })
        .await;
        assert!(!dropped.no_op);
        for text in ["shop", &hold.chain, "memory://vault", "is refused"] {
            assert!(dropped.warning.contains(text), "{}", dropped.warning);
        }
        let refused = scene.api.submit_backup(of_shop(incremental())).await;
        let refused = refused.expect_err("the chain is over");
        assert_eq!(refused.code, ErrorCode::ChainRule, "{refused}");
        until("the member has let go", || async {
            holds().await.is_empty().then_some(())
        })
        .await;
        assert!(worker.seen.borrow().holds_released > 0);
    });
}
