//! How rows that changed stand in row objects.
//!
//! The key is the relation's object id (u32 BE) and the row's [`Key`], the position that of the change. The value of a row of
//! [`DatabaseCatalog::rows`](super::catalog::DatabaseCatalog::rows) is its [`Tuple`], whole. In
//! [`DatabaseCatalog::versions`](super::catalog::DatabaseCatalog::versions) the tuple may lack values, and before it stands where those are:
//! the length (u32 BE) and bytes of the key that the row had just before, length zero if it had the same.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use holdfast_source::{Change, Row};
use holdfast_types::{ErrorCode, Fault, KeyRange, Position};

use crate::changes::ChangePosition;
use crate::fold::{Entry, Op, Version};
use crate::key::Key;
use crate::layout::{Layout, Lsn, Oid};
use crate::tuple::Tuple;

/// The key of a row in a row object.
#[must_use]
pub fn row_key(relation: Oid, key: &Key) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + key.bytes().len());
    bytes.put_u32(relation.0);
    bytes.put_slice(key.bytes());
    bytes.freeze()
}

/// The keys of all rows of a relation.
#[must_use]
pub fn relation_range(relation: Oid) -> KeyRange {
    let end = relation.0.checked_add(1).map(u32::to_be_bytes);
    KeyRange {
        start: Bytes::copy_from_slice(&relation.0.to_be_bytes()),
        end: end.map_or_else(Bytes::new, |end| Bytes::copy_from_slice(&end)),
    }
}

/// The relation that a row belongs to.
///
/// # Errors
/// [`ErrorCode::Corrupted`] if it is no row of this source.
pub fn relation_of(row: &Row) -> Result<Oid, Fault> {
    let bytes = row.key.first_chunk().ok_or_else(malformed)?;
    Ok(Oid(u32::from_be_bytes(*bytes)))
}

/// A row of the final state.
///
/// # Errors
/// [`ErrorCode::ResourceExhausted`] for a transaction of more changes than can be counted; [`ErrorCode::Internal`] if the row is not whole.
pub fn final_row(entry: Entry) -> Result<Row, Fault> {
    let change = match entry.op {
        Op::Delete => Change::Delete,
        Op::Put { row, .. } if row.is_whole() => Change::Put(row.bytes().clone()),
        Op::Put { .. } => {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!("a row of relation {} is not whole", entry.version.relation),
            ));
        }
    };
    with_key(&entry.version, change)
}

/// A row of the final state as an entry of a fold.
///
/// # Errors
/// [`ErrorCode::Corrupted`] if it is not one of a relation with this layout.
pub fn read_final_row(row: &Row, layout: &Layout) -> Result<Entry, Fault> {
    let op = match &row.change {
        Change::Delete => Op::Delete,
        Change::Put(value) => Op::Put {
            row: Tuple::parse(value.clone(), layout.columns.len())?,
            origin: None,
        },
    };
    Ok(Entry {
        version: version(row, layout)?,
        op,
    })
}

/// One version of history.
///
/// # Errors
/// [`ErrorCode::ResourceExhausted`] for a transaction of more changes than can be counted.
pub fn version_row(entry: Entry) -> Result<Row, Fault> {
    let change = match entry.op {
        Op::Delete => Change::Delete,
        Op::Put { row, origin } => {
            let origin = origin.as_ref().map_or(&[][..], |key| key.bytes());
            let mut value = BytesMut::with_capacity(4 + origin.len() + row.bytes().len());
            value.put_u32(u32::try_from(origin.len()).map_err(|_| malformed())?);
            value.put_slice(origin);
            value.put_slice(row.bytes());
            Change::Put(value.freeze())
        }
    };
    with_key(&entry.version, change)
}

/// One version of history as an entry of a fold ([`crate::fold::Fold::put`], of [`crate::fold::Keep::All`]).
///
/// # Errors
/// [`ErrorCode::Corrupted`] if it is not one of a relation with this layout.
pub fn read_version_row(row: &Row, layout: &Layout) -> Result<Entry, Fault> {
    let op = match &row.change {
        Change::Delete => Op::Delete,
        Change::Put(value) => {
            let mut rest = value.clone();
            let length = rest.try_get_u32().map_err(|_| malformed())?;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            if length > rest.len() {
                return Err(malformed());
            }
            let origin = rest.split_to(length);
            Op::Put {
                origin: match length {
                    0 => None,
                    _ => Some(Key::parse(origin, layout.key.len())?),
                },
                row: Tuple::parse(rest, layout.columns.len())?,
            }
        }
    };
    Ok(Entry {
        version: version(row, layout)?,
        op,
    })
}

fn with_key(version: &Version, change: Change) -> Result<Row, Fault> {
    let ordinal = match (
        version.position.ordinal,
        u32::try_from(version.position.ordinal),
    ) {
        // What was read again at the end of a window stands after all of its changes.
        (u64::MAX, _) | (_, Ok(u32::MAX)) => u32::MAX,
        (_, Ok(ordinal)) => ordinal,
        (_, Err(_)) => {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "the transaction committed at {} has more than 2^32 changes",
                    version.position.commit
                ),
            ));
        }
    };
    Ok(Row {
        key: row_key(version.relation, &version.key),
        position: Position::Lsn(holdfast_types::Lsn {
            lsn: version.position.commit.0,
            ordinal,
        }),
        change,
    })
}

fn version(row: &Row, layout: &Layout) -> Result<Version, Fault> {
    let relation = relation_of(row)?;
    let Position::Lsn(at) = row.position else {
        return Err(malformed());
    };
    if relation != layout.oid {
        return Err(malformed());
    }
    Ok(Version {
        relation,
        key: Key::parse(row.key.slice(4..), layout.key.len())?,
        position: ChangePosition {
            commit: Lsn(at.lsn),
            ordinal: u64::from(at.ordinal),
        },
    })
}

fn malformed() -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        "a row of the backup is not one of this source",
    )
}
