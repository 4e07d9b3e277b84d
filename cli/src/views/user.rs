//! Users of the SQL port.

use holdfast_client::v1;
use serde::Serialize;

use crate::output::Table;

#[derive(Debug, Serialize)]
struct UserView {
    name: String,
    created: String,
    changed: String,
}

/// Users, without anything of their passwords.
#[derive(Debug, Serialize)]
pub(crate) struct UsersView {
    users: Vec<UserView>,
}

impl From<Vec<v1::User>> for UsersView {
    fn from(users: Vec<v1::User>) -> Self {
        let view = |user: v1::User| UserView {
            name: user.name,
            created: user.created,
            changed: user.changed,
        };
        Self {
            users: users.into_iter().map(view).collect(),
        }
    }
}

impl UsersView {
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&["user", "created", "password changed"]);
        for user in &self.users {
            table.row([
                user.name.clone(),
                user.created.clone(),
                user.changed.clone(),
            ]);
        }
        match table.is_empty() {
            true => "there are no users".to_owned(),
            false => table.to_string(),
        }
    }
}
