//! Users of the SQL port.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};
use crate::seal::Sealed;
use crate::time::Timestamp;

/// The name of a user, as PostgreSQL takes one: 1 to 63 bytes, in which lower case and upper case differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// The longest name, in bytes: PostgreSQL's bound on identifiers, which clients rely on.
    pub const MAX_BYTES: usize = 63;

    /// Checks and takes a name: any characters that can be seen, and blanks within.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], naming the offending text.
    pub fn new(text: impl Into<String>) -> Result<Self, Fault> {
        let text = text.into();
        let is_legal = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        if is_legal {
            return Ok(Self(text));
        }
        let shown: String = text.chars().take(Self::MAX_BYTES).collect();
        Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("user \"{}\" is not a legal name", shown.escape_debug()),
        )
        .hint("use 1 to 63 bytes without control characters, and without blanks at either end"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserName {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::new(text)
    }
}

/// A user, as the ledger holds one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The name, unique in the cluster.
    pub name: UserName,
    /// What the password is checked against, a [`crate::ScramVerifier`] as text, sealed for the name. The password itself is nowhere.
    pub sealed: Sealed,
    /// When the user was made.
    pub created_at: Timestamp,
    /// When the user got this password.
    pub changed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_postgresql() {
        for name in ["ann", "Ann Müller", "a", "ann@example.com", &"x".repeat(63)] {
            assert_eq!(UserName::new(name).expect(name).as_str(), name);
        }
        for name in [
            "",
            " ann",
            "ann ",
            "a\0b",
            "a\nb",
            &"x".repeat(64),
            &"ü".repeat(32),
        ] {
            let fault = UserName::new(name).expect_err("illegal");
            assert_eq!(fault.code, ErrorCode::InvalidArgument, "{name:?}");
            assert!(fault.message.len() < 200, "{fault}");
        }
    }
}
