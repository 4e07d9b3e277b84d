//! gRPC over [`Net`].

use futures::Stream;
use holdfast_env::{Connection, Listener, Net, Socket};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connections that a server has open at once, or fewer if the listener cannot take as many. More wait in the system's backlog until
/// one ends.
const MAX_CONNECTIONS: usize = 8192;
/// Until a new connection must have sent HTTP/2's preface. One that has sent it is kept alive, or ended, by pings.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the preface.
const PREFACE_LENGTH: usize = 24;
/// Between looks whether a connection has ended, and after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long things may take on a channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelOptions {
    /// To open a connection. A lost SYN would otherwise wait for ever.
    pub connect_timeout: Duration,
    /// For one unary call, from sending to the answer; `None` for channels that carry long streams.
    pub call_timeout: Option<Duration>,
    /// Between HTTP/2 pings, also on an idle connection.
    pub keep_alive_interval: Duration,
    /// Until an unanswered ping closes the connection.
    pub keep_alive_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(1000),
            call_timeout: Some(Duration::from_secs(5)),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(2),
        }
    }
}

/// A channel to `host:port` that connects when it is first used and again after every loss.
///
/// # Errors
/// The address is not `host:port`.
pub fn channel(
    net: Arc<dyn Net>,
    address: &str,
    options: ChannelOptions,
) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true);
    if let Some(timeout) = options.call_timeout {
        endpoint = endpoint.timeout(timeout);
    }
    let timeout = options.connect_timeout;
    Ok(
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let net = Arc::clone(&net);
            async move {
                let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                let connection = tokio::time::timeout(timeout, net.connect(&address))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(IncomingSocket {
                    socket: connection.socket,
                    peer: connection.peer,
                    preface: None,
                    _open: None,
                }))
            }
        })),
    )
}

/// The stream of accepted sockets that a tonic server is fed with. It never ends and never gives an error: tonic would stop serving for
/// good. The number of open connections is bounded, and one that does not begin to speak HTTP/2 is ended.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<IncomingSocket>> {
    // Every open connection has a clone.
    let open = Arc::new(());
    futures::stream::unfold((listener, open), |(mut listener, open)| async move {
        while Arc::strong_count(&open) > MAX_CONNECTIONS.min(listener.most_connections()) {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        let connection = accept(listener.as_mut()).await;
        let socket = IncomingSocket {
            socket: connection.socket,
            peer: connection.peer,
            preface: Some(Preface {
                missing: PREFACE_LENGTH,
                until: Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)),
            }),
            _open: Some(Arc::clone(&open)),
        };
        Some((Ok(socket), (listener, open)))
    })
}

async fn accept(listener: &mut dyn Listener) -> Connection {
    loop {
        match listener.accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                tracing::warn!(%error, address = listener.local_address(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a client has yet to send of the preface, and until when.
struct Preface {
    missing: usize,
    until: Pin<Box<Sleep>>,
}

/// A socket as tonic wants it.
pub struct IncomingSocket {
    socket: Box<dyn Socket>,
    peer: String,
    /// On a server, until the client has introduced itself.
    preface: Option<Preface>,
    /// On a server: counts among the open connections.
    _open: Option<Arc<()>>,
}

impl std::fmt::Debug for IncomingSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IncomingSocket")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Connected for IncomingSocket {
    type ConnectInfo = String;
    fn connect_info(&self) -> String {
        self.peer.clone()
    }
}

impl AsyncRead for IncomingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        let Some(preface) = &mut self.preface else {
            return polled;
        };
        let read = buffer.filled().len().saturating_sub(before);
        preface.missing = preface.missing.saturating_sub(read);
        if preface.missing == 0 {
            self.preface = None;
        } else if polled.is_pending() {
            ready!(preface.until.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for IncomingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
