//! One call, over however many coordinators and attempts it takes.
//!
//! Which failures are followed by another attempt depends on what the call does (see [`Nature`]): a call that may have taken effect
//! is never sent twice unless sending it twice is harmless.

use holdfast_env::Env;
use holdfast_proto::v1::control_client::ControlClient;
use holdfast_proto::{CallKind, ChannelOptions, MAX_MESSAGE_SIZE, channel, status_to_fault};
use holdfast_types::{ErrorCode, Fault};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{ConnectError, Request, Response, Status};

/// Most addresses a client takes: more than any cluster has coordinators, and a bound on what one call can knock at.
pub const MAX_ADDRESSES: usize = 32;
/// Wait before the second round over all addresses; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two rounds.
const MOST_WAIT: Duration = Duration::from_secs(1);

/// How long a client tries.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// To open a connection.
    pub connect_timeout: Duration,
    /// For the answer to one ordinary call.
    pub call_timeout: Duration,
    /// For the answer to a call that reads a collection, plans, or changes the membership.
    pub long_call_timeout: Duration,
    /// For how long after the first attempt further attempts are started. A leader is replaced well within the default.
    pub patience: Duration,
    /// The same for a client that has never reached anybody: its addresses are wrong, more often than not.
    pub first_patience: Duration,
    /// A watched job that has said nothing for this long is asked for again, at another coordinator: the one that was asked may be cut off.
    pub watch_silence: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            // A little above the coordinators' own bounds, so that their answer arrives rather than nothing.
            call_timeout: Duration::from_secs(11),
            long_call_timeout: Duration::from_secs(65),
            patience: Duration::from_secs(15),
            first_patience: Duration::from_secs(4),
            watch_silence: Duration::from_secs(10),
        }
    }
}

/// What a repetition of a call would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// It reads, or carries an idempotency key: repeating is harmless.
    Repeatable,
    /// It changes something each time: repeated only while it surely has not arrived.
    Mutation,
}

impl Nature {
    fn call_kind(self) -> CallKind {
        match self {
            Self::Repeatable => CallKind::Repeatable,
            Self::Mutation => CallKind::Mutation,
        }
    }

    /// Whether another attempt may follow. `connected` is false if no connection could be opened.
    fn may_retry(self, fault: &Fault, connected: bool) -> bool {
        match self {
            Self::Repeatable => {
                fault.is_retryable() && fault.code != ErrorCode::StorageFull || !connected
            }
            Self::Mutation => fault.code == ErrorCode::NoLeader || !connected,
        }
    }
}

/// One coordinator as the client reaches it.
#[derive(Debug)]
struct Endpoint {
    address: String,
    client: ControlClient<Channel>,
}

/// The coordinators of a cluster, the one that answered last first.
#[derive(Debug)]
pub(crate) struct Endpoints {
    env: Env,
    options: ClientOptions,
    endpoints: Vec<Endpoint>,
    /// Index of the coordinator that answered last.
    preferred: AtomicUsize,
    /// Whether any coordinator has ever been reached.
    reached: AtomicBool,
}

