//! What the SQL port asks of its coordinator beside [`ControlApi`](crate::ControlApi).

use async_trait::async_trait;
use holdfast_types::{Fault, ScramVerifier};
use std::fmt::Debug;

/// What a password is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user's; or, if there is no such user, one that looks like it and that no password fits.
    pub verifier: ScramVerifier,
    /// Whether there is such a user.
    pub exists: bool,
}

/// What the passwords of the cluster's users are checked against. Only the coordinator in process has it: verifiers never leave that process, which is why this
/// is no part of [`ControlApi`](crate::ControlApi).
#[async_trait]
pub trait Verifiers: Debug + Send + Sync {
    /// What the password of a user is checked against; `None` if there are no users at all.
    ///
    /// It is as of now: an answer of a coordinator that lags behind could let in a user who was dropped. So it takes a leader, and without one nobody can
    /// log in by password.
    ///
    /// # Errors
    /// No leader confirmed in time that the state is current; or the verifier does not open with this cluster's key.
    async fn credential(&self, user: &str) -> Result<Option<Credential>, Fault>;
}
