//! Takes the rows of a `COPY … TO STDOUT` off the stream before tokio-postgres sees them: it makes a message of each row, which costs more than the row. Everything
//! else passes through, so that logins, errors, cancellation and the end of the statement are tokio-postgres's as ever.
//!
//! # Concurrency
//! The connection's driver fills the queue ([`Splitter`]), the reader of the copy empties it ([`TapReader`]). A full queue makes the driver wait, and the server
//! with it.
//!
//! # Memory
//! [`QUEUE`] bytes, a block that fills, and one message, which is one row.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::{
    COPY_DATA_TAG, COPY_DONE_TAG, ERROR_RESPONSE_TAG, Header,
};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// Bytes of rows in a block.
const BLOCK: usize = 1 << 20;

/// Bytes of rows that wait for the reader: what the server can send while the rows before are packed.
const QUEUE: usize = 4 << 20;

/// Bytes that are read at once while rows come, and otherwise.
const READ_ROWS: usize = 128 << 10;
const READ: usize = 8 << 10;

/// The longest message of rows. PostgreSQL sends a row as one message, of at most 1 GiB.
const MAX_MESSAGE: usize = (1 << 30) + (1 << 16);

/// Bytes of a message's tag and length.
const HEADER: usize = 5;

/// Where rows go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Through, as messages.
    #[default]
    Through,
    /// Into the queue.
    Queue,
    /// Nowhere: their reader is gone.
    Nowhere,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Bytes that came, whatever became of them.
    received: u64,
    reader: Option<Waker>,
    driver: Option<Waker>,
}

/// See the module. One connection's.
#[derive(Debug, Clone, Default)]
pub(super) struct Tap(Arc<Mutex<State>>);

impl Tap {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes off the rows of the next `COPY`, from before it is sent until it has ended.
    pub(super) fn open(&self) -> TapReader {
        let mut state = self.lock();
        state.mode = Mode::Queue;
        state.queue.clear();
        state.queued = 0;
        TapReader(self.clone())
    }

    /// No more rows come.
    fn end(&self) {
        let mut state = self.lock();
        state.mode = Mode::Through;
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }
}

/// The rows of one `COPY`, in blocks that are whole messages.
#[derive(Debug)]
pub(super) struct TapReader(Tap);

impl TapReader {
    /// The next block; `None` if there is none, and the stream's own end tells why.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.0.lock();
        if let Some(block) = state.queue.pop_front() {
            state.queued = state.queued.saturating_sub(block.len());
            if state.queued < QUEUE
                && let Some(waker) = state.driver.take()
            {
                waker.wake();
            }
            return Poll::Ready(Some(block));
        }
        if state.mode == Mode::Through {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Bytes that the connection received so far: it grows also while a block fills.
    pub(super) fn received(&self) -> u64 {
        self.0.lock().received
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.queue.clear();
        state.queued = 0;
        if state.mode == Mode::Queue {
            state.mode = Mode::Nowhere;
        }
        if let Some(waker) = state.driver.take() {
            waker.wake();
        }
    }
}

/// Splits what a server sends into rows and all else.
#[derive(Debug)]
pub(super) struct Splitter {
    tap: Tap,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the present message that are to come, and where they go.
    left: usize,
    to: Mode,
    /// Where rows go, as last seen.
    rows_to: Mode,
    through: BytesMut,
    block: BytesMut,
    /// Whether the reader was behind when last asked.
    is_full: bool,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self {
            tap: Tap::default(),
            input: Box::default(),
            start: 0,
            end: 0,
            left: 0,
            to: Mode::Through,
            rows_to: Mode::Through,
            through: BytesMut::new(),
            block: BytesMut::new(),
            is_full: false,
        }
    }

