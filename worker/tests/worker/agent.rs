//! The agent: finding the leader, leases, the fence, and the end.

use holdfast_proto::v1::leader_message::Body as Down;
use holdfast_proto::v1::worker_message::Body as Up;
use holdfast_proto::{HoldOrder, Lease, LeaseReportBody, fault_to_wire, v1};
use holdfast_types::{ErrorCode, Fault, HoldId, JobSpec, SourceKind};
use std::time::Duration;

use crate::support::{CLUSTER, Leader, World, checkpoint, fill, full, grant, local, member, span};

const LEASE: Lease = Lease {
    task: holdfast_types::TaskId {
        job: holdfast_types::JobId(70),
        index: 3,
    },
    epoch: holdfast_types::Epoch(2),
};

#[test]
fn it_finds_the_leader_by_itself() {
    local(async {
        let (follower, leader) = (Leader::start().await, Leader::start().await);
        let world = World::start(1, &[&follower]).await;
        let asked = follower.greeted().await;
        assert_eq!(asked.hello.worker, "w1");
        assert!(asked.hello.cluster_id.is_empty());
        asked
            .say(Down::NotLeader(v1::NotLeader {
                leader: leader.address.clone(),
                coordinators: Vec::new(),
            }))
            .await;
        let mut found = leader.welcomed().await;
        assert_eq!(found.hello.incarnation, asked.hello.incarnation);
        found.silence(Duration::from_millis(300)).await;
        assert_eq!(world.worker.stats().leader, Some(leader.address.clone()));
        // The leader steps down in the middle of the stream.
        found
            .say(Down::NotLeader(v1::NotLeader {
                leader: follower.address.clone(),
                coordinators: vec![follower.address.clone(), leader.address.clone()],
            }))
            .await;
        let next = follower.welcomed().await;
        assert_eq!(next.hello.cluster_id.as_ref(), CLUSTER.0);
    });
}

#[test]
fn a_dismissed_worker_ends_with_the_reason() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let busy = Fault::new(ErrorCode::Unavailable, "come back later");
        let asked = leader.greeted().await;
        asked
            .say(Down::Dismissed(v1::Dismissed {
                fault: Some(fault_to_wire(&busy)),
            }))
            .await;
        let asked = leader.greeted().await;
        let twin = Fault::new(ErrorCode::AlreadyExists, "worker \"w1\" runs already");
        asked
            .say(Down::Dismissed(v1::Dismissed {
                fault: Some(fault_to_wire(&twin)),
            }))
            .await;
        assert_eq!(world.worker.ended().await, Err(twin));
    });
}

#[test]
fn a_leader_of_another_cluster_is_refused() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        drop(leader.welcomed().await);
        let other = leader.greeted().await;
        other
            .say(Down::Welcome(v1::Welcome {
                cluster_id: vec![8; 16].into(),
                lease_ttl_ms: 1000,
                heartbeat_ms: 100,
                dropped: Vec::new(),
                coordinators: Vec::new(),
            }))
            .await;
        let fault = world.worker.ended().await.expect_err("another cluster");
        assert_eq!(fault.code, ErrorCode::WrongCluster);
    });
}

#[test]
fn an_unanswered_report_is_sent_again_over_the_next_stream() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 200);
        let mut first = leader.welcomed().await;
        first
            .grant(&grant(JobSpec::Backup(full()), LEASE, span(&relation, b"")))
            .await;
        let report = first.report().await;
        let read = world.source.activity();
        drop(first);

        let second = leader.greeted().await;
        assert_eq!(second.hello.held, [v1::HeldLease::from(LEASE)]);
        second.welcome(&[]).await;
        let mut second = second;
        assert_eq!(second.report().await, report);
        assert_eq!(world.source.activity(), read, "nothing was read meanwhile");
        second.accept(&report).await;
        let next = second.report().await;
        assert_eq!(next.sequence, report.sequence + 1);
        assert_eq!(checkpoint(&next.body).from, checkpoint(&report.body).to);
    });
}

#[test]
fn a_lease_that_a_new_leader_does_not_know_is_dropped() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 200);
        let mut first = leader.welcomed().await;
        first
            .grant(&grant(JobSpec::Backup(full()), LEASE, span(&relation, b"")))
            .await;
        first.report().await;
        drop(first);
        let mut second = leader.greeted().await;
        second.welcome(&[LEASE]).await;
        let report = second.report().await;
        assert_eq!(report.body, LeaseReportBody::Released);
        world.assert_quiet(Duration::from_millis(300)).await;
        assert_eq!(world.worker.stats().lost, 1);
    });
}

