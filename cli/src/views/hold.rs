//! Holds on the history of sources.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;

use super::{seconds, some};
use crate::output::Table;

/// A hold.
#[derive(Debug, Serialize)]
pub(crate) struct HoldView {
    id: String,
    job: String,
    source: String,
    position: String,
    age_seconds: f64,
    state: String,
    /// The chain that it keeps appendable.
    chain: Option<String>,
    collection: Option<String>,
    /// How it stands on its members' servers.
    standings: Vec<StandingView>,
}

/// How a hold stands on a member's server.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StandingView {
    member: String,
    name: String,
    database: String,
    wal_retained_bytes: u64,
    wal_budget_bytes: u64,
    wal_status: String,
    xmin_age: u64,
    active: bool,
}

impl From<v1::HoldStanding> for StandingView {
    fn from(standing: v1::HoldStanding) -> Self {
        Self {
            member: standing.member,
            name: standing.name,
            database: standing.database,
            wal_retained_bytes: standing.wal_retained_bytes,
            wal_budget_bytes: standing.wal_budget_bytes,
            wal_status: standing.wal_status,
            xmin_age: standing.xmin_age,
            active: standing.active,
        }
    }
}

impl StandingView {
    const HEADER: [&str; 7] = [
        "member", "database", "slot", "log kept", "of", "state", "xmin age",
    ];

    fn cells(&self) -> [String; 7] {
        [
            self.member.clone(),
            self.database.clone(),
            self.name.clone(),
            ByteCount(self.wal_retained_bytes).to_string(),
            ByteCount(self.wal_budget_bytes).to_string(),
            self.wal_status.clone(),
            self.xmin_age.to_string(),
        ]
    }

    /// A table of those of one hold.
    pub(super) fn table(standings: &[Self]) -> Table {
        let mut table = Table::new(&Self::HEADER);
        for standing in standings {
            table.row(standing.cells());
        }
        table
    }
}

impl From<v1::Hold> for HoldView {
    fn from(hold: v1::Hold) -> Self {
        Self {
            id: hold.id.to_string(),
            job: hold.job.to_string(),
            source: hold.source,
            position: hold.position,
            age_seconds: hold.age_seconds,
            state: hold.state,
            chain: some(hold.chain),
            collection: some(hold.collection),
            standings: hold.standings.into_iter().map(StandingView::from).collect(),
        }
    }
}

impl HoldView {
    /// A table of holds.
    pub(super) fn table(holds: &[Self]) -> Table {
        let header = [
            "hold",
            "job",
            "source",
            "position",
            "age",
            "state",
            "chain",
            "collection",
        ];
        let mut table = Table::new(&header);
        for hold in holds {
            table.row([
                hold.id.clone(),
                hold.job.clone(),
                hold.source.clone(),
                hold.position.clone(),
                seconds(hold.age_seconds),
                hold.state.clone(),
                hold.chain.clone().unwrap_or_default(),
                hold.collection.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    /// A table of how holds stand.
    pub(super) fn standings(holds: &[Self]) -> Table {
        let mut header = vec!["hold"];
        header.extend(StandingView::HEADER);
        let mut table = Table::new(&header);
        for hold in holds {
            for standing in &hold.standings {
                let [member, database, slot, kept, of, state, age] = standing.cells();
                let hold = hold.id.clone();
                table.row([hold, member, database, slot, kept, of, state, age]);
            }
        }
        table
    }
}

/// All holds of a cluster.
#[derive(Debug, Serialize)]
pub(crate) struct HoldsView {
    holds: Vec<HoldView>,
}

impl From<v1::ClusterStatusResponse> for HoldsView {
    fn from(status: v1::ClusterStatusResponse) -> Self {
        Self {
            holds: status.holds.into_iter().map(HoldView::from).collect(),
        }
    }
}

impl HoldsView {
    pub(crate) fn text(&self) -> String {
        let table = HoldView::table(&self.holds);
        let standings = HoldView::standings(&self.holds);
        match (table.is_empty(), standings.is_empty()) {
            (true, _) => "nothing is held".to_owned(),
            (false, true) => table.to_string(),
            (false, false) => format!("{table}\n\n{standings}"),
        }
    }
}

/// A hold that was given up.
#[derive(Debug, Serialize)]
pub(crate) struct DroppedHoldView {
    dropped: String,
    warning: Option<String>,
    no_op: bool,
}

impl DroppedHoldView {
    pub(crate) fn new(hold: u64, answer: v1::DropHoldResponse) -> Self {
        Self {
            dropped: hold.to_string(),
            warning: some(answer.warning),
            no_op: answer.no_op,
        }
    }

    pub(crate) fn text(&self) -> String {
        let said = match self.no_op {
            true => format!("hold {} was being released already", self.dropped),
            false => format!("hold {} is released", self.dropped),
        };
        match &self.warning {
            Some(warning) => format!("{said}: {warning}"),
            None => said,
        }
    }
}
