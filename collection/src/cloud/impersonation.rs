//! Acting as another service account of Google's.

use async_trait::async_trait;
use holdfast_env::Clock;
use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::gcp::{GcpCredential, GcpCredentialProvider};
use object_store::{ClientOptions, CredentialProvider, Error, Result};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const SERVICE: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
const LIFETIME: &str = "3600s";
/// A token is renewed when it has so much left.
const RENEW_BEFORE: Millis = Millis(5 * 60 * 1000);
/// The longest that the service may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an error's body that are shown.
const SHOWN: usize = 300;

/// Tokens of the last account of a chain, renewed before they expire.
pub(super) struct Impersonated {
    service: String,
    /// The last one is acted as; those before it lend their rights.
    chain: Vec<String>,
    base: GcpCredentialProvider,
    clock: Arc<dyn Clock>,
    client: HttpClient,
    held: Mutex<Option<(Arc<GcpCredential>, Timestamp)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    expire_time: String,
}

impl Impersonated {
    pub(super) fn new(
        chain: Vec<String>,
        base: GcpCredentialProvider,
        clock: Arc<dyn Clock>,
        options: &ClientOptions,
    ) -> Result<Self, Fault> {
        let client = ReqwestConnector::default().connect(options);
        let client = client.map_err(|error| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the credentials service cannot be used: {error}"),
            )
        })?;
        Ok(Self {
            service: SERVICE.to_owned(),
            chain,
            base,
            clock,
            client,
            held: Mutex::default(),
        })
    }

    async fn fetch(&self) -> Result<(Arc<GcpCredential>, Timestamp)> {
        let base = self.base.get_credential().await?;
        let (account, delegates) = match self.chain.split_last() {
            Some((account, delegates)) => (account, delegates),
            None => return Err(failed("no account is named")),
        };
        let delegates: Vec<String> = delegates
            .iter()
            .map(|name| format!("projects/-/serviceAccounts/{name}"))
            .collect();
        let body = serde_json::json!({
            "delegates": delegates,
            "scope": [SCOPE],
            "lifetime": LIFETIME,
        });
        let mut request = HttpRequest::new(HttpRequestBody::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}/{account}:generateAccessToken", self.service)
            .parse()
            .map_err(|_| failed("the account's name cannot stand in an address"))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", base.bearer));
        let mut bearer = bearer.map_err(|_| failed("the token cannot stand in a header"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let answer = tokio::time::timeout(TIMEOUT, async {
            let answer = self.client.execute(request).await?;
            let status = answer.status();
            Ok::<_, object_store::client::HttpError>((status, answer.into_body().bytes().await?))
        });
        let (status, body) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed(&format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let shown: String = text.chars().take(SHOWN).collect();
            let why = format!("account {account}: {status}: {shown}");
            return Err(match status.is_client_error() {
                true => Error::PermissionDenied {
                    path: account.clone(),
                    source: why.into(),
                },
                false => failed(&why),
            });
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| failed("its answer cannot be read"))?;
        let expires = answer.expire_time.parse();
        let expires =
            expires.map_err(|_| failed("it does not say until when its answer is good"))?;
        let credential = GcpCredential {
            bearer: answer.access_token,
        };
        Ok((Arc::new(credential), expires))
    }
}

fn failed(why: &str) -> Error {
    Error::Generic {
        store: "GCS",
        source: format!("the credentials service: {why}").into(),
    }
}

impl fmt::Debug for Impersonated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Impersonated({:?})", self.chain)
    }
}

#[async_trait]
impl CredentialProvider for Impersonated {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> Result<Arc<GcpCredential>> {
        // Held over the call: all who need it wait for the one that fetches it.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some((credential, expires)) = held.as_ref()
            && now < expires.minus(RENEW_BEFORE)
        {
            return Ok(Arc::clone(credential));
        }
        match (self.fetch().await, held.as_ref()) {
            (Ok((credential, expires)), _) => {
                *held = Some((Arc::clone(&credential), expires));
                Ok(credential)
            }
            (Err(error), Some((credential, expires))) if now < *expires => {
                tracing::warn!(%error, "a token is not renewed yet");
                Ok(Arc::clone(credential))
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::Env;
    use object_store::StaticCredentialProvider;
    use std::io::{Read, Write};

    /// Answers one request, and gives it back.
    #[expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "a stand-in for a service that is nowhere to be had"
    )]
    fn service(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !String::from_utf8_lossy(&request).contains("3600s") {
                let read = stream.read(&mut buffer).expect("a request");
                request.extend_from_slice(&buffer[..read]);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8_lossy(&request).into_owned()
        });
        (format!("http://{address}"), served)
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_for_the_last_account() {
        let (address, served) =
            service(r#"{"accessToken":"short","expireTime":"2099-01-01T00:00:00Z"}"#);
        let base = GcpCredential {
            bearer: "base".to_owned(),
        };
        let chain = vec!["lender@p".to_owned(), "target@p".to_owned()];
        let mut acting = Impersonated::new(
            chain,
            Arc::new(StaticCredentialProvider::new(base)),
            Env::system().clock,
            &ClientOptions::new().with_allow_http(true),
        )
        .expect("a client");
        acting.service = address;
        for _ in 0..2 {
            let found = acting.get_credential().await.expect("a token");
            assert_eq!(found.bearer, "short");
        }
        let request = served.join().expect("served");
        assert!(
            request.starts_with("POST /target@p:generateAccessToken"),
            "{request}"
        );
        assert!(
            request.contains("projects/-/serviceAccounts/lender@p"),
            "{request}"
        );
        assert!(
            request
                .to_lowercase()
                .contains("authorization: bearer base"),
            "{request}"
        );
    }
}
