//! Google Cloud Storage.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_types::Fault;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use std::sync::Arc;

use super::impersonation::Impersonated;
use super::{Context, is_implicit, missing, refused, retry};
use crate::uri::CollectionUri;
use crate::uri::parameters::{invalid, name};

/// What a URI says, checked.
pub(super) struct Settings<'a> {
    implicit: bool,
    endpoint: Option<&'a str>,
    /// A service account's key, as JSON.
    account: Option<String>,
    token: Option<&'a str>,
    /// Accounts to act as, one through the other.
    roles: Vec<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn read(uri: &'a CollectionUri) -> Result<Self, Fault> {
        let given = uri.parameters();
        let implicit = is_implicit(given, &[name::CREDENTIALS, name::BEARER_TOKEN])?;
        given.exclude(name::CREDENTIALS, name::BEARER_TOKEN)?;
        let roles: Vec<String> = match given.get(name::ASSUME_ROLE) {
            None => Vec::new(),
            Some(chain) => chain
                .split(',')
                .map(|role| role.trim().to_owned())
                .collect(),
        };
        if roles
            .iter()
            .any(|role| role.is_empty() || role.contains(['/', ';']))
        {
            return Err(invalid(format!(
                "{} is a service account, or several with commas between them",
                name::ASSUME_ROLE
            )));
        }
        Ok(Self {
            implicit,
            endpoint: given.endpoint(name::ENDPOINT)?,
            account: given.get(name::CREDENTIALS).map(account).transpose()?,
            token: given.get(name::BEARER_TOKEN),
            roles,
        })
    }
}

/// The key of a service account: base64 of JSON. Errors do not repeat it.
fn account(encoded: &str) -> Result<String, Fault> {
    let decoded = STANDARD.decode(encoded.trim()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let is_json = |text: &String| {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
    };
    text.filter(is_json).ok_or_else(|| {
        invalid(format!(
            "{} is a service account's JSON, base64-encoded, and in the URI percent-encoded",
            name::CREDENTIALS
        ))
    })
}

/// A client of the bucket.
pub(super) fn open(uri: &CollectionUri, context: &Context) -> Result<GoogleCloudStorage, Fault> {
    let settings = Settings::read(uri)?;
    context.check_endpoint(settings.endpoint)?;
    let build = || -> Result<GoogleCloudStorageBuilder, Fault> {
        let mut builder = match settings.implicit {
            true => {
                context.check_implicit()?;
                GoogleCloudStorageBuilder::from_env()
            }
            false => GoogleCloudStorageBuilder::new(),
        };
        builder = builder
            .with_bucket_name(uri.bucket())
            .with_client_options(context.client(settings.endpoint)?)
            .with_retry(retry());
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        Ok(match (&settings.account, settings.token) {
            (Some(account), _) => builder.with_service_account_key(account),
            (None, Some(token)) => builder.with_bearer_token(token),
            (None, None) if settings.implicit => builder,
            (None, None) => {
                return Err(missing(
                    uri,
                    "CREDENTIALS or BEARER_TOKEN is needed, or AUTH=implicit",
                ));
            }
        })
    };
    let store = build()?.build().map_err(|error| refused(uri, &error))?;
    if settings.roles.is_empty() {
        return Ok(store);
    }
    let acting = Impersonated::new(
        settings.roles.clone(),
        Arc::clone(store.credentials()),
        Arc::clone(&context.clock),
        &context.client(None)?,
    )?;
    let builder = build()?.with_credentials(Arc::new(acting));
    builder.build().map_err(|error| refused(uri, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StoreOptions;
    use holdfast_env::Env;

    #[test]
    fn credentials_are_decoded_and_never_repeated() {
        assert_eq!(account("e30=").expect("JSON"), "{}");
        for text in ["hunter2", "aHVudGVyMg==", "W10="] {
            let fault = account(text).expect_err(text);
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn a_client_is_made_of_what_is_given() {
        let context = Context::new(&Env::system(), &StoreOptions::default());
        let open = |text: &str| open(&text.parse().expect(text), &context);
        open("gs://b/x?BEARER_TOKEN=t").expect("opens");
        open("gs://b/x?BEARER_TOKEN=t&ASSUME_ROLE=a%40p.iam,b%40p.iam").expect("opens");
        let fault = open("gs://b/x").expect_err("no credentials");
        assert!(fault.message.contains("BEARER_TOKEN"), "{fault}");
    }
}
