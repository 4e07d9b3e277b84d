//! Retention of single objects: headers that `object_store` knows nothing of, and that have to be signed.

use async_trait::async_trait;
use holdfast_env::Clock;
use holdfast_types::{Millis, Timestamp};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use std::sync::Arc;

const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const DAY: u64 = 24 * 3600 * 1000;

/// How long objects cannot be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectLock {
    pub(super) mode: &'static str,
    pub(super) days: u64,
}

impl ObjectLock {
    fn until(self, now: Timestamp) -> Timestamp {
        now.plus(Millis(self.days.saturating_mul(DAY)))
    }
}

/// Makes clients that put retention onto every object that they write.
#[derive(Debug)]
pub(super) struct LockingConnector {
    lock: ObjectLock,
    credentials: AwsCredentialProvider,
    region: String,
    clock: Arc<dyn Clock>,
}

impl LockingConnector {
    pub(super) fn new(
        lock: ObjectLock,
        credentials: AwsCredentialProvider,
        region: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            lock,
            credentials,
            region: region.to_owned(),
            clock,
        }
    }
}

impl HttpConnector for LockingConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(LockingService {
            inner: ReqwestConnector::default().connect(options)?,
            lock: self.lock,
            credentials: Arc::clone(&self.credentials),
            region: self.region.clone(),
            clock: Arc::clone(&self.clock),
        }))
    }
}

#[derive(Debug)]
struct LockingService {
    inner: HttpClient,
    lock: ObjectLock,
    credentials: AwsCredentialProvider,
    region: String,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl HttpService for LockingService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if begins_object(request.method(), request.uri().query()) {
            let until = self.lock.until(self.clock.now());
            let until = until.format("%Y-%m-%dT%H:%M:%SZ");
            let until = HeaderValue::from_str(&until)
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let headers = request.headers_mut();
            headers.insert(MODE, HeaderValue::from_static(self.lock.mode));
            headers.insert(UNTIL, until);
            self.sign(&mut request).await?;
        }
        self.inner.execute(request).await
    }
}

impl LockingService {
    /// Signs a request again: a header that came after the signature is not believed.
    async fn sign(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let failed = |error: object_store::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let credential = self.credentials.get_credential().await.map_err(failed)?;
        let digest = digest(request.headers());
        request.headers_mut().remove(AUTHORIZATION);
        let authorizer =
            AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(digest.is_some());
        authorizer
            .try_authorize(request, digest.as_deref())
            .map_err(failed)
    }
}

/// Whether a request makes an object: a whole one, or the beginning of one in parts.
fn begins_object(method: &Method, query: Option<&str>) -> bool {
    let has = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        pairs.any(|(found, _)| found == name)
    };
    match *method {
        Method::PUT => !has("partNumber"),
        Method::POST => has("uploads"),
        _ => false,
    }
}

/// The digest of the body that was signed before, if it was.
fn digest(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(CONTENT_DIGEST)?.to_str().ok()?;
    if text == UNSIGNED || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_an_object_is_locked() {
        let cases = [
            (Method::PUT, None, true),
            (Method::PUT, Some("partNumber=1&uploadId=x"), false),
            (Method::POST, Some("uploads"), true),
            (Method::POST, Some("uploads="), true),
            (Method::POST, Some("uploadId=x"), false),
            (Method::POST, Some("delete"), false),
            (Method::GET, None, false),
            (Method::DELETE, None, false),
        ];
        for (method, query, expected) in cases {
            assert_eq!(
                begins_object(&method, query),
                expected,
                "{method} {query:?}"
            );
        }
    }

    #[test]
    fn the_digest_of_a_signed_body_is_kept() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_DIGEST, HeaderValue::from_static(text));
            digest(&headers)
        };
        assert_eq!(of("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(of(UNSIGNED), None);
        assert_eq!(of("zz"), None);
        assert_eq!(digest(&HeaderMap::new()), None);
    }

    #[test]
    fn retention_counts_from_now() {
        let lock = ObjectLock {
            mode: "GOVERNANCE",
            days: 2,
        };
        let now: Timestamp = "2026-12-01T10:00:00Z".parse().expect("a time");
        assert_eq!(lock.until(now).to_string(), "2026-12-03T10:00:00Z");
    }
}
