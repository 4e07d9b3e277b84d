//! Putting the columns of a block together into rows.
//!
//! Rows are made some hundreds at a time, so that what is being written stays in a processor's nearest caches, and column by column among these,
//! so that what kind of column it is is asked once for all of them.

use holdfast_types::Fault;

use super::decoder::{Column, Shape};
use super::shuffle::unshuffle;
use super::{COUNT_LENGTH, FORM, LENGTH_LENGTH, NULL};

/// Bytes of rows that are made at a time, about.
const TILE_SIZE: usize = 64 << 10;
/// The most rows that are made at a time.
const TILE_ROWS: usize = 1024;

/// How much of a column has been used.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    /// Fields that are not null.
    fields: usize,
    /// Their bytes.
    bytes: usize,
}

/// The rows, and where each ends.
pub(super) fn assemble(
    columns: &[Column],
    stored: &[u8],
    rows: usize,
    logical: usize,
) -> Result<(Vec<u8>, Vec<u32>), Fault> {
    let ends = ends_of(columns, rows);
    if ends.last().copied().unwrap_or(0) as usize != logical {
        return Err(inconsistent());
    }
    let [high, low] = (columns.len() as u16).to_be_bytes();
    let tile_rows = rows
        .saturating_mul(TILE_SIZE)
        .checked_div(logical)
        .unwrap_or(TILE_ROWS)
        .clamp(1, TILE_ROWS);
    let mut bytes = Vec::with_capacity(logical);
    let mut used = vec![Used::default(); columns.len()];
    let mut cursors: Vec<u32> = Vec::with_capacity(tile_rows);
    let mut values = Vec::new();
    let mut first = 0usize;
    for tile_ends in ends.chunks(tile_rows) {
        let base = bytes.len();
        let end = tile_ends.last().copied().unwrap_or(0) as usize;
        bytes.resize(end, 0);
        let tile = bytes.get_mut(base..).unwrap_or_default();
        cursors.clear();
        let base = base as u32;
        cursors.push(0);
        cursors.extend(tile_ends.iter().map(|end| end.wrapping_sub(base)));
        cursors.pop();
        let mut is_sound = scatter::<COUNT_LENGTH>(tile, &mut cursors, |_| [high, low]);
        for (column, used) in columns.iter().zip(&mut used) {
            let mut place = Tile {
                bytes: &mut *tile,
                cursors: &mut cursors,
                values: &mut values,
            };
            is_sound &= place.write(column, stored, first, used);
        }
        if !is_sound {
            return Err(inconsistent());
        }
        first = first.saturating_add(tile_ends.len());
    }
    Ok((bytes, ends))
}

/// Lengths were checked against the index before: this cannot happen.
fn inconsistent() -> Fault {
    FORM.damaged("a block has another length than the index says")
}

/// Where each row ends.
fn ends_of(columns: &[Column], rows: usize) -> Vec<u32> {
    let fixed = columns.iter().fold(COUNT_LENGTH, |sum, column| {
        let field = match column.shape {
            Shape::Fixed(width) => width as usize,
            Shape::Null | Shape::Varied => 0,
        };
        sum.saturating_add(LENGTH_LENGTH).saturating_add(field)
    });
    let mut ends = vec![fixed as u32; rows];
    for column in columns {
        if column.shape == Shape::Varied {
            for (row, length) in ends.iter_mut().zip(&column.lengths) {
                // No sum is beyond the length of the block, which is below 2^31.
                *row = row.wrapping_add(if *length == NULL { 0 } else { *length });
            }
        }
    }
    let mut end = 0u32;
    for row in &mut ends {
        end = end.wrapping_add(*row);
        *row = end;
    }
    ends
}

/// Rows that are being made, and for each of them where its next field goes.
struct Tile<'a> {
    bytes: &'a mut [u8],
    cursors: &'a mut [u32],
    /// Fields of a shuffled column, put together.
    values: &'a mut Vec<u8>,
}

impl Tile<'_> {
    /// Writes a column's field into every row; `first` is the number of the first row. Whether everything was where it should be.
    fn write(&mut self, column: &Column, stored: &[u8], first: usize, used: &mut Used) -> bool {
        let rows = self.cursors.len();
        let lengths = match column.shape {
            Shape::Null => return self.write_nulls(),
            Shape::Fixed(_) => &[],
            Shape::Varied => {
                let rest = column.lengths.get(first..).unwrap_or_default();
                rest.get(..rows).unwrap_or_default()
            }
        };
        let data = column.data(stored);
        let (fields, size) = match column.shape {
            Shape::Fixed(width) => (rows, rows.saturating_mul(width as usize)),
            _ => lengths
                .iter()
                .fold((0usize, 0usize), |(fields, size), length| {
                    let is_null = *length == NULL;
                    let length = if is_null { 0 } else { *length as usize };
                    (
                        fields.wrapping_add(usize::from(!is_null)),
                        size.wrapping_add(length),
                    )
                }),
        };
        let given = if column.shuffled > 0 {
            let width = column.shuffled as usize;
            unshuffle(data, width, used.fields, fields, self.values);
            self.values.as_slice()
        } else {
            let rest = data.get(used.bytes..).unwrap_or_default();
            rest.get(..size).unwrap_or_default()
        };
        used.fields = used.fields.saturating_add(fields);
        used.bytes = used.bytes.saturating_add(size);
        match column.shape {
            Shape::Fixed(width) => write_fixed(self.bytes, self.cursors, given, width),
            _ => write_varied(self.bytes, self.cursors, given, lengths),
        }
    }

    fn write_nulls(&mut self) -> bool {
        scatter::<LENGTH_LENGTH>(self.bytes, self.cursors, |_| NULL.to_be_bytes())
    }
}

