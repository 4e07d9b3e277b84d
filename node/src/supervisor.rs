//! Supervision that survives a panic.
//!
//! `actix::Supervisor` polls the actor inside its own task, so a panic takes the supervisor along. Here the supervisor is a separate
//! task that sees the actor's mailbox close and builds a new actor from a factory. Volatile state starts afresh, which is sound
//! because whatever matters is in the ledger or in the collection.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long to wait before an actor is started again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first stop; doubled with every further one.
    pub first: Duration,
    /// At the most.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            most: Duration::from_secs(5),
        }
    }
}

/// How often a supervisor looks whether its actor is alive.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// An actor that is started again whenever it stops. Clones share it, and with it the one mailbox bound, and may go to other
/// threads; the actor itself stays on the thread where it was started.
pub struct Supervised<A: Actor>(Arc<RwLock<Addr<A>>>);

impl<A: Actor> Clone for Supervised<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for Supervised<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised")
            .field("alive", &connected(&self.0))
            .finish()
    }
}

/// A message was not taken: the actor's mailbox is full, or the actor is being started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor does not take messages at present")]
pub struct Busy;

impl<A: Actor<Context = Context<A>>> Supervised<A> {
    /// Hands a message over without waiting for its handling.
    ///
    /// # Errors
    /// [`Busy`], and the message is dropped: the mailbox bound is real.
    pub fn try_send<M>(&self, message: M) -> Result<(), Busy>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
        A::Context: ToEnvelope<A, M>,
    {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .try_send(message)
            .map_err(|_| Busy)
    }

    /// Hands a message over and waits for the answer.
    ///
    /// # Errors
    /// [`Busy`] if the actor stopped before it answered.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, Busy>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
        A::Context: ToEnvelope<A, M>,
    {
        let request = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message);
        request.await.map_err(|_| Busy)
    }
}

fn connected<A: Actor>(slot: &RwLock<Addr<A>>) -> bool {
    slot.read()
        .unwrap_or_else(PoisonError::into_inner)
        .connected()
}

/// Starts an actor from a factory, and again whenever it stops or panics, for as long as the returned value or a clone of it lives, and
/// until `over` is cancelled: an actor that stops after that has come to its end.
/// `name` is for the log. Must be called inside a tokio `LocalSet`, as every actix actor.
pub fn supervise<A, F>(
    name: &'static str,
    backoff: Backoff,
    over: CancellationToken,
    mut factory: F,
) -> Supervised<A>
where
    A: Actor<Context = Context<A>>,
    F: FnMut() -> A + 'static,
{
    let supervised = Supervised(Arc::new(RwLock::new(factory().start())));
    let weak = Arc::downgrade(&supervised.0);
    tokio::task::spawn_local(async move {
        let mut wait = backoff.first;
        let mut calm = Duration::ZERO;
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let Some(slot) = weak.upgrade() else { return };
            if over.is_cancelled() {
                return;
            }
            if connected(&slot) {
                calm += WATCH_INTERVAL;
                if calm > backoff.most {
                    wait = backoff.first;
                }
                continue;
            }
            drop(slot);
            tracing::error!(
                actor = name,
                wait_ms = wait.as_millis(),
                "actor stopped, starting it again"
            );
            if over
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return;
            }
            wait = (wait * 2).min(backoff.most);
            calm = Duration::ZERO;
            let Some(slot) = weak.upgrade() else { return };
            let fresh = factory().start();
            *slot.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    });
    supervised
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fragile;
    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Ask {
        panic: bool,
    }
    impl Handler<Ask> for Fragile {
        type Result = u32;
        fn handle(&mut self, message: Ask, _: &mut Self::Context) -> u32 {
            assert!(!message.panic, "as the test wishes");
            42
        }
    }

    #[test]
    fn an_actor_that_panics_is_started_again() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let actor = supervise(
                "fragile",
                Backoff::default(),
                CancellationToken::new(),
                || Fragile,
            );
            assert_eq!(actor.send(Ask { panic: false }).await, Ok(42));
            assert_eq!(actor.send(Ask { panic: true }).await, Err(Busy));
            let mut answer = Err(Busy);
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                answer = actor.send(Ask { panic: false }).await;
                if answer.is_ok() {
                    break;
                }
            }
            assert_eq!(answer, Ok(42));
        });
    }
}
