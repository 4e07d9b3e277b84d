//! Sources.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;
use std::collections::BTreeMap;

use super::hold::HoldView;
use super::some;
use crate::output::Table;

/// A registered source.
#[derive(Debug, Serialize)]
pub(crate) struct SourceView {
    name: String,
    kind: String,
    members: Vec<MemberView>,
    registered: Option<String>,
    /// Holds on it, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<Vec<HoldView>>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    name: String,
    locality: Option<String>,
    address: String,
    has_password: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_budget: Option<u64>,
}

impl MemberView {
    /// What backups may take of it, if that was said.
    fn limits(&self) -> String {
        let size = |bytes: u64| ByteCount(bytes).to_string();
        let streams = self.streams.map(|streams| format!("{streams} stream(s)"));
        let rate = (self.bytes_per_second).map(|rate| format!("{}/s", size(rate)));
        let budget = (self.wal_budget).map(|budget| format!("{} of log", size(budget)));
        let all: Vec<String> = [streams, rate, budget].into_iter().flatten().collect();
        all.join(", ")
    }
}

impl From<v1::Source> for SourceView {
    fn from(source: v1::Source) -> Self {
        Self {
            name: source.name,
            kind: source.kind,
            members: source
                .members
                .into_iter()
                .map(|member| MemberView {
                    name: member.name,
                    locality: some(member.locality),
                    address: member.address,
                    has_password: member.has_password,
                    streams: member.streams,
                    bytes_per_second: member.bytes_per_second,
                    wal_budget: member.wal_budget,
                })
                .collect(),
            registered: some(source.registered),
            holds: None,
        }
    }
}

impl SourceView {
    pub(crate) fn text(&self) -> String {
        format!(
            "source {} ({}), {} member(s)",
            self.name,
            self.kind,
            self.members.len()
        )
    }
}

/// All sources.
#[derive(Debug, Serialize)]
pub(crate) struct SourcesView {
    sources: Vec<SourceView>,
}

impl SourcesView {
    /// Sources, and the holds of the cluster by source.
    pub(crate) fn new(list: v1::ListSourcesResponse, holds: Vec<v1::Hold>) -> Self {
        let mut by_source: BTreeMap<String, Vec<HoldView>> = BTreeMap::new();
        for hold in holds {
            let of = by_source.entry(hold.source.clone()).or_default();
            of.push(hold.into());
        }
        let sources = list.sources.into_iter().map(|source| {
            let holds = by_source.remove(&source.name).unwrap_or_default();
            SourceView {
                holds: Some(holds),
                ..SourceView::from(source)
            }
        });
        Self {
            sources: sources.collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["source", "kind", "member", "locality", "address", "limits"]);
        for source in &self.sources {
            for member in &source.members {
                table.row([
                    source.name.clone(),
                    source.kind.clone(),
                    member.name.clone(),
                    member.locality.clone().unwrap_or_default(),
                    member.address.clone(),
                    member.limits(),
                ]);
            }
        }
        if table.is_empty() {
            return "no sources: register one with `holdfast source add`".to_owned();
        }
        let holds = self.sources.iter().filter_map(|it| it.holds.as_deref());
        let standings: Vec<_> = holds
            .map(HoldView::standings)
            .filter(|standings| !standings.is_empty())
            .map(|standings| format!("\n\n{standings}"))
            .collect();
        format!("{table}{}", standings.concat())
    }
}
