//! What a session remembers between statements.

use std::collections::BTreeMap;

use holdfast_types::Timestamp;

use crate::error::{SqlError, state};
use crate::query::Known;
use crate::rows::Value;
use crate::syntax::words::{VARIABLES, nearest};

/// What drivers take for the server's version: the protocol is that of PostgreSQL 16.
pub(crate) const SERVER_VERSION: &str = "16.0 (Holdfast)";

/// Variables that a client is told of when they change.
const REPORTED: [&str; 9] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "integer_datetimes",
    "intervalstyle",
    "is_superuser",
    "server_encoding",
    "standard_conforming_strings",
    "timezone",
];

/// Where a transaction block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Transaction {
    /// There is none.
    #[default]
    Idle,
    Open,
    /// A statement in it has failed: it can only be ended.
    Failed,
}

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// The name of the database that the client connected to: the default source.
    pub(crate) database: String,
    pub(crate) transaction: Transaction,
    variables: BTreeMap<String, String>,
    /// What the client said when it connected, for RESET.
    initial: BTreeMap<String, String>,
    version: String,
}

impl Session {
    pub(crate) fn new(user: &str, database: &str) -> Self {
        let variables: BTreeMap<String, String> = VARIABLES
            .iter()
            .map(|name| ((*name).to_owned(), usual(name).to_owned()))
            .collect();
        let mut session = Self {
            user: user.to_owned(),
            database: database.to_owned(),
            transaction: Transaction::Idle,
            initial: variables.clone(),
            variables,
            version: format!("Holdfast {}", env!("CARGO_PKG_VERSION")),
        };
        session.start_with("database", database);
        session
    }

    /// A variable that the client set when it connected. What is not known is left out, as drivers set what they please.
    pub(crate) fn start_with(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if self.variables.contains_key(&name) && !is_fixed(&name) {
            self.variables.insert(name.clone(), value.to_owned());
            self.initial.insert(name, value.to_owned());
        }
    }

    /// What a client is told of at the start, by the names that PostgreSQL has.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        let mut reported = vec![("server_version", SERVER_VERSION.to_owned())];
        for name in REPORTED {
            reported.push((spelling(name), self.get(name).to_owned()));
        }
        reported
    }

    /// The value of a variable; empty if it is not known.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Sets a variable. If the client must be told: what.
    ///
    /// # Errors
    /// There is none of that name, or it cannot have that value.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: &str,
    ) -> Result<Option<(&'static str, String)>, SqlError> {
        let value = match value.eq_ignore_ascii_case("default") {
            true => usual(name),
            false => value,
        };
        self.show(name)?;
        let refuse = |why: &str| {
            Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("parameter \"{name}\" {why}"),
            ))
        };
        if is_fixed(name) && !value.eq_ignore_ascii_case(self.get(name)) {
            return refuse("cannot be changed");
        }
        let is_utf8 = ["utf8", "utf-8", "unicode"].contains(&value.to_ascii_lowercase().as_str());
        match name {
            "client_encoding" if !is_utf8 => return refuse("can only be UTF8"),
            "timezone" if !is_utc(value) => {
                return refuse("can only be UTC: all times are shown in it");
            }
            "use_backups_with_ids" if !is_off(value) => {
                return Err(SqlError::unsupported(
                    "use_backups_with_ids: chains are listed by their directories",
                ));
            }
            "database" => self.database = value.to_owned(),
            "statement_timeout" if is_no_timeout(value) => {
                return refuse("is a number of milliseconds, or a time such as '5min'");
            }
            _ => {}
        }
        let value = match name {
            "client_encoding" => "UTF8",
            "timezone" => "UTC",
            _ => value,
        };
        self.variables.insert(name.to_owned(), value.to_owned());
        let is_reported = REPORTED.contains(&name);
        Ok(is_reported.then(|| (spelling(name), value.to_owned())))
    }

    /// Sets a variable, or all, to what the session began with.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn reset(&mut self, name: &str) -> Result<Vec<(&'static str, String)>, SqlError> {
        let names: Vec<String> = match name {
            "all" => VARIABLES.iter().map(ToString::to_string).collect(),
            name => vec![name.to_owned()],
        };
        let mut reported = Vec::new();
        for name in names {
            let value = self.initial.get(&name).cloned().unwrap_or_default();
            reported.extend(self.set(&name, &value)?);
        }
        Ok(reported)
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn show(&self, name: &str) -> Result<&str, SqlError> {
        if let Some(value) = self.variables.get(name) {
            return Ok(value);
        }
        let error = SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        );
        Err(match nearest(name, VARIABLES) {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => error.hint("settings of the cluster are shown by SHOW CLUSTER SETTINGS"),
        })
    }

    pub(super) fn known<'a>(&'a self, now: Timestamp, parameters: &'a [Value]) -> Known<'a> {
        Known {
            parameters,
            now,
            user: &self.user,
            database: &self.database,
            version: &self.version,
        }
    }
}

