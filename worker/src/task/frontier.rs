//! How far a span is done.

use holdfast_proto::{LeaseReportBody, SpanWork};
use holdfast_types::{ByteCount, ObjectRef, RowCount, Sealed, SettledDatabase};

/// What a part of a span amounts to.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) read: ByteCount,
    pub(crate) written: ByteCount,
    pub(crate) rows: RowCount,
    /// With the last part of a settling span: where its database ended, and what the layer holds of it.
    pub(crate) settled: Option<SettledDatabase>,
}

/// How far a span is done: where its next checkpoint starts.
#[derive(Debug)]
pub(crate) struct Frontier {
    at: Sealed,
    end: Sealed,
}

impl Frontier {
    /// As the grant says.
    pub(crate) fn of(span: &SpanWork) -> Self {
        Self {
            at: span.frontier.clone(),
            end: span.end.clone(),
        }
    }

    /// The checkpoint of a part that ends before `to`, or, with `None`, where the span does. The next one starts there.
    pub(crate) fn checkpoint(&mut self, to: Option<Sealed>, progress: Progress) -> LeaseReportBody {
        let last = to.is_none();
        let to = to.unwrap_or_else(|| self.end.clone());
        LeaseReportBody::Checkpoint {
            from: std::mem::replace(&mut self.at, to.clone()),
            to,
            last,
            objects: progress.objects,
            read: progress.read,
            written: progress.written,
            rows: progress.rows,
            settled: progress.settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::RelationId;

    #[test]
    fn checkpoints_are_a_chain_from_frontier_to_end() {
        let sealed = |byte| Sealed::from_sealed(vec![byte; 20]);
        let mut frontier = Frontier::of(&SpanWork {
            member: 0,
            relation: RelationId(1),
            start: sealed(1),
            end: sealed(9),
            frontier: sealed(3),
            record: None,
            settles: false,
            planned: Vec::new(),
        });
        let ends = [Some(sealed(5)), Some(sealed(7)), None];
        let chain: Vec<_> = ends
            .into_iter()
            .map(|to| match frontier.checkpoint(to, Progress::default()) {
                LeaseReportBody::Checkpoint { from, to, last, .. } => (from, to, last),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            chain,
            [
                (sealed(3), sealed(5), false),
                (sealed(5), sealed(7), false),
                (sealed(7), sealed(9), true)
            ]
        );
    }
}
