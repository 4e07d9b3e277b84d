//! How workers are taken on, lost, and found again.

mod scene;

use holdfast_client::ControlApi;
use holdfast_proto::{Lease, LeaseReportBody, v1};
use holdfast_types::{ErrorCode, Fault};
use scene::{FakeWorker, Manner, Scene, full, play, until};
use std::time::Duration;

const EU: &str = "region=eu";

#[test]
fn a_second_process_with_the_same_id_is_turned_away_while_the_first_lives() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let first = scene.worker("w", EU, Manner::Diligent(1)).await;
        let fault = FakeWorker::join(&scene.place(), "w", 2, EU, Manner::Diligent(1))
            .await
            .err()
            .expect("turned away");
        assert_eq!(fault.code, ErrorCode::AlreadyExists);
        assert!(fault.message.contains("worker w"), "{fault}");
        assert!(!first.seen.borrow().ended, "the first one stays");
        // Once it is gone, its id is free at once.
        drop(first);
        FakeWorker::join(&scene.place(), "w", 3, EU, Manner::Diligent(1))
            .await
            .map(drop)
            .expect("taken on");
    });
}

#[test]
fn a_worker_of_another_cluster_is_told_so() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let answer = FakeWorker::first_answer(
            &scene.place(),
            v1::Hello {
                worker: "w".into(),
                incarnation: 1,
                slots: 1,
                cluster_id: vec![9; 16].into(),
                ..v1::Hello::default()
            },
        )
        .await;
        let v1::leader_message::Body::Dismissed(dismissed) = answer else {
            panic!("{answer:?}");
        };
        let fault = dismissed.fault.expect("a fault");
        assert_eq!(fault.code, ErrorCode::WrongCluster.as_str());
    });
}

#[test]
fn a_lost_worker_s_tasks_go_to_another_after_its_lease() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let idle = scene.worker("w1", EU, Manner::Idle(3)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (idle.held().len() == 3).then_some(())
        })
        .await;
        drop(idle);
        let other = scene.worker("w2", EU, Manner::Diligent(3)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(
            other.seen.borrow().grants.is_empty(),
            "the lease of the first has not ended yet"
        );
        let done = scene.job_in(job, "succeeded").await;
        assert_eq!(done.tasks_done, 3);
        assert!(other.seen.borrow().grants.iter().all(|l| l.epoch.0 == 2));
    });
}

#[test]
fn a_goodbye_ends_the_leases_at_once() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        scene.set("lease_ttl_ms", 60_000).await;
        let idle = scene.worker("w1", EU, Manner::Idle(3)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (idle.held().len() == 3).then_some(())
        })
        .await;
        let _other = scene.worker("w2", EU, Manner::Diligent(3)).await;
        idle.say_goodbye().await;
        let done = scene.job_in(job, "succeeded").await;
        assert_eq!(done.bytes_redone, 0, "nothing was in flight");
    });
}

#[test]
fn a_reconnected_worker_keeps_what_is_current_and_is_told_of_what_it_missed() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        scene.set("lease_ttl_ms", 5_000).await;
        let idle = scene.worker("w", EU, Manner::Idle(3)).await;
        scene.submit(full()).await;
        until("spans are leased", || async {
            (idle.held().len() == 3).then_some(())
        })
        .await;
        let held = idle.held();
        drop(idle);
        let mut claims = vec![held[0]];
        claims.push(Lease::new(1, 1, 1));
        let back = FakeWorker::join_with(&scene.place(), "w", 1, EU, Manner::Idle(3), claims)
            .await
            .expect("welcome back");
        let dropped: Vec<u64> = back.welcome.dropped.iter().map(|lease| lease.job).collect();
        assert_eq!(dropped, [1]);
        until("the other two are granted again", || async {
            (back.held().len() == 2).then_some(())
        })
        .await;
        assert_eq!(back.held(), held[1..], "under the same epochs");
    });
}

#[test]
fn a_new_leader_does_not_ask_workers_to_drop_what_they_hold() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        scene.set("lease_ttl_ms", 2_000).await;
        let idle = scene.worker("w", EU, Manner::Idle(2)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (idle.held().len() == 2).then_some(())
        })
        .await;
        let held = idle.held();
        let scene = scene.restart().await;
        until("the old stream has ended", || async {
            idle.seen.borrow().ended.then_some(())
        })
        .await;
        drop(idle);
        assert_eq!(scene.job(job).await.tasks_leased, 2);
        let back = FakeWorker::join_with(
            &scene.place(),
            "w",
            1,
            EU,
            Manner::Diligent(2),
            vec![held[0]],
        )
        .await
        .expect("welcome back");
        assert!(back.welcome.dropped.is_empty());
        // The lease that it did not know of any more is granted again, under the same epoch, and done.
        until("the other one is granted again", || async {
            back.seen.borrow().grants.contains(&held[1]).then_some(())
        })
        .await;
        until("it counts", || async {
            (scene.job(job).await.tasks_done == 1).then_some(())
        })
        .await;
    });
}

#[test]
fn a_worker_cannot_report_for_a_lease_of_another() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        scene.set("lease_ttl_ms", 60_000).await;
        let holder = scene.worker("w1", EU, Manner::Idle(2)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (holder.held().len() == 2).then_some(())
        })
        .await;
        let own = holder.held()[0];
        let other = scene.worker("w2", EU, Manner::Idle(2)).await;
        let not_given = Lease {
            epoch: own.epoch.next(),
            ..own
        };
        let failed = || LeaseReportBody::Failed {
            fault: Fault::new(ErrorCode::Corrupted, "as w2 says"),
        };
        let grant = holder.seen.borrow().held[&own].clone();
        let done = FakeWorker::transfer(&scene.place(), &grant).await;
        let reports = [
            (own, LeaseReportBody::Released),
            (own, failed()),
            (own, done),
            (not_given, LeaseReportBody::Released),
        ];
        let count = reports.len();
        for (lease, body) in reports {
            other.report(lease, body).await;
        }
        until("all of it is refused", || async {
            (other.seen.borrow().refused.len() == count).then_some(())
        })
        .await;
        for fault in &other.seen.borrow().refused {
            assert_eq!(fault.code, ErrorCode::StaleEpoch, "{fault}");
            assert!(fault.message.contains("worker w2"), "{fault}");
        }
        let seen = scene.job(job).await;
        assert_eq!((seen.state.as_str(), seen.tasks_leased), ("running", 2));
        assert_eq!(seen.tasks_done, 0);
        // The holder itself is heard.
        holder.report(own, LeaseReportBody::Released).await;
        until("the task goes to another", || async {
            other.held().contains(&not_given).then_some(())
        })
        .await;
    });
}

#[test]
fn a_stream_that_begins_with_nonsense_is_ended() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let answer = FakeWorker::first_answer(
            &scene.place(),
            v1::Hello {
                worker: "../../etc".into(),
                ..v1::Hello::default()
            },
        )
        .await;
        assert!(matches!(answer, v1::leader_message::Body::Dismissed(_)));
        let status = scene.api.cluster_status().await.expect("a status");
        assert!(status.workers.is_empty());
    });
}
