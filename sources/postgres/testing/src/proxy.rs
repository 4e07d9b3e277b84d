//! A way to a server that can be cut.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Passes connections on to a port of 127.0.0.1 until it is told to cut them. Needs the runtime that it was started in.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    accepting: AbortHandle,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Proxy {
    /// Starts to accept.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let kept = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let passing = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await {
                        // An end of either side ends it.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.retain(|connection| !connection.is_finished());
                kept.push(passing.abort_handle());
            }
        });
        Self {
            port,
            accepting: accepting.abort_handle(),
            connections,
        }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections that are open; gives how many. New ones are accepted.
    pub fn cut(&self) -> usize {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = connections.drain(..).filter(|it| !it.is_finished());
        open.map(|connection| connection.abort()).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
