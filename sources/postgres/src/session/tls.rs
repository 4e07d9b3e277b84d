//! TLS by rustls, with libpq's modes.

mod end_point;
mod verifier;

use holdfast_env::{Env, Socket};
use holdfast_types::{ErrorCode, Fault};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

use crate::dsn::{Dsn, TlsMode};
use verifier::{Unverified, Verified};

/// Encrypts a stream; gives it with the digest for channel binding.
///
/// # Errors
/// `FailedPrecondition` if the certificate is not trusted or a file of certificates is no good, `Unavailable` if the handshake breaks off.
pub(super) async fn wrap(
    env: &Env,
    dsn: &Dsn,
    host: &str,
    socket: Box<dyn Socket>,
) -> Result<(Box<dyn Socket>, Option<Vec<u8>>), Fault> {
    let copy = dsn.clone();
    let disk = env.disk.clone();
    let read = move |place: &str| -> Result<Vec<u8>, Fault> {
        if place.trim_start().starts_with("-----BEGIN") {
            return Ok(place.as_bytes().to_vec());
        }
        disk.read(place).map_err(|error| {
            refused(format!("the file {} cannot be read: {error}", place.escape_debug()))
                .hint("the file must be on the worker that connects; its text may stand in the connection string instead")
        })
    };
    let config = env.blocking(move || configuration(&copy, &read)).await?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| refused(format!("{host} is neither a host name nor an address")))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|error| handshake_failed(dsn, &error))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let digest = certificates
        .and_then(<[_]>::first)
        .and_then(|certificate| end_point::digest(certificate));
    Ok((Box::new(stream), digest))
}

fn handshake_failed(dsn: &Dsn, error: &std::io::Error) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => refused(format!(
            "the certificate of {} is not trusted: {reason}",
            dsn.address()
        ))
        .hint("name the authority with sslrootcert; the host must be among the certificate's subjectAltNames for sslmode=verify-full"),
        Some(reason) => refused(format!("no TLS with {}: {reason}", dsn.address())),
        None => super::transport::unreachable(dsn, format!("the TLS handshake broke off: {error}")),
    }
}

fn refused(message: String) -> Fault {
    Fault::new(ErrorCode::FailedPrecondition, message)
}

fn configuration(
    dsn: &Dsn,
    read: &dyn Fn(&str) -> Result<Vec<u8>, Fault>,
) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match dsn.tls {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
            Arc::new(Unverified::new(provider.clone()))
        }
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = roots(dsn, read)?;
            let trusted = roots.0.clone();
            let chain =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots.1), provider.clone())
                    .build()
                    .map_err(|error| {
                        refused(format!(
                            "the authorities' certificates are no good: {error}"
                        ))
                    })?;
            Arc::new(Verified::new(
                chain,
                trusted,
                dsn.tls == TlsMode::VerifyFull,
            ))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(format!("no TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&dsn.client_certificate, &dsn.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(&read(certificate)?)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key.expose())?).map_err(|_| {
                refused("sslkey holds no private key in PEM without a passphrase".to_owned())
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| refused(format!("the client certificate is no good: {error}")))?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) | (None, Some(_)) => {
            return Err(refused(
                "sslcert and sslkey are given together or not at all".to_owned(),
            ));
        }
    };
    // PostgreSQL 17 and later insist on it for direct negotiation; older ones do not mind.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) | Err(_) => Err(refused(
            "a file of certificates holds none in PEM".to_owned(),
        )),
    }
}

/// The certificates that are trusted: as they are, and as anchors of chains.
fn roots(
    dsn: &Dsn,
    read: &dyn Fn(&str) -> Result<Vec<u8>, Fault>,
) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), Fault> {
    let list = match dsn.root_certificates.as_deref() {
        None | Some("system") => rustls_native_certs::load_native_certs().certs,
        Some(place) => certificates(&read(place)?)?,
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(list.iter().cloned());
    if added == 0 {
        return Err(refused(
            "there is no authority to check the server's certificate with".to_owned(),
        )
        .hint("name a file of certificates with sslrootcert"));
    }
    Ok((list, store))
}
