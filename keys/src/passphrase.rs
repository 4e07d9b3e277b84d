//! Wrapping with a key that follows from a passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use bytes::Bytes;
use holdfast_format::{DataKey, Kdf, KeyWrap, WrapKind};
use holdfast_types::{ErrorCode, Fault, KeyId};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How a passphrase is named where keys are listed.
pub(crate) const LABEL: &str = "passphrase";

/// Wraps a data key. CPU-heavy, as it is meant to be; `salt` is random.
pub(crate) fn wrap(
    passphrase: &Secret,
    kdf: Kdf,
    salt: [u8; 16],
    key: &DataKey,
) -> Result<KeyWrap, Fault> {
    let wrapping = wrapping_key(passphrase, kdf, &salt)?;
    let mut wrapped = Zeroizing::new(key.expose().to_vec());
    wrapping
        .seal_in_place_append_tag(nonce(), bound(key.id(), kdf), &mut *wrapped)
        .map_err(|_| internal())?;
    Ok(KeyWrap {
        kind: WrapKind::Passphrase,
        label: LABEL.to_owned(),
        kdf: Some((kdf, salt)),
        wrapped: Bytes::copy_from_slice(&wrapped),
    })
}

/// The data key in a wrap; `None` if the passphrase is another one, or the wrap was changed: nobody can tell.
pub(crate) fn unwrap(
    passphrase: &Secret,
    wrap: &KeyWrap,
    id: KeyId,
) -> Result<Option<DataKey>, Fault> {
    let Some((kdf, salt)) = &wrap.kdf else {
        return Ok(None);
    };
    let wrapping = wrapping_key(passphrase, *kdf, salt)?;
    let mut wrapped = Zeroizing::new(wrap.wrapped.to_vec());
    match wrapping.open_in_place(nonce(), bound(id, *kdf), &mut wrapped) {
        Ok(secret) => DataKey::from_slice(secret).map(Some),
        Err(_) => Ok(None),
    }
}

/// A wrapping key seals one thing in its life, for its salt is random.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn bound(id: KeyId, kdf: Kdf) -> Aad<String> {
    Aad::from(format!("holdfast passphrase wrap v1 of {id} by {kdf}"))
}

fn internal() -> Fault {
    Fault::new(ErrorCode::Internal, "a key could not be wrapped")
}

fn wrapping_key(passphrase: &Secret, kdf: Kdf, salt: &[u8; 16]) -> Result<LessSafeKey, Fault> {
    let password = passphrase.expose().as_bytes();
    let mut key = Zeroizing::new([0u8; 32]);
    let unfit = || {
        Fault::new(
            ErrorCode::Unsupported,
            format!("a key cannot be derived by {kdf}"),
        )
    };
    match kdf {
        Kdf::Argon2id {
            memory_kib,
            passes,
            lanes,
        } => {
            let params = Params::new(memory_kib, passes, lanes, Some(key.len()));
            let params = params.map_err(|_| unfit())?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password, salt, key.as_mut())
                .map_err(|_| unfit())?;
        }
        Kdf::Pbkdf2Sha256 { iterations } => {
            let iterations = NonZeroU32::new(iterations).ok_or_else(unfit)?;
            pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, salt, password, key.as_mut());
        }
    }
    UnboundKey::new(&AES_256_GCM, key.as_ref())
        .map(LessSafeKey::new)
        .map_err(|_| internal())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap ones: the usual cost is measured elsewhere.
    const KDFS: [Kdf; 2] = [
        Kdf::Argon2id {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        },
        Kdf::Pbkdf2Sha256 { iterations: 10 },
    ];

    fn key(byte: u8) -> DataKey {
        DataKey::from_slice(&[byte; 32]).expect("32 bytes")
    }

    #[test]
    fn only_the_passphrase_opens_and_only_what_it_wrapped() {
        for kdf in KDFS {
            let right = Secret::new("correct horse");
            let wrapped = wrap(&right, kdf, [7; 16], &key(1)).expect("wraps");
            let opened = unwrap(&right, &wrapped, key(1).id()).expect("derives");
            assert_eq!(opened.expect("opens").expose(), &[1; 32]);
            let is_shut = |passphrase: &Secret, wrap: &KeyWrap, id| {
                unwrap(passphrase, wrap, id).expect("derives").is_none()
            };
            assert!(is_shut(
                &Secret::new("correct horsf"),
                &wrapped,
                key(1).id()
            ));
            assert!(is_shut(&right, &wrapped, key(2).id()), "another chain");
            for change in [0, 31, 32, 47] {
                let mut bytes = wrapped.wrapped.to_vec();
                bytes[change] ^= 1;
                let changed = KeyWrap {
                    wrapped: bytes.into(),
                    ..wrapped.clone()
                };
                assert!(is_shut(&right, &changed, key(1).id()), "byte {change}");
            }
            let other_salt = KeyWrap {
                kdf: Some((kdf, [8; 16])),
                ..wrapped.clone()
            };
            assert!(is_shut(&right, &other_salt, key(1).id()));
        }
    }

    /// RFC 9106, 5.3 has other inputs (secret, associated data); these two are from the reference implementation's and from
    /// Python's `hashlib.pbkdf2_hmac`: the parameters mean what they mean elsewhere.
    #[test]
    fn keys_are_derived_as_elsewhere() {
        let derive = |kdf, password: &str, salt: &[u8; 16]| {
            let key = wrapping_key(&Secret::new(password), kdf, salt).expect("derives");
            let mut sealed = vec![0; 16];
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
                .expect("seals");
            sealed
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let fixed = |key: &[u8; 32]| {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"));
            let mut sealed = vec![0; 16];
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
                .expect("seals");
            sealed
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let hex = |text: &str| {
            let mut key = [0; 32];
            for (at, byte) in key.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal");
            }
            key
        };
        let pbkdf2 = Kdf::Pbkdf2Sha256 { iterations: 1000 };
        assert_eq!(
            derive(pbkdf2, "password", b"0123456789abcdef"),
            fixed(&hex(PBKDF2_VECTOR))
        );
        let argon = Kdf::Argon2id {
            memory_kib: 256,
            passes: 2,
            lanes: 1,
        };
        assert_eq!(
            derive(argon, "password", b"somesalt01234567"),
            fixed(&hex(ARGON2_VECTOR))
        );
    }

    /// `hashlib.pbkdf2_hmac("sha256", b"password", b"0123456789abcdef", 1000)`
    const PBKDF2_VECTOR: &str = "8514638175a45bc45eb1f22f04ff7d27f4f8be480498c455ff4b494ce8d1e7d2";
    /// `argon2.low_level.hash_secret_raw(b"password", b"somesalt01234567", 2, 256, 1, 32, Type.ID)`
    const ARGON2_VECTOR: &str = "66a92088fa619ed4a64aa2043eef673bb3e07456b50e6801bcee4827d7cef1fc";
}
