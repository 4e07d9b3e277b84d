//! Takes the bytes of a binary copy apart into rows.

use bytes::{Buf, Bytes, BytesMut};
use holdfast_types::{ErrorCode, Fault};

use super::{SIGNATURE, TRAILER};
use crate::tuple::Tuple;

/// The longest row that is read, in bytes. PostgreSQL sends a row as one message, of at most 1 GiB.
pub const MAX_ROW: usize = 1 << 30;

/// The longest header extension that is read over, in bytes. There is none today.
const MAX_EXTENSION: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// Takes a binary copy apart into rows, wherever its bytes were cut. It holds what was fed and not yet taken. A row that came in one piece, as servers
/// send them, is not copied; it keeps that piece in memory for as long as it lives.
#[derive(Debug)]
pub struct CopyReader {
    columns: usize,
    state: State,
    /// What comes next, if nothing is in `partial`.
    chunk: Bytes,
    /// A row (or the header) that is not wholly there.
    partial: BytesMut,
    /// How far the row at the front was looked through, and how many of its columns: a long row that arrives in many pieces is not looked
    /// through from its start each time.
    seen: (usize, usize),
}

impl CopyReader {
    /// A reader of rows of so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self {
            columns,
            state: State::Header,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            seen: (0, 0),
        }
    }

    /// Adds bytes. Take all rows out by [`Self::next_row`] before the next call, or they are copied.
    pub fn feed(&mut self, bytes: Bytes) {
        if self.partial.is_empty() && self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            self.set_aside();
            self.partial.extend_from_slice(&bytes);
        }
    }

    /// The next row; `None` if it needs more bytes, or the copy has ended.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if the bytes are no binary copy of so many columns; [`ErrorCode::ResourceExhausted`] if a row is longer than
    /// [`MAX_ROW`].
    pub fn next_row(&mut self) -> Result<Option<Tuple>, Fault> {
        loop {
            let length = match self.state {
                State::Header => self.header_length()?,
                State::Rows => {
                    let mut seen = self.seen;
                    let length = row_length(self.front(), self.columns, &mut seen)?;
                    self.seen = seen;
                    length
                }
                State::Ended if self.front().is_empty() => return Ok(None),
                State::Ended => return Err(malformed("bytes follow its end")),
            };
            let Some(length) = length else {
                self.set_aside();
                if self.partial.len() > MAX_ROW {
                    return Err(too_long());
                }
                return Ok(None);
            };
            self.seen = (0, 0);
            self.settle();
            let bytes = self.chunk.split_to(length);
            match self.state {
                State::Header => self.state = State::Rows,
                State::Rows if bytes.len() == 2 && bytes.starts_with(&TRAILER.to_be_bytes()) => {
                    self.state = State::Ended;
                }
                State::Rows | State::Ended => return Tuple::parse(bytes, self.columns).map(Some),
            }
        }
    }

    /// All rows that are wholly there, one after another; `None` if there are none. Nothing is made of a row, so that many cost little.
    ///
    /// # Errors
    /// As [`Self::next_row`]; rows before the one that is wrong are not given.
    pub fn next_rows(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.state == State::Header {
            let Some(length) = self.header_length()? else {
                self.set_aside();
                return Ok(None);
            };
            self.settle();
            self.chunk.advance(length);
            self.state = State::Rows;
        }
        self.settle();
        let (mut whole, mut is_over) = (0, self.state == State::Ended);
        while !is_over {
            let rest = self.chunk.get(whole..).unwrap_or_default();
            match row_length(rest, self.columns, &mut self.seen)? {
                Some(2) if rest.starts_with(&TRAILER.to_be_bytes()) => is_over = true,
                Some(length) => {
                    whole += length;
                    self.seen = (0, 0);
                }
                // What was seen of this row still holds when more of it is there.
                None => break,
            }
        }
        let rows = self.chunk.split_to(whole);
        if is_over && self.state == State::Rows {
            self.chunk.advance(2);
            self.state = State::Ended;
        }
        if is_over && !self.chunk.is_empty() {
            return Err(malformed("bytes follow its end"));
        }
        self.set_aside();
        if self.partial.len() > MAX_ROW {
            return Err(too_long());
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the copy has not ended: the connection was cut.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.state == State::Ended && self.front().is_empty() {
            Ok(())
        } else {
            Err(Fault::new(
                ErrorCode::Unavailable,
                "the copy stopped before its end",
            ))
        }
    }

    /// What comes next, as far as it is there.
    fn front(&self) -> &[u8] {
        if self.partial.is_empty() {
            &self.chunk
        } else {
            &self.partial
        }
    }

    /// What was set aside comes next.
    fn settle(&mut self) {
        if !self.partial.is_empty() {
            self.chunk = std::mem::take(&mut self.partial).freeze();
        }
    }

    /// Keeps what is not a whole row until more comes.
    fn set_aside(&mut self) {
        let rest = std::mem::take(&mut self.chunk);
        self.partial.extend_from_slice(&rest);
    }

    /// The length of the header, if it is wholly there.
    fn header_length(&self) -> Result<Option<usize>, Fault> {
        let front = self.front();
        let fixed = SIGNATURE.len() + 8;
        let Some(mut rest) = front.get(SIGNATURE.len()..fixed) else {
            return Ok(None);
        };
        if !front.starts_with(SIGNATURE) {
            return Err(malformed("it does not begin like one"));
        }
        // The upper half of the flags is critical; bit 16 says that rows carry OIDs, which no server does since 12.
        if rest.get_u32() >> 16 != 0 {
            return Err(malformed("it has flags that are not known"));
        }
        let extension = usize::try_from(rest.get_u32()).unwrap_or(usize::MAX);
        if extension > MAX_EXTENSION {
            return Err(malformed("its header is too long"));
        }
        let length = fixed + extension;
        Ok((front.len() >= length).then_some(length))
    }
}

