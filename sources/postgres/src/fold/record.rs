//! What a fold keeps, and its form in files.

use bytes::{BufMut, Bytes};
use holdfast_types::{ErrorCode, Fault};

use crate::changes::ChangePosition;
use crate::key::Key;
use crate::layout::{Lsn, Oid};
use crate::tuple::{Tuple, take};

/// A version of a row. Ordered by relation, key, position.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The relation.
    pub relation: Oid,
    /// The key.
    pub key: Key,
    /// When it came to be.
    pub position: ChangePosition,
}

impl Version {
    /// Whether both are versions of one row.
    #[must_use]
    pub fn is_same_row(&self, other: &Self) -> bool {
        self.relation == other.relation && self.key == other.key
    }
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// There is no row with this key.
    Delete,
    /// The row is this.
    Put {
        /// Its values, perhaps with some left unchanged.
        row: Tuple,
        /// The key under which the row had its unchanged values just before, if it is another one.
        origin: Option<Key>,
    },
}

/// A version and what became of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which row, and when.
    pub version: Version,
    /// What.
    pub op: Op,
}

const DELETE: u8 = 0;
const PUT: u8 = 1;
const PUT_FROM: u8 = 2;

/// What an entry takes in memory beside its key and values: nodes of the tree, handles of buffers.
const OVERHEAD: usize = 160;

/// The memory that an entry takes, in bytes, about.
pub(super) fn memory(version: &Version, op: &Op) -> usize {
    let values = match op {
        Op::Delete => 0,
        Op::Put { row, origin } => {
            row.bytes().len() + origin.as_ref().map_or(0, |key| key.bytes().len())
        }
    };
    OVERHEAD + version.key.bytes().len() + values
}

/// Bytes before an entry that say how long it is.
pub(super) const LENGTH: usize = 8;

/// Writes all of an entry but its row, which is the end of it and is given back: length (u64), relation, position, kind, key, origin.
pub(super) fn encode<'a>(version: &Version, op: &'a Op, out: &mut Vec<u8>) -> &'a [u8] {
    let start = out.len();
    out.put_u64(0);
    out.put_u32(version.relation.0);
    out.put_u64(version.position.commit.0);
    out.put_u64(version.position.ordinal);
    let put_key = |out: &mut Vec<u8>, key: &Key| {
        out.put_u64(key.bytes().len() as u64);
        out.put_slice(key.bytes());
    };
    let row: &[u8] = match op {
        Op::Delete => {
            out.put_u8(DELETE);
            put_key(out, &version.key);
            &[]
        }
        Op::Put { row, origin } => {
            out.put_u8(if origin.is_some() { PUT_FROM } else { PUT });
            put_key(out, &version.key);
            if let Some(origin) = origin {
                put_key(out, origin);
            }
            row.bytes()
        }
    };
    let length = (out.len() - start - LENGTH + row.len()) as u64;
    if let Some(place) = out.get_mut(start..start + LENGTH) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    row
}

/// Reads an entry, without its length.
pub(super) fn decode(bytes: &[u8]) -> Result<Entry, Fault> {
    decode_parts(bytes).ok_or_else(|| {
        Fault::new(
            ErrorCode::Corrupted,
            "a file of the fold was changed by somebody else",
        )
    })
}

fn decode_parts(mut rest: &[u8]) -> Option<Entry> {
    let rest = &mut rest;
    let relation = Oid(u32::from_be_bytes(take(rest)?));
    let commit = Lsn(u64::from_be_bytes(take(rest)?));
    let ordinal = u64::from_be_bytes(take(rest)?);
    let [kind] = take(rest)?;
    let version = Version {
        relation,
        key: take_key(rest)?,
        position: ChangePosition { commit, ordinal },
    };
    let op = match kind {
        DELETE if rest.is_empty() => Op::Delete,
        PUT | PUT_FROM => {
            let origin = match kind {
                PUT_FROM => Some(take_key(rest)?),
                _ => None,
            };
            let columns = usize::try_from(i16::from_be_bytes(*rest.first_chunk()?)).ok()?;
            let row = Tuple::parse(Bytes::copy_from_slice(rest), columns).ok()?;
            Op::Put { row, origin }
        }
        _ => return None,
    };
    Some(Entry { version, op })
}

fn take_key(rest: &mut &[u8]) -> Option<Key> {
    let length = usize::try_from(u64::from_be_bytes(take(rest)?)).ok()?;
    let (key, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Key::from_own(Bytes::copy_from_slice(key)))
}
