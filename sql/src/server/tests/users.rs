//! Users in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use holdfast_client::{Credential, Verifiers};
use holdfast_types::{ErrorCode, Fault, ScramVerifier};

/// Users by name; a verifier that is missing cannot be read now.
#[derive(Debug, Default)]
pub(super) struct FakeUsers(Mutex<BTreeMap<String, Option<ScramVerifier>>>);

fn verifier(password: &str) -> ScramVerifier {
    let text = postgres_protocol::password::scram_sha_256(password.as_bytes());
    text.parse().expect("a verifier")
}

impl FakeUsers {
    fn put(&self, user: &str, verifier: Option<ScramVerifier>) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.insert(user.to_owned(), verifier);
    }

    pub(super) fn add(&self, user: &str, password: &str) {
        self.put(user, Some(verifier(password)));
    }

    pub(super) fn add_unreadable(&self, user: &str) {
        self.put(user, None);
    }
}

#[async_trait]
impl Verifiers for FakeUsers {
    async fn credential(&self, user: &str) -> Result<Option<Credential>, Fault> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if users.is_empty() {
            return Ok(None);
        }
        Ok(Some(match users.get(user) {
            Some(Some(verifier)) => Credential {
                verifier: verifier.clone(),
                exists: true,
            },
            Some(None) => return Err(Fault::new(ErrorCode::NoLeader, "there is no leader")),
            None => Credential {
                verifier: verifier("nobody has this one"),
                exists: false,
            },
        }))
    }
}
