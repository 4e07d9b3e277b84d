//! Electing, proposing from any node, reading, surviving stops and crashes.

mod cluster;

use cluster::{Append, converge, eventually, found, leader};
use holdfast_types::ErrorCode;
use std::time::Duration;

#[tokio::test]
async fn any_node_proposes_and_reads() {
    let hosts = found(3, |_| {}).await;
    let leading = leader(&hosts).await;
    for (nth, host) in hosts.iter().enumerate() {
        let before = nth as u64 * 2;
        assert_eq!(host.append(before).await, Ok(before + 1));
        assert_eq!(host.append(before + 1).await, Ok(before + 2));
        // Whatever any node acknowledged, every node now shows.
        for reader in &hosts {
            let seen = reader.node.linearizable(|toy| toy.values.clone()).await;
            assert_eq!(seen, Ok((0..before + 2).collect()), "node {}", reader.id);
        }
    }
    converge(&hosts).await;
    assert!(
        hosts[leading]
            .node
            .quorum_acked_within(Duration::from_secs(5))
    );
    let follower = &hosts[(leading + 1) % 3];
    assert!(!follower.node.quorum_acked_within(Duration::from_secs(3600)));
    let status = hosts[leading].node.status().await;
    assert!(status.is_leader && status.cluster == Some(cluster::CLUSTER));
    assert_eq!(status.members.len(), 3);
    for member in &status.members {
        assert!(member.is_voter && member.matched.is_some(), "{member:?}");
    }
    for host in hosts {
        drop(host.stop().await);
    }
}

