//! Collections: chains and layers.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;
use std::collections::BTreeMap;

use super::some;
use crate::output::Table;

/// A chain: a full and its incrementals.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChainView {
    subdir: String,
    end: String,
    layers: u32,
    latest: bool,
    encrypted: bool,
}

impl From<v1::Chain> for ChainView {
    fn from(chain: v1::Chain) -> Self {
        Self {
            subdir: chain.subdir,
            end: chain.end,
            layers: chain.layers,
            latest: chain.latest,
            encrypted: chain.encrypted,
        }
    }
}

/// What a collection holds.
#[derive(Debug, Serialize)]
pub(crate) struct ChainsView {
    chains: Vec<ChainView>,
}

impl From<v1::ListBackupsResponse> for ChainsView {
    fn from(list: v1::ListBackupsResponse) -> Self {
        Self {
            chains: list.chains.into_iter().map(ChainView::from).collect(),
        }
    }
}

impl ChainsView {
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["subdir", "end", "layers", "latest", "encrypted"]);
        for chain in &self.chains {
            table.row([
                chain.subdir.clone(),
                chain.end.clone(),
                chain.layers.to_string(),
                if chain.latest { "yes" } else { "" }.to_owned(),
                if chain.encrypted { "yes" } else { "" }.to_owned(),
            ]);
        }
        if table.is_empty() {
            "no backups".to_owned()
        } else {
            table.to_string()
        }
    }
}

/// Which chains expire, and why the others stay.
#[derive(Debug, Serialize)]
pub(crate) struct ExpiryView {
    /// The job that removes them; none if there is nothing to remove.
    job: Option<String>,
    dry_run: bool,
    chains: Vec<ExpiringChainView>,
}

#[derive(Debug, Serialize)]
struct ExpiringChainView {
    subdir: String,
    end: Option<String>,
    layers: u32,
    encrypted: bool,
    expires: bool,
    reason: Option<String>,
}

impl ExpiryView {
    pub(crate) fn new(answer: v1::ExpireBackupsResponse, dry_run: bool) -> Self {
        let view = |chain: v1::ExpiringChain| ExpiringChainView {
            subdir: chain.subdir,
            end: some(chain.end),
            layers: chain.layers,
            encrypted: chain.encrypted,
            expires: chain.expires,
            reason: some(chain.reason),
        };
        Self {
            job: (answer.job != 0).then(|| answer.job.to_string()),
            dry_run,
            chains: answer.chains.into_iter().map(view).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["subdir", "end", "layers", "expires", "reason"]);
        for chain in &self.chains {
            table.row([
                chain.subdir.clone(),
                chain.end.clone().unwrap_or_default(),
                chain.layers.to_string(),
                if chain.expires { "yes" } else { "" }.to_owned(),
                chain.reason.clone().unwrap_or_default(),
            ]);
        }
        let going = self.chains.iter().filter(|chain| chain.expires).count();
        let what = match (&self.job, self.dry_run) {
            (Some(job), _) => format!("job {job} removes what expires"),
            (None, true) => format!("{going} chain(s) would be removed"),
            (None, false) => "nothing to remove".to_owned(),
        };
        match table.is_empty() {
            true => what,
            false => format!("{table}\n\n{what}"),
        }
    }
}

