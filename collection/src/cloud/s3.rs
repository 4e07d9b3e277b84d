//! Amazon S3, and what speaks its protocol.

use holdfast_types::{ErrorCode, Fault};
use object_store::StaticCredentialProvider;
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider, Checksum,
};
use std::sync::Arc;
use url::Url;

use super::assume_role::{AssumedRole, Role, Sts};
use super::object_lock::{LockingConnector, ObjectLock};
use super::{Context, is_implicit, is_plain, missing, refused, retry};
use crate::uri::CollectionUri;
use crate::uri::parameters::{Parameters, invalid, name};

/// What the client calls the server's encryption.
const ENCRYPTION_SETTING: &str = "aws_server_side_encryption";
const DEFAULT_REGION: &str = "us-east-1";
const MANAGED_KEYS: &str = "aws:kms";
const ENCRYPTIONS: [&str; 2] = ["AES256", MANAGED_KEYS];
const CLASSES: [&str; 9] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
];
const LOCK_MODES: [&str; 2] = ["GOVERNANCE", "COMPLIANCE"];
const CHECKSUMS: [&str; 3] = ["crc64nvme", "sha256", "none"];
/// The longest retention that is asked for: S3 takes a hundred years.
const MOST_LOCK_DAYS: u64 = 36_500;

/// What a URI says, checked.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    implicit: bool,
    region: &'a str,
    endpoint: Option<&'a str>,
    sts: Option<&'a str>,
    path_style: bool,
    encryption: Option<(&'static str, Option<&'a str>)>,
    checksum: Option<Checksum>,
    lock: Option<ObjectLock>,
    roles: Vec<Role>,
}

impl<'a> Settings<'a> {
    pub(super) fn read(uri: &'a CollectionUri) -> Result<Self, Fault> {
        let given = uri.parameters();
        let secrets = [name::ACCESS_KEY, name::SECRET_KEY, name::SESSION_TOKEN];
        let implicit = is_implicit(given, &secrets)?;
        given.require(name::ACCESS_KEY, name::SECRET_KEY)?;
        given.require(name::SECRET_KEY, name::ACCESS_KEY)?;
        given.require(name::SESSION_TOKEN, name::ACCESS_KEY)?;
        given.exclude(name::S3_CLASS, name::STORAGE_CLASS)?;
        for class in [name::S3_CLASS, name::STORAGE_CLASS] {
            given.word(class, &CLASSES)?;
        }
        let endpoint = given.endpoint(name::AWS_ENDPOINT)?;
        let lock = lock(given)?;
        Ok(Self {
            implicit,
            region: given.get(name::REGION).unwrap_or(DEFAULT_REGION),
            endpoint,
            sts: given.endpoint(name::STS_ENDPOINT)?,
            // Services of one's own seldom have a name for every bucket.
            path_style: given
                .switch(name::PATH_STYLE)?
                .unwrap_or(endpoint.is_some()),
            encryption: encryption(given)?,
            checksum: checksum(given, lock.is_some())?,
            lock,
            roles: match given.get(name::ASSUME_ROLE) {
                None => Vec::new(),
                Some(chain) => Role::chain(chain)?,
            },
        })
    }

    /// Where the bucket's requests go, if not to Amazon.
    fn bucket_endpoint(&self, bucket: &str) -> Result<Option<String>, Fault> {
        let Some(endpoint) = self.endpoint else {
            return Ok(None);
        };
        if self.path_style {
            return Ok(Some(endpoint.to_owned()));
        }
        let unfit = || {
            invalid(format!(
                "{} cannot have the bucket's name before its host's: give {}=true",
                name::AWS_ENDPOINT,
                name::PATH_STYLE
            ))
        };
        let mut url = Url::parse(endpoint).map_err(|_| unfit())?;
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|_| unfit())?;
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }
}

fn encryption(given: &Parameters) -> Result<Option<(&'static str, Option<&str>)>, Fault> {
    let mode = given.word(name::ENCRYPTION, &ENCRYPTIONS)?;
    let key = given.get(name::ENCRYPTION_KEY);
    match (mode, key) {
        (None, None) => Ok(None),
        (Some(MANAGED_KEYS), Some(key)) => Ok(Some((MANAGED_KEYS, Some(key)))),
        (Some(MANAGED_KEYS), None) => Err(invalid(format!(
            "{}={MANAGED_KEYS} needs {} beside it",
            name::ENCRYPTION,
            name::ENCRYPTION_KEY
        ))),
        (Some(mode), None) => Ok(Some((mode, None))),
        (_, Some(_)) => Err(invalid(format!(
            "{} needs {}={MANAGED_KEYS} beside it",
            name::ENCRYPTION_KEY,
            name::ENCRYPTION
        ))),
    }
}

