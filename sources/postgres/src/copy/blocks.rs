//! Takes the header and the trailer off a binary copy that comes in blocks of whole rows.

use bytes::{Buf, Bytes};
use holdfast_types::Fault;

use super::TRAILER;
use super::reader::{header_length, malformed, stopped};

/// Bytes of the trailer.
const TRAILER_LENGTH: usize = TRAILER.to_be_bytes().len();

/// The rows of a binary copy whose blocks are whole messages of the server ([`crate::session::Session::copy_out_blocks`]), each of which is a row. They are
/// not looked at: whoever stores them, or adds them up, sees whether they are what they should be. Memory: one block, since the last one ends with
/// the trailer, and only the end tells which it is.
#[derive(Debug, Default)]
pub struct CopyBlocks {
    has_begun: bool,
    last: Bytes,
}

impl CopyBlocks {
    /// Adds a block, and gives the rows of the one before, if it had any.
    ///
    /// # Errors
    /// [`holdfast_types::ErrorCode::Corrupted`] if the first one does not begin as a binary copy.
    pub fn feed(&mut self, mut block: Bytes) -> Result<Option<Bytes>, Fault> {
        if !self.has_begun && !block.is_empty() {
            let length = header_length(&block)?;
            block.advance(length.ok_or_else(|| malformed("its header is cut in two"))?);
            self.has_begun = true;
        }
        if block.is_empty() {
            return Ok(None);
        }
        // A trailer that comes alone leaves the rows before it as they are.
        let before = std::mem::replace(&mut self.last, block);
        Ok((!before.is_empty()).then_some(before))
    }

    /// The rows of the last block, if it had any.
    ///
    /// # Errors
    /// [`holdfast_types::ErrorCode::Unavailable`] if the copy has not ended: the connection was cut.
    pub fn finish(mut self) -> Result<Option<Bytes>, Fault> {
        let Some(rows) = self.last.len().checked_sub(TRAILER_LENGTH) else {
            return Err(stopped());
        };
        let trailer = self.last.split_off(rows);
        if trailer.as_ref() != TRAILER.to_be_bytes() {
            return Err(stopped());
        }
        Ok((!self.last.is_empty()).then_some(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::tests::{rows, written};
    use super::super::rows_of;
    use super::*;
    use holdfast_types::ErrorCode;
    use proptest::prelude::*;

    /// A server's blocks of a copy: the header comes with the first row, and the trailer by itself or with the last.
    fn blocks(bytes: &Bytes, ends: &[usize]) -> Vec<Bytes> {
        let mut start = 0;
        let ends = ends.iter().copied().chain([bytes.len()]);
        let blocks = ends.map(|end| bytes.slice(std::mem::replace(&mut start, end)..end));
        blocks.filter(|block| !block.is_empty()).collect()
    }

    fn read(blocks: &[Bytes]) -> Result<Vec<u8>, Fault> {
        let (mut reader, mut read) = (CopyBlocks::default(), Vec::new());
        for block in blocks {
            read.extend(reader.feed(block.clone())?.into_iter().flatten());
        }
        read.extend(reader.finish()?.into_iter().flatten());
        Ok(read)
    }

    proptest! {
        #[test]
        fn blocks_are_all_rows_and_nothing_else(rows in rows(), picks in proptest::collection::vec(any::<bool>(), 21)) {
            let bytes = written(&rows);
            let mut ends = vec![written(&[]).len() - TRAILER_LENGTH];
            ends.extend(rows.iter().map(|row| row.bytes().len()));
            let mut end = 0;
            for length in &mut ends {
                end += *length;
                *length = end;
            }
            // The header never comes alone.
            let some: Vec<usize> = ends.iter().zip(&picks).skip(1).filter(|(_, pick)| **pick).map(|(end, _)| *end).collect();
            let plain: Vec<u8> = rows.iter().flat_map(|row| row.bytes().to_vec()).collect();
            prop_assert_eq!(read(&blocks(&bytes, &some)), Ok(plain.clone()));
            let cut: Result<Vec<&[u8]>, Fault> = rows_of(&plain, 2).collect();
            prop_assert_eq!(cut.expect("whole rows").concat(), plain);
        }

        #[test]
        fn a_copy_without_its_end_is_an_error(rows in rows()) {
            let bytes = written(&rows);
            let cut = bytes.slice(..bytes.len() - TRAILER_LENGTH);
            let fault = match read(&[cut]) {
                // The null at the end of a row reads as a trailer; the row is then cut in two, as whoever takes it sees.
                Ok(read) => {
                    prop_assert!(rows_of(&read, 2).any(|row| row.is_err()));
                    return Ok(());
                }
                Err(fault) => fault,
            };
            prop_assert_eq!(fault.code, ErrorCode::Unavailable);
        }
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        let bytes = written(&[]);
        assert_eq!(read(std::slice::from_ref(&bytes)), Ok(Vec::new()));
        assert!(read(&[]).is_err());
        assert!(read(&[bytes.slice(1..)]).is_err());
        assert!(read(&[bytes.slice(..5), bytes.slice(5..)]).is_err());
    }
}
