//! One column of a block on its way into the file.

use holdfast_types::Fault;

use super::recoded;
use super::shuffle::shuffle;
use super::streams::{Compressor, Texture, write_stream};
use super::words::{self, Trial, Words};
use super::{LENGTH_LENGTH, MAX_SHUFFLED_WIDTH, NULL, head};
use crate::wire::Encoder;

/// Bytes up to which a field is copied in one go, without asking how long it is.
const SHORT: usize = 32;

/// Fields of one column.
#[derive(Debug, Default)]
pub(super) struct ColumnBuilder {
    /// One for each row, [`NULL`] for none.
    lengths: Vec<u32>,
    /// The fields that are not null, one after another.
    data: Vec<u8>,
    /// Whether they are shorter by their words, once that was tried: rows of one relation are alike.
    is_by_words: Option<bool>,
}

/// What is used anew by every column.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    lengths: Vec<u32>,
    bytes: Vec<u8>,
    pub(super) numbers: Vec<u64>,
    pub(super) indices: Vec<u8>,
    words: Words,
}

/// What the lengths of a column are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) nulls: usize,
    pub(super) shortest: u32,
    pub(super) longest: u32,
}

impl ColumnBuilder {
    /// Takes the column's field off the rest of a row; `None`, and nothing is taken, if it is not whole.
    pub(super) fn take<'a>(&mut self, row: &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = row.split_first_chunk::<LENGTH_LENGTH>()?;
        let length = u32::from_be_bytes(*length);
        if length == NULL {
            self.lengths.push(NULL);
            return Some(rest);
        }
        let (field, after) = rest.split_at_checked(length as usize)?;
        match (field.len(), rest.first_chunk::<SHORT>()) {
            // Copying a fixed number of bytes and forgetting some is cheaper than a call for each field.
            (0..=SHORT, Some(chunk)) => {
                let end = self.data.len().saturating_add(field.len());
                self.data.extend_from_slice(chunk);
                self.data.truncate(end);
            }
            _ => self.data.extend_from_slice(field),
        }
        self.lengths.push(length);
        Some(after)
    }

    /// Forgets the last field.
    pub(super) fn untake(&mut self) {
        if let Some(length) = self.lengths.pop()
            && length != NULL
        {
            let end = self.data.len().saturating_sub(length as usize);
            self.data.truncate(end);
        }
    }

    /// Makes the builder ready for the next block. Buffers are kept, unless a row was so long that they are out of the ordinary.
    pub(super) fn clear(&mut self, ordinary: usize) {
        self.lengths.clear();
        self.data.clear();
        if self.data.capacity() > ordinary {
            self.data = Vec::new();
        }
    }

    /// The fields that are not null.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let present = self.lengths.iter().filter(|length| **length != NULL);
        let mut rest = self.data.as_slice();
        present.map(move |length| {
            let (field, after) = rest.split_at_checked(*length as usize).unwrap_or_default();
            rest = after;
            field
        })
    }

    /// How many those are.
    pub(super) fn present(&self, found: Lengths) -> usize {
        self.lengths.len().saturating_sub(found.nulls)
    }

    /// The same, one after another.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Writes which rows are null.
    pub(super) fn write_nulls(
        &self,
        compressor: Option<&mut Compressor>,
        scratch: &mut Scratch,
        stored: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        bitmap(&self.lengths, &mut scratch.bytes);
        write_stream(compressor, Texture::Numbers, &scratch.bytes, stored)
    }

    fn measure(&self) -> Lengths {
        let mut found = Lengths {
            nulls: 0,
            shortest: NULL,
            longest: 0,
        };
        for length in &self.lengths {
            found.nulls = found.nulls.wrapping_add(usize::from(*length == NULL));
            found.shortest = found.shortest.min(*length);
            // A null becomes 0, and so is never the longest.
            found.longest = found.longest.max(length.wrapping_add(1));
        }
        found.longest = found.longest.saturating_sub(1);
        found
    }

    /// Writes the column: its head, its one length if there is one, and its streams.
    pub(super) fn write(
        &mut self,
        compressor: &mut Option<Compressor>,
        scratch: &mut Scratch,
        stored: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let found = self.measure();
        if found.nulls == self.lengths.len() {
            stored.push(head::ALL_NULL);
            return Ok(());
        }
        // A file without compression is as version 1 has it, and as quick to write.
        if let Some(some) = compressor
            && recoded::write(self, found, some, scratch, stored)?
        {
            return Ok(());
        }
        let is_constant = found.shortest == found.longest;
        let is_shuffled = is_constant && (2..=MAX_SHUFFLED_WIDTH).contains(&found.longest);
        let size = size_code(is_constant, found.longest);
        scratch.lengths.clear();
        let present = self.lengths.iter().filter(|length| **length != NULL);
        scratch.lengths.extend(present);
        let texture = Texture::of(self.data.len(), self.present(found));
        let is_by_words = match compressor {
            Some(compressor) if !is_shuffled => self.is_by_words(texture, compressor, scratch)?,
            _ => false,
        };
        let mut code = size << head::LENGTHS_SHIFT;
        if is_by_words {
            code |= head::WORDS;
        }
        if found.nulls > 0 {
            code |= head::SOME_NULL;
        }
        if is_shuffled {
            code |= head::SHUFFLED;
        }
        stored.push(code);
        if is_constant {
            let mut length = Encoder::default();
            length.varint(u64::from(found.longest));
            stored.extend_from_slice(&length.0);
        }
        if found.nulls > 0 {
            self.write_nulls(compressor.as_mut(), scratch, stored)?;
        }
        if !is_constant {
            planes_of(&scratch.lengths, size, &mut scratch.bytes);
            write_stream(
                compressor.as_mut(),
                Texture::Numbers,
                &scratch.bytes,
                stored,
            )?;
        }
        if let (true, Some(compressor)) = (is_by_words, &mut *compressor) {
            let text = Trial {
                data: &self.data,
                lengths: &scratch.lengths,
            };
            scratch.words.write(&text, compressor, stored)
        } else if is_shuffled {
            shuffle(&self.data, found.longest as usize, &mut scratch.bytes);
            write_stream(
                compressor.as_mut(),
                Texture::Numbers,
                &scratch.bytes,
                stored,
            )
        } else {
            write_stream(compressor.as_mut(), texture, &self.data, stored)
        }
    }

    /// Whether the fields are stored by their words.
    fn is_by_words(
        &mut self,
        texture: Texture,
        compressor: &mut Compressor,
        scratch: &mut Scratch,
    ) -> Result<bool, Fault> {
        if !words::fits(&self.data) {
            return Ok(false);
        }
        if let Some(known) = self.is_by_words {
            return Ok(known);
        }
        let trial = Trial {
            data: &self.data,
            lengths: &scratch.lengths,
        };
        let are_shorter = scratch.words.are_shorter(&trial, texture, compressor)?;
        Ok(*self.is_by_words.insert(are_shorter))
    }
}

/// How the lengths are written: 0 if they are all one, otherwise by how many bytes the longest takes.
const fn size_code(is_constant: bool, longest: u32) -> u8 {
    match longest {
        _ if is_constant => 0,
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 3,
    }
}

/// A bit for each row, the lowest first, set if the row is null.
fn bitmap(lengths: &[u32], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend(lengths.chunks(8).map(|rows| {
        let bits = rows.iter().enumerate();
        bits.fold(0u8, |byte, (bit, length)| {
            byte | u8::from(*length == NULL) << (bit & 7)
        })
    }));
}

/// The lengths as bytes: all lowest bytes, then all second ones, and so on.
fn planes_of(lengths: &[u32], size: u8, bytes: &mut Vec<u8>) {
    bytes.clear();
    let shifts: &[u32] = match size {
        1 => &[0],
        2 => &[0, 8],
        _ => &[0, 8, 16, 24],
    };
    for shift in shifts {
        bytes.extend(lengths.iter().map(|length| (length >> (shift & 31)) as u8));
    }
}
