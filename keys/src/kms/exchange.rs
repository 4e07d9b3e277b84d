//! Asking a service over HTTP: deadlines, a few repetitions, bounded answers, and errors without secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use holdfast_types::{ErrorCode, Fault};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use serde::Deserialize;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How often a service is asked while it does not answer.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// For one attempt.
const DEADLINE: Duration = Duration::from_secs(10);
/// To connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_ANSWER: usize = 256 << 10;
/// The most of a service's own words that is repeated in an error.
const MAX_WORDS: usize = 300;

/// What this process has for URIs that say `AUTH=implicit`, and how it reaches services.
pub(crate) struct Surroundings {
    /// The Vault token of the process's environment.
    pub(crate) vault_token: Option<Secret>,
    /// Given by a test.
    fixed: Option<HttpClient>,
    /// Made when first needed.
    client: Mutex<Option<HttpClient>>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings(…)")
    }
}

impl Surroundings {
    pub(crate) fn of_process() -> Self {
        Self {
            vault_token: std::env::var("VAULT_TOKEN").ok().map(Secret::new),
            fixed: None,
            client: Mutex::default(),
        }
    }

    pub(crate) fn with_client(client: HttpClient) -> Self {
        Self {
            vault_token: None,
            fixed: Some(client),
            client: Mutex::default(),
        }
    }

    /// A line to services, which trusts the system's certificates, and `certificate` (PEM) besides.
    pub(crate) fn line(&self, certificate: Option<&[u8]>) -> Result<Line, Fault> {
        if let Some(client) = &self.fixed {
            return Ok(Line(client.clone()));
        }
        if let Some(pem) = certificate {
            return connect(Some(pem)).map(Line);
        }
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &*known {
            Some(client) => client.clone(),
            None => known.insert(connect(None)?).clone(),
        };
        Ok(Line(client))
    }
}

fn connect(certificate: Option<&[u8]>) -> Result<HttpClient, Fault> {
    let mut options = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(CONNECT_DEADLINE)
        .with_timeout(DEADLINE);
    if let Some(pem) = certificate {
        let certificates = object_store::Certificate::from_pem_bundle(pem).map_err(|error| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the certificate of the key management service cannot be read: {error}"),
            )
        })?;
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    ReqwestConnector::default()
        .connect(&options)
        .map_err(|error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("no connection to key management services can be made: {error}"),
            )
        })
}

/// A way to services.
#[derive(Clone)]
pub(crate) struct Line(HttpClient);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line(…)")
    }
}

/// What a service answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer as JSON.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self, who: &str) -> Result<T, Fault> {
        serde_json::from_slice(&self.body).map_err(|_| {
            Fault::new(
                ErrorCode::FailedPrecondition,
                format!("{who} gave an answer that cannot be understood"),
            )
            .hint("does the URI lead to a service of this kind?")
        })
    }

    /// What a refusal says, in the service's own words, cut.
    pub(crate) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars()
            .filter(|c| !c.is_control())
            .take(MAX_WORDS)
            .collect()
    }
}

impl Line {
    /// Asks, and asks again while there is no answer, or one that says that there will be another. `request` is made anew for each attempt.
    pub(crate) async fn ask(
        &self,
        who: &str,
        request: impl Fn() -> Result<HttpRequest, Fault>,
    ) -> Result<Answer, Fault> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let answer = match tokio::time::timeout(DEADLINE, self.once(request()?)).await {
                Ok(answer) => answer,
                Err(_) => Err("no answer in time".to_owned()),
            };
            let why = match answer {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
                Ok(answer) => format!("it answers {} {}", answer.status, answer.words()),
                Err(why) => why,
            };
            if attempt == ATTEMPTS {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    format!("{who} cannot be asked: {why}"),
                )
                .hint(
                    "the coordinators ask key management services: check that they can reach it",
                ));
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn once(&self, request: HttpRequest) -> Result<Answer, String> {
        let response: HttpResponse = self
            .0
            .execute(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let mut stream = response.into_body().bytes_stream();
        let mut body = BytesMut::new();
        while let Some(piece) = stream.try_next().await.map_err(|error| chain(&error))? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                return Err("its answer is too long".to_owned());
            }
        }
        Ok(Answer {
            status,
            body: Zeroizing::new(body.to_vec()),
        })
    }
}

/// An error with its causes, which say what is the matter.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A request; what cannot be sent at all is the URI's fault.
pub(crate) fn request(
    method: http::Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<HttpRequestBody>,
) -> Result<HttpRequest, Fault> {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).map_err(|_| {
        Fault::new(
            ErrorCode::InvalidArgument,
            "the KMS URI holds something that cannot be sent in a request",
        )
    })
}

/// The error for what a service refuses.
pub(crate) fn refused(who: &str, what: &str, answer: &Answer) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!(
            "{who} refuses to {what}: {} {}",
            answer.status,
            answer.words()
        ),
    )
    .hint("check the credentials of the KMS URI, and what the key's policy allows them")
}

/// A form as a body, in a text that is zeroed.
pub(crate) fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    Zeroizing::new(form.finish())
}

/// Bytes as base64, in a text that is zeroed.
pub(crate) fn to_base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// And back.
pub(crate) fn from_base64(who: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    STANDARD.decode(text).map(Zeroizing::new).map_err(|_| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{who} gave an answer that cannot be understood"),
        )
    })
}

/// A wrap out of an answer.
pub(crate) fn wrapped(who: &str, text: &str) -> Result<Bytes, Fault> {
    from_base64(who, text).map(|bytes| Bytes::copy_from_slice(&bytes))
}
