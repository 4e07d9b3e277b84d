//! Sources.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;

use super::some;
use crate::output::Table;

/// A registered source.
#[derive(Debug, Serialize)]
pub(crate) struct SourceView {
    name: String,
    kind: String,
    members: Vec<MemberView>,
    registered: Option<String>,
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

impl From<v1::ListSourcesResponse> for SourcesView {
    fn from(list: v1::ListSourcesResponse) -> Self {
        Self {
            sources: list.sources.into_iter().map(SourceView::from).collect(),
        }
    }
}

impl SourcesView {
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
            "no sources: register one with `holdfast source add`".to_owned()
        } else {
            table.to_string()
        }
    }
}
