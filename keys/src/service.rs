//! From keys that a user has to the key of a chain.

use holdfast_env::Env;
use holdfast_format::{DataKey, Kdf, KeyInfo, KeyWrap, WrapKind};
use holdfast_types::{ErrorCode, Fault};
use object_store::client::HttpClient;
use std::fmt;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::kms::{KmsUri, Surroundings, Unwrapped};
use crate::passphrase;
use crate::ring::KeyRing;
use crate::secret::Secret;

/// Passphrases that are worked on at once: each takes 64 MiB, and some 0.2 s of a core.
const DERIVED_AT_ONCE: usize = 2;
/// The most passphrases that open a chain: a wrong one is tried on all of them.
const MAX_PASSPHRASES: usize = 8;

/// Makes, opens and re-wraps the keys of chains. See the crate.
pub struct KeyService {
    env: Env,
    surroundings: Surroundings,
    deriving: Semaphore,
}

impl fmt::Debug for KeyService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyService").finish_non_exhaustive()
    }
}

impl KeyService {
    /// A service that reaches key management services over the network, with this process's own identity where a URI says
    /// `AUTH=implicit`. Nothing is reached before the first such URI.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self::with(env, Surroundings::of_process())
    }

    /// A service that speaks with this client, whatever a URI says of TLS: for tests.
    #[must_use]
    pub fn with_client(env: Env, client: HttpClient) -> Self {
        Self::with(env, Surroundings::with_client(client))
    }

    fn with(env: Env, surroundings: Surroundings) -> Self {
        Self {
            env,
            surroundings,
            deriving: Semaphore::new(DERIVED_AT_ONCE),
        }
    }

    /// Draws the key of a new chain, headed by the full in this directory, and wraps it by everything that was given: all of it must
    /// be reachable, for what does not wrap now never opens.
    ///
    /// # Errors
    /// What the first key that does not wrap failed with.
    pub async fn create(&self, full: &str, given: &KeyRing) -> Result<(DataKey, KeyInfo), Fault> {
        let mut secret = Zeroizing::new([0; DataKey::LENGTH]);
        self.env.entropy.fill(secret.as_mut());
        let key = DataKey::new(secret)?;
        let wraps = self.wrap(&key, given).await?;
        let info = KeyInfo::new(&key, full, 1, wraps)?;
        Ok((key, info))
    }

    /// The key of a chain. One of the keys that were given is enough; but all must be among those that open the chain, for whoever gives another one
    /// expects something that is not so.
    ///
    /// # Errors
    /// `FailedPrecondition` if none was given that is needed, none opens, or one is not needed; `Unavailable` if a KMS that might open it
    /// does not answer; `Corrupted` if the key info was not written by somebody who has the key.
    pub async fn open(&self, info: &KeyInfo, given: &KeyRing) -> Result<DataKey, Fault> {
        if given.is_empty() {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("the chain {} is encrypted, and no key was given", info.full),
            )
            .hint(format!("it opens with {}", openers(info))));
        }
        let mut opened: Option<DataKey> = None;
        let mut failures: Vec<Fault> = Vec::new();
        let mut is_mistaken = false;
        if let Some(passphrase) = &given.passphrase {
            match self.open_by_passphrase(info, passphrase).await? {
                Some(key) => opened = Some(key),
                None => {
                    is_mistaken = true;
                    failures.push(wrong_passphrase(info));
                }
            }
        }
        for uri in &given.kms {
            let is_listed = info
                .wraps
                .iter()
                .any(|wrap| wrap.kind == uri.kind() && wrap.label == uri.label());
            // One that is listed and was not needed need not even be reachable: that is what several keys are for.
            if opened.is_some() && is_listed {
                continue;
            }
            match self.open_by_kms(info, uri).await {
                Ok(key) => opened = Some(key),
                Err(fault) if is_listed => failures.push(fault),
                Err(fault) => return Err(fault),
            }
        }
        match opened {
            // A wrong passphrase beside a key that opens is a mistake all the same.
            Some(key) if !is_mistaken => {
                info.check(&key)?;
                Ok(key)
            }
            _ => Err(combined(failures)),
        }
    }

    /// Adds wraps by further keys: the next key info object.
    ///
    /// # Errors
    /// `AlreadyExists` for a KMS key that opens the chain already, otherwise as [`KeyService::create`].
    pub async fn add(
        &self,
        key: &DataKey,
        info: &KeyInfo,
        further: &KeyRing,
    ) -> Result<KeyInfo, Fault> {
        let is_there = |uri: &&KmsUri| {
            info.wraps
                .iter()
                .any(|wrap| wrap.kind == uri.kind() && wrap.label == uri.label())
        };
        if let Some(uri) = further.kms.iter().find(is_there) {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("{} opens the chain {} already", uri.label(), info.full),
            ));
        }
        let mut wraps = info.wraps.clone();
        wraps.extend(self.wrap(key, further).await?);
        let passphrases = wraps
            .iter()
            .filter(|wrap| wrap.kind == WrapKind::Passphrase);
        if passphrases.count() > MAX_PASSPHRASES {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("a chain is opened by at most {MAX_PASSPHRASES} passphrases"),
            )
            .hint("drop one with `holdfast keys drop`"));
        }
        next(key, info, wraps)
    }

    /// Leaves wraps out, named by [`KeyWrap::id`] or by their label: the next key info object.
    ///
    /// # Errors
    /// `NotFound` if there is no such wrap, `FailedPrecondition` if none would be left.
    pub fn leave_out(
        &self,
        key: &DataKey,
        info: &KeyInfo,
        doomed: &[String],
    ) -> Result<KeyInfo, Fault> {
        let named = |wrap: &KeyWrap, name: &str| wrap.id() == name || wrap.label == name;
        for name in doomed {
            let found = info.wraps.iter().filter(|wrap| named(wrap, name)).count();
            if found != 1 {
                return Err(Fault::new(
                    ErrorCode::NotFound,
                    format!(
                        "{found} keys of the chain {} are named {}",
                        info.full,
                        name.escape_debug()
                    ),
                )
                .hint("name one by the id that `holdfast keys show` lists"));
            }
        }
        let wraps: Vec<KeyWrap> = info
            .wraps
            .iter()
            .filter(|wrap| !doomed.iter().any(|name| named(wrap, name)))
            .cloned()
            .collect();
        if wraps.is_empty() {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("nothing would open the chain {} any more", info.full),
            )
            .hint("add another key first, with `holdfast keys add`"));
        }
        next(key, info, wraps)
    }

    async fn wrap(&self, key: &DataKey, given: &KeyRing) -> Result<Vec<KeyWrap>, Fault> {
        let mut wraps = Vec::new();
        if let Some(passphrase) = &given.passphrase {
            let mut salt = [0; 16];
            self.env.entropy.fill(&mut salt);
            let kdf = given.kdf.unwrap_or(Kdf::ARGON2ID);
            let (passphrase, key) = (passphrase.clone(), key.clone());
            let work = move || passphrase::wrap(&passphrase, kdf, salt, &key);
            wraps.push(self.derive(work).await?);
        }
        for uri in &given.kms {
            let kms = uri.connect(&self.surroundings, &self.env)?;
            let wrapped = kms.wrap(&key.id().to_string(), key.expose()).await;
            wraps.push(KeyWrap {
                kind: uri.kind(),
                label: uri.label().to_owned(),
                kdf: None,
                wrapped: wrapped.map_err(|fault| uri.redact(fault))?,
            });
        }
        Ok(wraps)
    }

    async fn open_by_passphrase(
        &self,
        info: &KeyInfo,
        passphrase: &Secret,
    ) -> Result<Option<DataKey>, Fault> {
        let wraps: Vec<KeyWrap> = info
            .wraps
            .iter()
            .filter(|wrap| wrap.kind == WrapKind::Passphrase)
            .take(MAX_PASSPHRASES)
            .cloned()
            .collect();
        if wraps.is_empty() {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("the chain {} is not encrypted with a passphrase", info.full),
            )
            .hint(format!("it opens with {}", openers(info))));
        }
        for wrap in wraps {
            let (passphrase, id) = (passphrase.clone(), info.key);
            let work = move || passphrase::unwrap(&passphrase, &wrap, id);
            if let Some(key) = self.derive(work).await? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    async fn open_by_kms(&self, info: &KeyInfo, uri: &KmsUri) -> Result<DataKey, Fault> {
        let mut wraps: Vec<&KeyWrap> = info
            .wraps
            .iter()
            .filter(|wrap| wrap.kind == uri.kind())
            .collect();
        // The one that goes by its name first: others may be it by another name, such as an alias, or a replica in another region.
        wraps.sort_by_key(|wrap| wrap.label != uri.label());
        if wraps.is_empty() {
            return Err(not_among(info, uri));
        }
        let kms = uri.connect(&self.surroundings, &self.env)?;
        for wrap in wraps {
            let opened = kms.unwrap(&info.key.to_string(), &wrap.wrapped).await;
            match opened.map_err(|fault| uri.redact(fault))? {
                Unwrapped::Key(secret) => match DataKey::from_slice(&secret) {
                    Ok(key) if key.id() == info.key => return Ok(key),
                    _ => {}
                },
                Unwrapped::NotMine => {}
            }
        }
        Err(not_among(info, uri))
    }

    /// Derives a key off the event loop, and not too many at once.
    async fn derive<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let _permit = self.deriving.acquire().await;
        self.env.blocking(work).await
    }
}

