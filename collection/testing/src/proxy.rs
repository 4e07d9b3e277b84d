//! A way to a server that fails, or that speaks with an accent.

use bytes::Bytes;
use futures::StreamExt;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

type Body = BoxBody<Bytes, io::Error>;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It goes its way.
    Pass,
    /// The server is said to be overloaded, and never hears of it.
    SlowDown,
    /// The server does what was asked, and its answer is replaced by an error.
    FailAfter,
    /// The answer ends after so many bytes of its body, and the connection with it.
    Cut(usize),
    /// The credentials are said to have expired.
    Expired,
    /// Nobody ever answers.
    Hang,
}

/// What a proxy does to requests and answers.
pub trait Behaviour: Debug + Send + Sync + 'static {
    /// Changes a request, and says what becomes of it.
    fn request(&self, request: &mut http::request::Parts) -> Act;

    /// Changes an answer.
    fn answer(&self, answer: &mut http::response::Parts) {
        let _ = answer;
    }
}

/// Faults that are told in advance: the first for the first request of its method, and so on.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<VecDeque<(Method, Act)>>,
    requests: AtomicU64,
}

impl Faults {
    /// Adds to what is to come.
    pub fn expect(&self, method: Method, acts: impl IntoIterator<Item = Act>) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.extend(acts.into_iter().map(|act| (method.clone(), act)));
    }

    /// How many faults are still to come.
    pub fn left(&self) -> usize {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.len()
    }

    /// How many requests came since the last question.
    pub fn requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

impl Behaviour for Faults {
    fn request(&self, request: &mut http::request::Parts) -> Act {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let at = script
            .iter()
            .position(|(method, _)| *method == request.method);
        let found = at.and_then(|at| script.remove(at));
        found.map_or(Act::Pass, |(_, act)| act)
    }
}

/// Makes a server of Amazon's protocol take requests as Google's clients send them. It turns what objects must not exist for into
/// Amazon's words, and gives each answer the generation that those clients want to see.
#[derive(Debug, Default)]
pub struct GoogleManners;

impl Behaviour for GoogleManners {
    fn request(&self, request: &mut http::request::Parts) -> Act {
        let headers = &mut request.headers;
        if headers
            .remove("x-goog-if-generation-match")
            .is_some_and(|of| of == "0")
        {
            headers.insert("if-none-match", HeaderValue::from_static("*"));
        }
        let ours: Vec<(HeaderName, HeaderValue)> = headers
            .iter()
            .filter_map(|(name, value)| {
                let rest = name.as_str().strip_prefix("x-goog-")?;
                let name = HeaderName::from_bytes(format!("x-amz-{rest}").as_bytes()).ok()?;
                Some((name, value.clone()))
            })
            .collect();
        headers.extend(ours);
        headers.remove("authorization");
        Act::Pass
    }

    fn answer(&self, answer: &mut http::response::Parts) {
        let one = HeaderValue::from_static("1");
        answer.headers.insert("x-goog-generation", one);
    }
}

/// Passes requests on to a port of 127.0.0.1. Needs the runtime that it was started in.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts to accept.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start(to: u16, behaviour: Arc<dyn Behaviour>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let behaviour = Arc::clone(&behaviour);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let behaviour = Arc::clone(&behaviour);
                        async move { Ok::<_, Infallible>(pass(to, behaviour, request).await) }
                    });
                    // A connection that ends is no loss: it was cut on purpose, or nobody needs it any more.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(client), service)
                        .await;
                });
            }
        });
        Self {
            port,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(
    to: u16,
    behaviour: Arc<dyn Behaviour>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let act = behaviour.request(&mut parts);
    match act {
        Act::Hang => std::future::pending().await,
        Act::SlowDown => return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Act::Expired => return error(StatusCode::BAD_REQUEST, "ExpiredToken"),
        Act::Pass | Act::FailAfter | Act::Cut(_) => {}
    }
    let Ok(answer) = forward(to, Request::from_parts(parts, body)).await else {
        return error(StatusCode::BAD_GATEWAY, "ServerIsGone");
    };
    let (mut parts, body) = answer.into_parts();
    behaviour.answer(&mut parts);
    match act {
        Act::FailAfter => {
            // All of it has been done.
            let _ = body.collect().await;
            error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
        }
        Act::Cut(after) => Response::from_parts(parts, cut(body, after)),
        _ => Response::from_parts(parts, body.map_err(io::Error::other).boxed()),
    }
}

async fn forward(to: u16, request: Request<Incoming>) -> Result<Response<Incoming>, io::Error> {
    let stream = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

/// An error as S3 words it.
fn error(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<Error><Code>{code}</Code><Message>told to</Message></Error>");
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    answer
}

fn cut(body: Incoming, after: usize) -> Body {
    let mut left = after;
    let pieces = body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        if left == 0 {
            return Err(io::Error::other("cut"));
        }
        let piece = piece.slice(..piece.len().min(left));
        left -= piece.len();
        Ok(Frame::data(piece))
    });
    // Whatever is left of it, the end does not come.
    let end = futures::stream::once(async { Err(io::Error::other("cut")) });
    BodyExt::boxed(StreamBody::new(pieces.chain(end)))
}
