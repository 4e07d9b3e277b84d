//! Cutting relations into spans, and spans into parts.

use bytes::Bytes;
use holdfast_source::LoggedRelation;
use holdfast_types::{ByteCount, Fault, KeyRange, Position, Relation};

use super::begin::table_name;
use super::catalog::{relation_id, to_json};
use super::plan::RelationPlan;
use super::standing::Standings;
use crate::catalog::{Database, RelationFacts};
use crate::layout::Lsn;
use crate::pages;

/// Parts of a span at most: a GiB of heap, about.
const MOST_PARTS: usize = 16;

/// Parts of a span at least: each span costs a lease and a session.
const LEAST_PARTS: usize = 2;

/// Spans that a database is cut into if it is small, so that no stream has nothing to do for long while the last ones are read.
const LEAST_SPANS: usize = 16;

/// Parts of a span, of so many bytes of relations.
pub(super) fn parts_per_span(bytes: u64) -> usize {
    let parts = usize::try_from(bytes / pages::PART_BYTES).unwrap_or(usize::MAX);
    (parts / LEAST_SPANS).clamp(LEAST_PARTS, MOST_PARTS)
}

/// Cuts a keyed relation into spans of so many parts.
pub(super) fn cut(
    database: &Database,
    facts: &RelationFacts,
    standings: &Standings,
    (page_bytes, per_span): (u64, usize),
    start: Lsn,
) -> Result<LoggedRelation, Fault> {
    let layout = facts.layout.clone();
    let seen = standings.relations.get(&layout.oid);
    // One whose standing at the slot's beginning is not known is read whole at the end.
    let standing = seen
        .filter(|seen| !seen.is_recent)
        .map(|seen| seen.standing.clone())
        .unwrap_or_default();
    let parts = match standing.membership {
        Some(_) => pages::plan(facts.heap_bytes, facts.total_bytes, page_bytes),
        None => Vec::new(),
    };
    let bounds: Vec<u32> = parts.iter().map(|part| part.start).collect();
    let weight = facts.total_bytes / bounds.len().max(1) as u64;
    let mut spans = Vec::new();
    for (number, chunk) in bounds.chunks(per_span).enumerate() {
        let bound = |index: usize| bounds.get(index).map(|page| page_bound(*page));
        let range = KeyRange {
            start: match number {
                0 => Bytes::new(),
                _ => bound(number * per_span).unwrap_or_default(),
            },
            end: bound((number + 1) * per_span).unwrap_or_default(),
        };
        spans.push((range, ByteCount(weight * chunk.len() as u64)));
    }
    let plan = RelationPlan {
        standing,
        part_pages: match bounds.as_slice() {
            [first, second, ..] => second - first,
            _ => 0,
        },
        last_page: bounds.last().copied().unwrap_or_default(),
        layout,
    };
    Ok(LoggedRelation {
        relation: Relation {
            id: relation_id(database.oid, plan.layout.oid),
            name: table_name(&database.name, &plan.layout),
            created_at: Position::Lsn(holdfast_types::Lsn::at(start.0)),
            dropped_at: None,
            definition: to_json(&plan)?.to_vec(),
        },
        spans,
        settles: false,
    })
}

/// A page as the bound of a span.
pub(super) fn page_bound(page: u32) -> Bytes {
    Bytes::copy_from_slice(&page.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_databases_have_spans_for_every_stream_and_large_ones_few() {
        for (gib, parts) in [(0, 2), (1, 2), (4, 4), (16, 16), (1 << 20, 16)] {
            assert_eq!(parts_per_span(gib << 30), parts, "{gib} GiB");
        }
    }
}
