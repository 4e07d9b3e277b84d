//! Keys of rows: opaque, compared byte by byte.
//!
//! That two keys which PostgreSQL holds for equal may have different bytes (`1.0` and `1.00`, texts under a nondeterministic collation) does no
//! harm: PostgreSQL itself decides by the bytes whether an update changed the key, and a deletion names the bytes of the row that it
//! deletes. So every row version is met under exactly the bytes that it was written with.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_types::{ErrorCode, Fault};
use std::fmt;

use crate::tuple::{Field, Tuple, fields_of, take};

/// The key of a row: for each key column in key order its length (u32 BE) and its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl fmt::Debug for Key {
    /// Keys are row data and never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

impl Key {
    /// The key of a row; `columns` are the key columns in key order, as indexes into the row's columns. The bytes are copied, so that a
    /// kept key does not hold the row.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if a key column is missing, null or left unchanged.
    pub fn of(row: &Tuple, columns: &[usize]) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        key_into(row.bytes(), columns, &mut bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The key with these parts, in key order.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if there is no part, or one is missing.
    pub fn join(parts: &[Option<&[u8]>]) -> Result<Self, Fault> {
        if parts.is_empty() {
            return Err(missing());
        }
        let length = parts.iter().map(|part| part.map_or(0, <[u8]>::len) + 4);
        let mut bytes = BytesMut::with_capacity(length.sum());
        for part in parts {
            let part = part.ok_or_else(missing)?;
            bytes.put_u32(u32::try_from(part.len()).map_err(|_| missing())?);
            bytes.put_slice(part);
        }
        Ok(Self(bytes.freeze()))
    }

    /// Takes bytes for a key of `columns` columns.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if they are none.
    pub fn parse(bytes: Bytes, columns: usize) -> Result<Self, Fault> {
        let key = Self(bytes);
        let length: usize = key.parts().map(|part| part.len() + 4).sum();
        if columns > 0 && key.parts().count() == columns && length == key.0.len() {
            Ok(key)
        } else {
            Err(missing())
        }
    }

    /// A key that was written by [`Self::bytes`] to a file of this process, guarded by the caller.
    pub(crate) fn from_own(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The values of the key columns, in key order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let length = usize::try_from(u32::from_be_bytes(take::<4>(&mut rest)?)).ok()?;
            let (part, tail) = rest.split_at_checked(length)?;
            rest = tail;
            Some(part)
        })
    }
}

/// Puts the bytes of the key of a checked tuple in the place of what is in `key`.
///
/// # Errors
/// As [`Key::of`].
pub(crate) fn key_into(row: &[u8], columns: &[usize], key: &mut Vec<u8>) -> Result<(), Fault> {
    key.clear();
    if columns.is_empty() {
        return Err(missing());
    }
    for column in columns {
        // Key columns are few, and most often the first ones.
        let Some(Field::Value(part)) = fields_of(row).nth(*column) else {
            return Err(missing());
        };
        key.put_u32(u32::try_from(part.len()).map_err(|_| missing())?);
        key.put_slice(part);
    }
    Ok(())
}

fn missing() -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        "a row has no value in a column of its key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::tests::tuple;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_read_back(parts in proptest::collection::vec(any::<Vec<u8>>(), 1..5)) {
            let slices: Vec<_> = parts.iter().map(|part| Some(part.as_slice())).collect();
            let key = Key::join(&slices).expect("nothing missing");
            prop_assert_eq!(key.parts().map(<[u8]>::to_vec).collect::<Vec<_>>(), parts.clone());
            let again = Key::parse(key.bytes().clone(), parts.len());
            prop_assert_eq!(again.as_ref(), Ok(&key));
            prop_assert!(Key::parse(key.bytes().clone(), parts.len() + 1).is_err());
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes: Vec<u8>, columns in 0usize..4) {
            if let Ok(key) = Key::parse(bytes.into(), columns) {
                prop_assert_eq!(key.parts().count(), columns);
            }
        }
    }

    #[test]
    fn the_key_follows_the_key_order_and_must_be_whole() {
        let row = tuple(&[Some(Ok(b"a".to_vec())), None, Some(Ok(b"ccc".to_vec()))]);
        let key = Key::of(&row, &[2, 0]).expect("both are there");
        assert_eq!(key.bytes().as_ref(), b"\0\0\0\x03ccc\0\0\0\x01a");
        for columns in [&[][..], &[1], &[0, 1], &[3]] {
            assert!(Key::of(&row, columns).is_err(), "{columns:?}");
        }
        assert!(Key::of(&tuple(&[Some(Err(()))]), &[0]).is_err());
    }
}
