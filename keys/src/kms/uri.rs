//! KMS URIs, in the model system's spelling, and two schemes of our own.

use holdfast_env::Env;
use holdfast_format::WrapKind;
use holdfast_types::{ErrorCode, Fault};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use url::Url;

use super::exchange::Surroundings;
use super::{Kms, aws, azure, gcp, vault};
use crate::secret::Secret;

/// What stands where a secret was.
const REDACTED: &str = "redacted";

/// For errors.
const FORMS: &str = "write aws:///KEY?REGION=R&…, gs:///projects/P/locations/L/keyRings/R/cryptoKeys/K?…, \
azure-kms:///KEY/VERSION?…, vault://HOST:PORT/transit/KEY?… or pkcs11:token=T;object=KEY?module-path=/L.so&…; docs/ENCRYPTION.md has the parameters";

/// A key of a key management service, and how to get at it: checked, and shown without what is secret.
#[derive(Clone)]
pub struct KmsUri {
    kind: WrapKind,
    label: String,
    service: Service,
    /// To be taken out of whatever a service says.
    secrets: Vec<Secret>,
}

#[derive(Clone)]
enum Service {
    Aws(aws::AwsKey),
    Vault(vault::VaultKey),
    Gcp(gcp::GcpKey),
    Azure(azure::AzureKey),
    #[cfg(feature = "pkcs11")]
    Pkcs11(super::pkcs11::TokenKey),
}

impl fmt::Debug for KmsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KmsUri({})", self.label)
    }
}

impl KmsUri {
    /// What kind of service.
    #[must_use]
    pub fn kind(&self) -> WrapKind {
        self.kind
    }

    /// The URI without anything but what tells the key from others: to be shown, stored, and compared.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Makes ready to ask the service.
    pub(crate) fn connect(
        &self,
        surroundings: &Surroundings,
        env: &Env,
    ) -> Result<Box<dyn Kms>, Fault> {
        let named = |fault: Fault| self.redact(fault.context(&self.label));
        match &self.service {
            Service::Aws(key) => key.connect(surroundings).map_err(named),
            Service::Vault(key) => key.connect(surroundings, env).map_err(named),
            Service::Gcp(key) => key.connect(surroundings).map_err(named),
            Service::Azure(key) => key.connect(surroundings).map_err(named),
            #[cfg(feature = "pkcs11")]
            Service::Pkcs11(key) => Ok(key.connect(env)),
        }
    }

    /// An error of the service, with the URI's own secrets taken out of it.
    pub(crate) fn redact(&self, mut fault: Fault) -> Fault {
        for secret in &self.secrets {
            if !secret.expose().is_empty() {
                fault.message = fault.message.replace(secret.expose(), REDACTED);
            }
        }
        fault
    }
}

/// The error for a URI. It never repeats a value.
pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, message).hint(FORMS)
}

/// The parameters of a URI: each is taken by name, and what is left over is unknown.
pub(super) struct Parameters {
    scheme: String,
    values: BTreeMap<String, String>,
    secrets: Vec<Secret>,
}

impl Parameters {
    fn read(url: &Url) -> Result<Self, Fault> {
        let mut values = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            if values
                .insert(name.to_string(), value.into_owned())
                .is_some()
            {
                return Err(invalid(format!(
                    "parameter {} is there twice in a {}: URI",
                    name.escape_debug(),
                    url.scheme()
                )));
            }
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            values,
            secrets: Vec::new(),
        })
    }

    /// An optional parameter; an empty one counts as left out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    /// A required one.
    pub(super) fn need(&mut self, name: &str) -> Result<String, Fault> {
        let scheme = &self.scheme;
        let missing = format!("a {scheme}: URI needs the parameter {name}");
        self.take(name).ok_or_else(|| invalid(missing))
    }

    /// An optional one that is secret.
    pub(super) fn take_secret(&mut self, name: &str) -> Option<Secret> {
        let secret = Secret::new(self.take(name)?);
        self.secrets.push(secret.clone());
        Some(secret)
    }

    /// A required one that is secret.
    pub(super) fn need_secret(&mut self, name: &str) -> Result<Secret, Fault> {
        let scheme = &self.scheme;
        let missing = format!("a {scheme}: URI needs the parameter {name}");
        self.take_secret(name).ok_or_else(|| invalid(missing))
    }

    /// Whether the credentials are the process's own.
    pub(super) fn is_implicit(&mut self) -> Result<bool, Fault> {
        match self.take("AUTH").as_deref() {
            None | Some("specified") => Ok(false),
            Some("implicit") => Ok(true),
            Some(_) => Err(invalid("AUTH is specified (the usual) or implicit")),
        }
    }

    /// Refuses parameters that contradict `AUTH=implicit`.
    pub(super) fn refuse_with_implicit(&mut self, names: &[&str]) -> Result<(), Fault> {
        match names.iter().find(|name| self.values.contains_key(**name)) {
            None => Ok(()),
            Some(name) => Err(invalid(format!(
                "{name} contradicts AUTH=implicit, with which the coordinators' own credentials are used"
            ))),
        }
    }

    fn finish(self) -> Result<Vec<Secret>, Fault> {
        match self.values.keys().next() {
            None => Ok(self.secrets),
            Some(name) => Err(invalid(format!(
                "unknown parameter {} in a {}: URI",
                name.escape_debug(),
                self.scheme
            ))),
        }
    }
}

