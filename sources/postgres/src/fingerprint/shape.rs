//! Where values of nested types carry numbers of types.

use bytes::{BufMut, BytesMut};

/// How a value is nested, as far as numbers of types are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing is in it.
    Plain,
    /// An array: the element type's number, and elements.
    Array(Box<Shape>),
    /// A composite value: each field's type and value.
    Record(Vec<Shape>),
    /// A range: bounds.
    Range(Box<Shape>),
    /// A multirange: ranges.
    Multirange(Box<Shape>),
}

/// A range with no bounds in it, a lower bound that is infinite or missing, and an upper one: PostgreSQL's flags.
const EMPTY: u8 = 0x01;
const NO_LOWER: u8 = 0x08 | 0x20;
const NO_UPPER: u8 = 0x10 | 0x40;

impl Shape {
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// The value with every number of a type in it set to zero. `None` if it has not this shape.
    pub(super) fn neutral(&self, value: &[u8]) -> Option<BytesMut> {
        let mut reader = Reader(value);
        let mut out = BytesMut::with_capacity(value.len());
        match self {
            Self::Plain => return Some(BytesMut::from(value)),
            Self::Array(element) => {
                let dimensions = reader.keep_i32(&mut out)?;
                reader.keep_i32(&mut out)?;
                reader.blank(&mut out)?;
                let mut count = i64::from(dimensions > 0);
                for _ in 0..dimensions {
                    count = count.checked_mul(i64::from(reader.keep_i32(&mut out)?))?;
                    reader.keep_i32(&mut out)?;
                }
                for _ in 0..count {
                    reader.nested(element, &mut out)?;
                }
            }
            Self::Record(fields) => {
                let count = usize::try_from(reader.keep_i32(&mut out)?).ok()?;
                if count != fields.len() {
                    return None;
                }
                for field in fields {
                    reader.blank(&mut out)?;
                    reader.nested(field, &mut out)?;
                }
            }
            Self::Range(bound) => {
                let flags = *reader.take(1)?.first()?;
                out.put_u8(flags);
                for missing in [NO_LOWER, NO_UPPER] {
                    if flags & (missing | EMPTY) == 0 {
                        reader.nested(bound, &mut out)?;
                    }
                }
            }
            Self::Multirange(range) => {
                for _ in 0..reader.keep_i32(&mut out)? {
                    reader.nested(range, &mut out)?;
                }
            }
        }
        reader.0.is_empty().then_some(out)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn keep_i32(&mut self, out: &mut BytesMut) -> Option<i32> {
        let bytes = self.take(4)?;
        out.put_slice(bytes);
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    }

    fn blank(&mut self, out: &mut BytesMut) -> Option<()> {
        self.take(4)?;
        out.put_u32(0);
        Some(())
    }

    /// A length and so many bytes, or −1 for null.
    fn nested(&mut self, shape: &Shape, out: &mut BytesMut) -> Option<()> {
        let length = self.keep_i32(out)?;
        if length >= 0 {
            let value = self.take(usize::try_from(length).ok()?)?;
            out.put_slice(&shape.neutral(value)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_types_are_blanked_at_every_depth_and_nothing_else() {
        // An array of one composite value with an integer and a null.
        let value = |outer: u32, inner: u32| {
            let mut record = BytesMut::new();
            record.put_i32(2);
            record.put_u32(inner);
            record.put_i32(4);
            record.put_i32(77);
            record.put_u32(25);
            record.put_i32(-1);
            let mut array = BytesMut::new();
            array.put_i32(1);
            array.put_i32(0);
            array.put_u32(outer);
            array.put_i32(1);
            array.put_i32(1);
            array.put_i32(i32::try_from(record.len()).expect("short"));
            array.put_slice(&record);
            array
        };
        let shape = Shape::Array(Box::new(Shape::Record(vec![Shape::Plain, Shape::Plain])));
        let blank = shape.neutral(&value(16999, 23)).expect("of this shape");
        assert_eq!(Some(&blank), shape.neutral(&value(20001, 23)).as_ref());
        assert_eq!(blank.len(), value(1, 1).len());
        assert!(blank.windows(4).any(|bytes| bytes == [0, 0, 0, 77]));
        let cut = value(1, 1);
        assert_eq!(shape.neutral(&cut[..cut.len() - 1]), None);
    }

    #[test]
    fn an_empty_range_has_no_bounds() {
        let shape = Shape::Range(Box::new(Shape::Plain));
        assert_eq!(shape.neutral(&[EMPTY]).as_deref(), Some(&[EMPTY][..]));
        assert_eq!(shape.neutral(&[0x18]).as_deref(), Some(&[0x18][..]));
        assert_eq!(shape.neutral(&[0x08]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let leaf = || Box::new(Shape::Record(vec![Shape::Plain]));
            for shape in [Shape::Array(leaf()), Shape::Range(leaf()), Shape::Multirange(leaf()), *leaf()] {
                let _ = shape.neutral(&bytes);
            }
        }
    }
}
