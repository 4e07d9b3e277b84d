//! The server: listens, and gives each connection a session.

mod certificate;
mod codec;
mod encode;
mod login;
mod parameters;
mod registry;
mod scram;
mod session;
mod startup;
mod statement;
mod timeout;
mod wire;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast_client::{ControlApi, Verifiers};
use holdfast_env::{Connection, Env, Listener};
use holdfast_types::{ErrorCode, Fault};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exec::Executor;
use certificate::Certificate;
pub use certificate::CertificateFiles;
use login::Failures;
use registry::Registry;
use session::Session;
use wire::Wire;

/// For how long a client may take to say who it is.
const STARTUP: Duration = Duration::from_secs(10);
/// Connections beyond the sessions that may be there at once: long enough to be told so, or to ask for a cancellation.
const BEYOND: usize = 16;
/// For sessions to end when the process does.
const GRACE: Duration = Duration::from_millis(500);
/// Between two attempts to accept when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may open a session, besides users by their passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// Everybody who connects from this machine, under any name and without a password.
    pub trusts_loopback: bool,
    /// Users from other machines without encryption too. Their passwords are not sent even then, but all that they say and are answered can be read, and changed, on the way.
    pub allows_plaintext: bool,
}

/// How the server runs.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// Where it listens: `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Who may open a session.
    pub access: Access,
    /// What sessions are encrypted with; without it none is.
    pub certificate: Option<CertificateFiles>,
    /// Sessions at once.
    pub max_sessions: usize,
}

impl SqlOptions {
    /// The usual bounds.
    #[must_use]
    pub fn new(listen: impl Into<String>, access: Access) -> Self {
        Self {
            listen: listen.into(),
            access,
            certificate: None,
            max_sessions: 128,
        }
    }
}

/// A running server. Dropping it ends its sessions.
#[derive(Debug)]
pub struct SqlServer {
    address: String,
    closing: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

impl Drop for SqlServer {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// What all sessions have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    executor: Executor,
    registry: Registry,
    access: Access,
    certificate: Option<Certificate>,
    verifiers: Arc<dyn Verifiers>,
    failures: Failures,
    env: Env,
    sessions: Arc<Semaphore>,
    closing: CancellationToken,
}

impl SqlServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// The address cannot be listened on, or the certificate cannot be used.
    pub async fn start(
        options: SqlOptions,
        env: Env,
        api: Arc<dyn ControlApi>,
        verifiers: Arc<dyn Verifiers>,
    ) -> Result<Self, Fault> {
        let certificate = match options.certificate {
            Some(files) => Some(Certificate::read(&env, files).await?),
            None => None,
        };
        let listener = env.net.listen(&options.listen).await.map_err(|error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot listen for SQL on {}: {error}", options.listen),
            )
            .hint("is another process using the port?")
        })?;
        let address = listener.local_address();
        let max_sessions = options.max_sessions.min(listener.most_connections()).max(1);
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            registry: Registry::new(Arc::clone(&env.entropy)),
            executor: Executor::new(api, env.clone()),
            access: options.access,
            certificate,
            verifiers,
            failures: Failures::default(),
            env,
            sessions: Arc::new(Semaphore::new(max_sessions)),
            closing: closing.clone(),
        });
        let connections = Arc::new(Semaphore::new(max_sessions + BEYOND));
        let accepting = tokio::spawn(accept(listener, shared, connections));
        Ok(Self {
            address,
            closing,
            accepting: Some(accepting),
        })
    }

    /// The address that is listened on, with its real port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends every session, and waits a little for them. Jobs go on.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        if let Some(accepting) = self.accepting.take() {
            // What has not ended by then ends with the process.
            let _ = tokio::time::timeout(GRACE, accepting).await;
        }
    }
}

async fn accept(mut listener: Box<dyn Listener>, shared: Arc<Shared>, connections: Arc<Semaphore>) {
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.closing.cancelled() => break,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "a connection for SQL could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Beyond that nobody is even told that there are too many.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            serve(connection, shared).await;
            drop(permit);
        });
    }
    while sessions.join_next().await.is_some() {}
}

/// One connection, from its first byte to its last.
async fn serve(connection: Connection, shared: Arc<Shared>) {
    let peer = connection.peer;
    let mut wire = Wire::new(connection.socket);
    let starting = startup::start(&mut wire, &shared, &peer);
    let started = tokio::select! {
        biased;
        () = shared.closing.cancelled() => return,
        started = tokio::time::timeout(STARTUP, starting) => started,
    };
    let Ok(Some(started)) = started else {
        return;
    };
    tracing::debug!(%peer, user = ?started.session.user, "an SQL session begins");
    Session::new(wire, Arc::clone(&shared), started).run().await;
    tracing::debug!(%peer, "an SQL session has ended");
}

fn is_loopback(peer: &str) -> bool {
    let address = peer.parse::<SocketAddr>().map(|address| address.ip());
    match address {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => {
            let mapped = address.to_ipv4_mapped();
            address.is_loopback() || mapped.is_some_and(|address| address.is_loopback())
        }
        Err(_) => false,
    }
}
