//! External connections, what workers found where they lead to, and where the bytes of a chain lie.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;

use super::some;
use crate::output::Table;

#[derive(Debug, Serialize)]
struct ConnectionView {
    name: String,
    uri: String,
    changed: String,
}

/// Connections, without their secrets.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionsView {
    connections: Vec<ConnectionView>,
}

impl From<Vec<v1::Connection>> for ConnectionsView {
    fn from(connections: Vec<v1::Connection>) -> Self {
        let view = |found: v1::Connection| ConnectionView {
            name: found.name,
            uri: found.uri,
            changed: found.changed,
        };
        Self {
            connections: connections.into_iter().map(view).collect(),
        }
    }
}

impl ConnectionsView {
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["connection", "changed", "uri"]);
        for found in &self.connections {
            table.row([found.name.clone(), found.changed.clone(), found.uri.clone()]);
        }
        match table.is_empty() {
            true => "there are no connections".to_owned(),
            false => table.to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
struct CheckedStoreView {
    worker: String,
    locality: Option<String>,
    ok: bool,
    error: Option<String>,
    transferred: u64,
    read_speed: u64,
    write_speed: u64,
    can_delete: bool,
    unseen: Vec<String>,
}

/// What each worker found.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedStoresView {
    place: String,
    workers: Vec<CheckedStoreView>,
}

impl From<v1::CheckConnectionResponse> for CheckedStoresView {
    fn from(answer: v1::CheckConnectionResponse) -> Self {
        let view = |row: v1::CheckedStore| CheckedStoreView {
            worker: row.worker,
            locality: some(row.locality),
            ok: row.fault.is_none() && row.unseen.is_empty(),
            error: row.fault.map(|fault| fault.message),
            transferred: row.transferred,
            read_speed: row.read_speed,
            write_speed: row.write_speed,
            can_delete: row.can_delete,
            unseen: row.unseen,
        };
        Self {
            place: answer.place,
            workers: answer.workers.into_iter().map(view).collect(),
        }
    }
}

impl CheckedStoresView {
    /// Whether every worker can use it, and all see the same. That one may not delete is said, and is no error.
    pub(crate) fn is_fine(&self) -> bool {
        self.workers.iter().all(|worker| worker.ok)
    }

    pub(crate) fn text(&self) -> String {
        let header = [
            "worker",
            "locality",
            "ok",
            "transferred",
            "read/s",
            "write/s",
            "can delete",
            "error",
        ];
        let mut table = Table::new(&header);
        for row in &self.workers {
            let unseen = match row.unseen.is_empty() {
                true => None,
                false => Some(format!(
                    "does not see what {} wrote: it looks at another place",
                    row.unseen.join(", ")
                )),
            };
            table.row([
                row.worker.clone(),
                row.locality.clone().unwrap_or_default(),
                word(row.ok),
                ByteCount(row.transferred).to_string(),
                ByteCount(row.read_speed).to_string(),
                ByteCount(row.write_speed).to_string(),
                word(row.can_delete),
                row.error.clone().or(unseen).unwrap_or_default(),
            ]);
        }
        format!("{}\n{table}", self.place)
    }
}

fn word(yes: bool) -> String {
    match yes {
        true => "yes".to_owned(),
        false => "no".to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct MemberResidencyView {
    member: String,
    locality: Option<String>,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct StoreResidencyView {
    store: String,
    tier: Option<String>,
    objects: u64,
    bytes: u64,
    members: Vec<MemberResidencyView>,
}

/// Which bytes of a chain lie in which store.
#[derive(Debug, Serialize)]
pub(crate) struct ResidencyView {
    subdir: String,
    stores: Vec<StoreResidencyView>,
    violations: Vec<String>,
    violations_total: u64,
}

impl From<v1::CheckResidencyResponse> for ResidencyView {
    fn from(answer: v1::CheckResidencyResponse) -> Self {
        let member = |row: v1::MemberResidency| MemberResidencyView {
            member: row.member,
            locality: some(row.locality),
            objects: row.objects,
            bytes: row.bytes,
        };
        let store = |row: v1::StoreResidency| StoreResidencyView {
            store: row.store,
            tier: some(row.tier),
            objects: row.objects,
            bytes: row.bytes,
            members: row.members.into_iter().map(member).collect(),
        };
        Self {
            subdir: answer.subdir,
            stores: answer.stores.into_iter().map(store).collect(),
            violations: answer.violations,
            violations_total: answer.violations_total,
        }
    }
}

impl ResidencyView {
    /// Whether everything lies where it should.
    pub(crate) fn is_fine(&self) -> bool {
        self.violations_total == 0
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["store", "for", "member", "locality", "objects", "bytes"]);
        for store in &self.stores {
            let tier = store.tier.clone().unwrap_or_else(|| "default".to_owned());
            table.row([
                store.store.clone(),
                tier.clone(),
                String::new(),
                String::new(),
                store.objects.to_string(),
                ByteCount(store.bytes).to_string(),
            ]);
            for member in &store.members {
                table.row([
                    store.store.clone(),
                    tier.clone(),
                    member.member.clone(),
                    member.locality.clone().unwrap_or_default(),
                    member.objects.to_string(),
                    ByteCount(member.bytes).to_string(),
                ]);
            }
        }
        let mut text = format!("chain {}\n{table}", self.subdir);
        for violation in &self.violations {
            text.push_str(&format!("\nviolation: {violation}"));
        }
        let more = self
            .violations_total
            .saturating_sub(self.violations.len() as u64);
        if more > 0 {
            text.push_str(&format!("\nand {more} more"));
        }
        if self.is_fine() {
            text.push_str("\neverything lies where it belongs");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_sees_another_place_is_not_fine() {
        let row = |worker: &str, unseen: &[&str]| v1::CheckedStore {
            worker: worker.into(),
            transferred: 1 << 20,
            unseen: unseen.iter().map(ToString::to_string).collect(),
            ..v1::CheckedStore::default()
        };
        let view = |rows: Vec<v1::CheckedStore>| {
            CheckedStoresView::from(v1::CheckConnectionResponse {
                place: "file:///x".into(),
                workers: rows,
            })
        };
        assert!(view(vec![row("w1", &[]), row("w2", &[])]).is_fine());
        let split = view(vec![row("w1", &["w2"]), row("w2", &["w1"])]);
        assert!(!split.is_fine());
        assert!(
            split.text().contains("does not see what w2 wrote"),
            "{}",
            split.text()
        );
    }

    #[test]
    fn violations_are_shown_and_the_rest_counted() {
        let view = ResidencyView::from(v1::CheckResidencyResponse {
            violations: vec!["x lies in y".into()],
            violations_total: 3,
            ..v1::CheckResidencyResponse::default()
        });
        assert!(!view.is_fine());
        assert!(view.text().contains("violation: x lies in y"));
        assert!(view.text().contains("and 2 more"));
    }
}
