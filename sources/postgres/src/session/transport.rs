//! The stream below a session: a socket from `env.net`, encrypted where that is asked for.
//!
//! TLS is settled here, before tokio-postgres or the replication client sees the stream, so that both have the same. What they need to know of it
//! is the channel binding.

use holdfast_env::{Connection, Env, Socket};
use holdfast_types::{ErrorCode, Fault};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::config::{Config, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::tap::{Splitter, Tap};
use super::tls;
use crate::dsn::{Dsn, Host, TlsMode};

/// An open stream to a server, before the first message of the protocol.
pub(crate) struct Transport {
    stream: Stream,
    channel: Channel,
}

impl Transport {
    /// The stream, and what is known of its protection.
    pub(crate) fn into_parts(self) -> (Stream, Channel) {
        (self.stream, self.channel)
    }
}

/// How a stream is protected.
#[derive(Clone)]
pub(crate) struct Channel {
    /// Whether TLS is in use.
    pub(crate) encrypted: bool,
    /// The server certificate's digest, where channel binding is defined for it.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// Opens a stream.
///
/// # Errors
/// `Unavailable` if nobody answers; `FailedPrecondition` if TLS is required and not to be had, or the certificate is not trusted.
pub(crate) async fn open(env: &Env, dsn: &Dsn) -> Result<Transport, Fault> {
    let address = dsn.address();
    let connected = match &dsn.host {
        Host::Tcp(_) => env.net.connect(&address).await,
        Host::Local(_) => env.net.connect_local(&address).await,
    };
    let Connection { mut socket, .. } =
        connected.map_err(|error| unreachable(dsn, error.to_string()))?;
    let host = match &dsn.host {
        Host::Tcp(host) if dsn.tls != TlsMode::Disable => host,
        // Nobody listens in on a local socket, and servers do not offer TLS there.
        Host::Tcp(_) | Host::Local(_) => return Ok(plain(socket)),
    };
    let offered = ask_for_tls(&mut socket)
        .await
        .map_err(|error| unreachable(dsn, error.to_string()))?;
    match offered {
        true => {
            let (socket, end_point) = tls::wrap(env, dsn, host, socket).await?;
            Ok(Transport {
                stream: Stream::new(socket),
                channel: Channel {
                    encrypted: true,
                    end_point,
                },
            })
        }
        false if dsn.tls == TlsMode::Prefer => Ok(plain(socket)),
        false => Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "{dsn} offers no TLS, and sslmode={} asks for it",
                dsn.tls.as_str()
            ),
        )
        .hint("switch on ssl on the server, or connect with sslmode=prefer")),
    }
}

fn plain(socket: Box<dyn Socket>) -> Transport {
    Transport {
        stream: Stream::new(socket),
        channel: Channel {
            encrypted: false,
            end_point: None,
        },
    }
}

async fn ask_for_tls(socket: &mut Box<dyn Socket>) -> io::Result<bool> {
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    socket.flush().await?;
    // One byte and not one more: what follows it belongs to TLS. (A man in the middle could otherwise slip in plain text.)
    match socket.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what answers there is not PostgreSQL",
        )),
    }
}

/// The server cannot be reached.
pub(super) fn unreachable(dsn: &Dsn, reason: String) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("{} cannot be reached: {reason}", dsn.address()),
    )
}

/// Tells tokio-postgres that a stream is what it is: nothing is negotiated again.
pub(super) fn announce(config: &mut Config, channel: &Channel) {
    match channel.encrypted {
        true => config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct),
        false => config.ssl_mode(SslMode::Disable),
    };
}

/// A stream that is encrypted already, or never will be.
pub(crate) struct Stream {
    socket: Box<dyn Socket>,
    splitter: Splitter,
    end_point: Option<Vec<u8>>,
}

impl Stream {
    fn new(socket: Box<dyn Socket>) -> Self {
        Self {
            socket,
            splitter: Splitter::new(),
            end_point: None,
        }
    }

    /// What takes rows off it.
    pub(super) fn tap(&self) -> Tap {
        self.splitter.tap()
    }
}

impl TlsConnect<Stream> for Channel {
    type Stream = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(Stream {
            end_point: self.end_point,
            ..stream
        }))
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.end_point {
            Some(digest) => ChannelBinding::tls_server_end_point(digest.clone()),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            socket, splitter, ..
        } = &mut *self;
        loop {
            if splitter.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            let split = splitter.split(context)?;
            if splitter.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            ready!(split);
            let mut room = ReadBuf::new(splitter.room());
            if let Err(error) = ready!(Pin::new(&mut *socket).poll_read(context, &mut room)) {
                splitter.over();
                return Poll::Ready(Err(error));
            }
            let length = room.filled().len();
            splitter.came(length);
            if length == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
