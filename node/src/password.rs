//! From a password to what a server keeps of it.

use aws_lc_rs::{digest, hmac, pbkdf2};
use holdfast_env::Entropy;
use holdfast_types::{ErrorCode, Fault, ScramVerifier};
use std::borrow::Cow;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// Bytes of a salt, as in PostgreSQL.
pub(crate) const SALT_BYTES: usize = 16;
/// The longest password, in bytes.
const MAX_PASSWORD: usize = 1024;
/// How often a password is hashed, as in PostgreSQL: it is the client that does it at each login.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(ScramVerifier::MIN_ITERATIONS - 1);

/// What is kept of a password, with a fresh salt. What a client has made of one already, as `\password` of psql does, is taken as it is.
///
/// # Errors
/// The password is empty, too long, or the hash of an older mechanism.
pub fn verifier_of(password: &str, entropy: &dyn Entropy) -> Result<ScramVerifier, Fault> {
    let refuse = |why: &str| Fault::new(ErrorCode::InvalidArgument, why);
    if ScramVerifier::is_claimed_by(password) {
        return password.parse();
    }
    if is_md5(password) {
        return Err(refuse(
            "a hash made with md5 cannot be used: only SCRAM-SHA-256 is spoken here",
        )
        .hint("give the password itself, or its SCRAM-SHA-256 verifier"));
    }
    if password.is_empty() {
        return Err(refuse("the password is empty"));
    }
    if password.len() > MAX_PASSWORD {
        return Err(refuse(&format!(
            "the password is longer than {MAX_PASSWORD} bytes"
        )));
    }
    if password.contains('\0') {
        return Err(refuse("a password cannot hold the character NUL"));
    }
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    Ok(hashed(password, &salt))
}

/// Whether a text is what PostgreSQL takes for a hash made with md5.
fn is_md5(text: &str) -> bool {
    let digits = text.strip_prefix("md5").unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The verifier of a password with this salt (RFC 5802, section 3).
fn hashed(password: &str, salt: &[u8]) -> ScramVerifier {
    // As clients do: what SASLprep forbids is hashed as it is.
    let prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
    let prepared = Zeroizing::new(prepared.into_owned());
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        salt,
        prepared.as_bytes(),
        salted.as_mut(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let client_key = hmac::sign(&key, b"Client Key");
    ScramVerifier {
        iterations: ITERATIONS.get(),
        salt: salt.to_vec(),
        stored_key: bytes(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref()),
        server_key: bytes(hmac::sign(&key, b"Server Key").as_ref()),
    }
}

/// A digest of SHA-256, which has so many bytes.
fn bytes(digest: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::SystemEntropy;

    #[test]
    fn passwords_are_hashed_as_postgresql_does() {
        // Of the tests of postgres-protocol.
        let salt: Vec<u8> = (1..=16).collect();
        assert_eq!(
            hashed("secret", &salt).to_string(),
            "SCRAM-SHA-256$4096:AQIDBAUGBwgJCgsMDQ4PEA==$8rrDg00OqaiWXJ7p+sCgHEIaBSHY89ZJl3mfIsf32oY=:05L1f+yZbiN8O0AnO40Og85NNRhvzTS57naKRWCcsIA="
        );
        let normalised = hashed("I\u{ad}X", b"salt of sixteen!");
        assert_eq!(normalised, hashed("IX", b"salt of sixteen!"));
        // A control character is forbidden by SASLprep, and hashed all the same.
        assert_ne!(hashed("a\u{7}", b"s"), hashed("a", b"s"));
    }

    #[test]
    fn each_verifier_has_a_salt_of_its_own() {
        let make = || verifier_of("hunter2", &SystemEntropy).expect("a password");
        assert_ne!(make().salt, make().salt);
        let made = make();
        assert_eq!(made, hashed("hunter2", &made.salt));
        assert_eq!(verifier_of(&made.to_string(), &SystemEntropy), Ok(made));
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for (password, why) in [
            ("", "empty"),
            ("a\0b", "NUL"),
            ("x".repeat(1025).as_str(), "longer"),
            ("md5c0ffeec0ffeec0ffeec0ffeec0ffeec0", "md5"),
            ("SCRAM-SHA-256$4096:x", "no SCRAM-SHA-256 verifier"),
        ] {
            let fault = verifier_of(password, &SystemEntropy).expect_err(why);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(fault.message.contains(why), "{fault}");
            assert!(password.is_empty() || !fault.message.contains(password));
        }
        assert!(verifier_of("md5 is my password", &SystemEntropy).is_ok());
    }
}
