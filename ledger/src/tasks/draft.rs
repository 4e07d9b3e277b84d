//! A plan while its batches come in.
//!
//! A plan's spans must tile every relation that they speak of, from the open start to the open end (J2). That is checked here,
//! batch by batch, before anything is taken; afterwards it cannot be violated, for neighbours share their bound.

use std::collections::BTreeSet;

use holdfast_types::{ErrorCode, Fault, PlannedSpan, Relation, RelationId, Sealed};
use serde::{Deserialize, Serialize};

use super::segment::Segment;
use super::table::MAX_SPANS;

/// The longest bound that a planner may propose, in sealed bytes: it keeps a task, and all that carries it, bounded.
const MAX_BOUND_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// The number of the batch that comes next.
    pub(crate) next_sequence: u32,
    /// The relations that the plan speaks of.
    pub(crate) relations: Vec<Relation>,
    /// Its spans.
    pub(crate) segment: Segment,
    /// Where the last span ends.
    tail: Option<Sealed>,
    /// Relations of `relations`. Computed.
    #[serde(skip)]
    described: BTreeSet<RelationId>,
    /// Relations of `segment`. Computed.
    #[serde(skip)]
    cut: BTreeSet<RelationId>,
}

impl Draft {
    /// An empty plan.
    pub(crate) fn new(member: Option<u32>) -> Self {
        Self {
            segment: Segment::new(member),
            ..Self::default()
        }
    }

    /// Takes a batch, or nothing of it. With `described` every span's relation must have been described by the time of the
    /// last batch.
    pub(crate) fn add(
        &mut self,
        relations: &[Relation],
        spans: &[PlannedSpan],
        last: bool,
        described: bool,
    ) -> Result<(), Fault> {
        self.check_spans(spans, last)?;
        self.check_relations(relations, spans, last && described)?;
        for relation in relations {
            self.described.insert(relation.id);
            self.relations.push(relation.clone());
        }
        for span in spans {
            self.cut.insert(span.relation);
            // A span without weight would make progress stand still.
            self.segment.push(
                span.relation,
                &span.start,
                span.weight.0.max(1),
                span.settles,
            );
        }
        if let Some(span) = spans.last() {
            self.tail = Some(span.end.clone());
        }
        self.next_sequence += 1;
        if last {
            self.segment.shrink_last();
        }
        Ok(())
    }

    fn check_spans(&self, spans: &[PlannedSpan], last: bool) -> Result<(), Fault> {
        let total = self.segment.len() as usize + spans.len();
        if total > MAX_SPANS as usize {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("the plan has more than {MAX_SPANS} spans"),
            )
            .hint("raise the setting span_size_bytes, or back up fewer databases at once"));
        }
        let mut relation = self.segment.groups().last().map(|group| group.relation);
        let mut tail = self.tail.as_ref();
        let mut new = BTreeSet::new();
        let mut settling = self.segment.is_settling();
        for span in spans {
            if settling && !span.settles {
                return Err(malformed(
                    span.relation,
                    "comes after spans that settle all others".into(),
                ));
            }
            settling |= span.settles;
            if span.start.as_bytes().len() > MAX_BOUND_BYTES
                || span.end.as_bytes().len() > MAX_BOUND_BYTES
            {
                return Err(malformed(
                    span.relation,
                    "has a bound of more than 64 KiB".into(),
                ));
            }
            if relation == Some(span.relation) {
                if span.start.is_open_end() || tail != Some(&span.start) {
                    return Err(gap(span.relation));
                }
            } else {
                if !span.start.is_open_end() || tail.is_some_and(|tail| !tail.is_open_end()) {
                    return Err(gap(span.relation));
                }
                if self.cut.contains(&span.relation) || !new.insert(span.relation) {
                    return Err(malformed(span.relation, "is cut twice".into()));
                }
            }
            if span.start == span.end && !span.start.is_open_end() {
                return Err(malformed(span.relation, "has an empty span".into()));
            }
            relation = Some(span.relation);
            tail = Some(&span.end);
        }
        match (relation, tail) {
            (Some(relation), Some(tail)) if last && !tail.is_open_end() => Err(gap(relation)),
            _ => Ok(()),
        }
    }

    fn check_relations(
        &self,
        relations: &[Relation],
        spans: &[PlannedSpan],
        complete: bool,
    ) -> Result<(), Fault> {
        let mut new = BTreeSet::new();
        for relation in relations {
            if self.described.contains(&relation.id) || !new.insert(relation.id) {
                return Err(malformed(relation.id, "is described twice".into()));
            }
        }
        if complete {
            let cut = self
                .cut
                .iter()
                .copied()
                .chain(spans.iter().map(|span| span.relation));
            for relation in cut {
                if !self.described.contains(&relation) && !new.contains(&relation) {
                    return Err(malformed(relation, "is cut but not described".into()));
                }
            }
        }
        Ok(())
    }

    /// Recomputes what is not stored.
    pub(crate) fn rebuild(&mut self) {
        self.described = self.relations.iter().map(|relation| relation.id).collect();
        self.cut = self
            .segment
            .groups()
            .iter()
            .map(|group| group.relation)
            .collect();
        self.segment.rebuild();
    }
}

