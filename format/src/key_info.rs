//! The key info object: which keys open a chain, and the chain's data key wrapped by each of them.
//!
//! It is never encrypted, holds no key that is not wrapped, and is written once: a change is another object with the next number.

use bytes::Bytes;
use holdfast_types::{Digest, ErrorCode, Fault, KeyId};
use std::fmt;
use std::str::FromStr;

use crate::envelope::DataKey;
use crate::wire::{Decoder, Encoder, corrupted};

const MAGIC: &[u8; 8] = b"HFKEYS\r\n";
const VERSION: u16 = 1;
const WHAT: &str = "a key info object";
/// The longest label.
const MAX_LABEL: usize = 2048;
/// The longest wrapped key: an RSA ciphertext is far below.
const MAX_WRAPPED: usize = 8192;
const SALT_LENGTH: usize = 16;
const SEAL_LENGTH: usize = 32;
const DIGEST_LENGTH: usize = 32;
const KDF_ARGON2ID: u8 = 1;
const KDF_PBKDF2: u8 = 2;

/// What wraps a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WrapKind {
    /// A key that follows from a passphrase.
    Passphrase,
    /// AWS KMS.
    Aws,
    /// The transit engine of HashiCorp Vault or OpenBao.
    Vault,
    /// Google Cloud KMS.
    Gcp,
    /// Azure Key Vault.
    Azure,
    /// A PKCS#11 token.
    Pkcs11,
}

impl WrapKind {
    const ALL: [(u8, Self, &'static str); 6] = [
        (1, Self::Passphrase, "passphrase"),
        (2, Self::Aws, "aws-kms"),
        (3, Self::Vault, "vault"),
        (4, Self::Gcp, "gcp-kms"),
        (5, Self::Azure, "azure-kms"),
        (6, Self::Pkcs11, "pkcs11"),
    ];

    fn code(self) -> u8 {
        let found = Self::ALL.iter().find(|(_, kind, _)| *kind == self);
        found.map_or(0, |(code, ..)| *code)
    }
}

impl fmt::Display for WrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, kind, _)| kind == self);
        f.write_str(found.map_or("", |(.., name)| name))
    }
}

/// How a key follows from a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// Argon2id, version 1.3.
    Argon2id {
        /// KiB of memory.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// PBKDF2 with HMAC-SHA256.
    Pbkdf2Sha256 {
        /// Iterations.
        iterations: u32,
    },
}

impl Kdf {
    /// The usual one: Argon2id with 64 MiB and three passes.
    pub const ARGON2ID: Self = Self::Argon2id {
        memory_kib: 64 << 10,
        passes: 3,
        lanes: 1,
    };
    /// For those who may use nothing else: PBKDF2-SHA256 with 600,000 iterations.
    pub const PBKDF2: Self = Self::Pbkdf2Sha256 {
        iterations: 600_000,
    };
    /// The most that a reader spends on a passphrase, whatever an object asks for: 1 GiB, 16 passes, 16 lanes; 10,000,000 iterations.
    const MOST: (u32, u32, u32, u32) = (1 << 20, 16, 16, 10_000_000);

    /// Whether a reader may spend what is asked for.
    fn is_within_bounds(&self) -> bool {
        let (most_memory, most_passes, most_lanes, most_iterations) = Self::MOST;
        match *self {
            Self::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                (1..=most_passes).contains(&passes)
                    && (1..=most_lanes).contains(&lanes)
                    && memory_kib <= most_memory
                    && memory_kib >= lanes.saturating_mul(8)
            }
            Self::Pbkdf2Sha256 { iterations } => (1..=most_iterations).contains(&iterations),
        }
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => write!(f, "argon2id m={memory_kib} t={passes} p={lanes}"),
            Self::Pbkdf2Sha256 { iterations } => write!(f, "pbkdf2-sha256 i={iterations}"),
        }
    }
}

/// A data key, wrapped by one of the keys that open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrap {
    /// By what.
    pub kind: WrapKind,
    /// By which, for people and to find it again: without anything that is secret.
    pub label: String,
    /// Of a passphrase: how the wrapping key follows from it, and the salt.
    pub kdf: Option<(Kdf, [u8; SALT_LENGTH])>,
    /// The wrapped key, in the wrapper's own form.
    pub wrapped: Bytes,
}

impl KeyWrap {
    /// By what a wrap is named on a command line: eight hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        let digest = Digest::of(&self.wrapped);
        let digits = digest.0.iter().take(4);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    fn encode(&self, out: &mut Encoder) -> Result<(), Fault> {
        let too_long = self.label.len() > MAX_LABEL || self.wrapped.len() > MAX_WRAPPED;
        if too_long || self.kdf.is_some() != (self.kind == WrapKind::Passphrase) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "the key {} has a name or a wrap beyond the limits",
                    self.label
                ),
            ));
        }
        out.u8(self.kind.code()).text(&self.label);
        match self.kdf {
            None => {}
            Some((
                Kdf::Argon2id {
                    memory_kib,
                    passes,
                    lanes,
                },
                salt,
            )) => {
                out.u8(KDF_ARGON2ID)
                    .u32(memory_kib)
                    .u32(passes)
                    .u32(lanes)
                    .raw(&salt);
            }
            Some((Kdf::Pbkdf2Sha256 { iterations }, salt)) => {
                out.u8(KDF_PBKDF2).u32(iterations).raw(&salt);
            }
        }
        out.bytes(&self.wrapped);
        Ok(())
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Fault> {
        let code = decoder.u8()?;
        let found = WrapKind::ALL.iter().find(|(known, ..)| *known == code);
        let (_, kind, _) = *found.ok_or_else(|| decoder.damaged("a wrap is of an unknown kind"))?;
        let label = decoder.text(MAX_LABEL)?.to_owned();
        let kdf = match kind {
            WrapKind::Passphrase => {
                let kdf = match decoder.u8()? {
                    KDF_ARGON2ID => Kdf::Argon2id {
                        memory_kib: decoder.u32()?,
                        passes: decoder.u32()?,
                        lanes: decoder.u32()?,
                    },
                    KDF_PBKDF2 => Kdf::Pbkdf2Sha256 {
                        iterations: decoder.u32()?,
                    },
                    _ => {
                        return Err(
                            decoder.damaged("a key follows from a passphrase in an unknown way")
                        );
                    }
                };
                if !kdf.is_within_bounds() {
                    return Err(decoder.damaged("a passphrase would cost more than any should"));
                }
                Some((kdf, decoder.array()?))
            }
            _ => None,
        };
        Ok(Self {
            kind,
            label,
            kdf,
            wrapped: Bytes::copy_from_slice(decoder.bytes(MAX_WRAPPED)?),
        })
    }
}