    pub(super) fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Gives what passes through; `false` if there is nothing.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let length = self.through.len().min(buffer.remaining());
        if length == 0 {
            return false;
        }
        buffer.put_slice(&self.through.split_to(length));
        true
    }

    /// Where the next bytes of the server belong.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let wanted = match self.tap.lock().mode {
            Mode::Through => READ,
            Mode::Queue | Mode::Nowhere => READ_ROWS,
        };
        // What is left is less than a header: whatever is longer was split.
        self.input.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        if self.input.len() < wanted {
            let mut larger = vec![0; wanted];
            for (to, from) in larger.iter_mut().zip(&self.input) {
                *to = *from;
            }
            self.input = larger.into_boxed_slice();
        }
        self.input.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes came into [`Splitter::room`]; none is the end of the connection.
    pub(super) fn came(&mut self, length: usize) {
        self.end = self.end.saturating_add(length).min(self.input.len());
        match length {
            0 => self.over(),
            _ => self.tap.lock().received += length as u64,
        }
    }

    /// The connection is over.
    pub(super) fn over(&mut self) {
        self.flush();
        self.tap.end();
        self.rows_to = Mode::Through;
    }

    /// Splits what came. Pending while the reader of the rows is behind.
    ///
    /// # Errors
    /// `InvalidData` if it is no protocol, or a row is too long.
    pub(super) fn split(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rows_to = self.tap.lock().mode;
        loop {
            if self.left == 0 && self.rows_to == Mode::Queue && !self.is_full {
                self.take_rows();
            }
            let input = self.input.get(self.start..self.end).unwrap_or_default();
            if self.left > 0 {
                if input.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let piece = input.get(..self.left).unwrap_or(input);
                match self.to {
                    Mode::Through => self.through.extend_from_slice(piece),
                    Mode::Queue => self.block.extend_from_slice(piece),
                    Mode::Nowhere => {}
                }
                self.start += piece.len();
                self.left -= piece.len();
                continue;
            }
            let header = match Header::parse(input) {
                Ok(Some(header)) => header,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            };
            if self.is_full && !self.may_go_on(context) {
                return Poll::Pending;
            }
            if let Err(error) = self.begin(header) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Takes rows that are wholly there, and that the block has room for: most are.
    fn take_rows(&mut self) {
        let mut rest = self.input.get(self.start..self.end).unwrap_or_default();
        while let Some((&[COPY_DATA_TAG, ref length @ ..], after)) =
            rest.split_first_chunk::<HEADER>()
        {
            let length = u32::from_be_bytes(*length) as usize;
            let body = length
                .checked_sub(4)
                .and_then(|body| after.split_at_checked(body));
            let Some((row, next)) = body else {
                break;
            };
            if row.len() > self.block.capacity() - self.block.len() {
                break;
            }
            self.block.extend_from_slice(row);
            rest = next;
        }
        self.start = self.end - rest.len();
    }

    /// Begins a message.
    fn begin(&mut self, header: Header) -> io::Result<()> {
        let length = usize::try_from(header.len()).unwrap_or_default();
        let body = length.saturating_sub(4);
        self.to = match header.tag() {
            COPY_DATA_TAG => self.rows_to,
            COPY_DONE_TAG | ERROR_RESPONSE_TAG if self.rows_to != Mode::Through => {
                self.over();
                Mode::Through
            }
            _ => Mode::Through,
        };
        match self.to {
            Mode::Through => {
                let header = self.input.get(self.start..).unwrap_or_default();
                let header = header.get(..HEADER).unwrap_or(header);
                self.through.extend_from_slice(header);
            }
            Mode::Queue if body > MAX_MESSAGE => {
                let error = "the server sent a row that is longer than any can be";
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            Mode::Queue if self.block.capacity() - self.block.len() < body => {
                self.flush();
                self.block.reserve(body.max(BLOCK));
            }
            Mode::Queue | Mode::Nowhere => {}
        }
        self.start += HEADER;
        self.left = body;
        Ok(())
    }

    /// Whether the reader has room; it wakes the driver when it has again.
    fn may_go_on(&mut self, context: &mut Context<'_>) -> bool {
        let mut state = self.tap.lock();
        self.is_full = state.queued >= QUEUE && state.mode == Mode::Queue;
        if self.is_full {
            state.driver = Some(context.waker().clone());
        }
        !self.is_full
    }

    /// Gives the block to the reader.
    fn flush(&mut self) {
        let block = std::mem::take(&mut self.block).freeze();
        let mut state = self.tap.lock();
        if block.is_empty() || state.mode != Mode::Queue {
            return;
        }
        state.queued += block.len();
        self.is_full = state.queued >= QUEUE;
        state.queue.push_back(block);
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }
}

impl Drop for Splitter {
    /// A connection that is given up gives no more rows.
    fn drop(&mut self) {
        self.tap.end();
    }
}
