//! Where everything lies in the redb file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `format`, `sequence`, `clock_bound` (µs), `threshold`, `ttl_ms`, `next_id`: big-endian integers; positions as 12 bytes |
//! | `databases` | id | version byte, then the record (postcard) |
//! | `relations` | id | version byte, then the record (postcard) |
//! | `holds` | hold id | position, 12 bytes |
//! | `rows` | relation, u64 BE ‖ escaped key ‖ `00 01` ‖ inverted position | `00` for a deletion, or `01` ‖ value |
//! | `runs` | relation, u64 BE ‖ first position | last position ‖ keys, u64 BE ‖ bytes, u64 BE |
//! | `changes` | relation, u64 BE ‖ run's first position ‖ key | logical bytes changed under this key in the run, u64 |
//!
//! * A position is 12 bytes: microseconds, u64 BE ‖ counter, u32 BE; it sorts like the position. Inverted (all bits flipped) it sorts the other
//!   way round, so that the newest version of a key comes first.
//! * In a key, `00` is escaped as `00 FF`, and `00 01` ends it: escaped keys sort like the keys themselves, and no key is a prefix of another.
//! * Bulk-loaded rows have the position zero, which reads as the position at which their table became visible: a restore is published by
//!   changing one record, however many rows it has.
//!
//! # The change index
//! An incremental must cost what changed, not what there is. Every commit notes each changed key in the relation's current *run*; a run is closed
//! after [`RUN_KEYS`] keys or [`RUN_SPAN`]. Within a run the keys are in order, so the keys changed in a window come, in key order and
//! in bounded memory, from merging the runs that overlap the window; what a key's versions are is then looked up in `rows`. At the two ends of
//! the window a run may hold keys that changed just outside: at most `2 × RUN_KEYS` look-ups in vain. (An index in order of position would need
//! sorting for every read; one in order of keys could not find a window.) Garbage collection walks the same runs, so that it, too, costs what
//! changed. Rows that were bulk-loaded are in no run: a window that starts before their table was published walks the whole table, which is
//! new in that window anyway.

use holdfast_types::{Hlc, Millis, RelationId, Timestamp};
use redb::TableDefinition;

/// Keys after which a run of the change index is closed.
pub(crate) const RUN_KEYS: u64 = 4096;

/// Age after which a run of the change index is closed, so that rarely written tables do not keep garbage for ever.
pub(crate) const RUN_SPAN: Millis = Millis(3_600_000);

/// The version of this layout. A store with another one is refused.
pub(crate) const FORMAT: u64 = 1;

/// The version byte before a catalogue record.
pub(crate) const RECORD_VERSION: u8 = 1;

pub(crate) type Bytes12 = [u8; 12];
pub(crate) type Raw = &'static [u8];

pub(crate) const META: TableDefinition<'static, &str, Raw> = TableDefinition::new("meta");
pub(crate) const DATABASES: TableDefinition<'static, u64, Raw> = TableDefinition::new("databases");
pub(crate) const RELATIONS: TableDefinition<'static, u64, Raw> = TableDefinition::new("relations");
pub(crate) const HOLDS: TableDefinition<'static, u64, Raw> = TableDefinition::new("holds");
pub(crate) const ROWS: TableDefinition<'static, Raw, Raw> = TableDefinition::new("rows");
pub(crate) const RUNS: TableDefinition<'static, Raw, Raw> = TableDefinition::new("runs");
pub(crate) const CHANGES: TableDefinition<'static, Raw, u64> = TableDefinition::new("changes");

pub(crate) const META_FORMAT: &str = "format";
pub(crate) const META_SEQUENCE: &str = "sequence";
pub(crate) const META_CLOCK_BOUND: &str = "clock_bound";
pub(crate) const META_THRESHOLD: &str = "threshold";
pub(crate) const META_TTL: &str = "ttl_ms";
pub(crate) const META_NEXT_ID: &str = "next_id";

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 0x01;
/// Sorts after the terminator and before any longer key.
const AFTER_TERMINATOR: u8 = 0x02;

const TAG_DELETE: u8 = 0;
const TAG_PUT: u8 = 1;

