//! Which objects of a schema some of its tables need.

use super::archive::Archive;
use super::entry::{Entry, EntryId, Kind};
use crate::layout::Oid;
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};

impl Archive {
    /// The archive of some relations alone: they, what belongs to them (columns' sequences, constraints, indexes, triggers, policies,
    /// comments, rights), and everything that those need: types, functions, the tables that foreign keys point to. No views of
    /// them, no publications.
    ///
    /// # Errors
    /// `NotFound` if a relation is not in the archive; `FailedPrecondition` for a table that inherits from one that is not chosen.
    pub fn subset(&self, relations: &BTreeSet<Oid>) -> Result<Self, Fault> {
        let by_id: BTreeMap<EntryId, &Entry> =
            self.entries.iter().map(|entry| (entry.id, entry)).collect();
        let mut chosen = BTreeSet::new();
        for oid in relations {
            let entry = self
                .entries
                .iter()
                .find(|entry| entry.is_relation(*oid) && is_table(entry));
            let entry = entry.ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("relation {oid} is not in the schema"),
                )
            })?;
            chosen.insert(entry.id);
        }
        let mut kept = BTreeSet::new();
        let mut open: Vec<EntryId> = chosen.iter().copied().collect();
        // Comments and rights belong to what belongs to a table, so this goes on until nothing is added.
        loop {
            while let Some(id) = open.pop() {
                if kept.insert(id)
                    && let Some(entry) = by_id.get(&id)
                {
                    open.extend(entry.needs.iter().copied());
                }
            }
            for entry in &self.entries {
                if !kept.contains(&entry.id) && belongs(entry, &chosen, &kept, &by_id) {
                    open.push(entry.id);
                }
            }
            if open.is_empty() {
                break;
            }
        }
        self.refuse_heirs(&chosen, &by_id)?;
        Ok(Self {
            entries: self
                .entries
                .iter()
                .filter(|entry| kept.contains(&entry.id) || entry.kind() == Kind::Session)
                .cloned()
                .collect(),
            ..self.clone()
        })
    }

    /// A table whose parent is not chosen would show its rows in the parent before they are published.
    fn refuse_heirs(
        &self,
        chosen: &BTreeSet<EntryId>,
        by_id: &BTreeMap<EntryId, &Entry>,
    ) -> Result<(), Fault> {
        for id in chosen {
            let Some(entry) = by_id.get(id) else {
                continue;
            };
            let parent = entry.needs.iter().find_map(|need| {
                by_id
                    .get(need)
                    .filter(|other| is_table(other) && !chosen.contains(need))
            });
            if let Some(parent) = parent {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!(
                        "{} inherits from {}, which is not restored",
                        entry.display_name(),
                        parent.display_name()
                    ),
                )
                .hint("restore both tables"));
            }
        }
        Ok(())
    }
}

fn is_table(entry: &Entry) -> bool {
    matches!(entry.kind(), Kind::Table | Kind::ForeignTable)
}

/// Whether an entry goes along with the chosen tables.
fn belongs(
    entry: &Entry,
    chosen: &BTreeSet<EntryId>,
    kept: &BTreeSet<EntryId>,
    by_id: &BTreeMap<EntryId, &Entry>,
) -> bool {
    let on_chosen = entry.needs.iter().any(|need| chosen.contains(need));
    match (entry.kind(), entry.label.as_str()) {
        (Kind::View | Kind::MaterializedView | Kind::Publication | Kind::Table, _) => false,
        // A sequence that a column's default uses, and that belongs to a column.
        (_, "SEQUENCE OWNED BY") => entry.needs.iter().any(|need| kept.contains(need)),
        // A partition goes to its parent if both are restored, or if both are only there for a foreign key: never to one that lives.
        (_, "TABLE ATTACH" | "INDEX ATTACH") => {
            let tables: Vec<&EntryId> = entry
                .needs
                .iter()
                .filter(|need| by_id.get(need).is_some_and(|other| is_table(other)))
                .collect();
            tables.iter().all(|id| kept.contains(id))
                && (tables.iter().all(|id| chosen.contains(id))
                    || !tables.iter().any(|id| chosen.contains(id)))
        }
        (Kind::Rights | Kind::Remark, _) => {
            !entry.needs.is_empty()
                && entry
                    .needs
                    .iter()
                    .all(|need| kept.contains(need) && is_of_table(need, chosen, by_id))
        }
        // A rule on a view or a function that mentions a table is not the table's.
        (Kind::Function | Kind::Type, _) => false,
        (_, "RULE" | "TRIGGER" | "POLICY" | "ROW SECURITY") => {
            on_chosen && own_table(entry, chosen, by_id)
        }
        (Kind::ForeignKey, _) => own_table(entry, chosen, by_id),
        _ => on_chosen,
    }
}

/// Whether the entry with this number is a chosen table, or stands on one.
fn is_of_table(
    id: &EntryId,
    chosen: &BTreeSet<EntryId>,
    by_id: &BTreeMap<EntryId, &Entry>,
) -> bool {
    chosen.contains(id)
        || by_id
            .get(id)
            .is_some_and(|entry| entry.needs.iter().any(|need| chosen.contains(need)))
}

/// Whether the table that a constraint, trigger or rule is on (the first word of its name) is chosen.
fn own_table(entry: &Entry, chosen: &BTreeSet<EntryId>, by_id: &BTreeMap<EntryId, &Entry>) -> bool {
    entry.needs.iter().any(|need| {
        chosen.contains(need)
            && by_id.get(need).is_some_and(|table| {
                table.schema == entry.schema
                    && (entry.name == table.name
                        || entry.own_name(&table.name).len() < entry.name.len())
            })
    })
}
