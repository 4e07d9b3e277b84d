//! The data of a `COPY … TO STDOUT` as it comes.

use bytes::Bytes;
use futures::Stream;
use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tokio_postgres::CopyOutStream;

use super::tap::TapReader;
use super::{Canceller, Running, fault};

/// Chunks as the server sends them: for `COPY` of rows, one row a chunk; the header comes with the first, the trailer is the last. Of
/// [`super::Session::copy_out_blocks`] many rows a chunk.
///
/// Dropped before its end, it stops the statement. Its session must live as long.
pub struct CopyOut {
    stream: Pin<Box<CopyOutStream>>,
    /// What has the rows, if it is not the stream.
    tap: Option<TapReader>,
    running: Option<Running>,
    canceller: Canceller,
    /// Runs while nothing comes.
    stall: Option<Pin<Box<Sleep>>>,
    stall_deadline: Duration,
    /// What the connection had received when the stall began.
    received: u64,
}

impl CopyOut {
    pub(super) fn new(
        stream: CopyOutStream,
        tap: Option<TapReader>,
        running: Running,
        canceller: Canceller,
        stall_deadline: Duration,
    ) -> Self {
        Self {
            stream: Box::pin(stream),
            tap,
            running: Some(running),
            canceller,
            stall: None,
            stall_deadline,
            received: 0,
        }
    }
}

impl Stream for CopyOut {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.running.is_none() {
            return Poll::Ready(None);
        }
        match self.tap.as_mut().map(|tap| tap.poll_next(context)) {
            Some(Poll::Ready(Some(rows))) => {
                self.stall = None;
                return Poll::Ready(Some(Ok(rows)));
            }
            Some(Poll::Pending) => return self.wait(context),
            // How it ended is the stream's to tell.
            Some(Poll::Ready(None)) | None => {}
        }
        let next = match self.stream.as_mut().poll_next(context) {
            Poll::Ready(next) => next,
            Poll::Pending => return self.wait(context),
        };
        self.stall = None;
        if !matches!(next, Some(Ok(_)))
            && let Some(running) = self.running.take()
        {
            running.ended();
        }
        Poll::Ready(next.map(|chunk| chunk.map_err(|error| fault(&error))))
    }
}

impl CopyOut {
    /// Nothing came: waits on, until the deadline.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let deadline = self.stall_deadline;
        loop {
            let received = self.tap.as_ref().map_or(0, TapReader::received);
            if self.stall.is_none() {
                self.received = received;
            }
            let stall = self
                .stall
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
            if stall.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.stall = None;
            // A block may fill slowly.
            if received == self.received {
                break;
            }
        }
        Poll::Ready(Some(Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("the server sent nothing for {deadline:?}"),
        ))))
    }
}

impl Drop for CopyOut {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.canceller.cancel_in_background();
        }
    }
}

impl fmt::Debug for CopyOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOut")
            .field("ended", &self.running.is_none())
            .finish_non_exhaustive()
    }
}
