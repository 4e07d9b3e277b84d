//! Azure Blob Storage.

use holdfast_types::Fault;
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};

use super::{Context, is_implicit, missing, refused, retry};
use crate::uri::CollectionUri;
use crate::uri::parameters::{invalid, name};

/// A cloud of Azure's: its name, the end of its storage hosts, and who gives tokens.
type Cloud = (&'static str, &'static str, &'static str);

const PUBLIC: Cloud = (
    "AzurePublicCloud",
    "blob.core.windows.net",
    "https://login.microsoftonline.com",
);
const CLOUDS: [Cloud; 4] = [
    PUBLIC,
    (
        "AzureUSGovernmentCloud",
        "blob.core.usgovcloudapi.net",
        "https://login.microsoftonline.us",
    ),
    (
        "AzureChinaCloud",
        "blob.core.chinacloudapi.cn",
        "https://login.chinacloudapi.cn",
    ),
    (
        "AzureGermanCloud",
        "blob.core.cloudapi.de",
        "https://login.microsoftonline.de",
    ),
];

/// What a URI says, checked.
pub(super) struct Settings<'a> {
    implicit: bool,
    account: &'a str,
    cloud: Cloud,
    endpoint: Option<&'a str>,
    key: Option<&'a str>,
    client: Option<(&'a str, &'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    pub(super) fn read(uri: &'a CollectionUri) -> Result<Self, Fault> {
        let given = uri.parameters();
        let secrets = [
            name::ACCOUNT_KEY,
            name::CLIENT_ID,
            name::CLIENT_SECRET,
            name::TENANT,
        ];
        let implicit = is_implicit(given, &secrets)?;
        let of_client = [name::CLIENT_ID, name::CLIENT_SECRET, name::TENANT];
        for one in of_client {
            given.exclude(name::ACCOUNT_KEY, one)?;
            for other in of_client {
                given.require(one, other)?;
            }
        }
        let words = CLOUDS.map(|(name, _, _)| name);
        let cloud = given.word(name::ENVIRONMENT, &words)?;
        let cloud = CLOUDS.into_iter().find(|(name, _, _)| Some(*name) == cloud);
        let account = given.get(name::ACCOUNT).ok_or_else(|| {
            invalid(format!(
                "an azure-blob: URI needs {}: containers of other accounts have the same names",
                name::ACCOUNT
            ))
        })?;
        let client = given.get(name::CLIENT_ID).and_then(|id| {
            Some((
                id,
                given.get(name::CLIENT_SECRET)?,
                given.get(name::TENANT)?,
            ))
        });
        Ok(Self {
            implicit,
            account,
            cloud: cloud.unwrap_or(PUBLIC),
            endpoint: given.endpoint(name::ENDPOINT)?,
            key: given.get(name::ACCOUNT_KEY),
            client,
        })
    }
}

/// A client of the container.
pub(super) fn open(uri: &CollectionUri, context: &Context) -> Result<MicrosoftAzure, Fault> {
    let settings = Settings::read(uri)?;
    context.check_endpoint(settings.endpoint)?;
    let (_, suffix, authority) = settings.cloud;
    let endpoint = match settings.endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("https://{}.{suffix}", settings.account),
    };
    let mut builder = match settings.implicit {
        true => {
            context.check_implicit()?;
            MicrosoftAzureBuilder::from_env()
        }
        false => MicrosoftAzureBuilder::new(),
    };
    builder = builder
        .with_account(settings.account)
        .with_container_name(uri.bucket())
        .with_authority_host(authority)
        .with_client_options(context.client(Some(&endpoint))?)
        .with_endpoint(endpoint)
        .with_retry(retry());
    builder = match (settings.key, settings.client) {
        (Some(key), _) => builder.with_access_key(key),
        (None, Some((id, secret, tenant))) => {
            builder.with_client_secret_authorization(id, secret, tenant)
        }
        (None, None) if settings.implicit => builder,
        (None, None) => {
            return Err(missing(
                uri,
                "AZURE_ACCOUNT_KEY is needed, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or AUTH=implicit",
            ));
        }
    };
    builder.build().map_err(|error| refused(uri, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StoreOptions;
    use holdfast_env::Env;

    #[test]
    fn a_client_is_made_of_what_is_given() {
        let context = Context::new(&Env::system(), &StoreOptions::default());
        let open = |query: &str| {
            let text = format!("azure-blob://c/x?AZURE_ACCOUNT_NAME=acme&{query}");
            open(&text.parse().expect("legal"), &context)
        };
        open("AZURE_ACCOUNT_KEY=aGVsbG8%3D").expect("opens");
        open("AZURE_CLIENT_ID=a&AZURE_CLIENT_SECRET=b&AZURE_TENANT_ID=c&AUTH=specified")
            .expect("opens");
        open("AZURE_ACCOUNT_KEY=aGVsbG8%3D&AZURE_ENVIRONMENT=AzureChinaCloud").expect("opens");
        let fault = open("").expect_err("no credentials");
        assert!(fault.message.contains("AZURE_ACCOUNT_KEY"), "{fault}");
        let fault = open("AZURE_ACCOUNT_KEY=hunter2").expect_err("not base64");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
}
