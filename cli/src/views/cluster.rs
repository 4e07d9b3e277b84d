//! The cluster.

use holdfast_client::v1;
use serde::Serialize;
use std::collections::BTreeMap;

use super::hold::HoldView;
use super::{sheet, some};
use crate::output::Table;

/// A coordinator.
#[derive(Debug, Serialize)]
pub(crate) struct CoordinatorView {
    node: u64,
    address: String,
    voter: bool,
    leader: bool,
    matched_index: Option<u64>,
}

impl From<v1::Coordinator> for CoordinatorView {
    fn from(coordinator: v1::Coordinator) -> Self {
        let matched = coordinator.matched_index;
        Self {
            node: coordinator.node,
            address: coordinator.address,
            voter: coordinator.voter,
            leader: coordinator.leader,
            matched_index: (matched != 0).then_some(matched),
        }
    }
}

fn coordinators_table(coordinators: &[CoordinatorView]) -> Table {
    let mut table = Table::new(&["coordinator", "address", "role", "log"]);
    for coordinator in coordinators {
        let role = match (coordinator.leader, coordinator.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        table.row([
            coordinator.node.to_string(),
            coordinator.address.clone(),
            role.to_owned(),
            coordinator
                .matched_index
                .map_or_else(String::new, |index| index.to_string()),
        ]);
    }
    table
}

/// The coordinators.
#[derive(Debug, Serialize)]
pub(crate) struct MembersView {
    coordinators: Vec<CoordinatorView>,
}

impl From<Vec<v1::Coordinator>> for MembersView {
    fn from(coordinators: Vec<v1::Coordinator>) -> Self {
        Self {
            coordinators: coordinators
                .into_iter()
                .map(CoordinatorView::from)
                .collect(),
        }
    }
}

impl MembersView {
    pub(crate) fn text(&self) -> String {
        coordinators_table(&self.coordinators).to_string()
    }
}

/// The settings.
#[derive(Debug, Serialize)]
pub(crate) struct SettingsView {
    settings: BTreeMap<String, u64>,
}

impl SettingsView {
    pub(crate) fn new(settings: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self {
            settings: settings.into_iter().collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["setting", "value"]);
        for (name, value) in &self.settings {
            table.row([name.clone(), value.to_string()]);
        }
        table.to_string()
    }
}

#[derive(Debug, Serialize)]
struct WorkerView {
    id: String,
    incarnation: String,
    locality: Option<String>,
    slots: u32,
    leases: u32,
    version: String,
    connected: bool,
}

/// Everything about the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct StatusView {
    cluster_id: Option<String>,
    node: u64,
    leader: Option<u64>,
    leader_address: Option<String>,
    term: u64,
    applied_index: u64,
    coordinators: Vec<CoordinatorView>,
    workers: Vec<WorkerView>,
    holds: Vec<HoldView>,
    settings: BTreeMap<String, u64>,
    version: String,
    jobs_running: u64,
    jobs_paused: u64,
    ledger_digest: Option<String>,
    proposals: u64,
    propose_p50_us: u64,
    propose_p99_us: u64,
    storage_full: bool,
}

impl From<v1::ClusterStatusResponse> for StatusView {
    fn from(status: v1::ClusterStatusResponse) -> Self {
        Self {
            cluster_id: some(status.cluster_id),
            node: status.node,
            leader: (status.leader != 0).then_some(status.leader),
            leader_address: some(status.leader_address),
            term: status.term,
            applied_index: status.applied_index,
            coordinators: status
                .coordinators
                .into_iter()
                .map(CoordinatorView::from)
                .collect(),
            workers: status
                .workers
                .into_iter()
                .map(|worker| WorkerView {
                    id: worker.id,
                    incarnation: worker.incarnation.to_string(),
                    locality: some(worker.locality),
                    slots: worker.slots,
                    leases: worker.leases,
                    version: worker.version,
                    connected: worker.connected,
                })
                .collect(),
            holds: status.holds.into_iter().map(HoldView::from).collect(),
            settings: status.settings.into_iter().collect(),
            version: status.version,
            jobs_running: status.jobs_running,
            jobs_paused: status.jobs_paused,
            ledger_digest: some(status.ledger_digest),
            proposals: status.proposals,
            propose_p50_us: status.propose_p50_us,
            propose_p99_us: status.propose_p99_us,
            storage_full: status.storage_full,
        }
    }
}

impl StatusView {
    fn commits_text(&self) -> String {
        if self.proposals == 0 {
            return String::new();
        }
        format!(
            "{}, p50 {:.1} ms, p99 {:.1} ms",
            self.proposals,
            self.propose_p50_us as f64 / 1000.0,
            self.propose_p99_us as f64 / 1000.0
        )
    }

    pub(crate) fn text(&self) -> String {
        let leader = match (self.leader, &self.leader_address) {
            (Some(node), Some(address)) => format!("{node} at {address}"),
            (Some(node), None) => node.to_string(),
            (None, _) => "none known".to_owned(),
        };
        let cluster = match &self.cluster_id {
            Some(id) => id.clone(),
            None => "not initialised: run `holdfast init`".to_owned(),
        };
        let mut text = sheet([
            ("cluster", cluster),
            ("leader", leader),
            ("answered by", self.node.to_string()),
            ("term", self.term.to_string()),
            ("applied", self.applied_index.to_string()),
            (
                "jobs",
                format!("{} running, {} paused", self.jobs_running, self.jobs_paused),
            ),
            ("commits", self.commits_text()),
            (
                "disk",
                if self.storage_full {
                    "full: new work is refused"
                } else {
                    ""
                }
                .to_owned(),
            ),
            ("version", self.version.clone()),
        ]);
        let mut workers = Table::new(&[
            "worker",
            "locality",
            "leases",
            "slots",
            "connected",
            "version",
        ]);
        for worker in &self.workers {
            workers.row([
                worker.id.clone(),
                worker.locality.clone().unwrap_or_default(),
                worker.leases.to_string(),
                worker.slots.to_string(),
                if worker.connected { "yes" } else { "" }.to_owned(),
                worker.version.clone(),
            ]);
        }
        let holds = HoldView::table(&self.holds);
        for table in [coordinators_table(&self.coordinators), workers, holds] {
            if !table.is_empty() {
                text.push_str(&format!("\n{table}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_leader_workers_and_holds() {
        let status = StatusView::from(v1::ClusterStatusResponse {
            cluster_id: "ab".into(),
            node: 2,
            leader: 1,
            leader_address: "a:1".into(),
            coordinators: vec![v1::Coordinator {
                node: 1,
                address: "a:1".into(),
                voter: true,
                leader: true,
                matched_index: 9,
            }],
            workers: vec![v1::Worker {
                id: "w1".into(),
                slots: 4,
                connected: true,
                version: "0.1.0".into(),
                ..v1::Worker::default()
            }],
            version: "0.1.0".into(),
            ..v1::ClusterStatusResponse::default()
        });
        assert_eq!(
            status.text(),
            "\
cluster:      ab
leader:       1 at a:1
answered by:  2
term:         0
applied:      0
jobs:         0 running, 0 paused
version:      0.1.0

COORDINATOR  ADDRESS  ROLE    LOG
1            a:1      leader  9

WORKER  LOCALITY  LEASES  SLOTS  CONNECTED  VERSION
w1      -         0       4      yes        0.1.0
"
        );
    }
}