#[test]
fn without_a_leader_it_stops_by_itself() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 5000);
        world.source.permits.forget_permits(usize::MAX);
        let deaf = leader.welcomed().await;
        let again = grant(JobSpec::Backup(full()), LEASE, span(&relation, b""));
        deaf.grant(&again).await;
        deaf.turn_deaf();
        // Slow enough to be in the middle of the first part when the lease is over.
        let permits = async {
            loop {
                world.source.permits.add_permits(1);
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
        };
        let fenced = async {
            while world.worker.stats().fenced == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = permits => unreachable!("endless"),
            () = fenced => {}
        }
        world.source.permits.add_permits(1000);
        world.assert_quiet(Duration::from_millis(500)).await;

        // A leader grants the lease again, under the same epoch: it is given back, for one try each epoch is all.
        let mut back = leader.greeted().await;
        while !back.hello.held.is_empty() {
            back = leader.greeted().await;
        }
        back.welcome(&[]).await;
        back.grant(&again).await;
        let report = back.report().await;
        assert_eq!(
            (report.lease, report.body),
            (LEASE, LeaseReportBody::Released)
        );
        assert!(world.collection.objects().await.is_empty());
        let next = Lease {
            epoch: LEASE.epoch.next(),
            ..LEASE
        };
        back.grant(&grant(JobSpec::Backup(full()), next, span(&relation, b"")))
            .await;
        assert_eq!(back.report().await.lease, next);
    });
}

#[test]
fn a_stop_for_an_unknown_lease_is_answered() {
    local(async {
        let leader = Leader::start().await;
        let _world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        present.stop(LEASE).await;
        let report = present.report().await;
        assert_eq!(
            (report.lease, report.body),
            (LEASE, LeaseReportBody::Released)
        );
    });
}

#[test]
fn a_hold_is_ended_on_request() {
    local(async {
        let leader = Leader::start().await;
        let _world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let release = HoldOrder {
            hold: HoldId(5),
            source: "shop".parse().expect("a name"),
            kind: SourceKind::Mvcc,
            member: member(),
            advance_to: None,
        };
        present
            .say(Down::HoldOrder(v1::HoldOrder::from(&release)))
            .await;
        match present.hear().await {
            Some(Up::HoldDone(done)) => {
                assert_eq!((done.hold, done.member.as_str()), (5, "m1"));
                assert_eq!(done.fault, None);
            }
            other => panic!("no answer: {other:?}"),
        }
    });
}

#[test]
fn a_grant_that_cannot_be_read_is_refused() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 1);
        let mut present = leader.welcomed().await;
        let mut wire =
            v1::TaskGrant::from(&grant(JobSpec::Backup(full()), LEASE, span(&relation, b"")));
        wire.spec = b"{\"Unheard\":{}}".to_vec().into();
        present.say(Down::Grant(wire)).await;
        let report = present.report().await;
        match report.body {
            LeaseReportBody::Failed { fault } => {
                assert_eq!(fault.code, ErrorCode::InvalidArgument);
                assert!(fault.message.contains("grant.spec"), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_shutdown_gives_everything_back_and_says_goodbye() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 5000);
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(JobSpec::Backup(full()), LEASE, span(&relation, b"")))
            .await;
        let report = present.report().await;
        let conversation = async {
            // The report in flight counts; then the lease comes back.
            tokio::time::sleep(Duration::from_millis(200)).await;
            present.accept(&report).await;
            let released = present.report().await;
            assert_eq!(released.body, LeaseReportBody::Released);
            present.accept(&released).await;
            assert!(matches!(present.hear().await, Some(Up::Goodbye(_))));
            assert_eq!(present.hear().await, None);
        };
        tokio::join!(conversation, world.worker.shutdown());
        assert_eq!(world.worker.ended().await, Ok(()));
        world.assert_quiet(Duration::from_millis(200)).await;
    });
}

/// Found by a rolling restart: the worker greeted the leader again after its goodbye, was given leases, and took them with it.
#[test]
fn a_worker_that_has_said_goodbye_does_not_come_back() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let conversation = async {
            assert!(matches!(present.hear().await, Some(Up::Goodbye(_))));
            // As a leader does: it ends the stream.
            drop(present);
            tokio::select! {
                _ = leader.greeted() => panic!("it is back"),
                () = tokio::time::sleep(Duration::from_millis(700)) => {}
            }
        };
        tokio::join!(conversation, world.worker.shutdown());
        assert_eq!(world.worker.ended().await, Ok(()));
    });
}
