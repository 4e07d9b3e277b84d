//! Requests that object stores' clients do not make: buckets, and versions of objects.

use http::{Method, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};

pub(crate) const ACCESS_KEY: &str = "ak";
pub(crate) const SECRET_KEY: &str = "holdfast-canary-s3-secret";
pub(crate) const REGION: &str = "us-east-1";

/// Runs something on a runtime of its own: tests may be inside of one.
pub(crate) fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(work)
        };
        scope.spawn(run).join().expect("no panic")
    })
}

pub(crate) fn client() -> HttpClient {
    ReqwestConnector::default()
        .connect(&ClientOptions::new().with_allow_http(true))
        .expect("a client")
}

pub(crate) fn request(method: Method, url: &str) -> HttpRequest {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().expect("a URL");
    request
}

/// Sends a request signed as S3 wants it. `None`: nobody answers.
pub(crate) fn send(mut request: HttpRequest) -> Option<(StatusCode, String)> {
    let credential = AwsCredential {
        key_id: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        token: None,
    };
    AwsAuthorizer::new(&credential, "s3", REGION)
        .try_authorize(&mut request, None)
        .expect("signed");
    plain(request)
}

/// Sends a request as it is.
pub(crate) fn plain(request: HttpRequest) -> Option<(StatusCode, String)> {
    apart(async move {
        let answer = client().execute(request).await.ok()?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.ok()?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    })
}