#[tokio::test]
async fn batches_are_applied_in_order_from_any_node() {
    let hosts = found(3, |_| {}).await;
    let leading = leader(&hosts).await;
    let mut expected = Vec::new();
    for (round, host) in [&hosts[leading], &hosts[(leading + 1) % 3]]
        .into_iter()
        .enumerate()
    {
        // More than one message takes.
        let base = round as u64 * 3000;
        let commands: Vec<Append> = (base..base + 2500).map(Append::new).collect();
        for (nth, outcome) in host
            .node
            .propose_batch(&commands)
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(outcome, Ok((expected.len() + nth + 1) as u64));
        }
        expected.extend(base..base + 2500);
    }
    converge(&hosts).await;
    assert_eq!(hosts[0].values(), expected);
    let many = futures::future::join_all((0..500).map(|n| hosts[leading].append(n))).await;
    assert!(many.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_stopped_leader_is_replaced_and_comes_back_from_its_disk() {
    let mut hosts = found(3, |_| {}).await;
    for value in 0..20 {
        hosts[0].append(value).await.expect("is committed");
    }
    let leading = leader(&hosts).await;
    let stopped = hosts.remove(leading).stop().await;
    // Clients wait for the next leader; nothing was handed over to the old one, so nothing is unknown.
    assert_eq!(hosts[0].append(20).await, Ok(21));
    let host = stopped.start().await;
    hosts.push(host);
    converge(&hosts).await;
    assert_eq!(hosts[2].values(), (0..=20).collect::<Vec<_>>());

    let all: Vec<_> = futures::future::join_all(hosts.into_iter().map(|host| host.stop())).await;
    let mut hosts = Vec::new();
    for stopped in all {
        hosts.push(stopped.start().await);
    }
    assert_eq!(hosts[1].append(21).await, Ok(22));
    converge(&hosts).await;
    assert_eq!(hosts[0].values(), (0..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_cuts_of_all_nodes() {
    let mut hosts = found(3, |config| {
        config.snapshot_entries = 40;
        config.kept_entries = 5;
    })
    .await;
    let mut acknowledged = Vec::new();
    let mut next = 0;
    for seed in 0..6 {
        leader(&hosts).await;
        // The power goes while commands are in flight.
        let proposals: Vec<_> = (next..next + 60)
            .map(|value| {
                let node = hosts[(value % 3) as usize].node.clone();
                tokio::spawn(async move { (value, node.propose(&Append::new(value)).await) })
            })
            .collect();
        next += 60;
        tokio::time::sleep(Duration::from_millis(10 + 7 * seed)).await;
        // All disks at once, before anybody hears of it.
        let killed = hosts.into_iter().map(|host| host.kill(seed));
        let stopped = futures::future::join_all(killed).await;
        for proposal in proposals {
            if proposal.is_finished()
                && let (value, Ok(_)) = proposal.await.expect("proposes")
            {
                acknowledged.push(value);
            }
        }
        hosts = Vec::new();
        for stopped in stopped {
            hosts.push(stopped.start().await);
        }
        let seen = hosts[0]
            .node
            .linearizable(|toy| toy.values.clone())
            .await
            .expect("reads");
        for value in &acknowledged {
            assert!(seen.contains(value), "round {seed} lost {value}");
        }
        let mut unique = seen.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(
            unique.len(),
            seen.len(),
            "round {seed} applied something twice"
        );
        converge(&hosts).await;
    }
    assert!(
        !acknowledged.is_empty(),
        "nothing was acknowledged in any round"
    );
}

#[tokio::test]
async fn without_a_majority_nothing_is_committed_and_the_error_says_so() {
    let mut hosts = found(3, |config| {
        config.request_timeout = Duration::from_millis(1500)
    })
    .await;
    hosts[0].append(1).await.expect("is committed");
    let leading = leader(&hosts).await;
    let leader = hosts.remove(leading);
    let mut others = Vec::new();
    for host in hosts {
        others.push(host.kill(1).await);
    }
    let fault = leader.append(2).await.expect_err("no majority");
    assert_eq!(fault.code, ErrorCode::Unknown, "{fault}");
    let fault = leader
        .node
        .linearizable(|_| ())
        .await
        .expect_err("no majority");
    assert!(fault.is_retryable(), "{fault}");
    eventually("the right to renew leases ends", || {
        !leader.node.quorum_acked_within(Duration::from_millis(300))
    })
    .await;
    for other in others {
        drop(other.start().await);
    }
}

#[tokio::test]
async fn a_node_that_is_not_in_a_cluster_says_what_to_do() {
    let host = cluster::Host::new(1, |config| {
        config.request_timeout = Duration::from_millis(200);
    })
    .await;
    let fault = host.append(1).await.expect_err("no cluster");
    assert_eq!(fault.code, ErrorCode::NoLeader);
    assert!(
        fault
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("holdfast init")),
        "{fault}"
    );
}

#[tokio::test]
async fn more_proposals_than_the_bound_are_refused() {
    let hosts = found(1, |config| config.max_in_flight = 4).await;
    leader(&hosts).await;
    let commands: Vec<Append> = (0..5).map(Append::new).collect();
    let outcomes = hosts[0].node.propose_batch(&commands).await;
    for outcome in outcomes {
        let fault = outcome.expect_err("over the bound");
        assert_eq!(fault.code, ErrorCode::ResourceExhausted, "{fault}");
    }
    let outcomes = hosts[0].node.propose_batch(&commands[..4]).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let large = Append {
        value: 1,
        padding: holdfast_raft::MAX_COMMAND_SIZE,
    };
    let fault = hosts[0].node.propose(&large).await.expect_err("too large");
    assert_eq!(fault.code, ErrorCode::ResourceExhausted, "{fault}");
}

#[tokio::test]
async fn large_commands_pass_between_nodes() {
    let hosts = found(3, |_| {}).await;
    let leading = leader(&hosts).await;
    let follower = &hosts[(leading + 1) % 3];
    let commands: Vec<Append> = (0..5)
        .map(|value| Append {
            value,
            padding: 2 * 1024 * 1024 + 512 * 1024,
        })
        .collect();
    for outcome in follower.node.propose_batch(&commands).await {
        outcome.expect("is committed");
    }
    converge(&hosts).await;
    assert_eq!(hosts[0].values(), (0..5).collect::<Vec<_>>());
}