fn checksum(given: &Parameters, is_locked: bool) -> Result<Option<Checksum>, Fault> {
    given.exclude(name::SKIP_CHECKSUM, name::CHECKSUM)?;
    let skips = given.switch(name::SKIP_CHECKSUM)? == Some(true);
    let checksum = match given.word(name::CHECKSUM, &CHECKSUMS)? {
        _ if skips => None,
        Some("none") => None,
        Some("sha256") => Some(Checksum::SHA256),
        _ => Some(Checksum::CRC64NVME),
    };
    match checksum {
        None if is_locked => Err(invalid(format!(
            "{} needs a checksum with every object: S3 demands it of locked ones",
            name::LOCK_MODE
        ))),
        checksum => Ok(checksum),
    }
}

fn lock(given: &Parameters) -> Result<Option<ObjectLock>, Fault> {
    given.require(name::LOCK_MODE, name::LOCK_DAYS)?;
    given.require(name::LOCK_DAYS, name::LOCK_MODE)?;
    let (Some(mode), Some(days)) = (
        given.word(name::LOCK_MODE, &LOCK_MODES)?,
        given.get(name::LOCK_DAYS),
    ) else {
        return Ok(None);
    };
    let days = days.parse().ok();
    let days = days.filter(|days| (1..=MOST_LOCK_DAYS).contains(days));
    let days = days.ok_or_else(|| {
        invalid(format!(
            "{} is a number of days from 1 to {MOST_LOCK_DAYS}",
            name::LOCK_DAYS
        ))
    })?;
    Ok(Some(ObjectLock { mode, days }))
}

/// A client of the bucket.
pub(super) fn open(uri: &CollectionUri, context: &Context) -> Result<AmazonS3, Fault> {
    let settings = Settings::read(uri)?;
    context.check_endpoint(settings.endpoint.or(settings.sts))?;
    let endpoint = settings.bucket_endpoint(uri.bucket())?;
    let is_plain_http = endpoint.as_deref().is_some_and(is_plain);
    let client = context.client(endpoint.as_deref())?;
    let credentials = credentials(uri, context, &settings)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(uri.bucket())
        .with_region(settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_client_options(client)
        .with_retry(retry())
        // Over TLS the body needs no signature: that costs more than all else together. What is stored has its checksum.
        .with_unsigned_payload(!is_plain_http)
        .with_credentials(Arc::clone(&credentials));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(checksum) = settings.checksum {
        builder = builder.with_checksum_algorithm(checksum);
    }
    if let Some((mode, key)) = settings.encryption {
        builder = match key {
            Some(key) => builder.with_sse_kms_encryption(key),
            None => {
                let setting: AmazonS3ConfigKey = ENCRYPTION_SETTING
                    .parse()
                    .map_err(|error| refused(uri, &error))?;
                builder.with_config(setting, mode)
            }
        };
    }
    if let Some(lock) = settings.lock {
        let connector = LockingConnector::new(
            lock,
            credentials,
            settings.region,
            Arc::clone(&context.clock),
        );
        builder = builder.with_http_connector(connector);
    }
    builder.build().map_err(|error| refused(uri, &error))
}

/// What requests are signed with: the given keys, or those of the surroundings, and on top of them the last role of the chain.
fn credentials(
    uri: &CollectionUri,
    context: &Context,
    settings: &Settings<'_>,
) -> Result<AwsCredentialProvider, Fault> {
    let given = uri.parameters();
    let base: AwsCredentialProvider = match (given.get(name::ACCESS_KEY), settings.implicit) {
        (Some(key_id), _) => Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: given.get(name::SECRET_KEY).unwrap_or_default().to_owned(),
            token: given.get(name::SESSION_TOKEN).map(str::to_owned),
        })),
        (None, true) => surroundings(uri, context)?,
        (None, false) => {
            return Err(missing(
                uri,
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed, or AUTH=implicit",
            ));
        }
    };
    if settings.roles.is_empty() {
        return Ok(base);
    }
    // A service of one's own has its own token service, mostly at the same address.
    let address = match settings.sts.or(settings.endpoint) {
        Some(address) => address.to_owned(),
        None => format!("https://sts.{}.amazonaws.com", settings.region),
    };
    let client = context.client(Some(&address))?;
    let sts = Arc::new(Sts::new(address, settings.region, &client)?);
    let mut credentials = base;
    for role in &settings.roles {
        credentials = Arc::new(AssumedRole::new(
            Arc::clone(&sts),
            role.clone(),
            credentials,
            Arc::clone(&context.clock),
        ));
    }
    Ok(credentials)
}

