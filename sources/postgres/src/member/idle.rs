//! Sessions for rows between two uses: opening one costs the server about as much as reading some megabytes, and spans follow one another closely.
//!
//! # Concurrency
//! A session that nobody takes is closed after a moment, so that whoever wants to drop its database need not wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::session::Session;

/// How long a session waits for its next use. PostgreSQL itself waits for longer until a database that is to be dropped is left.
const KEPT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Idle {
    number: u64,
    session: Session,
}

#[derive(Debug, Default)]
struct State {
    /// Given back so far.
    count: u64,
    idle: Vec<Idle>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct IdleSessions(Mutex<State>);

impl IdleSessions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session in a database, if there is one.
    pub(super) fn take(&self, database: &str) -> Option<Session> {
        let mut state = self.lock();
        state.idle.retain(|idle| !idle.session.is_spoilt());
        let mut idle = state.idle.iter();
        let place = idle.position(|idle| idle.session.info().database == database)?;
        Some(state.idle.swap_remove(place).session)
    }

    /// Takes a session back. It must be outside a transaction, with the settings that it had.
    pub(super) fn give_back(self: &Arc<Self>, session: Session) {
        if session.is_spoilt() {
            return;
        }
        let number = {
            let mut state = self.lock();
            state.count += 1;
            let number = state.count;
            state.idle.push(Idle { number, session });
            number
        };
        let own = Arc::clone(self);
        drop(tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            own.lock().idle.retain(|idle| idle.number != number);
        }));
    }
}
