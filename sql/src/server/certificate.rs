//! The certificate that sessions are encrypted with.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use holdfast_env::Env;
use holdfast_types::{EndPointHash, ErrorCode, Fault};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How old what is known of the files may be.
const FRESH: Duration = Duration::from_secs(10);
/// PostgreSQL's name for its protocol among those that a client can ask for in the handshake.
pub(super) const PROTOCOL: &[u8] = b"postgresql";

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, as PEM, with those that lead to its authority after it.
    pub certificate: String,
    /// Its private key, as PEM, without a password.
    pub key: String,
}

/// What a handshake takes.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// The digest of the certificate by which passwords are bound to the channel; `None` if none is defined for its signature.
    pub(super) end_point: Option<Arc<[u8]>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The files, and what they held when they were read last. They are looked at again every few seconds while clients connect, so that a renewed certificate needs no restart.
#[derive(Debug)]
pub(super) struct Certificate {
    files: CertificateFiles,
    env: Env,
    known: Mutex<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    identity: Identity,
    /// The digest of both files.
    mark: Vec<u8>,
    /// When they were looked at, on the monotonic clock; `None` if that shall be done now.
    looked: Option<Duration>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or holds something else, or they do not belong together.
    pub(super) async fn read(env: &Env, files: CertificateFiles) -> Result<Self, Fault> {
        let (mark, identity) = read(env, files.clone(), Vec::new()).await?;
        let identity = identity.ok_or_else(|| unusable(&files.certificate, "it is empty"))?;
        let known = Known {
            identity,
            mark,
            looked: Some(env.clock.monotonic()),
        };
        Ok(Self {
            files,
            env: env.clone(),
            known: Mutex::new(known),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files hold now. While they hold nothing that can be used, what they held before is.
    pub(super) async fn identity(&self) -> Identity {
        let now = self.env.clock.monotonic();
        let before = {
            let mut known = self.known();
            let age = known.looked.map(|looked| now.saturating_sub(looked));
            if age.is_some_and(|age| age < FRESH) {
                return known.identity.clone();
            }
            known.looked = Some(now);
            known.clone()
        };
        match read(&self.env, self.files.clone(), before.mark).await {
            Ok((_, None)) => before.identity,
            Ok((mark, Some(identity))) => {
                tracing::info!(file = %self.files.certificate, "the certificate of SQL has changed");
                let mut known = self.known();
                known.mark = mark;
                known.identity = identity.clone();
                identity
            }
            Err(fault) => {
                tracing::warn!(%fault, "the certificate of SQL cannot be read again, and the former one is used");
                before.identity
            }
        }
    }
}

/// The digest of both files, and what they hold unless that is what `before` was the digest of.
async fn read(
    env: &Env,
    files: CertificateFiles,
    before: Vec<u8>,
) -> Result<(Vec<u8>, Option<Identity>), Fault> {
    let disk = Arc::clone(&env.disk);
    env.blocking(move || {
        let read = |path: &str| {
            disk.read(path).map_err(|error| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("cannot read the file {path}: {error}"),
                )
            })
        };
        let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
        let mut both = digest::Context::new(&SHA256);
        both.update(&certificate);
        both.update(&key);
        let mark = both.finish().as_ref().to_vec();
        if mark == before {
            return Ok((mark, None));
        }
        let identity = parse(&files, &certificate, &key)?;
        Ok((mark, Some(identity)))
    })
    .await
}

fn unusable(path: &str, why: impl fmt::Display) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("the file {path} cannot be used to encrypt SQL: {why}"),
    )
}

fn parse(files: &CertificateFiles, certificate: &[u8], key: &[u8]) -> Result<Identity, Fault> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.unwrap_or_default();
    let Some(first) = chain.first() else {
        return Err(
            unusable(&files.certificate, "it holds no certificate as PEM")
                .hint("it begins with -----BEGIN CERTIFICATE-----"),
        );
    };
    let end_point = EndPointHash::of(first).map(|hash| {
        let algorithm = match hash {
            EndPointHash::Sha256 => &SHA256,
            EndPointHash::Sha384 => &SHA384,
            EndPointHash::Sha512 => &SHA512,
        };
        Arc::from(digest::digest(algorithm, first).as_ref())
    });
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        unusable(&files.key, "it holds no private key as PEM").hint(
            "it begins with -----BEGIN PRIVATE KEY-----; one with a password cannot be used: remove it with `openssl pkey`",
        )
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, error))?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => unusable(
            &files.key,
            format_args!(
                "it is not the key of the certificate in {}",
                files.certificate
            ),
        ),
        error => unusable(&files.certificate, error),
    })?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Identity {
        config: Arc::new(config),
        end_point,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::Disk;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let made = made.expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    async fn read_from(certificate: Option<&str>, key: Option<&str>) -> Result<Certificate, Fault> {
        let mut env = Env::system();
        let disk = holdfast_env::MemoryDisk::new();
        for (path, text) in [("cert.pem", certificate), ("key.pem", key)] {
            if let Some(text) = text {
                disk.write_atomically(path, text.as_bytes())
                    .expect("written");
            }
        }
        env.disk = Arc::new(disk);
        let files = CertificateFiles {
            certificate: "cert.pem".to_owned(),
            key: "key.pem".to_owned(),
        };
        Certificate::read(&env, files).await
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_named() {
        let (certificate, key) = pair();
        let (other, _) = pair();
        for (given, named) in [
            ((None, Some(key.as_str())), "cert.pem"),
            ((Some(certificate.as_str()), None), "key.pem"),
            ((Some(""), Some(key.as_str())), "cert.pem"),
            ((Some(key.as_str()), Some(key.as_str())), "cert.pem"),
            ((Some(certificate.as_str()), Some("")), "key.pem"),
            (
                (Some(certificate.as_str()), Some(certificate.as_str())),
                "key.pem",
            ),
            ((Some(other.as_str()), Some(key.as_str())), "key.pem"),
            (
                (
                    Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                    Some(key.as_str()),
                ),
                "cert.pem",
            ),
        ] {
            let fault = read_from(given.0, given.1).await.expect_err(named);
            assert!(fault.message.contains(&format!("file {named}")), "{fault}");
            assert!(!fault.message.contains("BEGIN"), "{fault}");
        }
        let read = read_from(Some(&certificate), Some(&key)).await;
        let identity = read.expect("usable").identity().await;
        assert_eq!(identity.end_point.map(|digest| digest.len()), Some(32));
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_a_damaged_one_is_not() {
        let (certificate, key) = pair();
        let known = read_from(Some(&certificate), Some(&key)).await;
        let known = known.expect("usable");
        let first = known.identity().await.end_point;
        let age = || known.known().looked = None;
        let put = |path: &str, text: &str| {
            known
                .env
                .disk
                .write_atomically(path, text.as_bytes())
                .expect("written");
        };
        put("cert.pem", "nonsense");
        age();
        assert_eq!(known.identity().await.end_point, first);
        let (certificate, key) = pair();
        put("cert.pem", &certificate);
        put("key.pem", &key);
        assert_eq!(known.identity().await.end_point, first, "not looked at");
        age();
        assert_ne!(known.identity().await.end_point, first);
    }
}