/// The environment, a web identity, a task's or a machine's own, in this order.
fn surroundings(uri: &CollectionUri, context: &Context) -> Result<AwsCredentialProvider, Fault> {
    context.check_implicit()?;
    let from_env = AmazonS3Builder::from_env()
        .with_bucket_name(uri.bucket())
        .with_client_options(context.client(None)?)
        .with_retry(retry());
    let found = from_env.build().map_err(|error| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{uri}: the process's surroundings have no credentials for AWS: {error}"),
        )
        .hint("docs/STORAGE.md says what AUTH=implicit uses")
    })?;
    Ok(Arc::clone(found.credentials()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StoreOptions;
    use holdfast_env::Env;

    fn uri(text: &str) -> CollectionUri {
        text.parse().expect(text)
    }

    #[test]
    fn a_bucket_stands_in_the_path_or_before_the_host() {
        let endpoint = |more: &str| {
            let uri = uri(&format!(
                "s3://b/x?AWS_ENDPOINT=https%3A%2F%2Fhost%3A9000{more}"
            ));
            let settings = Settings::read(&uri).expect("legal");
            settings.bucket_endpoint(uri.bucket()).expect("fits")
        };
        assert_eq!(endpoint("").as_deref(), Some("https://host:9000"));
        assert_eq!(
            endpoint("&AWS_USE_PATH_STYLE=false").as_deref(),
            Some("https://b.host:9000")
        );
        let by_number =
            uri("s3://b?AWS_ENDPOINT=http%3A%2F%2F%5B%3A%3A1%5D&AWS_USE_PATH_STYLE=false");
        let settings = Settings::read(&by_number).expect("legal");
        assert!(settings.bucket_endpoint("b").is_err());
        let plain = uri("s3://b");
        let settings = Settings::read(&plain).expect("legal");
        assert_eq!(settings.bucket_endpoint("b").expect("none"), None);
        assert!(!settings.path_style && settings.region == DEFAULT_REGION);
    }

    #[test]
    fn checksums_are_sent_unless_they_are_switched_off() {
        let checksum = |query: &str| {
            let uri = uri(&format!("s3://b?{query}"));
            Settings::read(&uri).expect("legal").checksum
        };
        assert_eq!(checksum(""), Some(Checksum::CRC64NVME));
        assert_eq!(checksum("HOLDFAST_CHECKSUM=SHA256"), Some(Checksum::SHA256));
        assert_eq!(checksum("HOLDFAST_CHECKSUM=none"), None);
        assert_eq!(checksum("AWS_SKIP_CHECKSUM=true"), None);
        assert_eq!(
            checksum("AWS_SKIP_CHECKSUM=false"),
            Some(Checksum::CRC64NVME)
        );
    }

    #[test]
    fn what_a_process_does_not_allow_is_refused_when_it_is_opened() {
        let options = StoreOptions {
            implicit_credentials: false,
            custom_endpoints: false,
            ..StoreOptions::default()
        };
        let strict = Context::new(&Env::system(), &options);
        let open = |text: &str| open(&uri(text), &strict).expect_err(text);
        assert!(open("s3://b?AUTH=implicit").message.contains("implicit"));
        let keys = "AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b";
        let fault = open(&format!("s3://b?{keys}&AWS_ENDPOINT=http%3A%2F%2Fh"));
        assert!(fault.message.contains("endpoints"), "{fault}");
        let free = Context::new(&Env::system(), &StoreOptions::default());
        let fault = super::open(&uri("s3://b"), &free).expect_err("no keys");
        assert!(fault.message.contains("AWS_ACCESS_KEY_ID"), "{fault}");
        super::open(&uri(&format!("s3://b/x?{keys}")), &free).expect("opens");
    }
}
