//! The key that every process of a cluster reads from its own key file, and that seals what raft may carry but not show.
//!
//! Sealing is deterministic (AES-256-GCM-SIV, RFC 8452, with a fixed nonce): the ledger compares span bounds for equality, and the
//! one thing a deterministic seal gives away, that two bounds are equal, is what it needs to know. The purpose is bound
//! as associated data, so that a sealed bound is never accepted as a credential.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_env::{Disk, Entropy};
use holdfast_types::{ErrorCode, Fault, KeyId, ScramVerifier, Sealed, UserName};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_LENGTH: usize = 32;
const BOUND_PURPOSE: &[u8] = b"holdfast span bound v1";
const CHECK_PURPOSE: &[u8] = b"holdfast cluster key check v1";
const SECRET_PURPOSE: &[u8] = b"holdfast credential v1 for ";
const SCHEDULE_PURPOSE: &[u8] = b"holdfast keys of a schedule v1";
const DATA_KEY_PURPOSE: &[u8] = b"holdfast data key v1 of chain key ";
const VERIFIER_PURPOSE: &[u8] = b"holdfast password verifier v1 of user ";
const NOBODY_PURPOSE: &[u8] = b"holdfast salt of a user who is not there v1 ";
const TAG_PURPOSE: &[u8] = b"holdfast cluster tag v1";

/// Bytes of [`ClusterKey::tag`]: by 48 bits two clusters that share a server differ.
const TAG_LENGTH: usize = 6;

/// The cluster key. Cheap to clone; never printed.
#[derive(Clone)]
pub struct ClusterKey {
    key: Arc<LessSafeKey>,
    /// The path of its file; empty if it did not come from one.
    origin: Arc<str>,
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

impl ClusterKey {
    /// Takes 32 bytes as a key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LENGTH]) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM_SIV, bytes).expect("AES-256 takes every key of 32 bytes");
        Self {
            key: Arc::new(LessSafeKey::new(key)),
            origin: Arc::from(""),
        }
    }

