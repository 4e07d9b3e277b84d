//! Messages of the protocol over a stream.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::error::SqlState;

use crate::dsn::Dsn;
use crate::session::{Channel, Stream, open, server_fault};

/// The longest message that is taken: commands here answer with one short row.
const LONGEST_MESSAGE: usize = 1 << 20;

/// What names a backend when its statement is to be cancelled.
#[derive(Clone, Copy, Default)]
pub(super) struct BackendKey {
    pub(super) pid: i32,
    pub(super) secret: i32,
}

/// Asks the server to cancel what a backend does.
pub(super) async fn cancel(env: &Env, dsn: &Dsn, key: BackendKey) -> Result<(), Fault> {
    let mut wire = Wire::open(env, dsn).await?;
    wire.send(|buffer| {
        frontend::cancel_request(key.pid, key.secret, buffer);
        Ok(())
    })
    .await?;
    // The server closes the connection when it has taken the request.
    wire.fill().await.or(Ok(()))
}

/// A stream of messages. A future that is dropped in the middle leaves it in an unknown state: drop it too.
pub(super) struct Wire {
    stream: Stream,
    pub(super) channel: Channel,
    input: BytesMut,
    output: BytesMut,
}

impl Wire {
    pub(super) async fn open(env: &Env, dsn: &Dsn) -> Result<Self, Fault> {
        let (stream, channel) = open(env, dsn).await?.into_parts();
        Ok(Self {
            stream,
            channel,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    /// Sends what `write` writes.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), Fault> {
        self.output.clear();
        write(&mut self.output).map_err(|error| malformed(&error))?;
        self.stream
            .write_all(&self.output)
            .await
            .map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))
    }

    /// The next message that says something: an error is an `Err`, notices and settings are passed over.
    pub(super) async fn receive(&mut self) -> Result<Message, Fault> {
        loop {
            let message = Message::parse(&mut self.input).map_err(|error| malformed(&error))?;
            match message {
                Some(Message::ErrorResponse(body)) => return Err(server_error(body.fields())),
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        if self.input.len() > LONGEST_MESSAGE {
            return Err(Fault::new(
                ErrorCode::Internal,
                "the server sent a message that is too long",
            ));
        }
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Fault::new(
                ErrorCode::Unavailable,
                "the server closed the connection",
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Runs a command; gives its last row's fields as text, empty if it has none.
    pub(super) async fn command(&mut self, sql: &str) -> Result<Vec<Option<String>>, Fault> {
        self.send(|buffer| frontend::query(sql, buffer)).await?;
        let mut row = Vec::new();
        let mut failure = None;
        loop {
            match self.receive().await {
                Ok(Message::DataRow(body)) => {
                    row.clear();
                    let buffer = body.buffer();
                    let mut ranges = body.ranges();
                    while let Some(range) = ranges.next().map_err(|error| malformed(&error))? {
                        let field = range.and_then(|range| buffer.get(range));
                        row.push(field.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
                    }
                }
                Ok(Message::ReadyForQuery(_)) => break,
                Ok(_) => {}
                // After an error of the command the server is ready again; after one of the connection it is not.
                Err(fault) if failure.is_none() && fault.code != ErrorCode::Unavailable => {
                    failure = Some(fault);
                }
                Err(fault) => return Err(failure.unwrap_or(fault)),
            }
        }
        failure.map_or(Ok(row), Err)
    }
}

fn server_error(mut fields: ErrorFields<'_>) -> Fault {
    let (mut state, mut message) = (String::new(), String::new());
    while let Ok(Some(field)) = fields.next() {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => state = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    server_fault(&SqlState::from_code(&state), &message)
}

pub(super) fn malformed(error: &std::io::Error) -> Fault {
    Fault::new(
        ErrorCode::Internal,
        format!("the replication protocol was not kept: {error}"),
    )
}

fn broken(error: &std::io::Error) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("the connection to the server broke: {error}"),
    )
}
