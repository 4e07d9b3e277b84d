//! Users of the SQL port.

use holdfast_types::{ErrorCode, Fault, UserName, UserRecord};

use super::Apply;
use crate::outcome::Outcome;

/// Users of a cluster: each is read with every snapshot.
const MAX_USERS: usize = 10_000;
/// Bytes of one verifier, sealed.
const MAX_BYTES: usize = 2 << 10;

impl Apply<'_> {
    pub(super) fn put_user(&mut self, user: &UserRecord, alter: bool) -> Result<Outcome, Fault> {
        let name = &user.name;
        if user.sealed.as_bytes().len() > MAX_BYTES {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("the verifier of user {name} is longer than {MAX_BYTES} bytes"),
            ));
        }
        let before = self.ledger.users.get(name);
        let created_at = match (before, alter) {
            (None, true) => return Err(unknown(name)),
            (Some(_), false) => {
                return Err(Fault::new(
                    ErrorCode::AlreadyExists,
                    format!("user {name} exists already"),
                )
                .hint(
                    "choose another name, or change the password with `holdfast user password`",
                ));
            }
            (None, false) if self.ledger.users.len() >= MAX_USERS => {
                return Err(Fault::new(
                    ErrorCode::ResourceExhausted,
                    format!("there are {MAX_USERS} users already"),
                )
                .hint("drop one that is not used any more"));
            }
            (Some(before), true) => before.created_at,
            (None, false) => user.created_at,
        };
        let record = UserRecord {
            created_at,
            ..user.clone()
        };
        self.ledger.users.insert(name.clone(), record);
        Ok(Outcome::Done)
    }

    pub(super) fn drop_user(&mut self, name: &UserName) -> Result<Outcome, Fault> {
        match self.ledger.users.remove(name) {
            Some(_) => Ok(Outcome::Done),
            None => Err(unknown(name)),
        }
    }
}

fn unknown(name: &UserName) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("there is no user {name}"))
        .hint("list the users with `holdfast user list`")
}
