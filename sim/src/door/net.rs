//! Sockets over the simulated network. Every write is an event of the trace when the trace is echoed: the bytes on the wire are the
//! finest proof that two runs are the same.

use async_trait::async_trait;
use holdfast_env::{Connection, Listener, Net};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::trace;

/// The network as one host sees it. Addresses are `host:port`, with the names of simulated hosts.
#[derive(Debug)]
pub(crate) struct SimNet {
    host: String,
}

impl SimNet {
    /// The network as `host` sees it.
    pub(crate) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
        }
    }
}

fn split(address: &str) -> io::Result<(&str, u16)> {
    address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{address} is not host:port"),
            )
        })
}

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(split(address)?).await?;
        Ok(self.connection(stream, address.to_owned()))
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let (_, port) = split(address)?;
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Box::new(SimListener {
            listener,
            address: format!("{}:{port}", self.host),
            net: Self::new(&self.host),
        }))
    }
}

impl SimNet {
    fn connection(&self, stream: TcpStream, peer: String) -> Connection {
        Connection {
            socket: Box::new(TracedSocket {
                stream,
                host: self.host.clone(),
                peer: peer.clone(),
            }),
            peer,
        }
    }
}

struct SimListener {
    listener: TcpListener,
    address: String,
    net: SimNet,
}

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Listener for SimListener {
    fn local_address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Connection> {
        let (stream, peer) = self.listener.accept().await?;
        let name = turmoil::reverse_lookup(peer.ip()).unwrap_or_else(|| peer.ip().to_string());
        Ok(self
            .net
            .connection(stream, format!("{name}:{}", peer.port())))
    }
}

struct TracedSocket {
    stream: TcpStream,
    host: String,
    peer: String,
}

impl AsyncRead for TracedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TracedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        if let Ok(count) = written
            && trace::is_echoed()
        {
            trace::event(
                &self.host,
                format_args!(
                    "sent {count} bytes {:016x} to {}",
                    trace::fingerprint(&bytes[..count]),
                    self.peer
                ),
            );
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{Lag, Skew, env};
    use holdfast_env::MemoryDisk;
    use holdfast_proto::{ChannelOptions, channel, incoming};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;
    use tonic_health::pb::health_client::HealthClient;

    /// The real HTTP/2 stack over simulated sockets: a partition breaks calls within their deadlines, and after it they go on.
    #[test]
    fn calls_survive_a_partition() {
        let mut sim = turmoil::Builder::new()
            .rng_seed(7)
            .tcp_capacity(1024)
            .simulation_duration(Duration::from_secs(120))
            .build();
        sim.host("server", || async {
            let (_, service) = tonic_health::server::health_reporter();
            let listener = SimNet::new("server").listen("server:1").await?;
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming(listener))
                .await?;
            Ok(())
        });
        let answers = Rc::new(Cell::new((0, 0)));
        let seen = Rc::clone(&answers);
        sim.client("user", async move {
            let disk = Arc::new(MemoryDisk::new());
            let env = env("user", 1, &Skew::default(), &Lag::default(), disk);
            let channel = channel(Arc::clone(&env.net), "server:1", ChannelOptions::default())?;
            let mut client = HealthClient::new(channel);
            while env.clock.monotonic() < Duration::from_secs(60) {
                let request = tonic_health::pb::HealthCheckRequest::default();
                let (good, bad) = seen.get();
                match client.check(request).await {
                    Ok(_) => seen.set((good + 1, bad)),
                    Err(_) => seen.set((good, bad + 1)),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        });
        let mut before = (0, 0);
        while !sim.step().expect("no host fails") {
            let elapsed = sim.elapsed();
            if elapsed == Duration::from_secs(20) {
                sim.partition("server", "user");
            }
            if elapsed == Duration::from_secs(30) {
                sim.repair("server", "user");
            }
            if elapsed == Duration::from_secs(40) {
                before = answers.get();
            }
        }
        let after = answers.get();
        assert!(before.0 > 100 && before.1 > 0, "{before:?}");
        assert!(
            after.0 > before.0 + 100 && after.1 == before.1,
            "{before:?} {after:?}"
        );
    }
}
