//! The keys that a user gave with a request.

use holdfast_format::Kdf;
use holdfast_types::{ErrorCode, Fault};

use crate::kms::KmsUri;
use crate::secret::Secret;

/// The longest passphrase, in bytes.
const MAX_PASSPHRASE: usize = 4096;
/// The most KMS keys of one request.
const MAX_KMS: usize = 32;

/// What opens a chain, or shall open it: any one is enough.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    pub(crate) passphrase: Option<Secret>,
    pub(crate) kms: Vec<KmsUri>,
    /// How keys of new passphrases follow from them.
    pub(crate) kdf: Option<Kdf>,
}

impl KeyRing {
    /// Reads what a user gave. An empty passphrase is none.
    ///
    /// # Errors
    /// `InvalidArgument` for a URI that is none, or twice there, or a way of deriving keys that nobody knows. No error repeats a secret.
    pub fn read(passphrase: Option<Secret>, kms: &[Secret], kdf: &str) -> Result<Self, Fault> {
        let passphrase = passphrase.filter(|passphrase| !passphrase.expose().is_empty());
        let length = passphrase.as_ref().map_or(0, |it| it.expose().len());
        if length > MAX_PASSPHRASE || kms.len() > MAX_KMS {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "a passphrase has at most {MAX_PASSPHRASE} bytes, and a backup at most {MAX_KMS} KMS keys"
                ),
            ));
        }
        let mut uris: Vec<KmsUri> = Vec::new();
        for text in kms {
            let uri: KmsUri = text.expose().parse()?;
            if uris.iter().any(|other| other.label() == uri.label()) {
                return Err(Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("the KMS key {} is given twice", uri.label()),
                ));
            }
            uris.push(uri);
        }
        let kdf = match kdf {
            "" => None,
            "argon2id" => Some(Kdf::ARGON2ID),
            "pbkdf2-sha256" => Some(Kdf::PBKDF2),
            other => {
                return Err(Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("no key is derived by \"{}\"", other.escape_debug()),
                )
                .hint("choose argon2id (the usual one) or pbkdf2-sha256"));
            }
        };
        if kdf.is_some() && passphrase.is_none() {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                "the way in which a key is derived is chosen for a passphrase, and none is given",
            ));
        }
        Ok(Self {
            passphrase,
            kms: uris,
            kdf,
        })
    }

    /// Whether there is a passphrase.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        self.passphrase.is_some()
    }

    /// The KMS keys, as [`KmsUri::label`] tells one from another.
    #[must_use]
    pub fn kms_labels(&self) -> Vec<String> {
        let labels = self.kms.iter().map(KmsUri::label);
        labels.map(str::to_owned).collect()
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.passphrase.is_none() && self.kms.is_empty()
    }
}
