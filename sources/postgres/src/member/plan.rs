//! What [`begin`](super::begin) finds out and later steps need, on whatever worker they run: the definitions of the relations.

use holdfast_types::{ErrorCode, Fault, Relation};
use serde::{Deserialize, Serialize};

use super::catalog::{PublicationMark, Standing, from_json, split_relation_id};
use crate::hold::HoldNames;
use crate::layout::{Layout, Lsn, Oid};
use crate::pages::PageRange;

/// A database: the definition of its settling relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatabasePlan {
    /// The database.
    pub(super) database: Oid,
    /// Its name.
    pub(super) name: String,
    /// The cluster's number.
    pub(super) system_id: u64,
    /// Its timeline.
    pub(super) timeline: u32,
    /// How changes are had; `None` in snapshot mode.
    pub(super) log: Option<LogPlan>,
}

/// How the changes of a database are had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPlan {
    /// Slot and publication.
    pub(super) names: HoldNames,
    /// The publication at the start.
    pub(super) publication: PublicationMark,
    /// Where the window begins, inclusive.
    pub(super) start: Lsn,
    /// Whether that is where the parent's catalog of the database ends.
    pub(super) continues: bool,
}

/// A relation: its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RelationPlan {
    /// As it was when the hold was placed.
    pub(super) layout: Layout,
    /// How it stood then.
    pub(super) standing: Standing,
    /// Pages of a part.
    pub(super) part_pages: u32,
    /// The first page of the last part, which is open.
    pub(super) last_page: u32,
}

impl RelationPlan {
    /// The parts from a page on, up to a page that ends a span.
    pub(super) fn parts(&self, start: u32, end: Option<u32>) -> Vec<PageRange> {
        let mut parts = Vec::new();
        let mut page = start;
        loop {
            let next = match page < self.last_page {
                true => page.saturating_add(self.part_pages.max(1)),
                false => u32::MAX,
            };
            let next = (next != u32::MAX).then_some(next);
            let cut = match (next, end) {
                (Some(next), Some(end)) => Some(next.min(end)),
                (next, end) => next.or(end),
            };
            parts.push(PageRange {
                start: page,
                end: cut,
            });
            match cut {
                Some(cut) if end.is_none_or(|end| cut < end) => page = cut,
                Some(_) | None => return parts,
            }
        }
    }
}

/// Reads the definition of a settling relation.
pub(super) fn database_plan(relation: &Relation) -> Result<DatabasePlan, Fault> {
    let plan: DatabasePlan = from_json(&relation.definition)?;
    match split_relation_id(relation.id) {
        (database, Oid(0)) if database == plan.database => Ok(plan),
        _ => Err(another(relation)),
    }
}

/// Reads the definition of a relation.
pub(super) fn relation_plan(relation: &Relation) -> Result<RelationPlan, Fault> {
    let plan: RelationPlan = from_json(&relation.definition)?;
    match split_relation_id(relation.id) {
        (_, oid) if oid == plan.layout.oid => Ok(plan),
        _ => Err(another(relation)),
    }
}

fn another(relation: &Relation) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("the definition of {} is another relation's", relation.name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{FileNode, Handling};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_tile_a_span(step in 1_u32..50, parts in 0_u32..20, from in 0_u32..20, length in 1_u32..20) {
            let plan = RelationPlan {
                layout: Layout {
                    oid: Oid(1),
                    schema: String::new(),
                    name: String::new(),
                    file_node: FileNode(1),
                    columns: Vec::new(),
                    key: Vec::new(),
                    generated: Vec::new(),
                    filter: None,
                    handling: Handling::Keyed,
                },
                standing: Standing::default(),
                part_pages: step,
                last_page: parts * step,
            };
            let from = from.min(parts);
            let end = Some((from + length) * step).filter(|end| *end <= parts * step);
            let ranges = plan.parts(from * step, end);
            prop_assert_eq!(ranges.first().map(|range| range.start), Some(from * step));
            prop_assert_eq!(ranges.last().map(|range| range.end), Some(end));
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].end, Some(pair[1].start));
                prop_assert_eq!(pair[1].start - pair[0].start, step);
            }
        }
    }
}
