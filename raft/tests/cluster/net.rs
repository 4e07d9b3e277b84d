//! Loopback that can be cut: open connections break, new ones are refused, in both directions.

use holdfast_env::{Connection, Listener, Net, Socket, SystemNet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
pub struct CuttableNet {
    cut: Arc<AtomicBool>,
}

impl CuttableNet {
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the test cut the network")
}

struct CuttableSocket {
    socket: Box<dyn Socket>,
    cut: Arc<AtomicBool>,
    /// A connection that was cut stays broken.
    broken: bool,
}

impl CuttableSocket {
    fn check(&mut self) -> io::Result<()> {
        self.broken |= self.cut.load(Ordering::SeqCst);
        if self.broken { Err(broken()) } else { Ok(()) }
    }
}

impl AsyncRead for CuttableSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

fn wrap(connection: Connection, cut: &Arc<AtomicBool>) -> Connection {
    Connection {
        socket: Box::new(CuttableSocket {
            socket: connection.socket,
            cut: Arc::clone(cut),
            broken: false,
        }),
        peer: connection.peer,
    }
}

#[tonic::async_trait]
impl Net for CuttableNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(broken());
        }
        Ok(wrap(SystemNet.connect(address).await?, &self.cut))
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(CuttableListener {
            listener: SystemNet.listen(address).await?,
            cut: Arc::clone(&self.cut),
        }))
    }
}

#[derive(Debug)]
struct CuttableListener {
    listener: Box<dyn Listener>,
    cut: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Listener for CuttableListener {
    fn local_address(&self) -> String {
        self.listener.local_address()
    }

    async fn accept(&mut self) -> io::Result<Connection> {
        Ok(wrap(self.listener.accept().await?, &self.cut))
    }
}
