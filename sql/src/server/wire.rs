//! The socket of a session, message by message.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use holdfast_env::Socket;
use pgwire::error::ErrorInfo;
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, NoticeResponse, ReadyForQuery, TransactionStatus,
};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::AsyncReadExt;
use tokio_util::codec::Framed;

use super::certificate::{Identity, PROTOCOL};
use super::codec::{Codec, WireError};
use crate::error::{SqlError, state};
use crate::exec::Notice;

/// How grave an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
}

/// A connection.
pub(super) struct Wire {
    framed: Framed<Box<dyn Socket>, Codec>,
    /// What it is encrypted with.
    identity: Option<Identity>,
}

/// The connection is of no use any more.
#[derive(Debug)]
pub(super) struct Lost;

pub(super) type Sent = Result<(), Lost>;

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self {
            framed: Framed::new(socket, Codec::default()),
            identity: None,
        }
    }

    /// What the connection is encrypted with; `None` if it is not.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Encrypts the connection, after the client was told that it will be.
    pub(super) async fn encrypt(&mut self, identity: Identity) -> Result<(), WireError> {
        // What came in clear after the request was perhaps put there by somebody in between.
        if !self.framed.read_buffer().is_empty() {
            return Err(WireError::Broken(SqlError::new(
                state::PROTOCOL_VIOLATION,
                "received unencrypted data after SSL request",
            )));
        }
        let clear = self.take();
        self.handshake(clear, identity).await.map(drop)
    }

    /// Encrypts the connection with the handshake that the client has begun with. It must have said that it means this protocol, for nothing else did.
    pub(super) async fn encrypt_at_once(&mut self, identity: Identity) -> Result<(), WireError> {
        let read = self.framed.read_buffer_mut().split().freeze();
        let (reader, writer) = tokio::io::split(self.take());
        let clear = tokio::io::join(std::io::Cursor::new(read).chain(reader), writer);
        match self.handshake(Box::new(clear), identity).await? {
            true => Ok(()),
            false => Err(WireError::Broken(SqlError::new(
                state::PROTOCOL_VIOLATION,
                "received direct SSL connection request without ALPN protocol negotiation extension",
            ))),
        }
    }

    /// Encrypts a stream; whether the client has named the protocol.
    async fn handshake(
        &mut self,
        clear: Box<dyn Socket>,
        identity: Identity,
    ) -> Result<bool, WireError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&identity.config));
        let accepted = Box::pin(acceptor.accept(clear)).await.map_err(|error| {
            tracing::debug!(%error, "a TLS handshake for SQL broke off");
            WireError::Io
        })?;
        let is_named = accepted.get_ref().1.alpn_protocol() == Some(PROTOCOL);
        let encrypted: Box<dyn Socket> = Box::new(accepted);
        self.framed = Framed::new(encrypted, Codec::default());
        self.identity = Some(identity);
        Ok(is_named)
    }

    fn take(&mut self) -> Box<dyn Socket> {
        let nothing: Box<dyn Socket> = Box::new(tokio::io::empty());
        let framed = Framed::new(nothing, Codec::default());
        std::mem::replace(&mut self.framed, framed).into_inner()
    }

    /// The client has said who it is: from now on messages have a type.
    pub(super) fn started(&mut self) {
        self.framed.codec_mut().is_started = true;
    }

    /// The client was let in: from now on messages can be long.
    pub(super) fn admitted(&mut self) {
        self.framed.codec_mut().is_admitted = true;
    }

    /// The next message; `None` if there is none any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<PgWireFrontendMessage, WireError>> {
        self.framed.next().await
    }

    /// Puts a message into the buffer; a full one is sent.
    pub(super) async fn feed(&mut self, message: PgWireBackendMessage) -> Sent {
        self.framed.feed(message).await.map_err(|_| Lost)
    }

    /// Sends what is in the buffer.
    pub(super) async fn flush(&mut self) -> Sent {
        self.framed.flush().await.map_err(|_| Lost)
    }

    pub(super) async fn error(&mut self, severity: Severity, error: SqlError) -> Sent {
        let severity = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut info = ErrorInfo::new(severity.to_owned(), error.state.to_owned(), error.message);
        info.severity_nonlocalized = Some(severity.to_owned());
        info.detail = error.detail;
        info.hint = error.hint;
        info.position = error.position.map(|position| position.to_string());
        self.feed(PgWireBackendMessage::ErrorResponse(info.into()))
            .await
    }

    /// The last words of a session.
    pub(super) async fn fatal(&mut self, error: SqlError) {
        // Who does not listen needs no farewell.
        if self.error(Severity::Fatal, error).await.is_ok() {
            let _ = self.flush().await;
        }
    }

    pub(super) async fn notice(&mut self, notice: Notice) -> Sent {
        let severity = "NOTICE".to_owned();
        let mut info = ErrorInfo::new(severity.clone(), "00000".to_owned(), notice.message);
        info.severity_nonlocalized = Some(severity);
        info.hint = notice.hint;
        let response = NoticeResponse::from(info);
        self.feed(PgWireBackendMessage::NoticeResponse(response))
            .await
    }

    pub(super) async fn parameter(&mut self, name: &str, value: String) -> Sent {
        let status = ParameterStatus::new(name.to_owned(), value);
        self.feed(PgWireBackendMessage::ParameterStatus(status))
            .await
    }

    pub(super) async fn complete(&mut self, tag: String) -> Sent {
        let complete = CommandComplete::new(tag);
        self.feed(PgWireBackendMessage::CommandComplete(complete))
            .await
    }

    pub(super) async fn empty(&mut self) -> Sent {
        self.feed(PgWireBackendMessage::EmptyQueryResponse(
            EmptyQueryResponse::new(),
        ))
        .await
    }

    /// Says that another statement can come, and sends everything.
    pub(super) async fn ready(&mut self, status: TransactionStatus) -> Sent {
        let ready = ReadyForQuery::new(status);
        self.feed(PgWireBackendMessage::ReadyForQuery(ready))
            .await?;
        self.flush().await
    }
}
