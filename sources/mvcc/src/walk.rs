//! Walking versions in key order: the one place that knows which versions a window sees.

use bytes::Bytes;
use holdfast_source::{Change, Row};
use holdfast_types::{Hlc, KeyRange, Position, RelationId, RowSum};
use redb::ReadableTable;

use crate::engine::corrupted;
use crate::layout::{self, Raw};
use crate::writer::Step;

/// Versions passed over before the walk seeks instead of stepping.
const SEEK_AFTER: usize = 12;

/// Versions looked at in one go: it bounds how long a read transaction stays open over rows of which nothing is visible.
const MAX_SCANNED: usize = 200_000;

/// Which versions of a relation are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) relation: RelationId,
    /// What the position zero of bulk-loaded rows stands for.
    pub(crate) created_at: Hlc,
    /// `None`: what is visible at `upto`; otherwise what changed in `(after, upto]`, deletions included.
    pub(crate) after: Option<Hlc>,
    pub(crate) upto: Hlc,
    /// Every version in the window, instead of the last of each key.
    pub(crate) history: bool,
}

/// What takes the versions that a walk finds, in the order of (key ascending, position descending).
pub(crate) trait Sink {
    /// Takes a version; `None` is a deletion.
    fn take(&mut self, key: &[u8], position: Hlc, value: Option<&[u8]>) -> Step<()>;

    /// Whether the walk shall stop before the next key.
    fn is_full(&self) -> bool;
}

/// Where in the versions of a key the walk is.
#[derive(Default)]
struct Cursor {
    /// The row-key prefix of the key; empty before the first one.
    prefix: Vec<u8>,
    key: Vec<u8>,
    /// Nothing more is wanted of this key.
    decided: bool,
    /// Versions passed over since the last seek.
    skipped: usize,
}

impl Cursor {
    fn enter(&mut self, prefix: &[u8]) {
        self.prefix.clear();
        self.prefix.extend_from_slice(prefix);
        self.key.clear();
        layout::unescape_into(prefix, &mut self.key);
        self.decided = false;
        self.skipped = 0;
    }

    /// Passes over a version; gives the row key to seek to when stepping has taken long enough.
    fn skip(&mut self, view: &View) -> Option<Vec<u8>> {
        self.skipped += 1;
        if self.skipped < SEEK_AFTER {
            return None;
        }
        self.skipped = 0;
        Some(if self.decided {
            layout::after_prefix(&self.prefix)
        } else {
            layout::with_position(self.prefix.clone(), view.upto)
        })
    }
}

/// Gives the versions of a range to a sink, until the range ends (`None`) or the sink is full: then the key to go on from.
pub(crate) fn walk(
    rows: &impl ReadableTable<Raw, Raw>,
    view: &View,
    range: &KeyRange,
    sink: &mut impl Sink,
) -> Step<Option<Bytes>> {
    if view.upto < view.created_at {
        return Ok(None);
    }
    let end = layout::rows_end(view.relation, &range.end);
    let mut lower = layout::row_prefix(view.relation, &range.start);
    let mut cursor = Cursor::default();
    let mut scanned = 0;
    'seek: while lower < end {
        for entry in rows.range::<&[u8]>(lower.as_slice()..end.as_slice())? {
            let (row_key, stored) = entry?;
            let (prefix, stored_at) =
                layout::split_row_key(row_key.value()).ok_or_else(|| corrupted("row key"))?;
            if prefix != cursor.prefix {
                cursor.enter(prefix);
                if sink.is_full() || scanned >= MAX_SCANNED {
                    return Ok(Some(Bytes::copy_from_slice(&cursor.key)));
                }
            }
            scanned += 1;
            // Bulk-loaded rows have the position zero.
            let position = stored_at.max(view.created_at);
            if cursor.decided || position > view.upto {
                if let Some(target) = cursor.skip(view) {
                    lower = target;
                    continue 'seek;
                }
                continue;
            }
            if view.after.is_some_and(|after| position <= after) {
                cursor.decided = true;
                continue;
            }
            let value =
                layout::stored_value(stored.value()).ok_or_else(|| corrupted("row value"))?;
            if value.is_some() || view.after.is_some() {
                sink.take(&cursor.key, position, value)?;
            }
            cursor.decided = !(view.history && view.after.is_some());
        }
        break;
    }
    Ok(None)
}

/// Collects versions as rows whose keys and values share one buffer.
#[derive(Debug)]
pub(crate) struct BatchSink {
    budget: usize,
    arena: Vec<u8>,
    rows: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    start: usize,
    key_length: usize,
    value_length: Option<usize>,
    position: Hlc,
}

/// What a row costs in memory besides key and value: many tiny rows must not make a huge batch.
const ROW_OVERHEAD: usize = 64;

/// The most that the versions of one key may take in one window, in bytes: they are not split between batches.
const MAX_KEY_HISTORY: usize = 256 * 1024 * 1024;

impl BatchSink {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            arena: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn length(&self) -> usize {
        self.arena.len() + self.rows.len() * ROW_OVERHEAD
    }

    /// The rows taken.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        let arena = Bytes::from(self.arena);
        self.rows
            .into_iter()
            .map(|slot| {
                let value_start = slot.start + slot.key_length;
                Row {
                    key: arena.slice(slot.start..value_start),
                    position: Position::Hlc(slot.position),
                    change: match slot.value_length {
                        Some(length) => Change::Put(arena.slice(value_start..value_start + length)),
                        None => Change::Delete,
                    },
                }
            })
            .collect()
    }
}

impl Sink for BatchSink {
    fn take(&mut self, key: &[u8], position: Hlc, value: Option<&[u8]>) -> Step<()> {
        if self.length() > MAX_KEY_HISTORY {
            return Err(holdfast_types::Fault::new(
                holdfast_types::ErrorCode::FailedPrecondition,
                format!(
                    "one key has more than {MAX_KEY_HISTORY} bytes of versions in the window up to {position}"
                ),
            )
            .hint("take backups with history more often, or without history")
            .into());
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value.unwrap_or_default());
        self.rows.push(Slot {
            start,
            key_length: key.len(),
            value_length: value.map(<[u8]>::len),
            position,
        });
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.length() >= self.budget
    }
}

/// Sums rows up.
#[derive(Debug)]
pub(crate) struct SumSink {
    budget: u64,
    pub(crate) sum: RowSum,
}

impl SumSink {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            sum: RowSum::default(),
        }
    }
}

impl Sink for SumSink {
    fn take(&mut self, key: &[u8], _position: Hlc, value: Option<&[u8]>) -> Step<()> {
        if let Some(value) = value {
            self.sum.add(key, value);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.sum.bytes.0 >= self.budget
    }
}