fn next(key: &DataKey, info: &KeyInfo, wraps: Vec<KeyWrap>) -> Result<KeyInfo, Fault> {
    KeyInfo::new(
        key,
        info.full.as_str(),
        info.number.saturating_add(1),
        wraps,
    )
}

/// What opens a chain, for errors.
fn openers(info: &KeyInfo) -> String {
    let names = info.wraps.iter().map(|wrap| match wrap.kind {
        WrapKind::Passphrase => "a passphrase (--passphrase-file)".to_owned(),
        _ => format!("--kms {}", wrap.label),
    });
    let mut names: Vec<String> = names.collect();
    names.dedup();
    names.join(" or ")
}

fn wrong_passphrase(info: &KeyInfo) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("the passphrase does not open the chain {}", info.full),
    )
    .hint("it is another one, or the key info object was changed")
}

fn not_among(info: &KeyInfo, uri: &KmsUri) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!(
            "{} is none of the keys that the chain {} was encrypted with",
            uri.label(),
            info.full
        ),
    )
    .hint(format!("it opens with {}", openers(info)))
}

/// Several failures as one. It may pass if one of them may.
fn combined(failures: Vec<Fault>) -> Fault {
    let may_pass = failures.iter().position(Fault::is_retryable);
    let mut failures = failures;
    if let Some(at) = may_pass {
        failures.swap(0, at);
    }
    let mut failures = failures.into_iter();
    let Some(mut first) = failures.next() else {
        return Fault::new(ErrorCode::Internal, "no key was tried");
    };
    for other in failures {
        first.message = format!("{}; {}", first.message, other.message);
    }
    first
}