/// The path without its first slash, decoded.
fn path_of(url: &Url) -> Result<String, Fault> {
    let path = url.path().strip_prefix('/').unwrap_or(url.path());
    let decoded = percent_decode_str(path).decode_utf8();
    let decoded = decoded.map_err(|_| invalid("the name of a key must be UTF-8"))?;
    let decoded = decoded.trim_end_matches('/');
    match decoded.is_empty() || decoded.chars().any(|c| c.is_control() || c.is_whitespace()) {
        false => Ok(decoded.to_owned()),
        true => Err(invalid(format!("a {}: URI names a key", url.scheme()))),
    }
}

fn refuse_host(url: &Url) -> Result<(), Fault> {
    match url.host_str().unwrap_or_default() {
        "" => Ok(()),
        _ => Err(invalid(format!(
            "a {}: URI is written with three slashes: {}:///KEY",
            url.scheme(),
            url.scheme()
        ))),
    }
}

impl FromStr for KmsUri {
    type Err = Fault;

    /// Reads a URI. Unknown and contradictory parameters are errors, and no error repeats a value.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        if text.starts_with("pkcs11:") {
            return pkcs11(text);
        }
        let url = Url::parse(text).map_err(|_| invalid("a KMS key is named by a URI"))?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(invalid("a KMS URI takes no user, password or fragment"));
        }
        let mut parameters = Parameters::read(&url)?;
        let (kind, label, service) = match url.scheme() {
            "aws" | "aws-kms" => {
                refuse_host(&url)?;
                let key = aws::AwsKey::read(path_of(&url)?, &mut parameters)?;
                (WrapKind::Aws, key.label(), Service::Aws(key))
            }
            "vault" | "openbao" => {
                let key = vault::VaultKey::read(&url, path_of(&url)?, &mut parameters)?;
                (WrapKind::Vault, key.label(), Service::Vault(key))
            }
            "gs" | "gcp-kms" => {
                refuse_host(&url)?;
                let key = gcp::GcpKey::read(path_of(&url)?, &mut parameters)?;
                (WrapKind::Gcp, key.label(), Service::Gcp(key))
            }
            "azure-kms" => {
                refuse_host(&url)?;
                let key = azure::AzureKey::read(&path_of(&url)?, &mut parameters)?;
                (WrapKind::Azure, key.label(), Service::Azure(key))
            }
            "external" => {
                return Err(Fault::new(
                    ErrorCode::Unsupported,
                    "KMS keys are not read from external connections",
                )
                .hint("give the key's own URI"));
            }
            other => {
                return Err(invalid(format!(
                    "no key management service is named by \"{}:\"",
                    other.escape_debug()
                )));
            }
        };
        Ok(Self {
            kind,
            label,
            service,
            secrets: parameters.finish()?,
        })
    }
}

#[cfg(feature = "pkcs11")]
fn pkcs11(text: &str) -> Result<KmsUri, Fault> {
    let (key, secrets) = super::pkcs11::TokenKey::read(text)?;
    Ok(KmsUri {
        kind: WrapKind::Pkcs11,
        label: key.label(),
        service: Service::Pkcs11(key),
        secrets,
    })
}

