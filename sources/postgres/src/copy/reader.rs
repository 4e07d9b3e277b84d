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

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the copy has not ended: the connection was cut.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.state == State::Ended && self.front().is_empty() {
            Ok(())
        } else {
            Err(stopped())
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

    fn header_length(&self) -> Result<Option<usize>, Fault> {
        header_length(self.front())
    }
}

/// The length of the header at the front, if it is wholly there.
pub(super) fn header_length(front: &[u8]) -> Result<Option<usize>, Fault> {
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

/// The rows of a block of [`super::CopyBlocks`].
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

/// The connection was cut.
pub(super) fn stopped() -> Fault {
    Fault::new(ErrorCode::Unavailable, "the copy stopped before its end")
}

pub(super) fn malformed(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the server's binary copy is malformed: {why}"),
    )
}

#[cfg(test)]
pub(super) mod tests {
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

    pub(in crate::copy) fn written(rows: &[Tuple]) -> Bytes {
        let mut writer = CopyWriter::new();
        for row in rows {
            writer.row(row).expect("whole");
        }
        writer.finish()
    }

    pub(in crate::copy) fn rows() -> impl Strategy<Value = Vec<Tuple>> {
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
