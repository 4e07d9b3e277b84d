//! The file list of a backup on its way from checkpoints to parts in the collection.
//!
//! Objects of unfinished tasks stay with their task. When a task finishes they come here; when there are enough of them they are
//! sealed: frozen in a fixed order as one part, which the leader writes to the collection. Once that is durable only
//! the part's name and digest remain.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_types::{ObjectRef, RelationId, Sealed};
use serde::{Deserialize, Serialize};

use crate::command::PartRef;

/// One object in a layer's file list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Index of the member in the job's specification.
    pub member: u32,
    /// The relation, as that member numbers it.
    pub relation: RelationId,
    /// First key that the checkpoint of this object covers.
    pub from: Sealed,
    /// First key after it.
    pub to: Sealed,
    /// The object.
    pub object: ObjectRef,
}

/// The order of a file list: by member, relation and task; within a task, as the objects were written.
pub(crate) type EntryKey = (u32, RelationId, u32);

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct FileList {
    unsealed: BTreeMap<EntryKey, Vec<ManifestEntry>>,
    unsealed_entries: u64,
    sealed: Option<Arc<Vec<ManifestEntry>>>,
    parts: Vec<PartRef>,
}

impl FileList {
    /// Takes the objects of a finished task.
    pub(crate) fn add(&mut self, key: EntryKey, entries: Vec<ManifestEntry>) {
        if !entries.is_empty() {
            self.unsealed_entries += entries.len() as u64;
            self.unsealed.insert(key, entries);
        }
    }

    /// Freezes about `limit` objects (whole tasks) as the next part, if none is being written and there are at least
    /// `minimum`. A part lists objects of one store, in which it is itself: `store_of` tells that of a member. Returns whether there is a new part.
    pub(crate) fn seal(&mut self, minimum: u64, limit: u64, store_of: impl Fn(u32) -> u16) -> bool {
        if self.sealed.is_some() || self.unsealed_entries < minimum.max(1) {
            return false;
        }
        let mut part = Vec::new();
        let mut store = None;
        while (part.len() as u64) < limit
            && let Some(next) = self.unsealed.first_entry()
        {
            let (member, _, _) = *next.key();
            let own = store_of(member);
            if *store.get_or_insert(own) != own {
                break;
            }
            let entries = next.remove();
            self.unsealed_entries -= entries.len() as u64;
            part.extend(entries);
        }
        self.sealed = Some(Arc::new(part));
        true
    }

    /// The number and the objects of the part that is to be written.
    pub(crate) fn sealed(&self) -> Option<(u32, &Arc<Vec<ManifestEntry>>)> {
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        self.sealed.as_ref().map(|entries| (number, entries))
    }

    /// The sealed part is durable.
    pub(crate) fn written(&mut self, part: PartRef) {
        self.sealed = None;
        self.parts.push(part);
    }

    /// The parts that are durable, in order.
    pub(crate) fn parts(&self) -> &[PartRef] {
        &self.parts
    }

    /// Whether every object stands in a durable part.
    pub(crate) fn is_drained(&self) -> bool {
        self.sealed.is_none() && self.unsealed.is_empty()
    }

    /// Objects that are here: unsealed, sealed, and in parts.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let sealed = self.sealed.as_ref().map_or(0, |entries| entries.len());
        let written = self.parts.iter().map(|part| part.entries).sum();
        (self.unsealed_entries, sealed as u64, written)
    }

    /// Objects found in the unsealed lists, counted one by one.
    pub(crate) fn recount(&self) -> u64 {
        self.unsealed
            .values()
            .map(|entries| entries.len() as u64)
            .sum()
    }

    /// Drops everything that is not durable; the parts too unless they are still of use.
    pub(crate) fn clear(&mut self, keep_parts: bool) {
        let parts = std::mem::take(&mut self.parts);
        *self = Self {
            parts: if keep_parts { parts } else { Vec::new() },
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ByteCount, Digest, RowCount};

    fn entry(member: u32) -> ManifestEntry {
        ManifestEntry {
            member,
            relation: RelationId(1),
            from: Sealed::open_end(),
            to: Sealed::open_end(),
            object: ObjectRef {
                name: format!("{member}"),
                length: ByteCount(1),
                digest: Digest::default(),
                rows: RowCount(1),
                logical: ByteCount(1),
            },
        }
    }

    #[test]
    fn a_part_lists_objects_of_one_store() {
        let mut list = FileList::default();
        for member in 0..6 {
            list.add((member, RelationId(1), member), vec![entry(member)]);
        }
        // Members 0, 1, 4 and 5 are in the default store, 2 and 3 in another.
        let store_of = |member| u16::from((2..4).contains(&member));
        let mut parts = Vec::new();
        while list.seal(1, 100, store_of) {
            let (number, entries) = list.sealed().expect("sealed");
            let members: Vec<u32> = entries.iter().map(|entry| entry.member).collect();
            let part = PartRef {
                name: number.to_string(),
                length: ByteCount(1),
                digest: Digest::default(),
                entries: entries.len() as u64,
                store: 0,
            };
            parts.push(members);
            list.written(part);
        }
        assert_eq!(parts, [vec![0, 1], vec![2, 3], vec![4, 5]]);
        assert!(list.is_drained());
    }
}
