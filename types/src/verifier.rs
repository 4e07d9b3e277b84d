//! What a password is checked against.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};

/// How the text of a verifier begins: the mechanism that it is for.
const PREFIX: &str = "SCRAM-SHA-256$";
/// The longest text of a verifier: no client makes one of more than some 200 bytes.
const MAX_TEXT: usize = 1024;

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677), in PostgreSQL's form:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
///
/// Nobody can log in with it, but passwords can be guessed with it: it is sealed wherever it is kept, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// How often the password was hashed, by which the client does it too.
    pub iterations: u32,
    /// What was hashed with the password, which the client is told.
    pub salt: Vec<u8>,
    /// The digest of the client's key.
    pub stored_key: [u8; 32],
    /// The key by which the server proves that it has the verifier.
    pub server_key: [u8; 32],
}

impl ScramVerifier {
    /// The fewest rounds that are taken: what RFC 7677 asks for, and what PostgreSQL makes.
    pub const MIN_ITERATIONS: u32 = 4096;
    /// The most: beyond, a client would compute for a minute.
    pub const MAX_ITERATIONS: u32 = 10_000_000;

    /// Whether a text says that it is one, rightly or not: no password begins so.
    #[must_use]
    pub fn is_claimed_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl FromStr for ScramVerifier {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        // The text is not shown: it may be a password after all.
        let malformed = |why: &str| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the text is no SCRAM-SHA-256 verifier: {why}"),
            )
            .hint("give the password itself, or what `\\password` of psql makes of it")
        };
        let form = || malformed("it is SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>");
        if text.len() > MAX_TEXT {
            return Err(malformed("it is too long"));
        }
        let rest = text.strip_prefix(PREFIX).ok_or_else(form)?;
        let (head, keys) = rest.split_once('$').ok_or_else(form)?;
        let (iterations, salt) = head.split_once(':').ok_or_else(form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or_else(form)?;
        let iterations: u32 = iterations.parse().map_err(|_| form())?;
        if !(Self::MIN_ITERATIONS..=Self::MAX_ITERATIONS).contains(&iterations) {
            return Err(malformed(&format!(
                "{iterations} iterations are not between {} and {}",
                Self::MIN_ITERATIONS,
                Self::MAX_ITERATIONS
            )));
        }
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| form());
        let key = |text: &str| -> Result<[u8; 32], Fault> {
            decoded(text)?.try_into().map_err(|_| form())
        };
        let salt = decoded(salt)?;
        if salt.is_empty() {
            return Err(malformed("it has no salt"));
        }
        Ok(Self {
            iterations,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL's own tests have for the password `secret`.
    const OF_POSTGRESQL: &str = "SCRAM-SHA-256$4096:VLK4RMaQLCvNtQ==$6YtlR4t69SguDiwFvbVgVZtuz6gpJQQqUMZ7IQJK5yI=:ps75jrHeYU4lXCcXI4O8oIdJ3eO8o2jirjruw9phBTo=";

    #[test]
    fn the_text_is_read_and_written_as_postgresql_does() {
        let verifier: ScramVerifier = OF_POSTGRESQL.parse().expect("a verifier");
        assert_eq!(verifier.iterations, 4096);
        assert_eq!(verifier.salt.len(), 10);
        assert_eq!(verifier.to_string(), OF_POSTGRESQL);
        assert!(ScramVerifier::is_claimed_by(OF_POSTGRESQL));
        assert_eq!(
            format!("{verifier:?}"),
            "ScramVerifier { iterations: 4096, .. }"
        );
    }

    #[test]
    fn what_is_malformed_is_refused_and_not_shown() {
        let replaced = |from: &str, to: &str| OF_POSTGRESQL.replace(from, to);
        for text in [
            "hunter2".to_owned(),
            "md5c0ffee".to_owned(),
            "SCRAM-SHA-256$".to_owned(),
            replaced("4096", "many"),
            replaced("4096", "4095"),
            replaced("4096", "-1"),
            replaced("4096", "10000001"),
            replaced("VLK4RMaQLCvNtQ==", ""),
            replaced("VLK4RMaQLCvNtQ==", "!"),
            replaced("6YtlR4t69SguDiwFvbVgVZtuz6gpJQQqUMZ7IQJK5yI=", "6Ytl"),
            replaced(":ps75", "ps75"),
            format!("{OF_POSTGRESQL}\n"),
            format!("SCRAM-SHA-256$4096:{}$a:b", "A".repeat(MAX_TEXT)),
        ] {
            let fault = text.parse::<ScramVerifier>().expect_err(&text);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(!fault.message.contains("hunter2"), "{fault}");
        }
    }
}