/// The length of the row (or the trailer) at the front, if it is wholly there. `seen` is how far it was looked through, and is moved on.
fn row_length(
    front: &[u8],
    columns: usize,
    seen: &mut (usize, usize),
) -> Result<Option<usize>, Fault> {
    let (mut offset, mut column) = *seen;
    let Some(count) = front.first_chunk::<2>() else {
        return Ok(None);
    };
    let count = i16::from_be_bytes(*count);
    if count == TRAILER {
        return Ok(Some(2));
    }
    if usize::try_from(count).ok() != Some(columns) {
        return Err(malformed("a row has another number of columns"));
    }
    offset = offset.max(2);
    while column < columns {
        let rest = front.get(offset..).unwrap_or_default();
        let Some(length) = rest.first_chunk::<4>() else {
            break;
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| malformed("a length is negative"))?,
        };
        if rest.len() - 4 < length {
            break;
        }
        offset += 4 + length;
        column += 1;
    }
    *seen = (offset, column);
    Ok((column == columns).then_some(offset))
}

/// The rows of a block of [`CopyReader::next_rows`].
///
/// # Errors
/// `Corrupted` if it is none.
pub(crate) fn rows_of(
    mut block: &[u8],
    columns: usize,
) -> impl Iterator<Item = Result<&[u8], Fault>> {
    std::iter::from_fn(move || {
        if block.is_empty() {
            return None;
        }
        let length = row_length(block, columns, &mut (0, 0));
        let row = length.and_then(|length| {
            let whole = length.and_then(|length| block.split_at_checked(length));
            whole.ok_or_else(|| malformed("a block ends in the middle of a row"))
        });
        Some(match row {
            Ok((row, rest)) => {
                block = rest;
                Ok(row)
            }
            Err(fault) => {
                block = &[];
                Err(fault)
            }
        })
    })
}

fn too_long() -> Fault {
    Fault::new(
        ErrorCode::ResourceExhausted,
        format!("a row is longer than {MAX_ROW} bytes"),
    )
}

