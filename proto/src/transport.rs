//! gRPC over [`Net`].

use futures::Stream;
use holdfast_env::{Listener, Net, Socket};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

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
                }))
            }
        })),
    )
}

/// The stream of accepted sockets that a tonic server is fed with. It ends when the listener fails.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<IncomingSocket>> {
    futures::stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await.map(|connection| IncomingSocket {
            socket: connection.socket,
            peer: connection.peer,
        });
        Some((accepted, listener))
    })
}

/// A socket as tonic wants it.
pub struct IncomingSocket {
    socket: Box<dyn Socket>,
    peer: String,
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
        Pin::new(&mut self.socket).poll_read(context, buffer)
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
