//! A worker from the outside.

use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_source::SourceFactory;
use holdfast_types::{ErrorCode, Fault, Incarnation};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::agent::{Agent, Gate};
use crate::config::WorkerConfig;
use crate::core::{BegunLeases, Core, Lifecycle};
use crate::stats::{Stats, WorkerStats};
use crate::task::LayerCache;

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Starts a worker on the current `LocalSet` (in production: that of the actix system; in the simulator: the host's). It looks for a leader by
    /// itself, and works until it is shut down, dismissed, or the handle is dropped.
    ///
    /// # Errors
    /// `InvalidArgument` if the configuration cannot work.
    pub fn start(
        config: WorkerConfig,
        env: Env,
        sources: Arc<dyn SourceFactory>,
        stores: Arc<dyn StoreProvider>,
    ) -> Result<WorkerHandle, Fault> {
        config.check()?;
        let core = Arc::new(Core {
            incarnation: Incarnation(env.entropy.next_u64()),
            gate: Gate::new(Arc::clone(&env.clock)),
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            stats: Stats::default(),
            layers: LayerCache::default(),
            begun: BegunLeases::default(),
            lifecycle: Lifecycle::new(),
            config,
            env,
            sources,
            stores,
        });
        let for_agent = Arc::clone(&core);
        let over = core.lifecycle.over.clone();
        let agent = supervise("agent", Backoff::default(), over, move || {
            Agent::new(Arc::clone(&for_agent))
        });
        Ok(WorkerHandle { core, agent })
    }
}

/// A running worker. Dropping it ends the worker at once, as a crash would.
pub struct WorkerHandle {
    core: Arc<Core>,
    /// Kept alive.
    agent: Supervised<Agent>,
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("worker", &self.core.config.id)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl WorkerHandle {
    /// Stops all tasks, gives their leases back, says goodbye, and returns when that is done or has taken too long (about 15 s). May be
    /// called again.
    pub async fn shutdown(&self) {
        self.core.lifecycle.leaving.cancel();
        // However it ends, it has ended.
        let _ = self.ended().await;
    }

    /// Waits until the worker has ended: `Ok` after a shutdown, otherwise the reason, which the process should report and exit with. May be called
    /// any number of times.
    ///
    /// # Errors
    /// The leader's reason to dismiss this worker, such as a duplicate id or another cluster.
    pub async fn ended(&self) -> Result<(), Fault> {
        let mut ended = self.core.lifecycle.ended.subscribe();
        let outcome = match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        // The sender lives in `core`, which this handle holds: it cannot be gone.
        outcome.unwrap_or_else(|| Err(Fault::new(ErrorCode::Internal, "the worker vanished")))
    }

    /// What the worker has done since it started.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.core.stats.snapshot()
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.core.lifecycle.over.cancel();
        self.core.gate.set(None);
    }
}
