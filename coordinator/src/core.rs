//! What every part of a coordinator needs.

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context};
use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use holdfast_keys::KeyService;
use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::config::CoordinatorConfig;
use crate::job_ids::JobIds;
use crate::office::{Desk, Office};
use crate::replica::Replica;

/// Heartbeats that fit into one lease: a worker may lose all but one of them.
const HEARTBEATS_PER_LEASE: u32 = 4;
/// The shortest time between two heartbeats.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(50);
/// The longest: whether a process lives is known after one, and a worker that says hello waits for that.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(2);

/// For work on a collection that is as many calls as a layer has objects. Each call has its own deadline; this one only keeps a store that
/// answers ever more slowly from holding an effect for ever.
pub(crate) const MANY_CALLS_TIMEOUT: Duration = Duration::from_secs(3600);

/// The node's configuration, its doors to the outside, and its replica of the ledger.
pub(crate) struct Core {
    pub(crate) config: CoordinatorConfig,
    pub(crate) env: Env,
    pub(crate) replica: Replica,
    pub(crate) stores: Arc<dyn StoreProvider>,
    pub(crate) keys: KeyService,
    pub(crate) ids: JobIds,
    pub(crate) desk: Desk,
    /// Cancelled when the node shuts down.
    pub(crate) closing: CancellationToken,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("node", &self.config.raft.node)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// How long a lease lasts without an acknowledged heartbeat.
    pub(crate) fn lease_ttl(&self) -> Duration {
        self.replica
            .read(|ledger| ledger.settings().lease_ttl())
            .into()
    }

    /// How often a worker is to send a heartbeat.
    pub(crate) fn heartbeat(&self) -> Duration {
        (self.lease_ttl() / HEARTBEATS_PER_LEASE).clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT)
    }

    /// How long after a worker was last heard nothing of it can still arrive anywhere: a worker that hears nothing stops itself
    /// sooner.
    pub(crate) fn fence(&self) -> Duration {
        self.lease_ttl() + self.config.lease_margin
    }

    /// Runs a call to a collection within its deadline; `what` names it in the error.
    pub(crate) async fn bounded<T>(
        &self,
        what: impl fmt::Display,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        bounded_by(self.config.io_timeout, what, call).await
    }
}

/// The same within another limit.
pub(crate) async fn bounded_by<T>(
    limit: Duration,
    what: impl fmt::Display,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(
            ErrorCode::Unavailable,
            format!(
                "{what}: the store did not answer within {} s",
                limit.as_secs_f64()
            ),
        )
        .hint("check that the store can be reached from the coordinators")),
    }
}

/// Stops an actor of an office when the office ends. Called in `started`: whoever starts it again after that finds the office over.
pub(crate) fn stop_when_over<A: Actor<Context = Context<A>>>(
    office: &Arc<Office>,
    context: &mut Context<A>,
) {
    let over = office.over.clone();
    let wait = actix::fut::wrap_future::<_, A>(async move { over.cancelled().await })
        .map(|(), _, context: &mut Context<A>| context.stop());
    context.spawn(wait);
}