/// What is known of a chain's keys. See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The data key that all wraps hold.
    pub key: KeyId,
    /// The directory of the chain's full.
    pub full: String,
    /// Info objects of a chain count from 1; the highest number counts.
    pub number: u32,
    /// The wraps. Any one is enough.
    pub wraps: Vec<KeyWrap>,
    /// Proof that whoever wrote it had the data key.
    signature: [u8; SEAL_LENGTH],
}

impl KeyInfo {
    /// The most wraps that a chain has.
    pub const MAX_WRAPS: usize = 64;

    /// What is to be said of a chain's key.
    ///
    /// # Errors
    /// `InvalidArgument` if there are no wraps, too many, or one that is too long.
    pub fn new(
        key: &DataKey,
        full: impl Into<String>,
        number: u32,
        wraps: Vec<KeyWrap>,
    ) -> Result<Self, Fault> {
        if wraps.is_empty() || wraps.len() > Self::MAX_WRAPS {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "a chain is opened by 1 to {} keys, and not by {}",
                    Self::MAX_WRAPS,
                    wraps.len()
                ),
            ));
        }
        let mut info = Self {
            key: key.id(),
            full: full.into(),
            number,
            wraps,
            signature: [0; SEAL_LENGTH],
        };
        info.signature = key.sign_info(&info.signed()?)?;
        Ok(info)
    }

    /// Everything before the signature.
    fn signed(&self) -> Result<Vec<u8>, Fault> {
        let mut out = Encoder::default();
        out.raw(MAGIC)
            .u16(VERSION)
            .u16(0)
            .raw(&self.key.0)
            .text(&self.full)
            .u32(self.number);
        out.list(&self.wraps, |out, wrap| wrap.encode(out))?;
        Ok(out.0)
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// As [`KeyInfo::new`].
    pub fn encode(&self) -> Result<Bytes, Fault> {
        let mut out = Encoder(self.signed()?);
        out.raw(&self.signature);
        let digest = Digest::of(&out.0);
        out.digest(&digest);
        Ok(out.finish())
    }

    /// Reads an object. Whether it is the chain's own says [`KeyInfo::check`], once the key is known.
    ///
    /// # Errors
    /// `Corrupted`, or `Unsupported` for another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let Some((body, digest)) = bytes.split_last_chunk::<DIGEST_LENGTH>() else {
            return Err(corrupted(WHAT, "it ends too early"));
        };
        if Digest::of(body).0 != *digest {
            return Err(corrupted(WHAT, "its digest does not match"));
        }
        let mut decoder = Decoder::new(body, WHAT);
        if decoder.raw(MAGIC.len())? != MAGIC {
            return Err(decoder.damaged("it does not start as one"));
        }
        let (version, flags) = (decoder.u16()?, decoder.u16()?);
        if (version, flags) != (VERSION, 0) {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!("{WHAT} has format version {version}, and this build reads {VERSION}"),
            )
            .hint("use the version of holdfast that wrote it, or a newer one"));
        }
        let key = KeyId(decoder.array()?);
        let full = decoder.text(MAX_LABEL)?.to_owned();
        let number = decoder.u32()?;
        let wraps = decoder.list(KeyWrap::decode)?;
        if wraps.is_empty() || wraps.len() > Self::MAX_WRAPS {
            return Err(decoder.damaged("it has no wraps, or too many"));
        }
        let signature = decoder.array()?;
        decoder.end()?;
        Ok(Self {
            key,
            full,
            number,
            wraps,
            signature,
        })
    }

    /// Whether a key that was unwrapped is the one that this object speaks of, and wrote it.
    ///
    /// # Errors
    /// `Corrupted` if not: somebody made the object of parts of others.
    pub fn check(&self, key: &DataKey) -> Result<(), Fault> {
        let signed = self.signed()?;
        if key.id() == self.key && key.is_signed(&signed, &self.signature) {
            Ok(())
        } else {
            Err(corrupted(
                WHAT,
                "it was not written by somebody who has the chain's key",
            ))
        }
    }
}

/// The name of a key info object under its full's `keys/`: `<number>.hfk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyInfoName(pub u32);

impl fmt::Display for KeyInfoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.hfk", self.0)
    }
}

impl FromStr for KeyInfoName {
    type Err = Fault;

    /// Reads the one spelling of a name; anything else is an error.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let number = text.strip_suffix(".hfk").and_then(|text| text.parse().ok());
        let name = number.filter(|number| *number > 0).map(Self);
        name.filter(|name| name.to_string() == text).ok_or_else(|| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "\"{}\" is not the name of a key info object",
                    text.escape_debug()
                ),
            )
        })
    }
}