impl Endpoints {
    pub(crate) fn new(
        env: Env,
        addresses: &[String],
        options: ClientOptions,
    ) -> Result<Self, Fault> {
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{} coordinator addresses given, 1 to {MAX_ADDRESSES} are needed",
                    addresses.len()
                ),
            )
            .hint("give --coordinator host:port[,host:port…] or set HOLDFAST_COORDINATOR"));
        }
        let channel_options = ChannelOptions {
            connect_timeout: options.connect_timeout,
            call_timeout: None,
            ..ChannelOptions::default()
        };
        let endpoints = addresses
            .iter()
            .map(|address| {
                let channel = check_address(address)
                    .and_then(|()| channel(Arc::clone(&env.net), address, channel_options).ok())
                    .ok_or_else(|| {
                        Fault::new(
                            ErrorCode::InvalidArgument,
                            format!(
                                "coordinator address \"{}\" is not host:port",
                                address.escape_debug()
                            ),
                        )
                    })?;
                let client = ControlClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_SIZE)
                    .max_encoding_message_size(MAX_MESSAGE_SIZE);
                Ok(Endpoint {
                    address: address.clone(),
                    client,
                })
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            env,
            options,
            endpoints,
            preferred: AtomicUsize::new(0),
            reached: AtomicBool::new(false),
        })
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// A random request key, so that an unkeyed submission can be repeated.
    pub(crate) fn fresh_key(&self) -> String {
        let (a, b) = (self.env.entropy.next_u64(), self.env.entropy.next_u64());
        format!("auto-{a:016x}{b:016x}")
    }

    /// Lets the next call start at another coordinator than the one that answered last.
    pub(crate) fn turn_away(&self) {
        let next = (self.preferred.load(Ordering::Relaxed) + 1) % self.endpoints.len();
        self.preferred.store(next, Ordering::Relaxed);
    }

    /// Sends a request until there is an answer that counts.
    pub(crate) async fn call<Q, A, F, Fut>(
        &self,
        nature: Nature,
        deadline: Duration,
        request: Q,
        send: F,
    ) -> Result<A, Fault>
    where
        Q: Clone,
        F: Fn(ControlClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let started = self.env.clock.monotonic();
        let mut wait = FIRST_WAIT;
        loop {
            let first = self.preferred.load(Ordering::Relaxed);
            let mut last = None;
            for turn in 0..self.endpoints.len() {
                let index = (first + turn) % self.endpoints.len();
                let Some(endpoint) = self.endpoints.get(index) else {
                    break;
                };
                let sending = send(endpoint.client.clone(), Request::new(request.clone()));
                let status = match tokio::time::timeout(deadline, Box::pin(sending)).await {
                    Ok(Ok(response)) => {
                        self.reached.store(true, Ordering::Relaxed);
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(response.into_inner());
                    }
                    Ok(Err(status)) => status,
                    Err(_) => Status::deadline_exceeded(format!(
                        "no answer within {} ms",
                        deadline.as_millis()
                    )),
                };
                let connected = !is_connect_error(&status);
                self.reached.fetch_or(connected, Ordering::Relaxed);
                let fault = self.explain(nature, &status, &endpoint.address, connected);
                if !nature.may_retry(&fault, connected) {
                    return Err(fault);
                }
                last = Some(fault);
            }
            let waited = self.env.clock.monotonic().saturating_sub(started);
            if waited + wait > self.patience() {
                return Err(last.unwrap_or_else(|| {
                    Fault::new(ErrorCode::Internal, "no coordinator address to call")
                }));
            }
            tokio::time::sleep(self.jittered(wait)).await;
            wait = (wait * 2).min(MOST_WAIT);
        }
    }

    fn patience(&self) -> Duration {
        if self.reached.load(Ordering::Relaxed) {
            self.options.patience
        } else {
            self.options.first_patience
        }
    }

    /// Between three and five quarters of a wait, so that clients which lost the same leader do not come back together.
    fn jittered(&self, wait: Duration) -> Duration {
        let quarter = wait / 4;
        let spread = u64::try_from(quarter.as_micros() * 2)
            .unwrap_or(u64::MAX)
            .max(1);
        wait - quarter + Duration::from_micros(self.env.entropy.next_u64() % spread)
    }

    fn explain(&self, nature: Nature, status: &Status, address: &str, connected: bool) -> Fault {
        if !connected {
            let fault = status_to_fault(status, CallKind::Repeatable);
            return Fault::new(
                ErrorCode::Unavailable,
                format!("cannot reach coordinator {address}: {}", fault.message),
            )
            .hint(
                "check that `holdfast start` runs there, and give all coordinators with --coordinator or HOLDFAST_COORDINATOR",
            );
        }
        let fault = status_to_fault(status, nature.call_kind());
        if !status.details().is_empty() {
            return fault;
        }
        let fault = fault.context(format!("coordinator {address}"));
        if fault.code == ErrorCode::Unknown {
            fault.hint("the request may or may not have taken effect: look before you repeat it")
        } else {
            fault
        }
    }
}

/// `Some` if an address has a host and a port.
fn check_address(address: &str) -> Option<()> {
    let (host, port) = address.rsplit_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    (!host.is_empty() && host.chars().all(legal) && port.parse::<u16>().is_ok()).then_some(())
}

/// Whether the failure was to open a connection, so that the request surely was not sent.
fn is_connect_error(status: &Status) -> bool {
    let mut cause = Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_did_not_arrive_is_sent_again() {
        let cases = [
            // code, connected, repeatable again?, mutation again?
            (ErrorCode::NoLeader, true, true, true),
            (ErrorCode::Unavailable, true, true, false),
            (ErrorCode::Unavailable, false, true, true),
            (ErrorCode::Unknown, true, true, false),
            (ErrorCode::DeadlineExceeded, true, true, false),
            (ErrorCode::StorageFull, true, false, false),
            (ErrorCode::NotFound, true, false, false),
            (ErrorCode::ChainRule, true, false, false),
            (ErrorCode::Internal, true, false, false),
        ];
        for (code, connected, repeatable, mutation) in cases {
            let fault = Fault::new(code, "x");
            assert_eq!(
                Nature::Repeatable.may_retry(&fault, connected),
                repeatable,
                "{code:?}"
            );
            assert_eq!(
                Nature::Mutation.may_retry(&fault, connected),
                mutation,
                "{code:?}"
            );
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:7420", "node-1.example:1", "[::1]:80"] {
            assert!(check_address(good).is_some(), "{good}");
        }
        for bad in ["", "host", ":1", "host:", "host:99999", "a b:1", "h/x:1"] {
            assert!(check_address(bad).is_none(), "{bad}");
        }
    }
}
