//! AWS KMS: signed JSON requests.

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault};
use http::Method;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpRequest, StaticCredentialProvider};
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

use super::exchange::{
    Answer, Line, Surroundings, from_base64, refused, request, to_base64, wrapped,
};
use super::sts::{Role, assume};
use super::uri::{Parameters, invalid};
use super::{Kms, Unwrapped};
use crate::secret::Secret;

/// What the machine's own credentials may take to be had.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(10);
/// The name under which the chain is bound to its wrap.
const CONTEXT: &str = "holdfast-chain";

/// A key as a URI names it.
#[derive(Clone)]
pub(super) struct AwsKey {
    key: String,
    region: String,
    endpoint: String,
    sts_endpoint: String,
    /// Access key, secret key and session token; `None`: the machine's own.
    credentials: Option<(String, Secret, Option<Secret>)>,
    roles: Vec<Role>,
}

/// Text that can be put into a header.
fn visible(name: &str, text: &str) -> Result<(), Fault> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(invalid(format!("{name} holds what no such value holds"))),
    }
}

impl AwsKey {
    pub(super) fn read(key: String, parameters: &mut Parameters) -> Result<Self, Fault> {
        let region = parameters.need("REGION")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !region.chars().all(is_name) {
            return Err(invalid("REGION is a region's name, such as eu-west-1"));
        }
        let credentials = if parameters.is_implicit()? {
            parameters.refuse_with_implicit(&[
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
            ])?;
            None
        } else {
            let id = parameters.need("AWS_ACCESS_KEY_ID")?;
            visible("AWS_ACCESS_KEY_ID", &id)?;
            // A plus that was not encoded has become a blank, and a secret key has none.
            let secret = parameters.need_secret("AWS_SECRET_ACCESS_KEY")?;
            let secret = Secret::new(secret.expose().replace(' ', "+"));
            let token = parameters.take_secret("AWS_SESSION_TOKEN");
            let token = token.map(|token| Secret::new(token.expose().replace(' ', "+")));
            if let Some(token) = &token {
                visible("AWS_SESSION_TOKEN", token.expose())?;
            }
            Some((id, secret, token))
        };
        let domain = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        let mut address = |name: &str, service: &str| {
            let given = parameters.take(name).map(|text| endpoint(name, &text));
            given.unwrap_or_else(|| Ok(format!("https://{service}.{region}.{domain}")))
        };
        let (kms, sts) = (
            address("AWS_ENDPOINT", "kms")?,
            address("AWS_STS_ENDPOINT", "sts")?,
        );
        let roles = parameters.take("ASSUME_ROLE");
        Ok(Self {
            key,
            endpoint: kms,
            sts_endpoint: sts,
            credentials,
            roles: roles.map_or_else(|| Ok(Vec::new()), |text| Role::read_chain(&text))?,
            region,
        })
    }

    pub(super) fn label(&self) -> String {
        format!("aws:///{}?REGION={}", self.key, self.region)
    }

    pub(super) fn connect(&self, surroundings: &Surroundings) -> Result<Box<dyn Kms>, Fault> {
        let credentials: AwsCredentialProvider = match &self.credentials {
            Some((id, secret, token)) => {
                let credential = AwsCredential {
                    key_id: id.clone(),
                    secret_key: secret.expose().to_owned(),
                    token: token.as_ref().map(|token| token.expose().to_owned()),
                };
                Arc::new(StaticCredentialProvider::new(credential))
            }
            // The chain of the S3 client, which needs a bucket's name to be built, and nothing of the bucket.
            None => {
                let builder = AmazonS3Builder::from_env()
                    .with_region(&self.region)
                    .with_bucket_name("none");
                let client = builder.build().map_err(|error| {
                    Fault::new(
                        ErrorCode::FailedPrecondition,
                        format!("no AWS credentials: {error}"),
                    )
                })?;
                Arc::clone(client.credentials())
            }
        };
        Ok(Box::new(Aws {
            key: self.clone(),
            line: surroundings.line(None)?,
            credentials,
        }))
    }
}

