//! Which session a request to cancel is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_env::Entropy;
use tokio_util::sync::CancellationToken;

/// The sessions that statements can be cancelled in.
#[derive(Debug)]
pub(super) struct Registry {
    entropy: Arc<dyn Entropy>,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    last: i32,
    known: HashMap<i32, Entry>,
}

#[derive(Debug)]
struct Entry {
    secret: i32,
    statement: Arc<Mutex<CancellationToken>>,
}

/// A session's place in the registry; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<super::Shared>,
    /// What the client names it by.
    pub(super) number: i32,
    /// What only the client knows.
    pub(super) secret: i32,
    statement: Arc<Mutex<CancellationToken>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.registry.registry.lock();
        sessions.known.remove(&self.number);
    }
}

impl Place {
    /// A new statement begins: what cancels it.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let mut present = self
            .statement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *present = token.clone();
        token
    }
}

impl Registry {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            sessions: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in.
    pub(super) fn enter(shared: &Arc<super::Shared>) -> Place {
        let registry = &shared.registry;
        let mut bytes = [0; 4];
        registry.entropy.fill(&mut bytes);
        let secret = i32::from_be_bytes(bytes);
        let statement = Arc::new(Mutex::new(CancellationToken::new()));
        let mut sessions = registry.lock();
        loop {
            sessions.last = sessions.last.checked_add(1).unwrap_or(1);
            if !sessions.known.contains_key(&sessions.last) {
                break;
            }
        }
        let number = sessions.last;
        let entry = Entry {
            secret,
            statement: Arc::clone(&statement),
        };
        sessions.known.insert(number, entry);
        drop(sessions);
        Place {
            registry: Arc::clone(shared),
            number,
            secret,
            statement,
        }
    }

    /// Cancels the statement of a session, if the secret is its. Nobody is told whether it was.
    pub(super) fn cancel(&self, number: i32, secret: Option<i32>) {
        let sessions = self.lock();
        if let Some(entry) = sessions.known.get(&number)
            && secret == Some(entry.secret)
        {
            entry
                .statement
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .cancel();
        }
    }
}
