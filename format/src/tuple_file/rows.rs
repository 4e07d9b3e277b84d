//! The rows of a block, as binary COPY has them.

use bytes::Bytes;
use holdfast_types::RowCount;
use std::fmt;
use std::ops::Range;

use super::{COUNT_LENGTH, LENGTH_LENGTH, NULL};

/// Rows of one block, one after another, ready to be sent to a `COPY … FROM STDIN (FORMAT binary)` between its header and its trailer.
#[derive(Clone, PartialEq, Eq)]
pub struct TupleRows {
    bytes: Bytes,
    /// Where each row ends.
    ends: Vec<u32>,
}

impl TupleRows {
    pub(super) fn new(bytes: Bytes, ends: Vec<u32>) -> Self {
        Self { bytes, ends }
    }

    /// All rows.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> RowCount {
        RowCount(self.ends.len() as u64)
    }

    /// Where each row lies in [`TupleRows::bytes`], in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let row = start..*end as usize;
            start = row.end;
            row
        })
    }

    /// Each row, in order.
    pub fn iter(&self) -> impl Iterator<Item = TupleRow<'_>> + '_ {
        self.ranges()
            .map(|range| TupleRow(self.bytes.get(range).unwrap_or_default()))
    }
}

impl fmt::Debug for TupleRows {
    /// Rows never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TupleRows({} of {} bytes)",
            self.count(),
            self.bytes.len()
        )
    }
}

/// One row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TupleRow<'a>(&'a [u8]);

impl<'a> TupleRow<'a> {
    /// The row as COPY has it: its field count, and for each field its length and its bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its fields, in the order of the columns; `None` is null.
    #[must_use]
    pub fn fields(self) -> TupleFields<'a> {
        let (_, rest) = self.0.split_at_checked(COUNT_LENGTH).unwrap_or_default();
        TupleFields { rest }
    }
}

impl fmt::Debug for TupleRow<'_> {
    /// Rows never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TupleRow({} bytes)", self.0.len())
    }
}

/// The fields of a row.
#[derive(Clone)]
pub struct TupleFields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TupleFields<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<LENGTH_LENGTH>()?;
        let length = u32::from_be_bytes(*length);
        if length == NULL {
            self.rest = rest;
            return Some(None);
        }
        let (field, rest) = rest.split_at_checked(length as usize)?;
        self.rest = rest;
        Some(Some(field))
    }
}

impl fmt::Debug for TupleFields<'_> {
    /// Rows never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TupleFields({} bytes)", self.rest.len())
    }
}
