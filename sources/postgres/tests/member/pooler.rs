#![expect(
    clippy::disallowed_types,
    reason = "a pooler is another process; it is played here"
)]

use holdfast_postgres::preflight::{Request, Severity, check};
use holdfast_postgres_testing::Server;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::env;

/// A pooler that shares one connection to the server between all its clients, a transaction at a time, as PgBouncer does in transaction mode.
struct Pooler {
    upstream: Mutex<TcpStream>,
    greeting: Vec<u8>,
}

/// Reads one message: its tag and its bytes, tag and length included.
async fn message(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let tag = socket.read_u8().await.ok()?;
    let length = socket.read_u32().await.ok()?;
    let mut bytes = vec![tag];
    bytes.extend(length.to_be_bytes());
    bytes.resize(1 + length as usize, 0);
    socket.read_exact(&mut bytes[5..]).await.ok()?;
    Some((tag, bytes))
}

impl Pooler {
    async fn start(server: &Server) -> u16 {
        let mut upstream = TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .expect("the server");
        let mut startup = bytes::BytesMut::new();
        let parameters = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("client_encoding", "UTF8"),
        ];
        postgres_protocol::message::frontend::startup_message(parameters, &mut startup)
            .expect("a message");
        upstream.write_all(&startup).await.expect("sent");
        let mut greeting = Vec::new();
        loop {
            let (tag, bytes) = message(&mut upstream).await.expect("a message");
            greeting.extend(bytes);
            if tag == b'Z' {
                break;
            }
        }
        let pooler = Arc::new(Self {
            upstream: Mutex::new(upstream),
            greeting,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pooler = pooler.clone();
                tokio::spawn(async move { pooler.serve(client).await });
            }
        });
        port
    }

    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        loop {
            let length = client.read_u32().await.ok()?;
            let mut rest = vec![0; length as usize - 4];
            client.read_exact(&mut rest).await.ok()?;
            // A request for TLS is denied; anything else begins the session.
            if rest.starts_with(&[0x04, 0xD2, 0x16, 0x2F]) {
                client.write_all(b"N").await.ok()?;
                continue;
            }
            client.write_all(&self.greeting).await.ok()?;
            break;
        }
        loop {
            let mut first = Some(message(&mut client).await?);
            let mut upstream = self.upstream.lock().await;
            // Until the transaction ends, the connection is this client's.
            loop {
                let (tag, bytes) = match first.take() {
                    Some(first) => first,
                    None => message(&mut client).await?,
                };
                if tag == b'X' {
                    return None;
                }
                upstream.write_all(&bytes).await.ok()?;
                if tag != b'Q' && tag != b'S' {
                    continue;
                }
                let idle = loop {
                    let (tag, bytes) = message(&mut upstream).await?;
                    client.write_all(&bytes).await.ok()?;
                    if tag == b'Z' {
                        break bytes[5] == b'I';
                    }
                };
                if idle {
                    break;
                }
            }
        }
    }
}

/// Trap 3: a pooler that shares connections is refused.
#[tokio::test]
async fn a_pooler_that_shares_connections_is_refused() {
    let server = Server::shared();
    let port = Pooler::start(server).await;
    let dsn = format!("postgres://postgres@127.0.0.1:{port}/postgres")
        .parse()
        .expect("a connection string");
    let request = Request {
        databases: Some(Vec::new()),
        ..Request::default()
    };
    let report = match check(&env(), &dsn, &request).await {
        Ok(report) => report,
        // With statements prepared under the same name by two clients it may not even get so far.
        Err(fault) => panic!("{fault}"),
    };
    let found = report
        .blocking()
        .find(|finding| finding.about == "connection");
    assert!(
        found.is_some_and(|finding| finding.severity == Severity::Blocks),
        "{report}"
    );
}
