//! TLS of tokio-postgres, by rustls.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{SHA256, digest};
use futures::future::BoxFuture;
use holdfast_env::Socket;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A certificate that is its own authority.
pub(super) struct Authority(CertifiedKey<KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        Self(made.expect("a certificate"))
    }

    pub(super) fn certificate(&self) -> String {
        self.0.cert.pem()
    }

    pub(super) fn key(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    /// A client that trusts it; its channel binding is that of the certificate, or, if it is deceived, of another one.
    pub(super) fn client(&self, is_deceived: bool) -> Tls {
        self.client_of(is_deceived, &[])
    }

    /// One that names protocols in its handshake.
    pub(super) fn client_of(&self, is_deceived: bool, protocols: &[&[u8]]) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Tls {
            config: Arc::new(config),
            is_deceived,
        }
    }
}

pub(super) struct Tls {
    config: Arc<ClientConfig>,
    is_deceived: bool,
}

pub(super) struct Encrypted {
    stream: tokio_rustls::client::TlsStream<Box<dyn Socket>>,
    is_deceived: bool,
}

impl TlsConnect<Box<dyn Socket>> for Tls {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted>>;

    fn connect(self, socket: Box<dyn Socket>) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = tokio_rustls::TlsConnector::from(self.config);
            Ok(Encrypted {
                stream: connector.connect(name, socket).await?,
                is_deceived: self.is_deceived,
            })
        })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.stream.get_ref().1.peer_certificates();
        let first = certificates.and_then(<[_]>::first).expect("a certificate");
        let bytes: &[u8] = if self.is_deceived { b"another" } else { first };
        ChannelBinding::tls_server_end_point(digest(&SHA256, bytes).as_ref().to_vec())
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
