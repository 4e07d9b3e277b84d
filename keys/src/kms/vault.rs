//! The transit engine of HashiCorp Vault and OpenBao.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

use super::exchange::{Answer, Line, Surroundings, from_base64, refused, request, to_base64};
use super::uri::{Parameters, invalid};
use super::{Kms, Unwrapped};
use crate::secret::Secret;

/// The mount of AppRole logins unless told otherwise.
const APPROLE: &str = "approle";

/// A key as a URI names it.
#[derive(Clone)]
pub(super) struct VaultKey {
    authority: String,
    is_tls: bool,
    mount: String,
    key: String,
    namespace: Option<String>,
    /// A file on the coordinators with certificates to trust besides the system's.
    certificates: Option<String>,
    login: Login,
}

#[derive(Clone)]
enum Login {
    /// The coordinators' `VAULT_TOKEN`.
    Implicit,
    Token(Secret),
    AppRole {
        mount: String,
        role: String,
        secret: Secret,
    },
}

impl VaultKey {
    pub(super) fn read(
        url: &Url,
        path: String,
        parameters: &mut Parameters,
    ) -> Result<Self, Fault> {
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(invalid(
                "a vault: URI names the host that the service runs on",
            ));
        }
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let (mount, key) = path.rsplit_once('/').ok_or_else(|| {
            invalid("a vault: URI names the engine's mount and the key: vault://HOST/transit/KEY")
        })?;
        let is_name = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
                && !text.split('/').any(|part| part.is_empty() || part == "..")
        };
        if !is_name(mount) || !is_name(key) {
            return Err(invalid(
                "the mount and the key of a vault: URI consist of letters, digits, - _ and .",
            ));
        }
        let is_tls = match parameters.take("VAULT_TLS").as_deref() {
            None | Some("require") => true,
            Some("disable") => false,
            Some(_) => return Err(invalid("VAULT_TLS is require (the usual) or disable")),
        };
        let names = [
            "VAULT_TOKEN",
            "VAULT_ROLE_ID",
            "VAULT_SECRET_ID",
            "VAULT_APPROLE_MOUNT",
        ];
        let login = if parameters.is_implicit()? {
            parameters.refuse_with_implicit(&names)?;
            Login::Implicit
        } else {
            match (
                parameters.take_secret("VAULT_TOKEN"),
                parameters.take("VAULT_ROLE_ID"),
            ) {
                (Some(_), Some(_)) => {
                    return Err(invalid("VAULT_TOKEN or VAULT_ROLE_ID, and not both"));
                }
                (Some(token), None) => Login::Token(token),
                (None, Some(role)) => Login::AppRole {
                    mount: parameters
                        .take("VAULT_APPROLE_MOUNT")
                        .unwrap_or_else(|| APPROLE.to_owned()),
                    role,
                    secret: parameters.need_secret("VAULT_SECRET_ID")?,
                },
                (None, None) => {
                    return Err(invalid(
                        "a vault: URI needs the parameter VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or AUTH=implicit",
                    ));
                }
            }
        };
        Ok(Self {
            authority,
            is_tls,
            mount: mount.to_owned(),
            key: key.to_owned(),
            namespace: parameters.take("VAULT_NAMESPACE"),
            certificates: parameters.take("VAULT_CACERT"),
            login,
        })
    }

    pub(super) fn label(&self) -> String {
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|it| format!("?VAULT_NAMESPACE={it}"));
        format!(
            "vault://{}/{}/{}{}",
            self.authority,
            self.mount,
            self.key,
            namespace.unwrap_or_default()
        )
    }

    pub(super) fn connect(
        &self,
        surroundings: &Surroundings,
        env: &Env,
    ) -> Result<Box<dyn Kms>, Fault> {
        let certificates = match &self.certificates {
            None => None,
            Some(path) => Some(env.disk.read(path).map_err(|error| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("the certificates in VAULT_CACERT cannot be read on the coordinator: {error}"),
                )
            })?),
        };
        let login = match &self.login {
            Login::Implicit => Login::Token(surroundings.vault_token.clone().ok_or_else(|| {
                Fault::new(
                    ErrorCode::FailedPrecondition,
                    "the coordinator has no VAULT_TOKEN in its environment",
                )
                .hint("start it with one, or give a token or an AppRole with the URI")
            })?),
            other => other.clone(),
        };
        Ok(Box::new(Vault {
            key: self.clone(),
            login,
            line: surroundings.line(certificates.as_deref())?,
        }))
    }

    fn address(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/v1/{path}", self.authority)
    }
}

