//! A row's values: the tuple of `COPY … BINARY`, which is also how a row is kept.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_types::{ErrorCode, Fault};
use std::fmt;

/// The length that stands for null.
const NULL: i32 = -1;

/// The length that stands for a value that a change left as it was (unchanged TOAST). It occurs in changes, never in `COPY`.
const UNCHANGED: i32 = -2;

/// The most columns that a tuple can have: PostgreSQL's own limit is 1600.
const MAX_COLUMNS: usize = i16::MAX as usize;

/// The value of one column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Null.
    Null,
    /// The change left the value as it was, and the log does not have it.
    Unchanged,
    /// The bytes of the type's send function (or its text, see [`crate::layout::Column::as_text`]).
    Value(&'a [u8]),
}

impl fmt::Debug for Field<'_> {
    /// Values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Unchanged => f.write_str("Unchanged"),
            Self::Value(bytes) => write!(f, "Value({} bytes)", bytes.len()),
        }
    }
}

/// A row's values in the order of [`crate::layout::Layout::columns`]: an i16 count, then for each column an i32 length and the bytes; −1 is
/// null, −2 (in changes alone) a value left unchanged. Big endian. The structure was checked when the value was made.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple(Bytes);

impl fmt::Debug for Tuple {
    /// Values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tuple({} bytes)", self.0.len())
    }
}

impl Tuple {
    /// Takes bytes for a tuple.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if they are not exactly one tuple of `columns` columns.
    pub fn parse(bytes: Bytes, columns: usize) -> Result<Self, Fault> {
        check(&bytes, columns).map(|_| Self(bytes))
    }

    /// Puts a tuple together.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if a value or the number of columns is longer than the form can say.
    pub fn build<'a>(fields: impl ExactSizeIterator<Item = Field<'a>>) -> Result<Self, Fault> {
        if fields.len() > MAX_COLUMNS {
            return Err(malformed("it has too many columns"));
        }
        let mut bytes = BytesMut::with_capacity(2 + fields.len() * 12);
        let count = i16::try_from(fields.len()).unwrap_or(i16::MAX);
        bytes.put_i16(count);
        for field in fields {
            match field {
                Field::Null => bytes.put_i32(NULL),
                Field::Unchanged => bytes.put_i32(UNCHANGED),
                Field::Value(value) => {
                    let length = i32::try_from(value.len())
                        .map_err(|_| malformed("a value is longer than PostgreSQL allows"))?;
                    bytes.put_i32(length);
                    bytes.put_slice(value);
                }
            }
        }
        Ok(Self(bytes.freeze()))
    }

    /// The bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The values in column order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        fields_of(&self.0)
    }

    /// Whether every value is known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.fields().all(|field| field != Field::Unchanged)
    }

    /// This row with the values that it left unchanged taken from the row version before it.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if the two have different numbers of columns.
    pub fn filled_from(&self, before: &Self) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        let mut older = before.fields();
        for field in self.fields() {
            let old = older
                .next()
                .ok_or_else(|| malformed("its earlier version has fewer columns"))?;
            fields.push(if field == Field::Unchanged {
                old
            } else {
                field
            });
        }
        if older.next().is_some() {
            return Err(malformed("its earlier version has more columns"));
        }
        Self::build(fields.into_iter())
    }
}

/// Sees that bytes are exactly one tuple of so many columns; says whether every value is known.
///
/// # Errors
/// [`ErrorCode::Corrupted`] if they are not.
pub(crate) fn check(bytes: &[u8], columns: usize) -> Result<bool, Fault> {
    let mut rest = bytes;
    let count = take::<2>(&mut rest).map(i16::from_be_bytes);
    if count.and_then(|count| usize::try_from(count).ok()) != Some(columns) {
        return Err(malformed("it has another number of columns"));
    }
    let mut is_whole = true;
    for _ in 0..columns {
        let field = next_field(&mut rest).ok_or_else(|| malformed("it ends inside a column"))?;
        is_whole &= field != Field::Unchanged;
    }
    match rest.is_empty() {
        true => Ok(is_whole),
        false => Err(malformed("bytes follow the last column")),
    }
}

/// The values of a tuple that was [checked](check), in column order.
pub(crate) fn fields_of(bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            None
        } else {
            next_field(&mut rest)
        }
    })
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    match i32::from_be_bytes(take::<4>(rest)?) {
        NULL => Some(Field::Null),
        UNCHANGED => Some(Field::Unchanged),
        length => {
            let (value, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = tail;
            Some(Field::Value(value))
        }
    }
}

fn malformed(why: &str) -> Fault {
    Fault::new(ErrorCode::Corrupted, format!("a row is malformed: {why}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A value as tests say it: `None` null, `Some(Err(()))` unchanged.
    pub(crate) type Plain = Option<Result<Vec<u8>, ()>>;

    pub(crate) fn tuple(values: &[Plain]) -> Tuple {
        Tuple::build(values.iter().map(|value| match value {
            None => Field::Null,
            Some(Err(())) => Field::Unchanged,
            Some(Ok(bytes)) => Field::Value(bytes),
        }))
        .expect("short")
    }

    fn plain() -> impl Strategy<Value = Plain> {
        prop_oneof![
            Just(None),
            Just(Some(Err(()))),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Ok(bytes))),
        ]
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_back(values in proptest::collection::vec(plain(), 0..9)) {
            let built = tuple(&values);
            let parsed = Tuple::parse(built.bytes().clone(), values.len()).expect("own bytes");
            prop_assert_eq!(&parsed, &built);
            prop_assert_eq!(parsed.is_whole(), !values.contains(&Some(Err(()))));
            prop_assert!(Tuple::parse(built.bytes().clone(), values.len() + 1).is_err());
        }

        #[test]
        fn any_bytes_are_a_tuple_or_an_error(bytes: Vec<u8>, columns in 0usize..4) {
            if let Ok(tuple) = Tuple::parse(bytes.clone().into(), columns) {
                prop_assert_eq!(tuple.fields().count(), columns);
                let built = Tuple::build(tuple.fields().collect::<Vec<_>>().into_iter());
                prop_assert_eq!(built.expect("short").bytes().to_vec(), bytes);
            }
        }
    }

    #[test]
    fn unchanged_values_come_from_the_version_before() {
        let before = tuple(&[Some(Ok(b"1".to_vec())), None, Some(Ok(b"big".to_vec()))]);
        let after = tuple(&[Some(Ok(b"2".to_vec())), Some(Err(())), Some(Err(()))]);
        let filled = after.filled_from(&before).expect("same columns");
        assert_eq!(
            filled,
            tuple(&[Some(Ok(b"2".to_vec())), None, Some(Ok(b"big".to_vec()))])
        );
        assert!(after.filled_from(&tuple(&[None])).is_err());
        assert!(tuple(&[None]).filled_from(&after).is_err());
    }
}