/// One chain, layer by layer.
#[derive(Debug, Serialize)]
pub(crate) struct ShownChainView {
    subdir: String,
    layers: Vec<LayerView>,
    restorable: Vec<String>,
    /// The same for each member's log, where it has one.
    restorable_log: BTreeMap<String, Vec<String>>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LayerView {
    path: String,
    backup_type: String,
    start: Option<String>,
    end: String,
    revision_history: bool,
    rows: u64,
    size_bytes: u64,
    file_bytes: u64,
    objects: u64,
    tables: Vec<LayerTableView>,
    job: Option<String>,
    source: String,
    manifest_digest: String,
}

#[derive(Debug, Serialize)]
struct LayerTableView {
    member: String,
    database: String,
    table: String,
    rows: u64,
    size_bytes: u64,
}

impl From<v1::ShowBackupResponse> for ShownChainView {
    fn from(shown: v1::ShowBackupResponse) -> Self {
        Self {
            subdir: shown.subdir,
            layers: shown.layers.into_iter().map(LayerView::from).collect(),
            restorable: shown.restorable,
            restorable_log: shown
                .logs
                .into_iter()
                .map(|log| (log.member, log.places))
                .collect(),
            problems: shown.problems,
        }
    }
}

impl From<v1::Layer> for LayerView {
    fn from(layer: v1::Layer) -> Self {
        Self {
            path: layer.path,
            backup_type: layer.backup_type,
            start: some(layer.start),
            end: layer.end,
            revision_history: layer.revision_history,
            rows: layer.rows,
            size_bytes: layer.size_bytes,
            file_bytes: layer.file_bytes,
            objects: layer.objects,
            tables: layer
                .tables
                .into_iter()
                .map(|table| LayerTableView {
                    member: table.member,
                    database: table.database,
                    table: table.table,
                    rows: table.rows,
                    size_bytes: table.size_bytes,
                })
                .collect(),
            job: (layer.job != 0).then(|| layer.job.to_string()),
            source: layer.source,
            manifest_digest: layer.manifest_digest,
        }
    }
}

impl ShownChainView {
    /// Whether the store was found to lack something.
    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        let mut layers = Table::new(&[
            "type", "start", "end", "history", "rows", "size", "stored", "objects", "path",
        ]);
        let mut tables = Table::new(&["layer", "member", "table", "rows", "size"]);
        for layer in &self.layers {
            layers.row([
                layer.backup_type.clone(),
                layer.start.clone().unwrap_or_default(),
                layer.end.clone(),
                if layer.revision_history { "yes" } else { "" }.to_owned(),
                layer.rows.to_string(),
                ByteCount(layer.size_bytes).to_string(),
                ByteCount(layer.file_bytes).to_string(),
                layer.objects.to_string(),
                layer.path.clone(),
            ]);
            for table in &layer.tables {
                tables.row([
                    layer.end.clone(),
                    table.member.clone(),
                    match table.table.as_str() {
                        "" => format!("{} (no tables)", table.database),
                        name => format!("{}.{name}", table.database),
                    },
                    table.rows.to_string(),
                    ByteCount(table.size_bytes).to_string(),
                ]);
            }
        }
        let mut text = format!("{layers}\n");
        if !tables.is_empty() {
            text.push_str(&format!("\n{tables}\n"));
        }
        if !self.restorable.is_empty() {
            text.push_str(&format!("\nrestorable: {}\n", self.restorable.join(", ")));
        }
        for (member, places) in &self.restorable_log {
            text.push_str(&format!("log of {member}: {}\n", places.join(", ")));
        }
        for problem in &self.problems {
            text.push_str(&format!("problem: {problem}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_shows_what_goes_and_why_the_rest_stays() {
        let chain = |subdir: &str, expires, reason: &str| v1::ExpiringChain {
            subdir: subdir.into(),
            end: "2026-11-23T19:08:00Z".into(),
            layers: 2,
            expires,
            reason: reason.into(),
            ..v1::ExpiringChain::default()
        };
        let answer = |job| v1::ExpireBackupsResponse {
            job,
            chains: vec![
                chain("2026/11/23-190800.00", true, ""),
                chain("2026/11/24-190800.00", false, "it is the newest"),
            ],
            ..v1::ExpireBackupsResponse::default()
        };
        assert_eq!(
            ExpiryView::new(answer(0), true).text(),
            "\
SUBDIR                END                   LAYERS  EXPIRES  REASON
2026/11/23-190800.00  2026-11-23T19:08:00Z  2       yes      -
2026/11/24-190800.00  2026-11-23T19:08:00Z  2       -        it is the newest

1 chain(s) would be removed"
        );
        let begun = ExpiryView::new(answer(7), false).text();
        assert!(begun.ends_with("job 7 removes what expires"), "{begun}");
        let nothing = ExpiryView::new(v1::ExpireBackupsResponse::default(), false);
        assert_eq!(nothing.text(), "nothing to remove");
    }

    #[test]
    fn a_chain_shows_layers_tables_windows_and_problems() {
        let shown = ShownChainView::from(v1::ShowBackupResponse {
            subdir: "2026/11/23-190800.00".into(),
            layers: vec![v1::Layer {
                path: "2026/11/23-190800.00".into(),
                backup_type: "full".into(),
                end: "2026-11-23T19:08:00Z".into(),
                rows: 10,
                size_bytes: 2048,
                file_bytes: 1024,
                objects: 1,
                tables: vec![v1::LayerTable {
                    member: "m1".into(),
                    database: "app".into(),
                    table: "t".into(),
                    rows: 10,
                    size_bytes: 2048,
                }],
                ..v1::Layer::default()
            }],
            restorable: vec!["2026-11-23T19:08:00Z".into()],
            problems: vec!["object x is missing".into()],
            logs: vec![v1::RestorableLog {
                member: "m1".into(),
                places: vec!["0/A".into(), "[0/A, 0/14]".into()],
            }],
        });
        assert!(shown.has_problems());
        assert_eq!(
            shown.text(),
            "\
TYPE  START  END                   HISTORY  ROWS  SIZE     STORED   OBJECTS  PATH
full  -      2026-11-23T19:08:00Z  -        10    2.0 KiB  1.0 KiB  1        2026/11/23-190800.00

LAYER                 MEMBER  TABLE  ROWS  SIZE
2026-11-23T19:08:00Z  m1      app.t  10    2.0 KiB

restorable: 2026-11-23T19:08:00Z
log of m1: 0/A, [0/A, 0/14]
problem: object x is missing
"
        );
    }
}
