//! What some tables of a schema need for themselves, apart from what is only there for their foreign keys.

use super::archive::Archive;
use super::entry::{Entry, EntryId, Kind};
use crate::layout::Oid;
use std::collections::{BTreeMap, BTreeSet};

impl Archive {
    /// Leaves entries out, and the comments and rights on them.
    pub(crate) fn remove(&mut self, ids: &BTreeSet<EntryId>) {
        self.entries.retain(|entry| {
            let is_on_one = matches!(entry.kind(), Kind::Remark | Kind::Rights)
                && entry.needs.iter().any(|need| ids.contains(need));
            !ids.contains(&entry.id) && !is_on_one
        });
    }

    /// The other table that a sequence belongs to, if it is none of the chosen ones.
    pub(crate) fn foreign_owner(&self, sequence: &Entry, chosen: &BTreeSet<Oid>) -> Option<&Entry> {
        if sequence.kind() != Kind::Sequence {
            return None;
        }
        let tables = sequence.needs.iter().filter_map(|need| self.entry(*need));
        let mut others = tables.filter(|entry| is_table(entry) && !chosen.contains(&entry.oid));
        others.next()
    }

    /// Of the archive of some tables ([`Self::subset`]): they, what belongs to them, and what those need, without the tables that
    /// foreign keys point to, or that sequences belong to, and what is there for these.
    pub(crate) fn own(&self, chosen: &BTreeSet<Oid>) -> BTreeSet<EntryId> {
        let by_id: BTreeMap<EntryId, &Entry> =
            self.entries.iter().map(|entry| (entry.id, entry)).collect();
        let is_other = |entry: &Entry| is_table(entry) && !chosen.contains(&entry.oid);
        let is_chosen = |id: &EntryId| {
            let entry = by_id.get(id);
            entry.is_some_and(|entry| is_table(entry) && chosen.contains(&entry.oid))
        };
        let is_of_one = |entry: &Entry| is_chosen(&entry.id) || entry.needs.iter().any(&is_chosen);
        let mut own = BTreeSet::new();
        let first = self.entries.iter();
        let first = first.filter(|entry| !is_other(entry) && is_of_one(entry));
        let mut open: Vec<EntryId> = first.map(|entry| entry.id).collect();
        while let Some(id) = open.pop() {
            let Some(entry) = by_id.get(&id).filter(|entry| !is_other(entry)) else {
                continue;
            };
            if own.insert(id) && entry.kind() != Kind::ForeignKey {
                open.extend(entry.needs.iter().copied());
            }
        }
        // These are never needed, but speak of what is.
        for entry in &self.entries {
            let speaks = matches!(entry.kind(), Kind::Remark | Kind::Rights)
                || entry.label == "SEQUENCE OWNED BY";
            if speaks && entry.needs.iter().all(|need| own.contains(need)) {
                own.insert(entry.id);
            }
        }
        own
    }
}

fn is_table(entry: &Entry) -> bool {
    matches!(entry.kind(), Kind::Table | Kind::ForeignTable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Section;

    fn entry(id: EntryId, label: &str, needs: &[EntryId]) -> Entry {
        Entry {
            id,
            catalog: Oid(0),
            oid: Oid(u32::try_from(id).expect("small")),
            name: format!("n{id}"),
            label: label.to_owned(),
            section: Section::Before,
            definition: String::new(),
            drop: String::new(),
            schema: Some("s".to_owned()),
            tablespace: None,
            access_method: None,
            relation_kind: None,
            owner: None,
            needs: needs.to_vec(),
        }
    }

    fn archive(entries: Vec<Entry>) -> Archive {
        Archive {
            database: "d".to_owned(),
            server_version: "15".to_owned(),
            dump_version: "15".to_owned(),
            entries,
        }
    }

    /// A table whose default takes from another table's sequence, and which points to a third one.
    fn tables() -> Archive {
        archive(vec![
            entry(1, "TYPE", &[]),
            entry(2, "TYPE", &[]),
            entry(3, "TABLE", &[]),
            entry(4, "SEQUENCE", &[3]),
            entry(5, "SEQUENCE OWNED BY", &[4]),
            entry(6, "TABLE", &[1, 4]),
            entry(7, "TABLE", &[2]),
            entry(8, "CONSTRAINT", &[7]),
            entry(9, "FK CONSTRAINT", &[6, 7, 8]),
            entry(10, "COMMENT", &[9]),
            entry(11, "INDEX", &[6]),
        ])
    }

    #[test]
    fn what_is_there_for_a_foreign_key_is_not_the_tables_own() {
        let own = tables().own(&[Oid(6)].into());
        assert_eq!(own, [1, 4, 5, 6, 9, 10, 11].into());
        let all = tables().own(&[Oid(6), Oid(7)].into());
        assert_eq!(all, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11].into());
    }

    #[test]
    fn the_owner_of_a_sequence_is_foreign_or_chosen() {
        let archive = tables();
        let sequence = archive.entry(4).expect("a sequence");
        let owner = |chosen: &[u32]| {
            let chosen = chosen.iter().map(|oid| Oid(*oid)).collect();
            archive
                .foreign_owner(sequence, &chosen)
                .map(|entry| entry.id)
        };
        assert_eq!(owner(&[6]), Some(3));
        assert_eq!(owner(&[3, 6]), None);
    }

    #[test]
    fn what_is_removed_takes_its_comments_along() {
        let mut archive = tables();
        archive.remove(&[9].into());
        let left: Vec<EntryId> = archive.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(left, [1, 2, 3, 4, 5, 6, 7, 8, 11]);
    }
}