    /// Reads a key file: 64 hexadecimal digits.
    ///
    /// # Errors
    /// The file is missing or is not a key file.
    pub fn read(disk: &dyn Disk, path: &str) -> Result<Self, Fault> {
        let text = disk.read(path).map(Zeroizing::new).map_err(|error| {
            Fault::new(ErrorCode::NotFound, format!("cannot read the cluster key file {path}: {error}"))
                .hint("copy the key file of another node, or make one for a new cluster with `holdfast init --key-file`")
        })?;
        let malformed = || {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("{path} is not a cluster key file: it must hold 64 hexadecimal digits"),
            )
        };
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?.trim();
        if text.len() != KEY_LENGTH * 2 || !text.is_ascii() {
            return Err(malformed());
        }
        let mut bytes = Zeroizing::new([0u8; KEY_LENGTH]);
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self {
            origin: Arc::from(path),
            ..Self::from_bytes(&bytes)
        })
    }

    /// Reads a key file, making it with a random key if it does not exist.
    ///
    /// # Errors
    /// The file cannot be written, or is not a key file.
    pub fn read_or_create(
        disk: &dyn Disk,
        entropy: &dyn Entropy,
        path: &str,
    ) -> Result<Self, Fault> {
        let failed = |error: std::io::Error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot write the cluster key file {path}: {error}"),
            )
        };
        if !disk.exists(path).map_err(failed)? {
            let mut key = Zeroizing::new([0u8; KEY_LENGTH]);
            entropy.fill(key.as_mut());
            let text: Zeroizing<String> =
                Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect());
            disk.write_atomically(path, text.as_bytes())
                .map_err(failed)?;
        }
        Self::read(disk, path)
    }

    /// The path of the file that it was read from, for messages; empty if it was not read from one.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([0; 12])
    }

    /// Seals a key value used as a span bound. The empty key is the open end and stays empty.
    #[must_use]
    pub fn seal_bound(&self, key: &[u8]) -> Sealed {
        if key.is_empty() {
            return Sealed::open_end();
        }
        let mut bytes = key.to_vec();
        self.key
            .seal_in_place_append_tag(Self::nonce(), Aad::from(BOUND_PURPOSE), &mut bytes)
            .expect("a span bound is far below the cipher's limit of 64 GiB");
        Sealed::from_sealed(bytes)
    }

    /// What two processes can compare to see whether they have the same key. It tells nothing else of it.
    #[must_use]
    pub fn check_value(&self) -> Vec<u8> {
        self.mark(CHECK_PURPOSE)
    }

    /// What the cluster's own things on somebody else's server are named by: twelve hexadecimal digits, the same for every process of the
    /// cluster, and others for another cluster.
    #[must_use]
    pub fn tag(&self) -> String {
        let mark = self.mark(TAG_PURPOSE);
        let digits = mark.iter().take(TAG_LENGTH);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    /// Sixteen bytes that only this key makes of a purpose.
    fn mark(&self, purpose: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.key
            .seal_in_place_append_tag(Self::nonce(), Aad::from(purpose), &mut bytes)
            .expect("nothing is far below the cipher's limit of 64 GiB");
        bytes
    }

    /// Seals a credential for the server at `address`. It opens for no other address, so that whoever may change a member's address cannot
    /// have its password sent there.
    #[must_use]
    pub fn seal_secret(&self, address: &str, secret: &str) -> Sealed {
        let mut bytes = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Self::nonce(), secret_purpose(address), &mut bytes)
            .expect("a credential is far below the cipher's limit of 64 GiB");
        Sealed::from_sealed(bytes)
    }

    /// Opens a credential for the server at `address`.
    ///
    /// # Errors
    /// It was sealed with another cluster's key, or for another address, or is damaged.
    pub fn open_secret(&self, address: &str, sealed: &Sealed) -> Result<Zeroizing<String>, Fault> {
        let fault = || {
            Fault::new(
                ErrorCode::Corrupted,
                format!("the password for {address} does not open with this cluster key"),
            )
            .hint("every node has the same key file? then give the source's password again")
        };
        let mut bytes = Zeroizing::new(sealed.as_bytes().to_vec());
        let opened = self
            .key
            .open_in_place(Self::nonce(), secret_purpose(address), &mut bytes)
            .map_err(|_| fault())?;
        let text = std::str::from_utf8(opened).map_err(|_| fault())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Seals the data key of an encrypted chain, so that the ledger can hold it for as long as a job needs it.
    #[must_use]
    pub fn seal_data_key(&self, id: KeyId, key: &[u8; KEY_LENGTH]) -> Sealed {
        let mut bytes = Zeroizing::new(key.to_vec());
        self.key
            .seal_in_place_append_tag(Self::nonce(), data_key_purpose(id), &mut *bytes)
            .expect("a key is far below the cipher's limit of 64 GiB");
        Sealed::from_sealed(bytes.as_slice())
    }

    /// Opens a data key.
    ///
    /// # Errors
    /// It was sealed with another cluster's key, or is another chain's, or is damaged.
    pub fn open_data_key(&self, id: KeyId, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut bytes = Zeroizing::new(sealed.as_bytes().to_vec());
        let opened = self
            .key
            .open_in_place(Self::nonce(), data_key_purpose(id), &mut bytes)
            .map_err(|_| {
                Fault::new(
                    ErrorCode::Corrupted,
                    "the key of an encrypted chain does not open with this cluster key",
                )
                .hint("every coordinator and worker of a cluster must have the same key file")
            })?
            .len();
        bytes.truncate(opened);
        Ok(bytes)
    }

    /// Seals what a user gave to encrypt a schedule's backups with, so that the ledger can hold it for as long as there is the schedule.
    #[must_use]
    pub fn seal_schedule_keys(&self, keys: &[u8]) -> Sealed {
        let mut bytes = Zeroizing::new(keys.to_vec());
        self.key
            .seal_in_place_append_tag(Self::nonce(), Aad::from(SCHEDULE_PURPOSE), &mut *bytes)
            .expect("keys are far below the cipher's limit of 64 GiB");
        Sealed::from_sealed(bytes.as_slice())
    }

    /// Opens the keys of a schedule.
    ///
    /// # Errors
    /// They were sealed with another cluster's key, or are damaged.
    pub fn open_schedule_keys(&self, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut bytes = Zeroizing::new(sealed.as_bytes().to_vec());
        let opened = self
            .key
            .open_in_place(Self::nonce(), Aad::from(SCHEDULE_PURPOSE), &mut bytes)
            .map_err(|_| {
                Fault::new(
                    ErrorCode::Corrupted,
                    "the keys of a schedule do not open with this cluster key",
                )
                .hint("every coordinator has the same key file? then give the schedule its keys again with `holdfast schedule alter`")
            })?
            .len();
        bytes.truncate(opened);
        Ok(bytes)
    }

    /// Seals what a user's password is checked against. It opens for no other user.
    #[must_use]
    pub fn seal_verifier(&self, user: &UserName, verifier: &ScramVerifier) -> Sealed {
        let mut bytes = verifier.to_string().into_bytes();
        self.key
            .seal_in_place_append_tag(Self::nonce(), verifier_purpose(user), &mut bytes)
            .expect("a verifier is far below the cipher's limit of 64 GiB");
        Sealed::from_sealed(bytes)
    }

    /// Opens what a user's password is checked against.
    ///
    /// # Errors
    /// It was sealed with another cluster's key, or for another user, or is damaged.
    pub fn open_verifier(&self, user: &UserName, sealed: &Sealed) -> Result<ScramVerifier, Fault> {
        let fault = || {
            Fault::new(
                ErrorCode::Corrupted,
                format!("the password of user {user} does not open with this cluster key"),
            )
            .hint("every coordinator has the same key file? then give the user another password with `holdfast user password`")
        };
        let mut bytes = Zeroizing::new(sealed.as_bytes().to_vec());
        let opened = self
            .key
            .open_in_place(Self::nonce(), verifier_purpose(user), &mut bytes)
            .map_err(|_| fault())?;
        let text = std::str::from_utf8(opened).map_err(|_| fault())?;
        text.parse().map_err(|_| fault())
    }

    /// What a client is told of a user who is not there: the same for ever, and on every coordinator, so that it cannot be told from the verifier of one who is.
    #[must_use]
    pub fn verifier_of_nobody(&self, user: &str) -> ScramVerifier {
        ScramVerifier {
            iterations: ScramVerifier::MIN_ITERATIONS,
            salt: self.mark(&[NOBODY_PURPOSE, user.as_bytes()].concat()),
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }

    /// Opens a sealed bound.
    ///
    /// # Errors
    /// The bound was sealed with another cluster's key, or is damaged.
    pub fn open_bound(&self, sealed: &Sealed) -> Result<Vec<u8>, Fault> {
        if sealed.is_open_end() {
            return Ok(Vec::new());
        }
        let mut bytes = sealed.as_bytes().to_vec();
        let length = self
            .key
            .open_in_place(Self::nonce(), Aad::from(BOUND_PURPOSE), &mut bytes)
            .map_err(|_| {
                Fault::new(
                    ErrorCode::Corrupted,
                    "a span bound does not open with this cluster key",
                )
                .hint("every coordinator and worker of a cluster must have the same key file")
            })?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn secret_purpose(address: &str) -> Aad<Vec<u8>> {
    Aad::from([SECRET_PURPOSE, address.as_bytes()].concat())
}

fn verifier_purpose(user: &UserName) -> Aad<Vec<u8>> {
    Aad::from([VERIFIER_PURPOSE, user.as_str().as_bytes()].concat())
}

fn data_key_purpose(id: KeyId) -> Aad<Vec<u8>> {
    Aad::from([DATA_KEY_PURPOSE, &id.0].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_opens_as_that_of_its_chain_only() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let (id, other) = (KeyId([1; 16]), KeyId([2; 16]));
        let sealed = key.seal_data_key(id, &[9; 32]);
        assert!(!sealed.as_bytes().windows(8).any(|part| part == [9; 8]));
        let opened = key.open_data_key(id, &sealed).expect("opens");
        assert_eq!(opened.as_slice(), [9; 32]);
        assert!(key.open_data_key(other, &sealed).is_err());
        let cluster = ClusterKey::from_bytes(&[8; 32]);
        assert!(cluster.open_data_key(id, &sealed).is_err());
        assert!(key.open_data_key(id, &key.seal_bound(&[9; 32])).is_err());
    }

    #[test]
    fn the_keys_of_a_schedule_open_as_such_only() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let sealed = key.seal_schedule_keys(b"canary of a passphrase");
        assert!(!sealed.as_bytes().windows(6).any(|part| part == b"canary"));
        let opened = key.open_schedule_keys(&sealed).expect("opens");
        assert_eq!(opened.as_slice(), b"canary of a passphrase");
        let other = ClusterKey::from_bytes(&[8; 32]);
        let fault = other.open_schedule_keys(&sealed).expect_err("another key");
        assert_eq!(fault.code, ErrorCode::Corrupted);
        assert!(key.open_secret("", &sealed).is_err());
        assert!(
            key.open_schedule_keys(&key.seal_secret("", "canary"))
                .is_err()
        );
    }

    #[test]
    fn a_verifier_opens_for_its_user_only() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let (ann, bob): (UserName, UserName) = (
            "ann".parse().expect("a name"),
            "bob".parse().expect("a name"),
        );
        let verifier = ScramVerifier {
            iterations: 4096,
            salt: b"a salt".to_vec(),
            stored_key: [1; 32],
            server_key: [2; 32],
        };
        let sealed = key.seal_verifier(&ann, &verifier);
        assert!(!sealed.as_bytes().windows(5).any(|part| part == b"SCRAM"));
        assert_eq!(key.open_verifier(&ann, &sealed), Ok(verifier));
        let other = ClusterKey::from_bytes(&[8; 32]);
        for opened in [
            key.open_verifier(&bob, &sealed),
            other.open_verifier(&ann, &sealed),
            key.open_verifier(&ann, &key.seal_secret("ann", "x")),
        ] {
            assert_eq!(opened.expect_err("foreign").code, ErrorCode::Corrupted);
        }
    }

    #[test]
    fn who_is_not_there_always_has_the_same_salt() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let nobody = key.verifier_of_nobody("ann");
        assert_eq!(nobody, key.verifier_of_nobody("ann"));
        assert_eq!(nobody.salt.len(), crate::password::SALT_BYTES);
        assert_ne!(nobody.salt, key.verifier_of_nobody("bob").salt);
        let other = ClusterKey::from_bytes(&[8; 32]);
        assert_ne!(nobody.salt, other.verifier_of_nobody("ann").salt);
    }

    #[test]
    fn equal_bounds_seal_equally_and_open_again() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let sealed = key.seal_bound(b"account-17");
        assert_eq!(sealed, key.seal_bound(b"account-17"));
        assert_ne!(sealed, key.seal_bound(b"account-18"));
        assert!(
            !sealed
                .as_bytes()
                .windows(7)
                .any(|window| window == b"account")
        );
        assert_eq!(key.open_bound(&sealed), Ok(b"account-17".to_vec()));
        assert!(key.seal_bound(b"").is_open_end());
    }

    #[test]
    fn another_cluster_cannot_open_a_bound() {
        let sealed = ClusterKey::from_bytes(&[7; 32]).seal_bound(b"account-17");
        let fault = ClusterKey::from_bytes(&[8; 32])
            .open_bound(&sealed)
            .expect_err("wrong key");
        assert_eq!(fault.code, ErrorCode::Corrupted);
    }

    #[test]
    fn keys_can_be_compared_without_being_shown() {
        let check = |byte| ClusterKey::from_bytes(&[byte; 32]).check_value();
        assert_eq!(check(7), check(7));
        assert_ne!(check(7), check(8));
        assert_eq!(check(7).len(), 16);
    }

    #[test]
    fn a_credential_opens_for_its_address_only() {
        let key = ClusterKey::from_bytes(&[7; 32]);
        let sealed = key.seal_secret("postgres://h/db", "s3cret");
        assert!(!sealed.as_bytes().windows(6).any(|part| part == b"s3cret"));
        let opened = key.open_secret("postgres://h/db", &sealed);
        assert_eq!(opened.as_deref().map(String::as_str), Ok("s3cret"));
        let moved = key.open_secret("postgres://evil/db", &sealed);
        assert_eq!(
            moved.expect_err("another address").code,
            ErrorCode::Corrupted
        );
        let other = ClusterKey::from_bytes(&[8; 32]);
        assert!(other.open_secret("postgres://h/db", &sealed).is_err());
    }

    #[test]
    fn clusters_have_different_tags() {
        let tag = |byte| ClusterKey::from_bytes(&[byte; 32]).tag();
        assert_eq!(tag(7), tag(7));
        assert_ne!(tag(7), tag(8));
        assert_eq!(tag(7).len(), 2 * TAG_LENGTH);
    }
}
