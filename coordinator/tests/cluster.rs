//! Three coordinators: who answers what, and what happens when one goes.

mod scene;

use futures::StreamExt;
use holdfast_client::ControlApi;
use holdfast_proto::v1;
use scene::{FakeWorker, Manner, Place, Trio, full, play, source, until};

const EU: &str = "region=eu";

async fn prepare(trio: &Trio) {
    let client = trio.client();
    client
        .set_setting("lease_ttl_ms", 3_000)
        .await
        .expect("a setting");
    client
        .register_source(source("bank", &[EU]))
        .await
        .expect("registered");
}

#[test]
fn any_node_answers_and_a_lost_leader_costs_a_job_nothing() {
    play(async {
        let mut trio = Trio::start().await;
        prepare(&trio).await;
        let leader = trio.leader().await;
        let follower = trio.follower().await;

        // A worker that comes to the wrong node is told the right one.
        let answer = FakeWorker::first_answer(
            &Place::of(&trio, follower),
            v1::Hello {
                worker: "w".into(),
                incarnation: 1,
                slots: 1,
                ..v1::Hello::default()
            },
        )
        .await;
        let v1::leader_message::Body::NotLeader(answer) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(answer.leader, trio.nodes[&leader].address());
        assert_eq!(answer.coordinators.len(), 3);

        let worker = FakeWorker::join(&Place::of(&trio, leader), "w", 1, EU, Manner::Idle(4))
            .await
            .expect("taken on");
        let job = trio
            .api(follower)
            .submit_backup(full())
            .await
            .expect("accepted")
            .job;
        until("spans are leased", || async {
            (worker.held().len() == 4).then_some(())
        })
        .await;
        let status = trio.api(follower).cluster_status().await.expect("a status");
        assert_eq!((status.node, status.leader), (follower, leader));
        assert!(
            status.workers[0].connected,
            "the leader's word is passed on"
        );
        assert!(status.proposals > 0);

        let mut watch = trio.api(follower).watch_job(job).await.expect("a stream");
        let mut last = watch.next().await.expect("a view").expect("no error");
        assert_eq!(last.tasks_total, 4);

        trio.stop(leader).await;
        until("the worker's stream has ended", || async {
            worker.seen.borrow().ended.then_some(())
        })
        .await;
        let held = worker.held();
        drop(worker);
        let next = trio.leader().await;
        assert_ne!(next, leader);
        let back = FakeWorker::join_with(
            &Place::of(&trio, next),
            "w",
            1,
            EU,
            Manner::Diligent(4),
            held[..1].to_vec(),
        )
        .await
        .expect("welcome back");
        assert!(back.welcome.dropped.is_empty(), "nothing is taken away");
        until("three are granted again and done", || async {
            let job = trio.api(next).get_job(job).await.ok()?;
            (job.tasks_done == 3).then_some(())
        })
        .await;
        // The one that it went on with is done too.
        let lease = held[0];
        let regranted: Vec<_> = back.seen.borrow().grants.clone();
        assert_eq!(regranted, held[1..]);
        back.report(lease, holdfast_proto::LeaseReportBody::Released)
            .await;
        while let Some(view) = watch.next().await {
            let view = view.expect("the watch outlives the leader");
            assert!(view.fraction_completed >= last.fraction_completed);
            last = view;
        }
        assert_eq!(last.state, "succeeded");
    });
}

#[test]
fn a_coordinator_is_replaced_while_a_job_runs() {
    play(async {
        let mut trio = Trio::start().await;
        prepare(&trio).await;
        let leader = trio.leader().await;
        let worker = FakeWorker::join(&Place::of(&trio, leader), "w", 1, EU, Manner::Idle(2))
            .await
            .expect("taken on");
        let job = trio
            .api(leader)
            .submit_backup(full())
            .await
            .expect("accepted")
            .job;
        until("spans are leased", || async {
            (worker.held().len() == 2).then_some(())
        })
        .await;
        let old = trio.follower().await;
        trio.start_node(4).await;
        let address = trio.nodes[&4].address().to_owned();
        let members = trio
            .client()
            .add_member(v1::AddMemberRequest {
                node: 4,
                address,
                replace: old,
            })
            .await
            .expect("replaced");
        let voters: Vec<u64> = members
            .coordinators
            .iter()
            .filter(|member| member.voter)
            .map(|member| member.node)
            .collect();
        assert!(voters.contains(&4) && !voters.contains(&old), "{voters:?}");
        let fault = trio.nodes[&old].ended().await;
        assert!(fault.message.contains("was removed"), "{fault}");
        let seen = trio
            .api(4)
            .get_job(job)
            .await
            .expect("the new one knows it");
        assert_eq!(seen.tasks_leased, 2);
    });
}

#[test]
fn a_client_s_garbage_is_refused_and_nobody_else_notices() {
    play(async {
        let trio = Trio::start().await;
        prepare(&trio).await;
        let leader = trio.leader().await;
        let address = trio.nodes[&leader].address().to_owned();
        // Not HTTP/2 at all.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096]] {
            let mut connection = trio.env.net.connect(&address).await.expect("connected");
            tokio::io::AsyncWriteExt::write_all(&mut connection.socket, bytes)
                .await
                .expect("written");
        }
        // Far beyond the message limit.
        let options = holdfast_proto::ChannelOptions::default();
        let channel =
            holdfast_proto::channel(std::sync::Arc::clone(&trio.env.net), &address, options)
                .expect("an address");
        let mut client = v1::control_client::ControlClient::new(channel.clone());
        let huge = v1::DropSourceRequest {
            name: "x".repeat(2 * 1024 * 1024),
        };
        let status = client.drop_source(huge).await.expect_err("too large");
        assert!(
            matches!(
                status.code(),
                tonic::Code::OutOfRange | tonic::Code::ResourceExhausted
            ),
            "{status:?}"
        );
        let status = client
            .submit_backup(v1::SubmitBackupRequest {
                source: "no such name!".into(),
                ..full()
            })
            .await
            .expect_err("malformed");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);

        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let answer = health
            .check(tonic_health::pb::HealthCheckRequest {
                service: "holdfast.v1.Control".into(),
            })
            .await
            .expect("healthy")
            .into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
        let sources = trio.client().list_sources().await.expect("still serving");
        assert_eq!(sources.sources.len(), 1);
    });
}
