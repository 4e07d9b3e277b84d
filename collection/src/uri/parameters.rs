//! The parameters of a URI: which there are, and which are secret.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::fmt;
use url::Url;
use url::form_urlencoded::Serializer;

use super::Scheme;

/// A parameter that a scheme takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    name: &'static str,
    /// Shown to nobody.
    secret: bool,
    /// Two URIs that differ here lead to different places.
    of_place: bool,
    /// A blank in it was a plus sign: in a URI it must be written as `%2B`, and often is not.
    has_plus: bool,
}

const fn plain(name: &'static str) -> Known {
    Known {
        name,
        secret: false,
        of_place: false,
        has_plus: false,
    }
}

const fn of_place(name: &'static str) -> Known {
    Known {
        of_place: true,
        ..plain(name)
    }
}

const fn secret(name: &'static str) -> Known {
    Known {
        secret: true,
        has_plus: true,
        ..plain(name)
    }
}

/// Names of parameters. Those of the model system are spelled as there; ours start with `HOLDFAST_`.
pub(crate) mod name {
    pub(crate) const AUTH: &str = "AUTH";
    pub(crate) const ASSUME_ROLE: &str = "ASSUME_ROLE";
    pub(crate) const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
    pub(crate) const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
    pub(crate) const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
    pub(crate) const REGION: &str = "AWS_REGION";
    pub(crate) const AWS_ENDPOINT: &str = "AWS_ENDPOINT";
    pub(crate) const PATH_STYLE: &str = "AWS_USE_PATH_STYLE";
    pub(crate) const ENCRYPTION: &str = "AWS_SERVER_ENC_MODE";
    pub(crate) const ENCRYPTION_KEY: &str = "AWS_SERVER_KMS_ID";
    pub(crate) const SKIP_CHECKSUM: &str = "AWS_SKIP_CHECKSUM";
    pub(crate) const S3_CLASS: &str = "S3_STORAGE_CLASS";
    pub(crate) const CREDENTIALS: &str = "CREDENTIALS";
    pub(crate) const BEARER_TOKEN: &str = "BEARER_TOKEN";
    pub(crate) const ACCOUNT: &str = "AZURE_ACCOUNT_NAME";
    pub(crate) const ACCOUNT_KEY: &str = "AZURE_ACCOUNT_KEY";
    pub(crate) const ENVIRONMENT: &str = "AZURE_ENVIRONMENT";
    pub(crate) const CLIENT_ID: &str = "AZURE_CLIENT_ID";
    pub(crate) const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
    pub(crate) const TENANT: &str = "AZURE_TENANT_ID";
    pub(crate) const ENDPOINT: &str = "HOLDFAST_ENDPOINT";
    pub(crate) const STS_ENDPOINT: &str = "HOLDFAST_STS_ENDPOINT";
    pub(crate) const CHECKSUM: &str = "HOLDFAST_CHECKSUM";
    pub(crate) const LOCK_MODE: &str = "HOLDFAST_OBJECT_LOCK_MODE";
    pub(crate) const LOCK_DAYS: &str = "HOLDFAST_OBJECT_LOCK_RETAIN_DAYS";
    pub(crate) const STORAGE_CLASS: &str = "HOLDFAST_STORAGE_CLASS";
    pub(crate) const LOCALITY: &str = "HOLDFAST_LOCALITY";
    /// The model system's spelling of [`LOCALITY`].
    pub(crate) const MODEL_LOCALITY: &str = "COCKROACH_LOCALITY";
}

const S3: [Known; 18] = [
    plain(name::AUTH),
    plain(name::ASSUME_ROLE),
    plain(name::ACCESS_KEY),
    secret(name::SECRET_KEY),
    secret(name::SESSION_TOKEN),
    plain(name::REGION),
    of_place(name::AWS_ENDPOINT),
    plain(name::PATH_STYLE),
    plain(name::ENCRYPTION),
    plain(name::ENCRYPTION_KEY),
    plain(name::SKIP_CHECKSUM),
    plain(name::S3_CLASS),
    plain(name::STORAGE_CLASS),
    plain(name::STS_ENDPOINT),
    plain(name::CHECKSUM),
    plain(name::LOCK_MODE),
    plain(name::LOCK_DAYS),
    plain(name::LOCALITY),
];

const GOOGLE: [Known; 7] = [
    plain(name::AUTH),
    plain(name::ASSUME_ROLE),
    secret(name::CREDENTIALS),
    secret(name::BEARER_TOKEN),
    of_place(name::ENDPOINT),
    plain(name::STORAGE_CLASS),
    plain(name::LOCALITY),
];

const AZURE: [Known; 10] = [
    plain(name::AUTH),
    of_place(name::ACCOUNT),
    secret(name::ACCOUNT_KEY),
    of_place(name::ENVIRONMENT),
    plain(name::CLIENT_ID),
    secret(name::CLIENT_SECRET),
    plain(name::TENANT),
    of_place(name::ENDPOINT),
    plain(name::STORAGE_CLASS),
    plain(name::LOCALITY),
];

const LOCAL: [Known; 1] = [plain(name::LOCALITY)];

/// How near a misspelled name must be to a known one to be taken for it.
const NEAR: f64 = 0.75;

fn known(scheme: Scheme) -> &'static [Known] {
    match scheme {
        Scheme::S3 => &S3,
        Scheme::Google => &GOOGLE,
        Scheme::Azure => &AZURE,
        Scheme::File | Scheme::NodeLocal | Scheme::Memory => &LOCAL,
    }
}

/// What a secret is shown as, in the model system's word.
const REDACTED: &str = "redacted";

