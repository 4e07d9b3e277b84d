//! Keys in PKCS#11 tokens: an AES key that never leaves the token wraps with AES-GCM.
//!
//! The library that the URI names is loaded into the coordinator, and called on its blocking threads.

use async_trait::async_trait;
use bytes::Bytes;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

use super::uri::invalid;
use super::{Kms, Unwrapped};
use crate::secret::Secret;

const IV: usize = 12;
const TAG_BITS: u64 = 128;

/// A library is initialised once in a process, and then stays.
static LIBRARIES: Mutex<BTreeMap<String, Pkcs11>> = Mutex::new(BTreeMap::new());

/// A key as a URI of RFC 7512 names it: `pkcs11:token=T;object=K?module-path=/L.so&pin-value=P` (or `pin-source=file:/F`).
#[derive(Clone)]
pub(super) struct TokenKey {
    token: String,
    object: String,
    module: String,
    pin: Pin,
}

#[derive(Clone)]
enum Pin {
    Value(Secret),
    /// A file on the coordinators.
    File(String),
}

fn attributes(text: &str, separator: char) -> Result<BTreeMap<String, String>, Fault> {
    let mut found = BTreeMap::new();
    for part in text.split(separator).filter(|part| !part.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| invalid("a pkcs11: URI consists of NAME=VALUE"))?;
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| invalid("the values of a pkcs11: URI must be UTF-8"))?;
        if found.insert(name.to_owned(), value.into_owned()).is_some() {
            return Err(invalid(format!(
                "{} is there twice in a pkcs11: URI",
                name.escape_debug()
            )));
        }
    }
    Ok(found)
}

impl TokenKey {
    /// Reads a URI, and which of its values are secret.
    pub(super) fn read(text: &str) -> Result<(Self, Vec<Secret>), Fault> {
        let rest = text.strip_prefix("pkcs11:").unwrap_or(text);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut path = attributes(path, ';')?;
        let mut query = attributes(query, '&')?;
        let need = |from: &mut BTreeMap<String, String>, name: &str| {
            let found = from.remove(name).filter(|value| !value.is_empty());
            found.ok_or_else(|| invalid(format!("a pkcs11: URI needs {name}")))
        };
        let key = Self {
            token: need(&mut path, "token")?,
            object: need(&mut path, "object")?,
            module: need(&mut query, "module-path")?,
            pin: match (query.remove("pin-value"), query.remove("pin-source")) {
                (Some(pin), None) => Pin::Value(Secret::new(pin)),
                (None, Some(file)) => {
                    let file = file.strip_prefix("file:").unwrap_or(&file);
                    Pin::File(file.trim_start_matches("//").to_owned())
                }
                _ => {
                    return Err(invalid(
                        "a pkcs11: URI needs pin-value or pin-source, and not both",
                    ));
                }
            },
        };
        if let Some(name) = path.keys().chain(query.keys()).next() {
            return Err(invalid(format!(
                "unknown attribute {} in a pkcs11: URI",
                name.escape_debug()
            )));
        }
        let secrets = match &key.pin {
            Pin::Value(pin) => vec![pin.clone()],
            Pin::File(_) => Vec::new(),
        };
        Ok((key, secrets))
    }

    pub(super) fn label(&self) -> String {
        format!("pkcs11:token={};object={}", self.token, self.object)
    }

    pub(super) fn connect(&self, env: &Env) -> Box<dyn Kms> {
        Box::new(Token {
            key: self.clone(),
            env: env.clone(),
        })
    }

