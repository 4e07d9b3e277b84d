//! What an application asks to be changed.

use bytes::Bytes;
use holdfast_source::Change;
use holdfast_types::{ErrorCode, Fault, TableName};
use std::fmt;

/// The longest key, in bytes: keys are repeated in the change index and in span bounds.
pub const MAX_KEY_LENGTH: usize = 16 * 1024;

/// The largest row, key and value together, in bytes: it must fit a message with room to spare.
pub const MAX_ROW_LENGTH: usize = 8 * 1024 * 1024;

/// The largest transaction, in bytes of keys and values.
pub const MAX_TRANSACTION_LENGTH: usize = 12 * 1024 * 1024;

/// A change of one row.
#[derive(Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The table.
    pub table: TableName,
    /// The key; not empty.
    pub key: Bytes,
    /// The new content, or deletion.
    pub change: Change,
}

impl Mutation {
    /// Puts a row.
    pub fn put(table: TableName, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            table,
            key: key.into(),
            change: Change::Put(value.into()),
        }
    }

    /// Deletes a row.
    pub fn delete(table: TableName, key: impl Into<Bytes>) -> Self {
        Self {
            table,
            key: key.into(),
            change: Change::Delete,
        }
    }

    /// The new content; `None` for a deletion.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match &self.change {
            Change::Put(value) => Some(value),
            Change::Delete => None,
        }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn logical_len(&self) -> usize {
        self.key.len() + self.value().map_or(0, Bytes::len)
    }
}

impl fmt::Debug for Mutation {
    /// Row values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutation({}, {} bytes)", self.table, self.logical_len())
    }
}

/// Refuses rows that are out of bounds.
pub(crate) fn check_row(table: &TableName, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
    let length = key.len() + value.map_or(0, <[u8]>::len);
    let (problem, hint) = if key.is_empty() {
        ("has an empty key".to_owned(), "give every row a key")
    } else if key.len() > MAX_KEY_LENGTH {
        (
            format!(
                "has a key of {} bytes; at most {MAX_KEY_LENGTH} are stored",
                key.len()
            ),
            "use a shorter key",
        )
    } else if length > MAX_ROW_LENGTH {
        (
            format!("has {length} bytes; at most {MAX_ROW_LENGTH} are stored"),
            "split the row",
        )
    } else {
        return Ok(());
    };
    Err(Fault::new(
        ErrorCode::InvalidArgument,
        format!("a row of table \"{table}\" {problem}"),
    )
    .hint(hint))
}

/// Refuses transactions that are out of bounds; gives the bytes of one that is not.
pub(crate) fn check_transaction(mutations: &[Mutation]) -> Result<usize, Fault> {
    let mut total = 0;
    for mutation in mutations {
        check_row(
            &mutation.table,
            &mutation.key,
            mutation.value().map(AsRef::as_ref),
        )?;
        total += mutation.logical_len();
    }
    if total > MAX_TRANSACTION_LENGTH {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "the transaction has {total} bytes; at most {MAX_TRANSACTION_LENGTH} are taken"
            ),
        )
        .hint("split it"));
    }
    Ok(total)
}