fn is_off(value: &str) -> bool {
    ["off", "false", "f", "0", "no"].contains(&value.to_ascii_lowercase().as_str())
}

fn is_no_timeout(value: &str) -> bool {
    value.parse::<u64>().is_err() && crate::times::parse_interval(value).is_none_or(|time| time < 0)
}

fn is_utc(value: &str) -> bool {
    ["utc", "etc/utc", "gmt", "0", "z"].contains(&value.to_ascii_lowercase().as_str())
}

fn is_fixed(name: &str) -> bool {
    [
        "integer_datetimes",
        "is_superuser",
        "password_encryption",
        "server_encoding",
        "server_version",
        "standard_conforming_strings",
    ]
    .contains(&name)
}

/// PostgreSQL's spelling, by which clients look for it.
fn spelling(name: &str) -> &'static str {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        name => VARIABLES
            .into_iter()
            .find(|known| *known == name)
            .unwrap_or(""),
    }
}

fn usual(name: &str) -> &'static str {
    match name {
        "bytea_output" => "hex",
        "client_encoding" | "server_encoding" => "UTF8",
        "client_min_messages" => "notice",
        "datestyle" => "ISO, MDY",
        "default_transaction_isolation" | "transaction_isolation" => "serializable",
        "default_transaction_read_only" | "use_backups_with_ids" => "off",
        "extra_float_digits" | "lock_timeout" | "statement_timeout" => "0",
        "integer_datetimes" | "is_superuser" | "standard_conforming_strings" => "on",
        "intervalstyle" => "postgres",
        "password_encryption" => "scram-sha-256",
        "search_path" => "public",
        "server_version" => SERVER_VERSION,
        "timezone" => "UTC",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_shown_and_reset() {
        let mut session = Session::new("ann", "bank");
        session.start_with("application_name", "psql");
        session.start_with("unheard_of", "x");
        assert_eq!(session.show("application_name"), Ok("psql"));
        let told = session.set("application_name", "x").expect("known");
        assert_eq!(told, Some(("application_name", "x".to_owned())));
        session.reset("all").expect("all are known");
        assert_eq!(session.show("application_name"), Ok("psql"));
        assert_eq!(session.show("database"), Ok("bank"));
        for (name, value, code) in [
            ("unheard_of", "x", "42704"),
            ("timezone", "Europe/Berlin", "22023"),
            ("client_encoding", "LATIN1", "22023"),
            ("server_version", "9", "22023"),
        ] {
            let error = session.set(name, value).expect_err(name);
            assert_eq!(error.state, code, "{name}");
        }
        let error = session.show("aplication_name").expect_err("a typing error");
        assert_eq!(
            error.hint.as_deref(),
            Some("did you mean application_name?")
        );
        assert!(session.reported().iter().all(|(name, _)| !name.is_empty()));
    }
}