/// An address without a slash at its end.
pub(super) fn endpoint(name: &str, text: &str) -> Result<String, Fault> {
    let url = url::Url::parse(text).ok();
    let is_one = url.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.password().is_none()
    });
    match is_one {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(invalid(format!(
            "{name} is an address such as https://host:port"
        ))),
    }
}

struct Aws {
    key: AwsKey,
    line: Line,
    credentials: AwsCredentialProvider,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aws({})", self.key.label())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: Secret,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
}

/// Signs a request of JSON or of a form.
pub(super) fn sign(
    request: &mut HttpRequest,
    credential: &AwsCredential,
    service: &str,
    region: &str,
) -> Result<(), Fault> {
    let hash = digest(
        &SHA256,
        request.body().as_bytes().map_or(&[], |body| body.as_ref()),
    );
    AwsAuthorizer::new(credential, service, region)
        .try_authorize(request, Some(hash.as_ref()))
        .map_err(|error| {
            Fault::new(
                ErrorCode::Internal,
                format!("a request cannot be signed: {error}"),
            )
        })
}

impl Aws {
    async fn credential(&self) -> Result<Arc<AwsCredential>, Fault> {
        let getting = self.credentials.get_credential();
        let got = tokio::time::timeout(CREDENTIALS_WITHIN, getting).await;
        let mut credential = match got {
            Ok(Ok(credential)) => credential,
            Ok(Err(error)) => {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    format!("the coordinator has no AWS credentials of its own: {error}"),
                )
                .hint("give the coordinator's machine a role, or write AUTH=specified with keys"));
            }
            Err(_) => {
                return Err(Fault::new(
                    ErrorCode::Unavailable,
                    "the coordinator has no AWS credentials of its own: none came in time",
                ));
            }
        };
        for role in &self.key.roles {
            let (endpoint, region) = (&self.key.sts_endpoint, &self.key.region);
            credential = assume(&self.line, endpoint, region, &credential, role).await?;
        }
        Ok(credential)
    }

    async fn call(&self, action: &str, body: serde_json::Value) -> Result<Answer, Fault> {
        let credential = self.credential().await?;
        let body = Zeroizing::new(body.to_string());
        let who = self.key.label();
        let target = format!("TrentService.{action}");
        let make = || {
            let headers = [
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", target.as_str()),
            ];
            let uri = format!("{}/", self.key.endpoint);
            let mut request = request(Method::POST, &uri, &headers, body.as_str().to_owned())?;
            sign(&mut request, &credential, "kms", &self.key.region)?;
            Ok(request)
        };
        self.line.ask(&who, make).await
    }
}

#[async_trait]
impl Kms for Aws {
    async fn wrap(&self, context: &str, key: &[u8; 32]) -> Result<Bytes, Fault> {
        let who = self.key.label();
        let body = json!({
            "KeyId": self.key.key,
            "Plaintext": to_base64(key).as_str(),
            "EncryptionContext": { CONTEXT: context },
        });
        let answer = self.call("Encrypt", body).await?;
        if !answer.is_success() {
            return Err(refused(&who, "wrap a key", &answer));
        }
        wrapped(&who, &answer.json::<Encrypted>(&who)?.ciphertext_blob)
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Unwrapped, Fault> {
        let who = self.key.label();
        let body = json!({
            "KeyId": self.key.key,
            "CiphertextBlob": to_base64(wrapped).as_str(),
            "EncryptionContext": { CONTEXT: context },
        });
        let answer = self.call("Decrypt", body).await?;
        if answer.is_success() {
            let decrypted: Decrypted = answer.json(&who)?;
            return from_base64(&who, decrypted.plaintext.expose()).map(Unwrapped::Key);
        }
        let kind = answer.json::<Refusal>(&who).map(|refusal| refusal.kind);
        let is_other = kind.is_ok_and(|kind| {
            // Some services write a prefix before the name.
            let name = kind.rsplit('#').next().unwrap_or_default().to_owned();
            matches!(
                name.as_str(),
                "InvalidCiphertextException" | "IncorrectKeyException"
            )
        });
        match is_other {
            true => Ok(Unwrapped::NotMine),
            false => Err(refused(&who, "unwrap a key", &answer)),
        }
    }
}
