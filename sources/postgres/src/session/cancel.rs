//! Stopping a statement from outside, over a connection of its own.

use holdfast_env::Env;
use std::fmt;
use std::time::Duration;
use tokio_postgres::CancelToken;

use super::transport::{self, open};
use crate::dsn::Dsn;

/// How long asking for a cancel may take. If it fails, the cut connection ends the statement at the server's next look.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// Stops whatever statement its session runs.
#[derive(Clone)]
pub struct Canceller {
    env: Env,
    dsn: Dsn,
    token: CancelToken,
}

impl Canceller {
    pub(super) fn new(env: Env, dsn: Dsn, token: CancelToken) -> Self {
        Self { env, dsn, token }
    }

    /// Asks the server to stop the statement; no error if none runs. It does not wait for the statement's end.
    pub async fn cancel(&self) {
        let asked = tokio::time::timeout(CANCEL_DEADLINE, self.ask()).await;
        if !matches!(asked, Ok(Ok(()))) {
            tracing::debug!(server = %self.dsn, "a statement could not be cancelled; its connection is cut");
        }
    }

    async fn ask(&self) -> Result<(), holdfast_types::Fault> {
        let (socket, channel) = open(&self.env, &self.dsn).await?.into_parts();
        // The token repeats what the session announced: an encrypted stream stays one.
        self.token
            .cancel_query_raw(socket, channel)
            .await
            .map_err(|error| transport::unreachable(&self.dsn, error.to_string()))
    }

    /// The same as a task, for `Drop`. Without a runtime (the process ends) there is nothing to do.
    pub(super) fn cancel_in_background(&self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let this = self.clone();
            runtime.spawn(async move { this.cancel().await });
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canceller({})", self.dsn)
    }
}