fn malformed(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the server's binary copy is malformed: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::CopyWriter;
    use crate::tuple::tests::tuple;
    use proptest::prelude::*;

    fn read(reader: &mut CopyReader, pieces: &[&[u8]]) -> Result<Vec<Tuple>, Fault> {
        let mut rows = Vec::new();
        for piece in pieces {
            reader.feed(Bytes::copy_from_slice(piece));
            while let Some(row) = reader.next_row()? {
                rows.push(row);
            }
        }
        reader.finish()?;
        Ok(rows)
    }

    fn written(rows: &[Tuple]) -> Bytes {
        let mut writer = CopyWriter::new();
        for row in rows {
            writer.row(row).expect("whole");
        }
        writer.finish()
    }

    fn rows() -> impl Strategy<Value = Vec<Tuple>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let row = (value.clone(), value)
            .prop_map(|(first, second)| tuple(&[first.map(Ok), second.map(Ok)]));
        proptest::collection::vec(row, 0..20)
    }

    proptest! {
        #[test]
        fn rows_are_read_back_wherever_the_bytes_are_cut(rows in rows(), size in 1usize..50) {
            let bytes = written(&rows);
            let pieces: Vec<_> = bytes.chunks(size).collect();
            prop_assert_eq!(read(&mut CopyReader::new(2), &pieces), Ok(rows));
        }

        #[test]
        fn blocks_are_all_rows_and_nothing_else(rows in rows(), size in 1usize..200) {
            let bytes = written(&rows);
            let mut reader = CopyReader::new(2);
            let mut blocks = Vec::new();
            for piece in bytes.chunks(size) {
                reader.feed(Bytes::copy_from_slice(piece));
                let whole = reader.next_rows().expect("own bytes");
                let block = whole.unwrap_or_default();
                let cut: Result<Vec<&[u8]>, Fault> = rows_of(&block, 2).collect();
                prop_assert_eq!(cut.expect("whole rows").concat(), block.to_vec());
                blocks.extend_from_slice(&block);
            }
            prop_assert_eq!(reader.finish(), Ok(()));
            let plain: Vec<u8> = rows.iter().flat_map(|row| row.bytes().to_vec()).collect();
            prop_assert_eq!(blocks, plain);
        }

        #[test]
        fn blocks_of_a_cut_or_spoilt_copy_are_an_error(rows in rows(), cut: proptest::sample::Index, byte: u8) {
            let bytes = written(&rows);
            let cut = cut.index(bytes.len());
            let mut reader = CopyReader::new(2);
            reader.feed(bytes.slice(..cut));
            prop_assert!(reader.next_rows().is_ok());
            prop_assert!(reader.finish().is_err());
            let mut spoilt = bytes.to_vec();
            spoilt[cut] = byte;
            // It must neither panic nor loop; whether it is an error depends on what was hit.
            let mut reader = CopyReader::new(2);
            reader.feed(spoilt.into());
            let _ = reader.next_rows();
            let mut longer = bytes.to_vec();
            longer.push(byte);
            let mut reader = CopyReader::new(2);
            reader.feed(longer.into());
            prop_assert!(reader.next_rows().is_err());
        }

        #[test]
        fn a_cut_copy_is_an_error(rows in rows(), cut: proptest::sample::Index) {
            let bytes = written(&rows);
            let cut = cut.index(bytes.len());
            let error = read(&mut CopyReader::new(2), &[&bytes[..cut]]).expect_err("cut");
            prop_assert_eq!(error.code, ErrorCode::Unavailable);
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(rows in rows(), at: proptest::sample::Index, byte: u8) {
            let mut bytes = written(&rows).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // It must neither panic nor loop; whether it is an error depends on what was hit.
            let _ = read(&mut CopyReader::new(2), &[&bytes]);
        }
    }

    #[test]
    fn what_is_no_copy_of_the_relation_is_refused() {
        let row = tuple(&[None]);
        let bytes = written(std::slice::from_ref(&row));
        assert!(read(&mut CopyReader::new(2), &[&bytes]).is_err());
        assert!(read(&mut CopyReader::new(1), &[&bytes, b"x"]).is_err());
        let mut oids = bytes.to_vec();
        oids[12] = 1;
        assert!(read(&mut CopyReader::new(1), &[&oids]).is_err());
        assert_eq!(read(&mut CopyReader::new(1), &[&bytes]), Ok(vec![row]));
    }
}