fn malformed(relation: RelationId, what: String) -> Fault {
    Fault::new(
        ErrorCode::Internal,
        format!("the plan is malformed: relation {relation} {what}"),
    )
}

fn gap(relation: RelationId) -> Fault {
    malformed(
        relation,
        "is not tiled from its open start to its open end".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::ByteCount;

    fn span(relation: u64, start: &str, end: &str) -> PlannedSpan {
        PlannedSpan {
            relation: RelationId(relation),
            start: Sealed::from_sealed(start.as_bytes()),
            end: Sealed::from_sealed(end.as_bytes()),
            weight: ByteCount(10),
            settles: false,
        }
    }

    #[test]
    fn only_tilings_are_taken() {
        let legal: [&[PlannedSpan]; 3] = [
            &[],
            &[span(1, "", "")],
            &[span(1, "", "a"), span(1, "a", ""), span(2, "", "")],
        ];
        for spans in legal {
            let mut draft = Draft::new(Some(0));
            assert_eq!(draft.add(&[], spans, true, false), Ok(()), "{spans:?}");
        }
        let illegal: [(&[PlannedSpan], &str); 8] = [
            (&[span(1, "a", "")], "late start"),
            (&[span(1, "", "a")], "early end"),
            (&[span(1, "", "a"), span(1, "b", "")], "gap"),
            (
                &[span(1, "", "a"), span(2, "", "")],
                "early end before another",
            ),
            (&[span(1, "", ""), span(1, "", "")], "twice in a row"),
            (
                &[span(1, "", ""), span(2, "", ""), span(1, "", "")],
                "twice with another between",
            ),
            (
                &[span(1, "", "a"), span(1, "a", "a"), span(1, "a", "")],
                "empty span",
            ),
            (&[span(1, "", "a"), span(1, "", "")], "overlap"),
        ];
        for (spans, what) in illegal {
            let mut draft = Draft::new(Some(0));
            assert!(draft.add(&[], spans, true, false).is_err(), "{what}");
            assert_eq!(draft.segment.len(), 0, "{what}: nothing of it is taken");
        }
    }

    #[test]
    fn batches_continue_each_other() {
        let mut draft = Draft::new(Some(0));
        draft
            .add(&[], &[span(1, "", "a")], false, false)
            .expect("first");
        assert!(
            draft.add(&[], &[span(1, "b", "")], true, false).is_err(),
            "a gap between batches"
        );
        draft
            .add(&[], &[span(1, "a", "")], true, false)
            .expect("last");
        assert_eq!(draft.segment.len(), 2);
        assert_eq!(draft.segment.end(0), Some(Sealed::from_sealed(*b"a")));
        assert_eq!(draft.segment.end(1), Some(Sealed::open_end()));
    }

    #[test]
    fn a_backup_describes_what_it_cuts() {
        let mut draft = Draft::new(Some(0));
        let fault = draft
            .add(&[], &[span(1, "", "")], true, true)
            .expect_err("not described");
        assert!(fault.message.contains("not described"), "{fault}");
    }
}
