//! The key of a chain, and the keys that follow from it.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use holdfast_types::{Digest, ErrorCode, Fault, KeyId};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const ID_INFO: &[u8] = b"holdfast key id v1";
const SALT_INFO: &[u8] = b"holdfast file salt v1";
const FILE_INFO: &[u8] = b"holdfast file key v1 aes-256-gcm";
const INFO_INFO: &[u8] = b"holdfast key info v1";

/// The random key of one chain: all layers of it are encrypted with keys that follow from it. Never printed, zeroed when dropped; clones share
/// it.
#[derive(Clone)]
pub struct DataKey {
    id: KeyId,
    secret: Arc<Zeroizing<[u8; Self::LENGTH]>>,
    salting: Arc<hmac::Key>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

/// An output of HKDF of this many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills a buffer with what follows from a key for a purpose.
fn derive(secret: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), Fault> {
    let prk = if salt.is_empty() {
        Prk::new_less_safe(HKDF_SHA256, secret)
    } else {
        aws_lc_rs::hkdf::Salt::new(HKDF_SHA256, salt).extract(secret)
    };
    let failed = |_| Fault::new(ErrorCode::Internal, "a key could not be derived");
    let info = [info];
    let okm = prk.expand(&info, Length(out.len())).map_err(failed)?;
    okm.fill(out).map_err(failed)
}

impl DataKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// Takes 32 random bytes as a key.
    ///
    /// # Errors
    /// `Internal` if the cipher library fails.
    pub fn new(secret: Zeroizing<[u8; Self::LENGTH]>) -> Result<Self, Fault> {
        let mut id = [0; 16];
        derive(secret.as_ref(), &[], ID_INFO, &mut id)?;
        let mut salting = Zeroizing::new([0; 32]);
        derive(secret.as_ref(), &[], SALT_INFO, salting.as_mut())?;
        Ok(Self {
            id: KeyId(id),
            salting: Arc::new(hmac::Key::new(HMAC_SHA256, salting.as_ref())),
            secret: Arc::new(secret),
        })
    }

    /// Takes bytes that should be a key.
    ///
    /// # Errors
    /// `Corrupted` if they are not 32.
    pub fn from_slice(secret: &[u8]) -> Result<Self, Fault> {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        if secret.len() != Self::LENGTH {
            return Err(Fault::new(
                ErrorCode::Corrupted,
                format!(
                    "a data key has {} bytes and not {}",
                    secret.len(),
                    Self::LENGTH
                ),
            ));
        }
        bytes.copy_from_slice(secret);
        Self::new(bytes)
    }

    /// Which key it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, to be wrapped or sealed.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.secret
    }

    /// The salt of an object: what its key follows from. It follows itself from the object's path, length and content, so that another
    /// content has another key, and the same content, written again, has the same. An attacker who sees two salts learns
    /// whether the same content was written twice to the same path, and nothing else.
    pub(super) fn salt(&self, path: &str, length: u64, digest: &Digest) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.salting);
        context.update(&digest.0);
        context.update(&length.to_le_bytes());
        context.update(path.as_bytes());
        let mut salt = [0; 32];
        let tag = context.sign();
        salt.iter_mut()
            .zip(tag.as_ref())
            .for_each(|(byte, tag)| *byte = *tag);
        salt
    }

    /// The key of the object with this salt.
    pub(super) fn file_key(&self, salt: &[u8; 32]) -> Result<LessSafeKey, Fault> {
        let mut bytes = Zeroizing::new([0; 32]);
        derive(
            self.secret.as_ref().as_ref(),
            salt,
            FILE_INFO,
            bytes.as_mut(),
        )?;
        UnboundKey::new(&AES_256_GCM, bytes.as_ref())
            .map(LessSafeKey::new)
            .map_err(|_| Fault::new(ErrorCode::Internal, "a key could not be made"))
    }

    /// What proves that whoever wrote some bytes had the key.
    pub(crate) fn sign_info(&self, bytes: &[u8]) -> Result<[u8; 32], Fault> {
        let mut signed = [0; 32];
        let tag = hmac::sign(&self.info_key()?, bytes);
        signed
            .iter_mut()
            .zip(tag.as_ref())
            .for_each(|(byte, tag)| *byte = *tag);
        Ok(signed)
    }

    /// Whether bytes were signed so, compared in constant time.
    pub(crate) fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let key = self.info_key();
        key.is_ok_and(|key| hmac::verify(&key, bytes, signature).is_ok())
    }

    fn info_key(&self) -> Result<hmac::Key, Fault> {
        let mut bytes = Zeroizing::new([0; 32]);
        derive(
            self.secret.as_ref().as_ref(),
            &[],
            INFO_INFO,
            bytes.as_mut(),
        )?;
        Ok(hmac::Key::new(HMAC_SHA256, bytes.as_ref()))
    }
}
