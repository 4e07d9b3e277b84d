//! When relations were emptied.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;

use super::Keep;
use crate::changes::{ChangePosition, RowChange, Truncation};
use crate::layout::{Lsn, Oid};

/// The most truncations that a history layer remembers; more end its window early.
pub const MAX_TRUNCATIONS: usize = 1 << 20;

/// The last truncation of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// When it was.
    pub position: ChangePosition,
    /// 32 bits of the id of the transaction that did it.
    pub xid: u32,
    /// Whether the same transaction changed rows of the relation afterwards. If it did, a new file node may come from more than the
    /// truncation: `TRUNCATE; INSERT; ALTER … TYPE … USING` rewrites what was inserted, and only the catalog's rows of the columns say so.
    pub is_followed: bool,
}

/// Truncations by relation: the last of each, or all.
#[derive(Debug)]
pub(super) struct Truncations {
    keep: Keep,
    by_relation: BTreeMap<Oid, BTreeMap<ChangePosition, Truncated>>,
    count: usize,
}

impl Truncations {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            by_relation: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn from_last(last: BTreeMap<Oid, Truncated>) -> Self {
        let count = last.len();
        let one = |truncated: Truncated| BTreeMap::from([(truncated.position, truncated)]);
        Self {
            keep: Keep::Last,
            by_relation: last
                .into_iter()
                .map(|(relation, it)| (relation, one(it)))
                .collect(),
            count,
        }
    }

    pub(super) fn add(&mut self, truncation: &Truncation) -> Result<(), Fault> {
        for relation in &truncation.relations {
            let known = self.by_relation.entry(*relation).or_default();
            if self.keep == Keep::Last && known.keys().any(|last| *last > truncation.position) {
                continue;
            }
            if self.keep == Keep::Last {
                self.count -= known.len();
                known.clear();
            }
            let truncated = Truncated {
                position: truncation.position,
                xid: truncation.xid,
                is_followed: false,
            };
            self.count += usize::from(known.insert(truncation.position, truncated).is_none());
        }
        if self.count > MAX_TRUNCATIONS {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("tables were truncated more than {MAX_TRUNCATIONS} times"),
            )
            .hint("take incremental backups more often"));
        }
        Ok(())
    }

    /// Notes that a row was changed, which may follow a truncation in its transaction.
    pub(super) fn note_change(&mut self, change: &RowChange) {
        let known = self.by_relation.get_mut(&change.relation);
        if let Some(mut last) = known.and_then(BTreeMap::last_entry)
            && last.key().commit == change.position.commit
            && *last.key() < change.position
        {
            last.get_mut().is_followed = true;
        }
    }

    /// The last truncation of each relation.
    pub(super) fn last(&self) -> BTreeMap<Oid, Truncated> {
        let last = |(relation, known): (&Oid, &BTreeMap<_, Truncated>)| {
            known
                .last_key_value()
                .map(|(_, truncated)| (*relation, *truncated))
        };
        self.by_relation.iter().filter_map(last).collect()
    }

    /// The last truncation of a relation before a commit.
    pub(super) fn last_before(&self, relation: Oid, end: Lsn) -> Option<ChangePosition> {
        let known = self.by_relation.get(&relation)?;
        let mut before = known.range(..ChangePosition::start_of(end));
        before.next_back().map(|(position, _)| *position)
    }

    /// Whether a relation was truncated after one position and before another one.
    pub(super) fn is_between(
        &self,
        relation: Oid,
        after: ChangePosition,
        before: ChangePosition,
    ) -> bool {
        use std::ops::Bound::Excluded;
        after < before
            && self.by_relation.get(&relation).is_some_and(|known| {
                known
                    .range((Excluded(after), Excluded(before)))
                    .next()
                    .is_some()
            })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Oid, ChangePosition)> {
        let each = |(relation, known): (&Oid, &BTreeMap<ChangePosition, _>)| {
            known
                .keys()
                .map(|position| (*relation, *position))
                .collect::<Vec<_>>()
        };
        self.by_relation.iter().flat_map(each)
    }

    /// Relations that were ever truncated.
    pub(super) fn relations(&self) -> impl Iterator<Item = Oid> {
        self.by_relation.keys().copied()
    }
}