/// Checked names with their values. Its `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Takes the parameters of a URL.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown one, naming the nearest that is known, and for one that is given twice.
    pub(super) fn read(scheme: Scheme, url: &Url) -> Result<Self, Fault> {
        let mut parameters = Self::default();
        for (given, value) in url.query_pairs() {
            // One name for one thing, so that both at once are seen as the same thing twice.
            let spelled = match given.as_ref() {
                name::MODEL_LOCALITY => name::LOCALITY,
                other => other,
            };
            let Some(known) = known(scheme).iter().find(|known| known.name == spelled) else {
                return Err(unknown(scheme, &given));
            };
            let value = match known.has_plus {
                true => value.replace(' ', "+"),
                false => value.into_owned(),
            };
            if parameters.0.insert(known.name, value).is_some() {
                return Err(invalid(format!(
                    "parameter \"{}\" is given twice in a {scheme}: URI",
                    given.escape_debug()
                )));
            }
        }
        Ok(parameters)
    }

    /// A value that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    ///
    /// # Errors
    /// `InvalidArgument` if it is neither `true` nor `false`.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(invalid(format!(
                "{name} is true or false, not \"{}\"",
                other.escape_debug()
            ))),
        }
    }

    /// One of some words; given in the spelling of the list, whatever case it was written in.
    ///
    /// # Errors
    /// `InvalidArgument`, with all words.
    pub(crate) fn word(
        &self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, Fault> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(value));
        match found {
            Some(word) => Ok(Some(word)),
            None => Err(invalid(format!(
                "{name} is one of {}, not \"{}\"",
                words.join(", "),
                value.escape_debug()
            ))),
        }
    }

    /// Requires that of two parameters only one is given.
    ///
    /// # Errors
    /// `InvalidArgument`, naming both.
    pub(crate) fn exclude(&self, one: &str, other: &str) -> Result<(), Fault> {
        match (self.get(one), self.get(other)) {
            (Some(_), Some(_)) => Err(invalid(format!(
                "{one} and {other} contradict each other: give one of them"
            ))),
            _ => Ok(()),
        }
    }

    /// Requires that a parameter is given with another.
    ///
    /// # Errors
    /// `InvalidArgument`, naming both.
    pub(crate) fn require(&self, one: &str, needed: &str) -> Result<(), Fault> {
        match (self.get(one), self.get(needed)) {
            (Some(_), None) => Err(invalid(format!("{one} needs {needed} beside it"))),
            _ => Ok(()),
        }
    }

    /// An address of a service: `http://` or `https://`, a host, and perhaps a port.
    ///
    /// # Errors
    /// `InvalidArgument` if it is anything else.
    pub(crate) fn endpoint(&self, name: &str) -> Result<Option<&str>, Fault> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let url = Url::parse(value).ok();
        let is_service = url.as_ref().is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        match is_service {
            true => Ok(Some(value.trim_end_matches('/'))),
            false => Err(invalid(format!(
                "{name} must be the address of a service: https://HOST[:PORT], without user or parameters"
            ))),
        }
    }

    /// All of them as a query.
    pub(super) fn query(&self) -> String {
        self.written(|_| true, |_, value| value.to_owned())
    }

    /// The same, with secrets redacted.
    pub(super) fn redacted(&self, scheme: Scheme) -> String {
        self.written(
            |_| true,
            |name, value| match is(scheme, name, |known| known.secret) {
                true => REDACTED.to_owned(),
                false => value.to_owned(),
            },
        )
    }

    /// Those that say where a place is.
    pub(super) fn of_place(&self, scheme: Scheme) -> String {
        self.written(
            |name| is(scheme, name, |known| known.of_place),
            |_, value| value.to_owned(),
        )
    }

    /// The values of secret parameters, for those that look for them where they must not be.
    pub(super) fn secrets(&self, scheme: Scheme) -> impl Iterator<Item = &str> {
        let secrets = self
            .0
            .iter()
            .filter(move |(name, _)| is(scheme, name, |known| known.secret));
        secrets.map(|(_, value)| value.as_str())
    }

    /// Whether there is nothing but what says where the place is.
    pub(super) fn is_address(&self, scheme: Scheme) -> bool {
        self.0
            .keys()
            .all(|name| is(scheme, name, |known| known.of_place))
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn written(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        show: impl Fn(&str, &str) -> String,
    ) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in self.0.iter().filter(|(name, _)| is_wanted(name)) {
            query.append_pair(name, &show(name, value));
        }
        query.finish()
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn is(scheme: Scheme, name: &str, what: impl Fn(&Known) -> bool) -> bool {
    known(scheme)
        .iter()
        .any(|known| known.name == name && what(known))
}

pub(crate) fn invalid(message: String) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, message)
        .hint("docs/STORAGE.md lists every scheme with its parameters")
}

fn unknown(scheme: Scheme, given: &str) -> Fault {
    let names = known(scheme).iter().map(|known| known.name);
    let nearness = |name: &str| strsim::jaro_winkler(&given.to_uppercase(), name);
    let nearest = names
        .clone()
        .max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
    let nearest = nearest.filter(|name| nearness(name) >= NEAR);
    let message = format!(
        "unknown parameter \"{}\" in a {scheme}: URI",
        given.escape_debug()
    );
    let fault = Fault::new(ErrorCode::InvalidArgument, message);
    match nearest {
        Some(name) => fault.hint(format!("did you mean {name}?")),
        None => fault.hint(format!(
            "a {scheme}: URI takes {}",
            names.collect::<Vec<_>>().join(", ")
        )),
    }
}
