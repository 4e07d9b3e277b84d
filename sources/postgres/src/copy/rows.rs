//! The rows of a `COPY … TO STDOUT` that is running.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use holdfast_types::Fault;
use std::pin::Pin;

use super::CopyReader;
use crate::tuple::Tuple;

/// The rows of a running binary copy, one after the other. Memory: one row, and one message of the connection.
pub struct CopyRows {
    source: Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>,
    reader: CopyReader,
    is_over: bool,
}

impl std::fmt::Debug for CopyRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyRows")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl CopyRows {
    /// Over the chunks that the server sends ([`crate::session::CopyOut`]); rows have so many columns.
    #[must_use]
    pub fn new(
        source: impl Stream<Item = Result<Bytes, Fault>> + Send + 'static,
        columns: usize,
    ) -> Self {
        Self {
            source: Box::pin(source),
            reader: CopyReader::new(columns),
            is_over: false,
        }
    }

    /// The next row, or `None` once the copy has ended as it should. Cancel-safe.
    ///
    /// # Errors
    /// What the server says; [`holdfast_types::ErrorCode::Unavailable`] if the copy was cut.
    pub async fn next(&mut self) -> Result<Option<Tuple>, Fault> {
        loop {
            if let Some(row) = self.reader.next_row()? {
                return Ok(Some(row));
            }
            if self.is_over {
                self.reader.finish()?;
                return Ok(None);
            }
            match self.source.next().await {
                Some(Ok(bytes)) => self.reader.feed(bytes),
                Some(Err(fault)) => return Err(fault),
                None => self.is_over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::CopyWriter;
    use crate::tuple::tests::tuple;
    use holdfast_types::ErrorCode;

    #[tokio::test]
    async fn a_stream_is_read_to_its_trailer_and_not_less() {
        let row = tuple(&[Some(Ok(vec![7; 100])), None]);
        let mut writer = CopyWriter::new();
        writer.row(&row).expect("whole");
        let bytes = writer.finish();
        let pieces = |length: usize| {
            let cut = bytes.slice(..length);
            futures::stream::iter((0..length).map(move |at| Ok(cut.slice(at..=at))))
        };
        let mut rows = CopyRows::new(pieces(bytes.len()), 2);
        assert_eq!(rows.next().await, Ok(Some(row.clone())));
        assert_eq!(rows.next().await, Ok(None));
        assert_eq!(rows.next().await, Ok(None));
        let mut cut = CopyRows::new(pieces(bytes.len() - 1), 2);
        assert_eq!(cut.next().await, Ok(Some(row)));
        let error = cut.next().await.expect_err("no trailer");
        assert_eq!(error.code, ErrorCode::Unavailable);
    }
}