/// A position as 12 bytes that sort like it.
pub(crate) fn encode_position(position: Hlc) -> Bytes12 {
    let mut bytes = [0u8; 12];
    bytes[..8].copy_from_slice(&position.wall.as_micros().to_be_bytes());
    bytes[8..].copy_from_slice(&position.logical.to_be_bytes());
    bytes
}

/// Reads a position back; `None` if the length is wrong.
pub(crate) fn decode_position(bytes: &[u8]) -> Option<Hlc> {
    let (micros, logical) = bytes.split_at_checked(8)?;
    Some(Hlc {
        wall: Timestamp::from_micros(u64::from_be_bytes(micros.try_into().ok()?)),
        logical: u32::from_be_bytes(logical.try_into().ok()?),
    })
}

fn inverted(position: Hlc) -> Bytes12 {
    encode_position(position).map(|byte| !byte)
}

/// Reads a big-endian integer back; `None` if the length is wrong.
pub(crate) fn decode_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Everything before the position in the row keys of one key.
pub(crate) fn row_prefix(relation: RelationId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len() + 8 + 12);
    bytes.extend_from_slice(&relation.0.to_be_bytes());
    for &byte in key {
        bytes.push(byte);
        if byte == ESCAPE {
            bytes.push(ESCAPED_ZERO);
        }
    }
    bytes.extend_from_slice(&[ESCAPE, TERMINATOR]);
    bytes
}

/// The row key of one version.
pub(crate) fn row_key(relation: RelationId, key: &[u8], position: Hlc) -> Vec<u8> {
    with_position(row_prefix(relation, key), position)
}

/// Where the versions at or before a position start, given a key's prefix.
pub(crate) fn with_position(mut prefix: Vec<u8>, position: Hlc) -> Vec<u8> {
    prefix.extend_from_slice(&inverted(position));
    prefix
}

/// The first row key after all versions of the key with this prefix.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = AFTER_TERMINATOR;
    }
    bytes
}

/// The first row key (or run key, or change key) of a relation, whether or not it exists.
pub(crate) fn relation_start(relation: RelationId) -> Vec<u8> {
    relation.0.to_be_bytes().to_vec()
}

/// The first row key (or run key, or change key) after everything of a relation.
pub(crate) fn relation_end(relation: RelationId) -> Vec<u8> {
    relation.0.saturating_add(1).to_be_bytes().to_vec()
}

/// The exclusive end of a range of row keys; an empty `end` is the relation's.
pub(crate) fn rows_end(relation: RelationId, end: &[u8]) -> Vec<u8> {
    if end.is_empty() {
        relation_end(relation)
    } else {
        row_prefix(relation, end)
    }
}

/// Splits a row key into prefix and position; `None` if it is malformed.
pub(crate) fn split_row_key(bytes: &[u8]) -> Option<(&[u8], Hlc)> {
    let (prefix, stamp) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
    let mut position: Bytes12 = stamp.try_into().ok()?;
    position.iter_mut().for_each(|byte| *byte = !*byte);
    (prefix.len() >= 10).then_some((prefix, decode_position(&position)?))
}

/// Appends the key that a prefix stands for.
pub(crate) fn unescape_into(prefix: &[u8], key: &mut Vec<u8>) {
    let Some(escaped) = prefix.get(8..prefix.len().saturating_sub(2)) else {
        return;
    };
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == ESCAPE {
            bytes.next();
        }
    }
}

/// Length of the stored form of a value.
pub(crate) fn stored_len(value: Option<&[u8]>) -> usize {
    1 + value.map_or(0, <[u8]>::len)
}

/// Writes the stored form of a value into a buffer of [`stored_len`] bytes.
pub(crate) fn store_value(value: Option<&[u8]>, target: &mut [u8]) {
    let Some((tag, rest)) = target.split_first_mut() else {
        return;
    };
    match value {
        Some(value) => {
            *tag = TAG_PUT;
            rest.copy_from_slice(value);
        }
        None => *tag = TAG_DELETE,
    }
}

