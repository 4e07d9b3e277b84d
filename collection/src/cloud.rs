//! Stores in clouds: what their URIs mean, and clients for them.
//!
//! `object_store` does its own network I/O, retries and waiting: this is the only place that lets it.

mod assume_role;
mod azure;
mod google;
mod impersonation;
mod object_lock;
mod s3;

use holdfast_env::{Clock, Env};
use holdfast_types::{ErrorCode, Fault};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

use crate::options::StoreOptions;
use crate::uri::parameters::{Parameters, invalid, name};
use crate::uri::{CollectionUri, Scheme};

/// The longest that making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a connection may stand still. There is no limit for a whole request: a large object over a slow line takes its time, and has a
/// deadline of its own.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that nobody uses are kept for so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a client sends a request again by itself. Calls are repeated on top of that, and jobs on top of these.
const RETRIES: usize = 3;
/// The longest that it does so.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How credentials come.
pub(crate) const AUTH: [&str; 2] = ["specified", "implicit"];
const IMPLICIT: &str = "implicit";

/// What clients are made with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) clock: Arc<dyn Clock>,
    options: StoreOptions,
}

impl Context {
    pub(crate) fn new(env: &Env, options: &StoreOptions) -> Self {
        Self {
            clock: Arc::clone(&env.clock),
            options: options.clone(),
        }
    }

    /// The settings of every client.
    ///
    /// # Errors
    /// `InvalidArgument` if the certificates of the process cannot be read.
    fn client(&self, endpoint: Option<&str>) -> Result<ClientOptions, Fault> {
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_pool_idle_timeout(IDLE_TIMEOUT)
            .with_allow_http(endpoint.is_some_and(is_plain));
        if let Some(pem) = &self.options.certificates {
            let found = Certificate::from_pem_bundle(pem);
            let found = found.map_err(|_| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    "the additional certificates for stores are not PEM",
                )
                .hint("see --store-ca")
            })?;
            for certificate in found {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }

    /// Whether credentials may come from the process's surroundings.
    fn check_implicit(&self) -> Result<(), Fault> {
        match self.options.implicit_credentials {
            true => Ok(()),
            false => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                "AUTH=implicit is switched off for this process",
            )
            .hint("give credentials in the URI, or start without --external-io-disable-implicit-credentials")),
        }
    }

    /// Whether a service of one's own choosing may be talked to.
    fn check_endpoint(&self, endpoint: Option<&str>) -> Result<(), Fault> {
        match endpoint {
            Some(_) if !self.options.custom_endpoints => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                "endpoints other than the providers' own are switched off for this process",
            )
            .hint("leave the endpoint out, or start without --external-io-disable-http")),
            _ => Ok(()),
        }
    }
}

/// Whether an endpoint is without TLS.
fn is_plain(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_BACKOFF,
            max_backoff: LONGEST_BACKOFF,
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    }
}

/// Checks what parameters mean, together.
///
/// # Errors
/// `InvalidArgument`, naming the parameter.
pub(crate) fn check(uri: &CollectionUri) -> Result<(), Fault> {
    match uri.scheme() {
        Scheme::S3 => s3::Settings::read(uri).map(drop),
        Scheme::Google => google::Settings::read(uri).map(drop),
        Scheme::Azure => azure::Settings::read(uri).map(drop),
        Scheme::File | Scheme::NodeLocal | Scheme::Memory => Ok(()),
    }
}

/// A client of a store, rooted at the collection. Nothing is sent yet.
///
/// # Errors
/// `FailedPrecondition` if credentials are missing or may not be used here.
pub(crate) fn open(uri: &CollectionUri, context: &Context) -> Result<Arc<dyn ObjectStore>, Fault> {
    let store: Arc<dyn ObjectStore> = match uri.scheme() {
        Scheme::S3 => Arc::new(s3::open(uri, context)?),
        Scheme::Google => Arc::new(google::open(uri, context)?),
        Scheme::Azure => Arc::new(azure::open(uri, context)?),
        other @ (Scheme::File | Scheme::NodeLocal | Scheme::Memory) => {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!("a {other}: store is in no cloud"),
            ));
        }
    };
    let prefix = Path::from(uri.prefix());
    Ok(match prefix.as_ref().is_empty() {
        true => store,
        false => Arc::new(PrefixStore::new(store, prefix)),
    })
}

/// Whether credentials come from the surroundings; if so, none of `given` may be given.
fn is_implicit(parameters: &Parameters, given: &[&str]) -> Result<bool, Fault> {
    if parameters.word(name::AUTH, &AUTH)? != Some(IMPLICIT) {
        return Ok(false);
    }
    match given.iter().find(|name| parameters.get(name).is_some()) {
        None => Ok(true),
        Some(name) => Err(invalid(format!(
            "{}={IMPLICIT} and {name} contradict each other: give one of them",
            name::AUTH
        ))),
    }
}

/// The error for a URI that can be read, but not opened.
fn missing(uri: &CollectionUri, needed: &str) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("{uri} has no credentials: {needed}"),
    )
    .hint("docs/STORAGE.md says how credentials are given, and what AUTH=implicit uses")
}

/// What a builder of `object_store` refuses. Its errors name settings and never their values.
fn refused(uri: &CollectionUri, error: &object_store::Error) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("{uri} cannot be opened: {error}"),
    )
    .hint("docs/STORAGE.md lists every scheme with its parameters")
}