struct Vault {
    key: VaultKey,
    login: Login,
    line: Line,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.key.label())
    }
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Secret,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Secret,
}

impl Vault {
    async fn token(&self) -> Result<Arc<Secret>, Fault> {
        match &self.login {
            Login::Token(token) => Ok(Arc::new(token.clone())),
            Login::AppRole {
                mount,
                role,
                secret,
            } => {
                let who = self.key.label();
                let body = json!({ "role_id": role, "secret_id": secret.expose() });
                let path = format!("auth/{mount}/login");
                let answer = self.post(&path, None, &body).await?;
                if !answer.is_success() {
                    return Err(refused(&who, "log the role in", &answer));
                }
                let logged: LoggedIn = answer.json(&who)?;
                Ok(Arc::new(logged.auth.client_token))
            }
            Login::Implicit => Err(Fault::new(ErrorCode::Internal, "no token was looked for")),
        }
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&Secret>,
        body: &serde_json::Value,
    ) -> Result<Answer, Fault> {
        let body = Zeroizing::new(body.to_string());
        let make = || {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(token.map(|token| ("x-vault-token", token.expose())));
            let namespace = self.key.namespace.as_deref();
            headers.extend(namespace.map(|namespace| ("x-vault-namespace", namespace)));
            let address = self.key.address(path);
            request(Method::POST, &address, &headers, body.as_str().to_owned())
        };
        self.line.ask(&self.key.label(), make).await
    }

    async fn call(&self, action: &str, body: &serde_json::Value) -> Result<Answer, Fault> {
        let token = self.token().await?;
        let path = format!("{}/{action}/{}", self.key.mount, self.key.key);
        let answer = self.post(&path, Some(&token), body).await;
        answer.map_err(|mut fault| {
            fault.message = fault.message.replace(token.expose(), "redacted");
            fault
        })
    }

    fn bound(context: &str) -> Zeroizing<String> {
        to_base64(format!("holdfast-chain {context}").as_bytes())
    }
}

#[async_trait]
impl Kms for Vault {
    async fn wrap(&self, context: &str, key: &[u8; 32]) -> Result<Bytes, Fault> {
        let who = self.key.label();
        let body = json!({
            "plaintext": to_base64(key).as_str(),
            "associated_data": Self::bound(context).as_str(),
        });
        let answer = self.call("encrypt", &body).await?;
        if !answer.is_success() {
            return Err(refused(&who, "wrap a key", &answer));
        }
        // Text of its own, with the version of the key in it.
        let encrypted: Data<Encrypted> = answer.json(&who)?;
        Ok(encrypted.data.ciphertext.into())
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault> {
        let who = self.key.label();
        let Ok(ciphertext) = std::str::from_utf8(wrapped) else {
            return Ok(Unwrapped::NotMine);
        };
        let body = json!({
            "ciphertext": ciphertext,
            "associated_data": Self::bound(context).as_str(),
        });
        let answer = self.call("decrypt", &body).await?;
        if answer.is_success() {
            let decrypted: Data<Decrypted> = answer.json(&who)?;
            return from_base64(&who, decrypted.data.plaintext.expose()).map(Unwrapped::Key);
        }
        // A key that is another one, or not there: both are 400, in words that have changed over the versions.
        let words = answer.words();
        let is_other = [
            "authentication failed",
            "invalid ciphertext",
            "unable to decrypt",
        ]
        .iter()
        .any(|known| words.contains(known));
        match answer.status == 400 && is_other {
            true => Ok(Unwrapped::NotMine),
            false => Err(refused(&who, "unwrap a key", &answer)),
        }
    }
}
