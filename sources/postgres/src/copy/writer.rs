//! Puts a binary copy together.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_types::{ErrorCode, Fault};

use super::{SIGNATURE, TRAILER};
use crate::tuple::Tuple;

/// Puts a binary copy together, piece by piece: take what is ready by [`Self::take`] whenever [`Self::len`] says it is enough.
#[derive(Debug)]
pub struct CopyWriter {
    buffer: BytesMut,
}

impl Default for CopyWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl CopyWriter {
    /// Begins a copy.
    #[must_use]
    pub fn new() -> Self {
        let mut buffer = BytesMut::new();
        buffer.put_slice(SIGNATURE);
        buffer.put_u32(0);
        buffer.put_u32(0);
        Self { buffer }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if the row has values that are not known.
    pub fn row(&mut self, row: &Tuple) -> Result<(), Fault> {
        if !row.is_whole() {
            return Err(Fault::new(
                ErrorCode::Internal,
                "a row with values that are not known cannot be loaded",
            ));
        }
        self.buffer.put_slice(row.bytes());
        Ok(())
    }

    /// Bytes that are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes what is ready.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Ends the copy, and gives what was not yet taken.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.buffer.put_i16(TRAILER);
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::tests::tuple;

    #[test]
    fn the_form_is_postgres_own() {
        let mut writer = CopyWriter::new();
        writer
            .row(&tuple(&[Some(Ok(vec![5])), None]))
            .expect("whole");
        assert!(writer.row(&tuple(&[Some(Err(()))])).is_err());
        assert_eq!(
            writer.finish().as_ref(),
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01\x05\xff\xff\xff\xff\xff\xff"
        );
    }
}
