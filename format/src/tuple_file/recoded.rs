//! Columns whose fields are stored as something shorter that says the same: numbers, decimals, and few different values. Whatever cannot be told again byte by
//! byte is stored as it is.

use holdfast_types::Fault;

use super::column::{ColumnBuilder, Lengths, Scratch};
use super::decimal;
use super::decoder::{Column, Shape, Source};
use super::dictionary::{Dictionary, MAX_ENTRIES, MAX_READ_LENGTH};
use super::numbers::Packing;
use super::streams::{Compressor, Texture, write_stream};
use super::{FORM, NULL, head};
use crate::wire::Encoder;

/// Rows below which a column is not worth it.
const LEAST_ROWS: usize = 16;

/// How the fields of a column are recoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recoding {
    /// As numbers: whole ones and times, of four or eight bytes.
    Numbers,
    /// As numbers: decimals of one scale.
    Decimals,
    /// As places in a list of all different values.
    Dictionary,
}

impl Recoding {
    const fn code(self) -> u8 {
        let way = match self {
            Self::Numbers => 1u8,
            Self::Decimals => 2,
            Self::Dictionary => 3,
        };
        way << head::RECODED_SHIFT
    }

    /// What the head of a column says; `None` if it is not recoded.
    pub(super) const fn of(code: u8) -> Option<Self> {
        match (code & head::RECODED) >> head::RECODED_SHIFT {
            1 => Some(Self::Numbers),
            2 => Some(Self::Decimals),
            3 => Some(Self::Dictionary),
            _ => None,
        }
    }
}

/// Writes the column, if it is worth it; otherwise gives `false`, and nothing is written.
pub(super) fn write(
    column: &ColumnBuilder,
    found: Lengths,
    compressor: &mut Compressor,
    scratch: &mut Scratch,
    stored: &mut Vec<u8>,
) -> Result<bool, Fault> {
    let rows = column.present(found);
    // Flags and the smallest numbers are bytes already.
    if rows < LEAST_ROWS || (found.shortest == found.longest && found.longest < 3) {
        return Ok(false);
    }
    let mut list = Encoder::default();
    let (recoding, argument) =
        if let Some(found) = Dictionary::of(column.fields(), rows, &mut scratch.indices) {
            for entry in &found.entries {
                list.bytes(entry);
            }
            (Recoding::Dictionary, found.entries.len() as u64)
        } else if let Some((recoding, argument)) = numbers(column, found, &mut scratch.numbers) {
            let packing = Packing::pack(&mut scratch.numbers);
            if recoding == Recoding::Numbers && !packing.is_gain() {
                return Ok(false);
            }
            packing.encode(&mut list);
            packing.planes(&scratch.numbers, &mut scratch.indices);
            (recoding, argument)
        } else {
            return Ok(false);
        };
    let mut head = Encoder::default();
    let nulls = if found.nulls > 0 {
        head::SOME_NULL
    } else {
        head::NO_NULLS
    };
    head.u8(recoding.code() | nulls).varint(argument);
    stored.extend_from_slice(&head.0);
    if found.nulls > 0 {
        column.write_nulls(Some(&mut *compressor), scratch, stored)?;
    }
    stored.extend_from_slice(&list.0);
    write_stream(Some(compressor), Texture::Numbers, &scratch.indices, stored)?;
    Ok(true)
}

/// The numbers that the fields are, and their width or their scale.
fn numbers(
    column: &ColumnBuilder,
    found: Lengths,
    numbers: &mut Vec<u64>,
) -> Option<(Recoding, u64)> {
    numbers.clear();
    let recoding = match (found.shortest, found.longest) {
        (4, 4) => {
            let (fields, _) = column.data().as_chunks::<4>();
            let fields = fields.iter().map(|field| i32::from_be_bytes(*field));
            numbers.extend(fields.map(|number| i64::from(number) as u64));
            Recoding::Numbers
        }
        (8, 8) => {
            let (fields, _) = column.data().as_chunks::<8>();
            numbers.extend(fields.iter().map(|field| u64::from_be_bytes(*field)));
            Recoding::Numbers
        }
        _ => {
            let scale = column.fields().next().and_then(decimal::scale_of)?;
            for field in column.fields() {
                numbers.push(decimal::parse(field, scale)? as u64);
            }
            return Some((Recoding::Decimals, u64::from(scale)));
        }
    };
    Some((recoding, u64::from(found.longest)))
}

