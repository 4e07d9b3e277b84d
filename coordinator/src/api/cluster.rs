//! The cluster itself: its identity, its members, how it is.

use holdfast_ledger::{Action, HoldRecord, Ledger, WorkerRecord};
use holdfast_proto::v1;
use holdfast_raft::RaftStatus;
use holdfast_types::{ClusterId, ErrorCode, Fault, JobState, NodeId};
use std::collections::BTreeMap;

use super::holds::hold_view;
use crate::core::Core;

/// Coordinators that a new cluster may start with.
const MAX_MEMBERS: usize = 31;

/// Founds a cluster: raft is initialised with the members, and the ledger gets the identity that is drawn here.
pub(crate) async fn init_cluster(
    core: &Core,
    members: &[(NodeId, String)],
) -> Result<ClusterId, Fault> {
    let node = core.replica.node();
    if let Some(cluster) = node.cluster() {
        return Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "node {} already belongs to cluster {cluster}",
                core.config.raft.node
            ),
        )
        .hint("a cluster is initialised once, on one of its nodes"));
    }
    let own = (
        core.config.raft.node,
        core.config.raft.advertised_address.clone(),
    );
    let mut all: BTreeMap<NodeId, String> = BTreeMap::from([own]);
    for (node, address) in members {
        match all.insert(*node, address.clone()) {
            Some(other) if other != *address => {
                return Err(Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("node {node} is named with two addresses, {other} and {address}"),
                ));
            }
            _ => {}
        }
    }
    if all.len() > MAX_MEMBERS {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("a cluster has at most {MAX_MEMBERS} coordinators"),
        ));
    }
    let mut id = [0; 16];
    core.env.entropy.fill(&mut id);
    let cluster = ClusterId(id);
    node.initialize(cluster, all).await?;
    // The first leader does this too, so that a crash here leaves nothing half done; whoever comes first wins.
    ensure_identity(core).await?;
    Ok(cluster)
}

/// Sees to it that the ledger knows the cluster's identity.
pub(crate) async fn ensure_identity(core: &Core) -> Result<(), Fault> {
    let Some(cluster) = core.replica.node().cluster() else {
        return Ok(());
    };
    if core.replica.read(Ledger::cluster).is_some() {
        return Ok(());
    }
    match core.replica.make(Action::InitCluster { cluster }).await {
        Err(fault) if core.replica.read(Ledger::cluster) != Some(cluster) => Err(fault),
        _ => Ok(()),
    }
}

/// The coordinators as this node knows them.
pub(super) fn coordinators(status: &RaftStatus) -> Vec<v1::Coordinator> {
    let leader = status.leader.as_ref().map(|(node, _)| *node);
    status
        .members
        .iter()
        .map(|member| v1::Coordinator {
            node: member.node.0,
            address: member.address.clone(),
            voter: member.is_voter,
            leader: leader == Some(member.node),
            matched_index: member.matched.unwrap_or_default(),
        })
        .collect()
}

/// How the cluster is, as this node sees it.
pub(super) async fn status(core: &Core) -> v1::ClusterStatusResponse {
    let raft = core.replica.status().await;
    let latency = core.replica.latency();
    let present = core.desk.present();
    let now = core.env.clock.now();
    let micros =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let is_connected = |worker: &WorkerRecord| {
        present.as_ref().is_some_and(|present| {
            present
                .office
                .sessions
                .is_open(&worker.id, worker.incarnation)
        })
    };
    let standings_of = |hold: &HoldRecord| match &present {
        Some(present) => present.office.standings.of(hold.id),
        None => Vec::new(),
    };
    core.replica.read(|ledger| v1::ClusterStatusResponse {
        cluster_id: ledger
            .cluster()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        node: raft.node.0,
        leader: raft.leader.as_ref().map_or(0, |(node, _)| node.0),
        leader_address: raft
            .leader
            .as_ref()
            .map(|(_, address)| address.clone())
            .unwrap_or_default(),
        term: raft.term,
        applied_index: raft.applied.index,
        coordinators: coordinators(&raft),
        workers: ledger
            .workers()
            .map(|worker| worker_view(worker, is_connected(worker)))
            .collect(),
        holds: ledger
            .holds()
            .map(|hold| hold_view(hold, now, standings_of(hold)))
            .collect(),
        settings: ledger
            .settings()
            .iter()
            .map(|(setting, value)| (setting.name().to_owned(), value))
            .collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        jobs_running: count(ledger, |state| {
            !state.is_terminal() && state != JobState::Paused
        }),
        jobs_paused: count(ledger, |state| state == JobState::Paused),
        ledger_digest: raft.digest.to_string(),
        proposals: latency.count,
        propose_p50_us: micros(latency.p50),
        propose_p99_us: micros(latency.p99),
        storage_full: raft.storage_full,
    })
}

fn count(ledger: &Ledger, is_counted: impl Fn(JobState) -> bool) -> u64 {
    ledger
        .unsettled_jobs()
        .filter(|job| is_counted(job.state()))
        .count() as u64
}

fn worker_view(worker: &WorkerRecord, connected: bool) -> v1::Worker {
    v1::Worker {
        id: worker.id.to_string(),
        incarnation: worker.incarnation.0,
        locality: worker.locality.to_string(),
        slots: worker.slots,
        leases: u32::try_from(worker.leases().count()).unwrap_or(u32::MAX),
        version: worker.version.clone(),
        connected,
    }
}

/// What the leader says of the cluster, from the point of view of another node.
pub(super) fn merge(
    own: v1::ClusterStatusResponse,
    leaders: v1::ClusterStatusResponse,
) -> v1::ClusterStatusResponse {
    v1::ClusterStatusResponse {
        node: own.node,
        applied_index: own.applied_index,
        ledger_digest: own.ledger_digest,
        version: own.version,
        storage_full: own.storage_full,
        ..leaders
    }
}
