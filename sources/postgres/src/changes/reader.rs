//! Reads a window of the change stream.

use holdfast_types::{ErrorCode, Fault};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Event, Translator};
use crate::copy::CopyRows;
use crate::exact::parse_lsn;
use crate::identifier::{identifier_list, literal};
use crate::layout::{Layout, Lsn};
use crate::pgoutput::decode;
use crate::session::Session;
use crate::tuple::Field;

/// Bytes of write-ahead log that one reading takes. Each reading decodes again from the slot's restart position, and the server keeps its whole result
/// in temporary files: smaller chunks cost the server time, larger ones its disk.
pub const CHUNK: u64 = 512 << 20;

/// How long is waited for the end of a window to be flushed; PostgreSQL's own bound is three times `wal_writer_delay`.
pub const FLUSH_DEADLINE: Duration = Duration::from_secs(60);

/// The pause between two looks at the flushed position.
const FLUSH_POLL: Duration = Duration::from_millis(20);

/// How long the server may decode before it sends the first change. It decodes all of a chunk, and from the slot's restart position on, which may be as much again.
const DECODE_DEADLINE: Duration = Duration::from_secs(3600);

/// Columns of the statement: position, transaction id, message.
const COLUMNS: usize = 3;

/// Which changes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRequest {
    /// The slot.
    pub slot: String,
    /// The publications, which must be as old as the window.
    pub publications: Vec<String>,
    /// Where commit records lie: from here, inclusive, to there, exclusive.
    pub window: Range<Lsn>,
}

/// Cuts a window into readings of at most [`CHUNK`] bytes of log. To read chunk after chunk is only worth it where the slot is advanced in between.
#[must_use]
pub fn chunks(window: &Range<Lsn>) -> Vec<Range<Lsn>> {
    let mut chunks = Vec::new();
    let mut start = window.start;
    while start < window.end {
        let end = start.plus(CHUNK).min(window.end);
        chunks.push(start..end);
        start = end;
    }
    chunks
}

/// The statement that reads a window.
#[must_use]
pub fn peek_statement(request: &WindowRequest) -> String {
    let publications = identifier_list(request.publications.iter().map(String::as_str));
    format!(
        "COPY (SELECT lsn, xid, data FROM pg_catalog.pg_logical_slot_peek_binary_changes({}, {}, NULL, \
         'proto_version', '1', 'publication_names', {}, 'binary', 'true')) TO STDOUT (FORMAT binary)",
        literal(&request.slot),
        literal(&request.window.end.to_string()),
        literal(&publications),
    )
}

/// Waits until the server has flushed its log up to `position`. A commit that nobody waits for (`synchronous_commit = off`) is visible before that:
/// only what is flushed is decoded, and only what is flushed is still there after a crash. The session must be outside a transaction: on a quiet server
/// one without content asks for a flush that would not come for seconds.
///
/// # Errors
/// What the server says; [`ErrorCode::DeadlineExceeded`] after [`FLUSH_DEADLINE`].
pub async fn wait_until_flushed(session: &Session, position: Lsn) -> Result<(), Fault> {
    let waited = tokio::time::timeout(FLUSH_DEADLINE, async {
        let mut is_asked = session.info().in_recovery;
        while flushed(session).await? < position {
            tokio::time::sleep(FLUSH_POLL).await;
            if !is_asked {
                // Its commit record wakes the server's writer of the log, which does not care for records that no commit follows.
                session
                    .query("SELECT pg_catalog.pg_current_xact_id()", &[])
                    .await?;
                is_asked = true;
            }
        }
        Ok(())
    });
    waited.await.unwrap_or_else(|_| {
        Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("the server did not flush its log to {position} within {FLUSH_DEADLINE:?}"),
        ))
    })
}

async fn flushed(session: &Session) -> Result<Lsn, Fault> {
    let row = session
        .query_one(
            "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
             ELSE pg_catalog.pg_current_wal_flush_lsn() END)::pg_catalog.text",
            &[],
        )
        .await?;
    parse_lsn(row.get(0))
}

/// The events of a window, as they arrive. Memory: one message.
#[derive(Debug)]
pub struct ChangeStream {
    rows: CopyRows,
    translator: Translator,
}

impl ChangeStream {
    /// Begins to read a window, in a session for data that must outlive the stream. The slot is not moved. The end of the window must be flushed ([`wait_until_flushed`]).
    ///
    /// # Errors
    /// What the server says.
    pub async fn open(
        session: &Session,
        request: &WindowRequest,
        layouts: impl IntoIterator<Item = Arc<Layout>>,
    ) -> Result<Self, Fault> {
        let stream = session
            .copy_out_within(DECODE_DEADLINE, &peek_statement(request))
            .await
            .map_err(|fault| fault.context("reading the change stream"))?;
        Ok(Self {
            rows: CopyRows::new(stream, COLUMNS),
            translator: Translator::new(request.window.clone(), layouts),
        })
    }

    /// The next event; `None` at the end of the window. What was given before an error is right, but not all: read the window again.
    /// Cancel-safe.
    ///
    /// # Errors
    /// What the server says; [`ErrorCode::Unavailable`] if the connection was cut; [`ErrorCode::Corrupted`] if the stream cannot be
    /// understood.
    pub async fn next(&mut self) -> Result<Option<Event>, Fault> {
        while let Some(row) = self.rows.next().await? {
            let Some(Field::Value(data)) = row.fields().nth(COLUMNS - 1) else {
                return Err(Fault::new(
                    ErrorCode::Corrupted,
                    "the change stream has a message without content",
                ));
            };
            let message = decode(row.bytes().slice_ref(data))?;
            if let Some(event) = self.translator.translate(message)? {
                return Ok(Some(event));
            }
        }
        if self.translator.is_between_transactions() {
            Ok(None)
        } else {
            Err(Fault::new(
                ErrorCode::Corrupted,
                "the change stream ends inside a transaction",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_twice() {
        let request = WindowRequest {
            slot: "s'1".to_owned(),
            publications: vec!["a\"b'c".to_owned(), "d".to_owned()],
            window: Lsn(1)..Lsn(0x1_0000_00FF),
        };
        let statement = peek_statement(&request);
        assert!(statement.contains("('s''1', '1/FF', NULL,"), "{statement}");
        assert!(statement.contains(r#"'"a""b''c","d"'"#), "{statement}");
    }

    #[test]
    fn chunks_tile_the_window() {
        let window = Lsn(7)..Lsn(7 + 2 * CHUNK + 1);
        let chunks = chunks(&window);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0].start, window.start);
        assert_eq!(chunks[2].end, window.end);
        assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(super::chunks(&(Lsn(5)..Lsn(5))).is_empty());
    }
}
