//! Sockets.

use async_trait::async_trait;
use std::fmt::Debug;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that bytes go in and out of.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// An open stream to a peer.
pub struct Connection {
    /// The stream.
    pub socket: Box<dyn Socket>,
    /// The peer's address, for logs and errors.
    pub peer: String,
}

impl Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Opens and accepts streams. Addresses are `host:port`.
#[async_trait]
pub trait Net: Debug + Send + Sync {
    /// Opens a stream. The caller sets the deadline: a lost packet can make this wait for ever.
    async fn connect(&self, address: &str) -> io::Result<Connection>;

    /// Opens a stream to a socket of the local machine, by its path. `Unsupported` where there are none (the simulator).
    async fn connect_local(&self, path: &str) -> io::Result<Connection> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Listens on an address; port 0 takes a free one.
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;
}

/// A listening socket.
#[async_trait]
pub trait Listener: Debug + Send + Sync {
    /// The address that is listened on, with the real port.
    fn local_address(&self) -> String;

    /// How many accepted connections the process can have open at once and still open its own files. It may change.
    fn most_connections(&self) -> usize {
        usize::MAX
    }

    /// Waits for the next stream. Cancel-safe.
    async fn accept(&mut self) -> io::Result<Connection>;
}