/// Reads the stored form of a value: `Some(None)` is a deletion, `None` malformed.
pub(crate) fn stored_value(bytes: &[u8]) -> Option<Option<&[u8]>> {
    match bytes.split_first()? {
        (&TAG_PUT, value) => Some(Some(value)),
        (&TAG_DELETE, []) => Some(None),
        _ => None,
    }
}

/// The key of a run.
pub(crate) fn run_key(relation: RelationId, first: Hlc) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend_from_slice(&relation.0.to_be_bytes());
    bytes.extend_from_slice(&encode_position(first));
    bytes
}

/// The first position of a run, from its key.
pub(crate) fn run_first(bytes: &[u8]) -> Option<Hlc> {
    decode_position(bytes.get(8..)?)
}

/// A run of the change index, as its record tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Hlc,
    pub(crate) last: Hlc,
    /// Different keys.
    pub(crate) keys: u64,
    /// Logical bytes of all versions.
    pub(crate) bytes: u64,
}

impl Run {
    pub(crate) fn encode(&self) -> [u8; 28] {
        let mut bytes = [0u8; 28];
        bytes[..12].copy_from_slice(&encode_position(self.last));
        bytes[12..20].copy_from_slice(&self.keys.to_be_bytes());
        bytes[20..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            first: run_first(key)?,
            last: decode_position(value.get(..12)?)?,
            keys: decode_u64(value.get(12..20)?)?,
            bytes: decode_u64(value.get(20..)?)?,
        })
    }
}

/// The key of an entry of the change index.
pub(crate) fn change_key(relation: RelationId, run: Hlc, key: &[u8]) -> Vec<u8> {
    let mut bytes = run_key(relation, run);
    bytes.extend_from_slice(key);
    bytes
}

/// The exclusive end of a run's entries below `end`; an empty `end` is the run's.
pub(crate) fn changes_end(relation: RelationId, run: Hlc, end: &[u8]) -> Vec<u8> {
    if end.is_empty() {
        run_key(relation, run.next())
    } else {
        change_key(relation, run, end)
    }
}

/// The changed key, from its entry in the change index.
pub(crate) fn changed_key(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(20..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hlc(micros: u64, logical: u32) -> Hlc {
        Hlc {
            wall: Timestamp::from_micros(micros),
            logical,
        }
    }

    #[test]
    fn row_keys_sort_by_relation_key_and_newest_version() {
        let keys: [&[u8]; 9] = [
            b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0\x01", b"ab",
        ];
        let positions = [hlc(9, 9), hlc(9, 0), hlc(1, 7), Hlc::ZERO];
        let mut expected = Vec::new();
        for relation in [RelationId(1), RelationId(2), RelationId(256)] {
            for key in keys {
                for position in positions {
                    expected.push(row_key(relation, key, position));
                }
                assert!(after_prefix(&row_prefix(relation, key)) > *expected.last().expect("some"));
            }
            assert!(relation_end(relation) > *expected.last().expect("some"));
        }
        assert!(expected.is_sorted());
        for pair in keys.windows(2) {
            let after = after_prefix(&row_prefix(RelationId(1), pair[0]));
            assert!(after < row_prefix(RelationId(1), pair[1]));
        }
    }

    #[test]
    fn keys_and_values_are_read_back() {
        let position = hlc(1_763_924_880_000_000, 7);
        for key in [&b""[..], b"\0", b"a\0\xffb", b"plain"] {
            let bytes = row_key(RelationId(5), key, position);
            let (prefix, found) = split_row_key(&bytes).expect("well formed");
            let mut back = Vec::new();
            unescape_into(prefix, &mut back);
            assert_eq!((back.as_slice(), found), (key, position));
        }
        for value in [None, Some(&b""[..]), Some(&b"v"[..])] {
            let mut stored = vec![0; stored_len(value)];
            store_value(value, &mut stored);
            assert_eq!(stored_value(&stored), Some(value));
        }
        assert_eq!(stored_value(b""), None);
        assert_eq!(stored_value(b"\x02x"), None);
    }

    #[test]
    fn malformed_keys_are_noticed() {
        for bytes in [&b""[..], b"short", &[0u8; 21]] {
            assert!(split_row_key(bytes).is_none());
        }
        assert!(Run::decode(&[0; 20], &[0; 27]).is_none());
    }
}