#[cfg(not(feature = "pkcs11"))]
fn pkcs11(_text: &str) -> Result<KmsUri, Fault> {
    Err(Fault::new(
        ErrorCode::Unsupported,
        "this build does not know PKCS#11 tokens",
    )
    .hint("build holdfast with `--features pkcs11`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> String {
        text.parse::<KmsUri>().expect(text).label().to_owned()
    }

    #[test]
    fn uris_are_shown_by_what_tells_a_key_from_others() {
        let cases = [
            (
                "aws:///alias/backup?AUTH=specified&AWS_ACCESS_KEY_ID=AK&AWS_SECRET_ACCESS_KEY=hunter2&REGION=eu-west-1",
                "aws:///alias/backup?REGION=eu-west-1",
            ),
            (
                "aws-kms:///arn:aws:kms:eu-west-1:123:key/abc?AUTH=implicit&REGION=eu-west-1",
                "aws:///arn:aws:kms:eu-west-1:123:key/abc?REGION=eu-west-1",
            ),
            (
                "vault://vault.example:8200/transit/backup?VAULT_TOKEN=hunter2",
                "vault://vault.example:8200/transit/backup",
            ),
            (
                "openbao://b:1/a/b/backup?VAULT_ROLE_ID=r&VAULT_SECRET_ID=hunter2&VAULT_NAMESPACE=ns&VAULT_TLS=disable",
                "vault://b:1/a/b/backup?VAULT_NAMESPACE=ns",
            ),
            (
                "gs:///projects/p/locations/l/keyRings/r/cryptoKeys/k?BEARER_TOKEN=hunter2",
                "gs:///projects/p/locations/l/keyRings/r/cryptoKeys/k",
            ),
            (
                "azure-kms:///k/v1?AZURE_VAULT_NAME=vault&AZURE_TENANT_ID=t&AZURE_CLIENT_ID=c&AZURE_CLIENT_SECRET=hunter2",
                "azure-kms:///k/v1?AZURE_VAULT_NAME=vault",
            ),
        ];
        for (text, shown) in cases {
            assert_eq!(label(text), shown);
            assert!(!format!("{:?}", text.parse::<KmsUri>()).contains("hunter2"));
        }
    }

    #[test]
    fn what_is_unknown_missing_or_contradictory_is_an_error() {
        for (text, why) in [
            ("", "named by a URI"),
            ("alias/backup", "named by a URI"),
            ("s3://bucket/key", "no key management service"),
            ("external://kms", "external connections"),
            (
                "aws:///k?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=hunter2",
                "REGION",
            ),
            ("aws:///k?REGION=r", "AWS_ACCESS_KEY_ID"),
            (
                "aws:///k?REGION=r&AUTH=implicit&AWS_SECRET_ACCESS_KEY=hunter2",
                "contradicts",
            ),
            ("aws:///k?REGION=r&AUTH=hunter2", "AUTH is"),
            (
                "aws:///k?REGION=r&AUTH=implicit&hunter=2",
                "unknown parameter hunter",
            ),
            ("aws:///k?REGION=r&REGION=q&AUTH=implicit", "twice"),
            ("aws://host/k?REGION=r&AUTH=implicit", "three slashes"),
            ("aws:///?REGION=r&AUTH=implicit", "names a key"),
            ("aws://hunter2:x@/k", "named by a URI"),
            ("vault://h/transit/k", "VAULT_TOKEN"),
            ("vault://h/k?VAULT_TOKEN=hunter2", "mount"),
            ("vault:///transit/k?VAULT_TOKEN=hunter2", "host"),
            (
                "vault://h/transit/k?VAULT_TOKEN=hunter2&VAULT_ROLE_ID=r",
                "not both",
            ),
            (
                "vault://h/transit/k?VAULT_TOKEN=t&VAULT_TLS=hunter2",
                "VAULT_TLS",
            ),
            ("gs:///projects/p?BEARER_TOKEN=hunter2", "cryptoKeys"),
            (
                "gs:///projects/p/locations/l/keyRings/r/cryptoKeys/k",
                "CREDENTIALS",
            ),
            (
                "gs:///projects/p/locations/l/keyRings/r/cryptoKeys/k?CREDENTIALS=hunter2",
                "base64",
            ),
            (
                "azure-kms:///k?AZURE_VAULT_NAME=v&AUTH=implicit",
                "KEY/VERSION",
            ),
            ("azure-kms:///k/v?AUTH=implicit", "AZURE_VAULT_NAME"),
            (
                "azure-kms:///k/v?AZURE_VAULT_NAME=a.b/c&AUTH=implicit",
                "AZURE_VAULT_NAME",
            ),
            (
                "azure-kms:///k/v?AZURE_VAULT_NAME=v&AUTH=implicit&AZURE_CLIENT_SECRET=hunter2",
                "contradicts",
            ),
            (
                "azure-kms:///k/v?AZURE_VAULT_NAME=v&AUTH=implicit&AZURE_ENVIRONMENT=hunter2",
                "AZURE_ENVIRONMENT",
            ),
        ] {
            let fault = text.parse::<KmsUri>().expect_err(text);
            assert!(fault.message.contains(why), "{text}: {fault}");
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
    }
}
