//! Users of the SQL port.

use holdfast_client::Credential;
use holdfast_ledger::{Action, Outcome};
use holdfast_node::verifier_of;
use holdfast_proto::v1;
use holdfast_types::{Fault, UserName, UserRecord};
use zeroize::Zeroizing;

use crate::core::Core;
use crate::replica::unexpected;

/// Makes a user, or gives one another password.
pub(super) async fn put(core: &Core, request: v1::PutUserRequest) -> Result<v1::User, Fault> {
    let password = Zeroizing::new(request.password);
    let name: UserName = request.name.parse()?;
    let entropy = core.env.entropy.clone();
    // Hashing takes milliseconds by design.
    let hashing = core
        .env
        .blocking(move || verifier_of(&password, entropy.as_ref()));
    let verifier = hashing.await?;
    let now = core.env.clock.now();
    let record = UserRecord {
        sealed: core.config.cluster_key.seal_verifier(&name, &verifier),
        created_at: now,
        changed_at: now,
        name: name.clone(),
    };
    let action = Action::PutUser {
        user: record.clone(),
        alter: request.alter,
    };
    match core.replica.propose(action).await? {
        // As the ledger has it, if this node has applied it already: the time of making stays.
        Outcome::Done | Outcome::NoOp => Ok(core
            .replica
            .read(|ledger| view(ledger.user(&name).unwrap_or(&record)))),
        Outcome::Refused(fault) => Err(fault),
        other => Err(unexpected(&other)),
    }
}

/// Forgets a user.
pub(super) async fn forget(core: &Core, name: &str) -> Result<(), Fault> {
    let user = name.parse()?;
    core.replica.make(Action::DropUser { user }).await
}

/// All users.
pub(super) fn list(core: &Core) -> v1::ListUsersResponse {
    let users = core
        .replica
        .read(|ledger| ledger.users().map(view).collect());
    v1::ListUsersResponse { users }
}

/// What the password of a user is checked against; `None` if there are no users at all.
pub(super) fn credential(core: &Core, user: &str) -> Result<Option<Credential>, Fault> {
    let key = &core.config.cluster_key;
    // A name that nobody can have is treated like one that nobody has.
    let name: Option<UserName> = user.parse().ok();
    let (found, is_empty) = core.replica.read(|ledger| {
        let found = name.as_ref().and_then(|name| ledger.user(name));
        (found.cloned(), ledger.users().next().is_none())
    });
    if is_empty {
        return Ok(None);
    }
    // Derived for everybody, so that its time does not tell who is there; to unseal the other one takes microseconds.
    let nobody = key.verifier_of_nobody(user);
    Ok(Some(match found {
        Some(record) => Credential {
            verifier: key.open_verifier(&record.name, &record.sealed)?,
            exists: true,
        },
        None => Credential {
            verifier: nobody,
            exists: false,
        },
    }))
}

fn view(record: &UserRecord) -> v1::User {
    v1::User {
        name: record.name.to_string(),
        created: record.created_at.to_string(),
        changed: record.changed_at.to_string(),
    }
}
