//! Parts: what is read, made durable and checkpointed as one.

use bytes::Bytes;
use holdfast_source::{Row, RowBatch, successor};

/// Rows that are made durable together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: RowBatch,
    /// Bytes of their keys and values.
    pub(crate) logical: u64,
    /// Bytes read to get them, in the terms of whoever read.
    pub(crate) read: u64,
    /// Everything before this key is in this part or an earlier one. Without a meaning if it is the last.
    pub(crate) to: Bytes,
    /// Nothing comes after it.
    pub(crate) last: bool,
}

/// Collects rows until a part is full: when it has at least `limit` bytes, at the next change of key. The versions of one key never part, for
/// a checkpoint is a key.
#[derive(Debug)]
pub(crate) struct PartBuilder {
    rows: RowBatch,
    logical: u64,
    limit: u64,
}

impl PartBuilder {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            rows: Vec::new(),
            logical: 0,
            limit,
        }
    }

    /// Whether the row belongs into the next part.
    pub(crate) fn is_full_for(&self, row: &Row) -> bool {
        self.is_full() && self.rows.last().is_some_and(|last| last.key != row.key)
    }

    /// Whether the part is full unless more versions of its last key come.
    pub(crate) fn is_full(&self) -> bool {
        self.logical >= self.limit
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.logical = self.logical.saturating_add(row.logical_len() as u64);
        self.rows.push(row);
    }

    /// The part, when it is full or when nothing comes any more (`last`).
    pub(crate) fn finish(self, last: bool, read: u64) -> Part {
        let to = self.rows.last().map(|row| successor(&row.key));
        Part {
            to: to.unwrap_or_default(),
            rows: self.rows,
            logical: self.logical,
            read,
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_source::Change;
    use holdfast_types::{Hlc, Timestamp};
    use proptest::prelude::*;

    fn row(key: u8, version: u64, length: usize) -> Row {
        Row {
            key: vec![key].into(),
            position: Hlc::at(Timestamp::from_micros(version)).into(),
            change: Change::Put(vec![0; length].into()),
        }
    }

    fn parts(rows: Vec<Row>, limit: u64) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut builder = PartBuilder::new(limit);
        for row in rows {
            if builder.is_full_for(&row) {
                let full = std::mem::replace(&mut builder, PartBuilder::new(limit));
                parts.push(full.finish(false, 0));
            }
            builder.push(row);
        }
        parts.push(builder.finish(true, 0));
        parts
    }

    proptest! {
        #[test]
        fn parts_hold_all_rows_in_order_and_never_split_a_key(
            shape in proptest::collection::vec((1usize..5, 0usize..40), 0..60),
            limit in 1u64..200,
        ) {
            let rows: Vec<Row> = shape
                .iter()
                .enumerate()
                .flat_map(|(key, (versions, length))| {
                    (0..*versions).rev().map(move |version| row(key as u8, version as u64, *length))
                })
                .collect();
            let parts = parts(rows.clone(), limit);
            let together: Vec<Row> = parts.iter().flat_map(|part| part.rows.clone()).collect();
            prop_assert_eq!(together, rows);
            for pair in parts.windows(2) {
                let [part, next] = pair else { unreachable!("windows of two") };
                let largest = 4 * 41;
                prop_assert!(part.logical >= limit && part.logical < limit + largest);
                let first = &next.rows.first().expect("a part that follows has rows").key;
                let last = &part.rows.last().expect("a full part has rows").key;
                prop_assert!(last < &part.to && part.to <= *first, "a resume point between them");
            }
        }
    }
}
