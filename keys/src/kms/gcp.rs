//! Google Cloud KMS by REST. Tested against a stub only: there is no emulator of it.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault};
use http::Method;
use object_store::client::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

use super::exchange::{
    Answer, Line, Surroundings, from_base64, refused, request, to_base64, wrapped,
};
use super::uri::{Parameters, invalid};
use super::{Kms, Unwrapped};
use crate::secret::Secret;

const HOST: &str = "https://cloudkms.googleapis.com";
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(10);

/// A key as a URI names it.
#[derive(Clone)]
pub(super) struct GcpKey {
    name: String,
    login: Login,
}

#[derive(Clone)]
enum Login {
    /// The machine's own.
    Implicit,
    /// JSON of a service account.
    Account(Secret),
    Bearer(Secret),
}

impl GcpKey {
    pub(super) fn read(name: String, parameters: &mut Parameters) -> Result<Self, Fault> {
        let parts: Vec<&str> = name.split('/').collect();
        let is_part = |text: &&str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        let is_key = matches!(
            parts.as_slice(),
            [
                "projects",
                _,
                "locations",
                _,
                "keyRings",
                _,
                "cryptoKeys",
                _
            ]
        );
        if !is_key || !parts.iter().all(is_part) {
            return Err(invalid(
                "a key of Google Cloud KMS is named projects/P/locations/L/keyRings/R/cryptoKeys/K",
            ));
        }
        if parameters.take("ASSUME_ROLE").is_some() {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                "ASSUME_ROLE is not supported for keys of Google Cloud KMS",
            )
            .hint("give the credentials of the account itself"));
        }
        let login = if parameters.is_implicit()? {
            parameters.refuse_with_implicit(&["CREDENTIALS", "BEARER_TOKEN"])?;
            Login::Implicit
        } else {
            match (
                parameters.take_secret("CREDENTIALS"),
                parameters.take_secret("BEARER_TOKEN"),
            ) {
                (Some(_), Some(_)) => {
                    return Err(invalid("CREDENTIALS or BEARER_TOKEN, and not both"));
                }
                (Some(encoded), None) => {
                    let malformed =
                        || invalid("CREDENTIALS is the JSON of a service account, in base64");
                    let json = from_base64("", &encoded.expose().replace(' ', "+"))
                        .map_err(|_| malformed())?;
                    let json = std::str::from_utf8(&json).map_err(|_| malformed())?;
                    Login::Account(Secret::new(json))
                }
                (None, Some(token)) => Login::Bearer(token),
                (None, None) => {
                    return Err(invalid(
                        "a gs: URI of a key needs the parameter CREDENTIALS or BEARER_TOKEN, or AUTH=implicit",
                    ));
                }
            }
        };
        Ok(Self { name, login })
    }

    pub(super) fn label(&self) -> String {
        format!("gs:///{}", self.name)
    }

    pub(super) fn connect(&self, surroundings: &Surroundings) -> Result<Box<dyn Kms>, Fault> {
        let built = |builder: GoogleCloudStorageBuilder| {
            let client = builder.with_bucket_name("none").build().map_err(|_| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    "the credentials of Google Cloud cannot be used",
                )
                .hint("CREDENTIALS is the JSON of a service account's key, in base64")
            })?;
            Ok::<_, Fault>(Arc::clone(client.credentials()))
        };
        let credentials: GcpCredentialProvider = match &self.login {
            Login::Implicit => built(GoogleCloudStorageBuilder::from_env())?,
            Login::Account(json) => {
                built(GoogleCloudStorageBuilder::new().with_service_account_key(json.expose()))?
            }
            Login::Bearer(token) => Arc::new(StaticCredentialProvider::new(GcpCredential {
                bearer: token.expose().to_owned(),
            })),
        };
        Ok(Box::new(Gcp {
            name: self.name.clone(),
            line: surroundings.line(None)?,
            credentials,
        }))
    }
}

struct Gcp {
    name: String,
    line: Line,
    credentials: GcpCredentialProvider,
}

impl fmt::Debug for Gcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gcp({})", self.name)
    }
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Secret,
}

impl Gcp {
    fn label(&self) -> String {
        format!("gs:///{}", self.name)
    }

    async fn call(&self, action: &str, body: &serde_json::Value) -> Result<Answer, Fault> {
        let getting = self.credentials.get_credential();
        let credential = match tokio::time::timeout(CREDENTIALS_WITHIN, getting).await {
            Ok(Ok(credential)) => credential,
            Ok(Err(_)) | Err(_) => {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    format!(
                        "{}: no access token of Google Cloud could be had",
                        self.label()
                    ),
                )
                .hint("check the credentials, and that the coordinator can reach Google Cloud"));
            }
        };
        let body = Zeroizing::new(body.to_string());
        let bearer = Zeroizing::new(format!("Bearer {}", credential.bearer));
        let uri = format!("{HOST}/v1/{}:{action}", self.name);
        let make = || {
            let headers = [
                ("content-type", "application/json"),
                ("authorization", bearer.as_str()),
            ];
            request(Method::POST, &uri, &headers, body.as_str().to_owned())
        };
        self.line.ask(&self.label(), make).await
    }
}

#[async_trait]
impl Kms for Gcp {
    async fn wrap(&self, context: &str, key: &[u8; 32]) -> Result<Bytes, Fault> {
        let body = json!({
            "plaintext": to_base64(key).as_str(),
            "additionalAuthenticatedData": to_base64(context.as_bytes()).as_str(),
        });
        let answer = self.call("encrypt", &body).await?;
        if !answer.is_success() {
            return Err(refused(&self.label(), "wrap a key", &answer));
        }
        let encrypted: Encrypted = answer.json(&self.label())?;
        wrapped(&self.label(), &encrypted.ciphertext)
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault> {
        let body = json!({
            "ciphertext": to_base64(wrapped).as_str(),
            "additionalAuthenticatedData": to_base64(context.as_bytes()).as_str(),
        });
        let answer = self.call("decrypt", &body).await?;
        if answer.is_success() {
            let decrypted: Decrypted = answer.json(&self.label())?;
            return from_base64(&self.label(), decrypted.plaintext.expose()).map(Unwrapped::Key);
        }
        // INVALID_ARGUMENT: the ciphertext is not one of this key, or not of this chain.
        match answer.status == 400 {
            true => Ok(Unwrapped::NotMine),
            false => Err(refused(&self.label(), "unwrap a key", &answer)),
        }
    }
}