    fn fault(&self, what: &str, error: &Error) -> Fault {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{}: {what}: {error}", self.label()),
        )
    }

    fn library(&self) -> Result<Pkcs11, Fault> {
        let mut known = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = known.get(&self.module) {
            return Ok(library.clone());
        }
        let failed = |error| self.fault("the library cannot be used", &error);
        let library = Pkcs11::new(&self.module).map_err(failed)?;
        let flags = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match library.initialize(flags) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(error)),
        }
        known.insert(self.module.clone(), library.clone());
        Ok(library)
    }

    /// A session in which the key can be used.
    fn session(&self, env: &Env) -> Result<Session, Fault> {
        let library = self.library()?;
        let slots = library
            .get_slots_with_initialized_token()
            .map_err(|error| self.fault("its tokens cannot be listed", &error))?;
        let slot = slots.into_iter().find(|slot| {
            library
                .get_token_info(*slot)
                .is_ok_and(|info| info.label().trim_end() == self.token)
        });
        let slot = slot.ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!("{}: there is no such token", self.label()),
            )
        })?;
        let pin = match &self.pin {
            Pin::Value(pin) => Zeroizing::new(pin.expose().to_owned()),
            Pin::File(file) => {
                let bytes = env.disk.read(file).map(Zeroizing::new).map_err(|error| {
                    Fault::new(
                        ErrorCode::NotFound,
                        format!(
                            "{}: the pin cannot be read on the coordinator: {error}",
                            self.label()
                        ),
                    )
                })?;
                let text = String::from_utf8_lossy(&bytes);
                Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        let session = library
            .open_ro_session(slot)
            .map_err(|error| self.fault("no session", &error))?;
        let pin = AuthPin::new(pin.as_str().into());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(self.fault("the login is refused", &error)),
        }
    }

    /// What is done with the key, in a session of its own.
    fn with_key<T>(
        &self,
        env: &Env,
        work: impl FnOnce(&Session, cryptoki::object::ObjectHandle) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let session = self.session(env)?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(self.object.as_bytes().to_vec()),
        ];
        let found = session
            .find_objects(&template)
            .map_err(|error| self.fault("its keys cannot be listed", &error))?;
        match found.as_slice() {
            [key] => work(&session, *key),
            _ => Err(Fault::new(
                ErrorCode::NotFound,
                format!("{}: {} AES keys have this label", self.label(), found.len()),
            )),
        }
    }
}

struct Token {
    key: TokenKey,
    env: Env,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.key.label())
    }
}

#[async_trait]
impl Kms for Token {
    async fn wrap(&self, context: &str, key: &[u8; 32]) -> Result<Bytes, Fault> {
        let (token, env) = (self.key.clone(), self.env.clone());
        let (context, plain) = (context.to_owned(), Zeroizing::new(*key));
        let work = move || {
            let mut iv = [0u8; IV];
            env.entropy.fill(&mut iv);
            token.with_key(&env, |session, key| {
                let failed = |error| token.fault("wrapping a key fails", &error);
                let mut used = iv;
                let parameters = GcmParams::new(&mut used, context.as_bytes(), TAG_BITS.into());
                let mechanism = Mechanism::AesGcm(parameters.map_err(failed)?);
                let sealed = session
                    .encrypt(&mechanism, key, plain.as_ref())
                    .map_err(failed)?;
                drop(mechanism);
                // Some tokens choose the nonce themselves, and say which.
                Ok(Bytes::from([used.as_slice(), &sealed].concat()))
            })
        };
        self.env.blocking(work).await
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault> {
        let (token, env) = (self.key.clone(), self.env.clone());
        let (context, wrapped) = (context.to_owned(), wrapped.to_vec());
        let work = move || {
            let Some((iv, sealed)) = wrapped.split_at_checked(IV) else {
                return Ok(Unwrapped::NotMine);
            };
            token.with_key(&env, |session, key| {
                let failed = |error| token.fault("unwrapping a key fails", &error);
                let mut iv = iv.to_vec();
                let parameters = GcmParams::new(&mut iv, context.as_bytes(), TAG_BITS.into());
                let mechanism = Mechanism::AesGcm(parameters.map_err(failed)?);
                match session.decrypt(&mechanism, key, sealed) {
                    Ok(plain) => Ok(Unwrapped::Key(Zeroizing::new(plain))),
                    // Tokens say in many ways that the tag is wrong; what else is wrong was seen before.
                    Err(Error::Pkcs11(
                        RvError::GeneralError
                        | RvError::EncryptedDataInvalid
                        | RvError::EncryptedDataLenRange
                        | RvError::FunctionFailed,
                        _,
                    )) => Ok(Unwrapped::NotMine),
                    Err(error) => Err(failed(error)),
                }
            })
        };
        self.env.blocking(work).await
    }
}
