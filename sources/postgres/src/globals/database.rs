//! What a database is apart from its contents.

use serde::{Deserialize, Serialize};

/// A configuration setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The parameter.
    pub name: String,
    /// Its value as the catalog has it: lists are already quoted in it.
    pub value: String,
}

/// A right that was granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The role; `None` is everybody.
    pub grantee: Option<String>,
    /// The right: `CONNECT`.
    pub right: String,
    /// Whether it may be granted on.
    pub grantable: bool,
}

/// Locale and encoding of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocaleFacts {
    /// The encoding's name.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Who provides the default collation: `c` the C library, `i` ICU, `b` PostgreSQL itself.
    pub provider: char,
    /// The locale for ICU or PostgreSQL's own.
    pub locale: Option<String>,
    /// Rules added to an ICU locale.
    pub icu_rules: Option<String>,
    /// The version of the collation that its indexes were built with.
    pub version: Option<String>,
}

/// An extension that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema of its objects.
    pub schema: String,
}

/// A database apart from its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Locale and encoding.
    pub locale: LocaleFacts,
    /// Its tablespace.
    pub tablespace: String,
    /// Whether anybody can connect.
    pub allow_connections: bool,
    /// The most connections, −1 for no limit.
    pub connection_limit: i32,
    /// Whether it is a template.
    pub is_template: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// Rights, where they are not the default ones.
    pub grants: Option<Vec<Grant>>,
    /// Settings in it: for everybody (`None`) or for one role.
    pub settings: Vec<(Option<String>, Setting)>,
    /// The search path of a session in it: functions in constraints may count on it.
    pub search_path: String,
    /// Whether it still has the schema `public` that every new database has.
    pub has_public: bool,
    /// Its extensions.
    pub extensions: Vec<Extension>,
    /// The server's major version.
    pub server_major: u32,
}
