//! Azure Key Vault by REST: an RSA key wraps with OAEP. Tested against a stub only: there is no emulator of it.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use zeroize::Zeroizing;

use super::exchange::{Answer, Line, Surroundings, form, refused, request};
use super::uri::{Parameters, invalid};
use super::{Kms, Unwrapped};
use crate::secret::Secret;

const ALGORITHM: &str = "RSA-OAEP-256";
const API: &str = "api-version=7.4";
/// Where a machine of Azure asks for its own token.
const MACHINE: &str =
    "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=";

/// Clouds: name, domain of vaults, address of logins.
const CLOUDS: [(&str, &str, &str); 3] = [
    (
        "AzurePublicCloud",
        "vault.azure.net",
        "https://login.microsoftonline.com",
    ),
    (
        "AzureUSGovernmentCloud",
        "vault.usgovcloudapi.net",
        "https://login.microsoftonline.us",
    ),
    (
        "AzureChinaCloud",
        "vault.azure.cn",
        "https://login.chinacloudapi.cn",
    ),
];

/// A key as a URI names it.
#[derive(Clone)]
pub(super) struct AzureKey {
    key: String,
    version: String,
    vault: String,
    domain: &'static str,
    login_address: &'static str,
    login: Login,
}

#[derive(Clone)]
enum Login {
    /// The machine's own identity.
    Implicit,
    Client {
        tenant: String,
        client: String,
        secret: Secret,
    },
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl AzureKey {
    pub(super) fn read(path: &str, parameters: &mut Parameters) -> Result<Self, Fault> {
        let (key, version) = match path.split_once('/') {
            Some((key, version)) if is_name(key) && is_name(version) => (key, version),
            _ => {
                return Err(invalid(
                    "a key of Azure Key Vault is named with its version: azure-kms:///KEY/VERSION",
                ));
            }
        };
        let vault = parameters.need("AZURE_VAULT_NAME")?;
        if !is_name(&vault) {
            return Err(invalid(
                "AZURE_VAULT_NAME is a vault's name: letters, digits and -",
            ));
        }
        let cloud = parameters.take("AZURE_ENVIRONMENT");
        let cloud = cloud.as_deref().unwrap_or("AzurePublicCloud");
        let found = CLOUDS.iter().find(|(name, ..)| *name == cloud);
        let (_, domain, login_address) = *found.ok_or_else(|| {
            let names: Vec<&str> = CLOUDS.iter().map(|(name, ..)| *name).collect();
            invalid(format!("AZURE_ENVIRONMENT is one of {}", names.join(", ")))
        })?;
        let names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"];
        let login = if parameters.is_implicit()? {
            parameters.refuse_with_implicit(&names)?;
            Login::Implicit
        } else {
            let tenant = parameters.need("AZURE_TENANT_ID")?;
            if !tenant
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            {
                return Err(invalid("AZURE_TENANT_ID is a tenant's id or domain"));
            }
            Login::Client {
                tenant,
                client: parameters.need("AZURE_CLIENT_ID")?,
                secret: parameters.need_secret("AZURE_CLIENT_SECRET")?,
            }
        };
        Ok(Self {
            key: key.to_owned(),
            version: version.to_owned(),
            vault,
            domain,
            login_address,
            login,
        })
    }

    pub(super) fn label(&self) -> String {
        format!(
            "azure-kms:///{}/{}?AZURE_VAULT_NAME={}",
            self.key, self.version, self.vault
        )
    }

    pub(super) fn connect(&self, surroundings: &Surroundings) -> Result<Box<dyn Kms>, Fault> {
        Ok(Box::new(Azure {
            key: self.clone(),
            line: surroundings.line(None)?,
        }))
    }
}

struct Azure {
    key: AzureKey,
    line: Line,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Azure({})", self.key.label())
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: Secret,
}

#[derive(Deserialize)]
struct Done {
    value: Secret,
}

impl Azure {
    async fn token(&self) -> Result<Secret, Fault> {
        let who = self.key.label();
        let resource = format!("https://{}", self.key.domain);
        let answer = match &self.key.login {
            Login::Implicit => {
                let uri = format!("{MACHINE}{resource}");
                let headers = [("metadata", "true")];
                let make = || request(Method::GET, &uri, &headers, String::new());
                self.line
                    .ask("the identity of the coordinator's machine", make)
                    .await?
            }
            Login::Client {
                tenant,
                client,
                secret,
            } => {
                let uri = format!("{}/{tenant}/oauth2/v2.0/token", self.key.login_address);
                let scope = format!("{resource}/.default");
                let body = form(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", client),
                    ("client_secret", secret.expose()),
                    ("scope", &scope),
                ]);
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                let make = || request(Method::POST, &uri, &headers, body.as_str().to_owned());
                self.line.ask(&who, make).await?
            }
        };
        if !answer.is_success() {
            return Err(refused(&who, "log in", &answer));
        }
        Ok(answer.json::<Token>(&who)?.access_token)
    }

    async fn call(&self, action: &str, value: &[u8]) -> Result<Answer, Fault> {
        let token = self.token().await?;
        let key = &self.key;
        let uri = format!(
            "https://{}.{}/keys/{}/{}/{action}?{API}",
            key.vault, key.domain, key.key, key.version
        );
        let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        let body = json!({ "alg": ALGORITHM, "value": value.as_str() });
        let body = Zeroizing::new(body.to_string());
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let make = || {
            let headers = [
                ("content-type", "application/json"),
                ("authorization", bearer.as_str()),
            ];
            request(Method::POST, &uri, &headers, body.as_str().to_owned())
        };
        self.line.ask(&key.label(), make).await
    }

    fn value(&self, answer: &Answer) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let done: Done = answer.json(&self.key.label())?;
        let value = URL_SAFE_NO_PAD.decode(done.value.expose().trim_end_matches('='));
        value.map(Zeroizing::new).map_err(|_| {
            Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "{} gave an answer that cannot be understood",
                    self.key.label()
                ),
            )
        })
    }
}

#[async_trait]
impl Kms for Azure {
    /// RSA-OAEP binds no context: what binds the key to its chain is the key's id, and the signature of the key info object.
    async fn wrap(&self, _context: &str, key: &[u8; 32]) -> Result<Bytes, Fault> {
        let answer = self.call("wrapkey", key).await?;
        if !answer.is_success() {
            return Err(refused(&self.key.label(), "wrap a key", &answer));
        }
        Ok(Bytes::copy_from_slice(&self.value(&answer)?))
    }

    async fn unwrap(&self, _context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault> {
        let answer = self.call("unwrapkey", wrapped).await?;
        if answer.is_success() {
            return self.value(&answer).map(Unwrapped::Key);
        }
        match answer.status == 400 {
            true => Ok(Unwrapped::NotMine),
            false => Err(refused(&self.key.label(), "unwrap a key", &answer)),
        }
    }
}