/// Writes a few bytes at every cursor, and moves it on.
fn scatter<const N: usize>(
    bytes: &mut [u8],
    cursors: &mut [u32],
    mut next: impl FnMut(usize) -> [u8; N],
) -> bool {
    let mut is_sound = true;
    for (row, cursor) in cursors.iter_mut().enumerate() {
        let place = bytes.get_mut(*cursor as usize..);
        match place.and_then(|place| place.first_chunk_mut::<N>()) {
            Some(place) => *place = next(row),
            None => is_sound = false,
        }
        *cursor = cursor.wrapping_add(N as u32);
    }
    is_sound
}

/// Fields of one width, with their lengths. Those of numbers and times are written as a whole.
fn write_fixed(bytes: &mut [u8], cursors: &mut [u32], values: &[u8], width: u32) -> bool {
    match width {
        1 => write_sized::<1, 5>(bytes, cursors, values),
        2 => write_sized::<2, 6>(bytes, cursors, values),
        4 => write_sized::<4, 8>(bytes, cursors, values),
        8 => write_sized::<8, 12>(bytes, cursors, values),
        16 => write_sized::<16, 20>(bytes, cursors, values),
        _ => {
            let mut is_sound = true;
            let mut rest = values;
            for cursor in cursors {
                let (value, after) = rest.split_at_checked(width as usize).unwrap_or_default();
                rest = after;
                is_sound &= write_field(bytes, cursor, value, width);
            }
            is_sound
        }
    }
}

/// Fields of `N` bytes; `SLOT` is that and the bytes of the length.
fn write_sized<const N: usize, const SLOT: usize>(
    bytes: &mut [u8],
    cursors: &mut [u32],
    values: &[u8],
) -> bool {
    const { assert!(SLOT == N + LENGTH_LENGTH) };
    let mut is_sound = true;
    for (cursor, value) in cursors.iter_mut().zip(values.as_chunks::<N>().0) {
        let place = bytes.get_mut(*cursor as usize..);
        match place.and_then(|place| place.first_chunk_mut::<SLOT>()) {
            Some(place) => {
                let (length, field) = place.split_at_mut(LENGTH_LENGTH);
                length.copy_from_slice(&(N as u32).to_be_bytes());
                field.copy_from_slice(value);
            }
            None => is_sound = false,
        }
        *cursor = cursor.wrapping_add(SLOT as u32);
    }
    is_sound
}

/// Fields of any lengths.
fn write_varied(bytes: &mut [u8], cursors: &mut [u32], values: &[u8], lengths: &[u32]) -> bool {
    let mut is_sound = lengths.len() == cursors.len();
    let mut rest = values;
    for (cursor, length) in cursors.iter_mut().zip(lengths) {
        if *length == NULL {
            is_sound &= write_field(bytes, cursor, &[], NULL);
            continue;
        }
        let (value, after) = rest.split_at_checked(*length as usize).unwrap_or_default();
        rest = after;
        is_sound &= value.len() == *length as usize && write_field(bytes, cursor, value, *length);
    }
    is_sound
}

/// One field and its length, at the cursor, which is moved on.
#[inline]
fn write_field(bytes: &mut [u8], cursor: &mut u32, value: &[u8], length: u32) -> bool {
    let at = *cursor as usize;
    let taken = value.len().wrapping_add(LENGTH_LENGTH);
    *cursor = cursor.wrapping_add(taken as u32);
    let place = bytes.get_mut(at..).and_then(|place| place.get_mut(..taken));
    match place.and_then(|place| place.split_first_chunk_mut::<LENGTH_LENGTH>()) {
        Some((head, field)) => {
            *head = length.to_be_bytes();
            copy(field, value);
            true
        }
        None => false,
    }
}

/// Copies between slices of one length. Short fields, which most are, are copied without a call, in two halves that may overlap.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
        if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
            *to = *from;
        }
        if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
            *to = *from;
        }
    }
    match from.len() {
        0 => {}
        1 => ends::<1>(to, from),
        2..=3 => ends::<2>(to, from),
        4..=7 => ends::<4>(to, from),
        8..=15 => ends::<8>(to, from),
        16..=32 => ends::<16>(to, from),
        _ if to.len() == from.len() => to.copy_from_slice(from),
        _ => {}
    }
}
