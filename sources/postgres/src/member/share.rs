//! What all work of this process on one member shares: streams, bytes a second, and room for the application.

use holdfast_env::Clock;
use holdfast_types::{ErrorCode, Fault};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Limits;
use crate::session::Session;

/// Databases of a member that are settled at once. Each takes up to [`SETTLING_SESSIONS`] sessions.
const SETTLING: usize = 2;

/// Two holders of the snapshot, one that makes it, a reader of changes, one of relations, and one for catalogs.
const SETTLING_SESSIONS: usize = 6;

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// Connections that are left to the application, beyond those that the server reserves.
const SPARE_CONNECTIONS: i64 = 3;

/// Reads of relations that are ready, or at the end of a part, while as many as there are streams are being sent: a server that can send waits neither
/// for the last part to be stored and committed nor for the next one to be opened.
const READY: usize = 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Share {
    clock: Arc<dyn Clock>,
    /// Reads of relations, a session each.
    readers: Semaphore,
    /// Those of them whose rows the server is sending.
    streams: Semaphore,
    settling: Semaphore,
    bytes_per_second: Option<u64>,
    /// Until when what was sent has used the rate up.
    used_until: Mutex<Duration>,
}

impl Share {
    pub(super) fn new(clock: Arc<dyn Clock>, limits: &Limits) -> Self {
        Self {
            clock,
            readers: Semaphore::new(readers(limits).clamp(1, Semaphore::MAX_PERMITS)),
            streams: Semaphore::new(limits.streams.clamp(1, Semaphore::MAX_PERMITS)),
            settling: Semaphore::new(SETTLING),
            bytes_per_second: limits.bytes_per_second,
            used_until: Mutex::default(),
        }
    }

    /// Waits for a reader of a relation: one session.
    pub(super) async fn reader(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.readers.acquire().await.map_err(|_| closed())
    }

    /// Waits for a stream, over which a reader has a part sent.
    pub(super) async fn stream(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.streams.acquire().await.map_err(|_| closed())
    }

    /// Streams that nobody uses, as many as that at most.
    pub(super) fn idle_streams(&self, most: usize) -> Vec<SemaphorePermit<'_>> {
        let idle = std::iter::from_fn(|| self.streams.try_acquire().ok());
        idle.take(most).collect()
    }

    /// Waits for the settling of a database.
    pub(super) async fn settling(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.settling.acquire().await.map_err(|_| closed())
    }

    /// Waits until that many bytes of rows, which were read, are within the rate. The server waits with us.
    pub(super) async fn pass(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let wait = {
            let now = self.clock.monotonic();
            let mut used_until = self
                .used_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let from = (*used_until).max(now.saturating_sub(BURST));
            let takes = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
            *used_until = from + Duration::from_micros(u64::try_from(takes).unwrap_or(u64::MAX));
            used_until.saturating_sub(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// The most sessions that one process has on a member at once, for the preflight.
pub(super) fn most_sessions(limits: &Limits) -> usize {
    readers(limits)
        .saturating_add(SETTLING * SETTLING_SESSIONS)
        .saturating_add(1)
}

fn readers(limits: &Limits) -> usize {
    limits.streams.saturating_add(READY)
}

fn closed() -> Fault {
    Fault::new(ErrorCode::Internal, "the member's client was closed")
}

/// Sees that the server has connections left for its application.
///
/// # Errors
/// `Unavailable` if not: it can be tried again later.
pub(super) async fn leave_room(session: &Session) -> Result<(), Fault> {
    let row = session
        .query_one(
            "SELECT pg_catalog.current_setting('max_connections')::pg_catalog.int8
                  - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8
                  - coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int8, 0)
                  - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')",
            &[],
        )
        .await?;
    let free: i64 = row.get(0);
    if free >= SPARE_CONNECTIONS {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Unavailable,
        format!(
            "the server has {} connections left, which are its application's",
            free.max(0)
        ),
    )
    .hint("it is tried again; raise max_connections, or give backups fewer streams"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::Env;

    #[tokio::test]
    async fn bytes_pass_at_the_rate_and_no_slower() {
        let clock: Arc<dyn Clock> = Env::system().clock;
        let limits = Limits {
            bytes_per_second: Some(1_000_000),
            ..Limits::default()
        };
        let share = Share::new(Arc::clone(&clock), &limits);
        let begun = clock.monotonic();
        // The first quarter of a second's worth is the burst.
        for _ in 0..100 {
            share.pass(6_500).await;
        }
        let took = (clock.monotonic() - begun).as_millis();
        assert!((350..1500).contains(&took), "{took} ms");
        let free = Share::new(clock, &Limits::default());
        free.pass(u64::MAX).await;
    }
}
