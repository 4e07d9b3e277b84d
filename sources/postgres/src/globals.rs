//! What belongs to a server rather than to a database: roles, memberships, tablespaces, and the settings of databases.

mod capture;
mod check;
mod database;
mod statements;

pub use database::{DatabaseFacts, Extension, Grant, LocaleFacts, Setting};
pub(crate) use statements::{grants, of_roles};

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `SUPERUSER`.
    pub superuser: bool,
    /// `INHERIT`.
    pub inherit: bool,
    /// `CREATEROLE`.
    pub create_role: bool,
    /// `CREATEDB`.
    pub create_database: bool,
    /// `LOGIN`.
    pub login: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `BYPASSRLS`.
    pub bypass_rls: bool,
    /// The most connections, −1 for no limit.
    pub connection_limit: i32,
    /// The hash of its password, where the role that took the backup may read it.
    pub password: Option<String>,
    /// Until when the password is good.
    pub valid_until: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its settings in every database.
    pub settings: Vec<Setting>,
}

impl std::fmt::Debug for Role {
    /// Password hashes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role")
            .field("name", &self.name)
            .field("has_password", &self.password.is_some())
            .finish_non_exhaustive()
    }
}

/// A role's membership in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The role that is a group.
    pub group: String,
    /// The role in it.
    pub member: String,
    /// Whether it may let others in.
    pub admin: bool,
    /// Whether it has the group's rights without asking; always as the role says before version 16.
    pub inherit: Option<bool>,
    /// Whether it may become the group; always before version 16.
    pub set: Option<bool>,
}

/// A tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Its directory on the server.
    pub location: String,
    /// Its options, as `name=value`.
    pub options: Vec<Setting>,
    /// Who may use it.
    pub grants: Option<Vec<Grant>>,
    /// Its comment.
    pub comment: Option<String>,
}

/// What belongs to a server, without what PostgreSQL itself makes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Globals {
    /// Roles, by name.
    pub roles: Vec<Role>,
    /// Memberships, by group and member.
    pub memberships: Vec<Membership>,
    /// Tablespaces, by name.
    pub tablespaces: Vec<Tablespace>,
    /// Whether passwords could be read.
    pub passwords: bool,
}

/// A statement that makes one global object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalStatement {
    /// What it makes, for messages. Never with a password.
    pub name: String,
    /// The statement.
    pub sql: String,
}
