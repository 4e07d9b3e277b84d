//! Bytes to messages, and back.
//!
//! The messages are `pgwire`'s. Its reader believes the lengths in a message and panics where they lie, and lets a message be as long as a gigabyte. So
//! messages are cut out here, bounded, and a reader that panics has met a message that breaks the protocol.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{GssEncRequest, SslRequest};
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion,
    SslNegotiationMetaMessage,
};
use tokio_util::codec::{Decoder, Encoder};

use crate::error::{SqlError, state};

/// The longest message: what a statement and its parameters may be long.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// The longest message of somebody who has not been let in.
const MAX_STARTUP: usize = 10_000;
/// The shortest one: its length, and a code.
const MIN_STARTUP: usize = 8;
/// What a handshake of TLS begins with: as a part of a length it would be far too long.
const HANDSHAKE: u8 = 0x16;

/// Why no message could be read.
#[derive(Debug)]
pub(super) enum WireError {
    /// The connection is broken.
    Io,
    /// A handshake of TLS that was not asked for: the client begins with it, as with `sslnegotiation=direct` of libpq.
    Handshake,
    /// The client does not keep to the protocol, or to the bounds. It is told.
    Broken(SqlError),
}

impl From<io::Error> for WireError {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// The codec of one connection.
#[derive(Debug, Default)]
pub(super) struct Codec {
    /// Whether the client has said who it is: from then on messages have a type.
    pub(super) is_started: bool,
    /// Whether it was let in: until then messages are short.
    pub(super) is_admitted: bool,
}

fn broken(message: &str) -> WireError {
    WireError::Broken(SqlError::new(state::PROTOCOL_VIOLATION, message))
}

impl Decoder for Codec {
    type Item = PgWireFrontendMessage;
    type Error = WireError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, WireError> {
        if !self.is_started && source.first() == Some(&HANDSHAKE) {
            return Err(WireError::Handshake);
        }
        let type_length = usize::from(self.is_started);
        let Some(mut header) = source.get(type_length..type_length + 4) else {
            return Ok(None);
        };
        let shortest = match self.is_started {
            true => 4,
            false => MIN_STARTUP,
        };
        let longest = match self.is_admitted {
            true => MAX_MESSAGE,
            false => MAX_STARTUP,
        };
        let length = usize::try_from(header.get_i32()).unwrap_or(usize::MAX);
        if length < shortest {
            return Err(broken("invalid message length"));
        }
        if length > longest {
            return Err(WireError::Broken(SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                format!("a message may have {longest} bytes at most"),
            )));
        }
        let whole = type_length + length;
        if source.len() < whole {
            source.reserve(whole - source.len());
            return Ok(None);
        }
        read(source.split_to(whole), self.is_started).map(Some)
    }
}

/// Reads exactly one message.
fn read(mut message: BytesMut, is_started: bool) -> Result<PgWireFrontendMessage, WireError> {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = !is_started;
    if !is_started {
        if SslRequest::is_ssl_request_packet(&message) {
            let request = SslNegotiationMetaMessage::PostgresSsl(SslRequest::new());
            return Ok(PgWireFrontendMessage::SslNegotiation(request));
        }
        if GssEncRequest::is_gss_enc_request_packet(&message) {
            let request = SslNegotiationMetaMessage::PostgresGss(GssEncRequest::new());
            return Ok(PgWireFrontendMessage::SslNegotiation(request));
        }
        // Newer protocols have longer keys, of which none was given to anybody.
        if CancelRequest::is_cancel_request_packet(&message) && message.len() != 16 {
            return Err(broken("invalid length of cancel request packet"));
        }
    }
    let decoding = AssertUnwindSafe(|| PgWireFrontendMessage::decode(&mut message, &context));
    match catch_unwind(decoding) {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) | Err(_) => Err(broken("invalid message format")),
        Ok(Err(error)) => Err(broken(&error.to_string())),
    }
}

impl Encoder<PgWireBackendMessage> for Codec {
    type Error = WireError;

    fn encode(
        &mut self,
        message: PgWireBackendMessage,
        target: &mut BytesMut,
    ) -> Result<(), WireError> {
        // Only a message beyond a bound of the protocol cannot be written: the connection is of no use then.
        message.encode(target).map_err(|_| WireError::Io)
    }
}