/// Reads the column's fields: what follows the bits of its nulls. `rows` are all, `present` those that are not null and have a length of 0 if others have
/// one; `budget` is the most bytes that the fields may amount to. Gives those that they do.
pub(super) fn read(
    (recoding, argument): (Recoding, u64),
    source: &mut Source<'_>,
    column: &mut Column,
    (rows, present): (usize, usize),
    (stream, numbers): (&mut Vec<u8>, &mut Vec<u64>),
    budget: usize,
) -> Result<usize, Fault> {
    column.shuffled = 0;
    column.in_place = None;
    if recoding == Recoding::Dictionary {
        return read_dictionary(argument, source, column, (rows, present), stream, budget);
    }
    let packing = source.take(Packing::decode)?;
    source.fill(packing.length(present), stream)?;
    packing.unpack(stream, present, numbers);
    let mut lengths = Vec::new();
    let is_sound = match (recoding, argument) {
        (Recoding::Numbers, 4) => {
            lengths.push(4);
            numbers.iter().all(|number| {
                let short = *number as i32;
                column.unpacked.extend_from_slice(&short.to_be_bytes());
                i64::from(short) as u64 == *number
            })
        }
        (Recoding::Numbers, 8) => {
            lengths.push(8);
            let fields = numbers.iter().flat_map(|number| number.to_be_bytes());
            column.unpacked.extend(fields);
            true
        }
        (Recoding::Decimals, scale) if scale <= u64::from(decimal::MAX_SCALE) => {
            for number in &*numbers {
                let start = column.unpacked.len();
                decimal::write(*number as i64, scale as u16, &mut column.unpacked);
                lengths.push(column.unpacked.len().saturating_sub(start) as u32);
            }
            true
        }
        _ => false,
    };
    if !is_sound {
        return Err(unknown());
    }
    set_lengths(column, &lengths, (rows, present));
    Ok(column.unpacked.len())
}

fn read_dictionary(
    count: u64,
    source: &mut Source<'_>,
    column: &mut Column,
    (rows, present): (usize, usize),
    stream: &mut Vec<u8>,
    budget: usize,
) -> Result<usize, Fault> {
    if count == 0 || count > MAX_ENTRIES as u64 {
        return Err(unknown());
    }
    let mut entries: Vec<&[u8]> = Vec::new();
    for _ in 0..count {
        entries.push(source.take(|decoder| decoder.bytes(MAX_READ_LENGTH))?);
    }
    source.fill(present, stream)?;
    let mut lengths = Vec::with_capacity(present);
    let mut total = 0usize;
    for index in &*stream {
        let entry = entries.get(usize::from(*index)).ok_or_else(unknown)?;
        lengths.push(entry.len() as u32);
        total = total.saturating_add(entry.len());
    }
    if total > budget {
        return Err(FORM.damaged("a column is longer than its block"));
    }
    column.unpacked.reserve(total);
    for index in &*stream {
        let entry = entries
            .get(usize::from(*index))
            .copied()
            .unwrap_or_default();
        column.unpacked.extend_from_slice(entry);
    }
    if let Some(first) = lengths.first().copied()
        && lengths.iter().all(|length| *length == first)
    {
        lengths.truncate(1);
    }
    set_lengths(column, &lengths, (rows, present));
    Ok(total)
}

/// Says how long the fields are that are not null: those of one length, or each.
fn set_lengths(column: &mut Column, lengths: &[u32], (rows, present): (usize, usize)) {
    if let ([length], true) = (lengths, rows == present) {
        column.shape = Shape::Fixed(*length);
        return;
    }
    column.shape = Shape::Varied;
    if rows == present {
        column.lengths.resize(rows, 0);
    }
    let mut given = lengths.iter().copied().cycle();
    for length in column.lengths.iter_mut().filter(|length| **length != NULL) {
        *length = given.next().unwrap_or(0);
    }
}

fn unknown() -> Fault {
    FORM.damaged("a column is stored unknown")
}
