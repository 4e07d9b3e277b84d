//! Holds on the history of sources.

use holdfast_client::v1;
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
        match table.is_empty() {
            true => "nothing is held".to_owned(),
            false => table.to_string(),
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
