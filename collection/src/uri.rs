//! Where one store of a collection is, as users write it.

mod location;
pub(crate) mod parameters;
mod reference;

pub use location::Location;
pub use reference::Reference;

use holdfast_types::{ErrorCode, Fault, Tier};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::str::FromStr;
use url::Url;

use crate::cloud;
use parameters::{Parameters, invalid, name};

/// The schemes that this build opens, for errors.
const SCHEMES: &str = "s3://BUCKET/PATH, gs://BUCKET/PATH, azure-blob://CONTAINER/PATH, file:///PATH, nodelocal://self/PATH, external://CONNECTION/PATH and \
     memory://NAME can be opened; docs/STORAGE.md has their parameters";

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// A directory: `file:///absolute/path`.
    File,
    /// A directory below each process's own directory for such: `nodelocal://self/path`.
    NodeLocal,
    /// Memory of this process, for demonstrations and tests: `memory://name`.
    Memory,
    /// Amazon S3, and what speaks its protocol: `s3://bucket/path`.
    S3,
    /// Google Cloud Storage: `gs://bucket/path`.
    Google,
    /// Azure Blob Storage: `azure-blob://container/path`; `azure`, `azure-storage` and `az` are the same.
    Azure,
}

impl Scheme {
    /// The one spelling by which URIs are printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::NodeLocal => "nodelocal",
            Self::Memory => "memory",
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "azure-blob",
        }
    }

    /// Whether it is reached over a network that Holdfast does not own.
    #[must_use]
    pub const fn is_cloud(self) -> bool {
        matches!(self, Self::S3 | Self::Google | Self::Azure)
    }

    fn read(text: &str) -> Result<Self, Fault> {
        match text {
            "file" => Ok(Self::File),
            "nodelocal" => Ok(Self::NodeLocal),
            "memory" => Ok(Self::Memory),
            "s3" => Ok(Self::S3),
            "gs" => Ok(Self::Google),
            "azure-blob" | "azure" | "azure-storage" | "az" => Ok(Self::Azure),
            "http" | "https" => Err(unsupported(
                text,
                "a web server cannot list what it has, and a collection is found by listing",
            )),
            "userfile" => Err(unsupported(
                text,
                "Holdfast has no tables of its own to keep files in",
            )),
            "null" => Err(unsupported(text, "what is thrown away cannot be restored")),
            "external" => Err(Fault::new(
                ErrorCode::InvalidArgument,
                "an external: URI is known to a cluster only",
            )
            .hint(
                "ask a cluster (without --local), or write the URI that the connection stands for",
            )),
            other => Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "collections on \"{}\" are not supported",
                    other.escape_debug()
                ),
            )
            .hint(SCHEMES)),
        }
    }
}

fn unsupported(scheme: &str, why: &str) -> Fault {
    Fault::new(
        ErrorCode::Unsupported,
        format!("collections on \"{scheme}\" are not supported: {why}"),
    )
    .hint(SCHEMES)
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose data a store takes, where a collection has several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreLocality {
    /// Whatever has no store of its own.
    Default,
    /// The data of members in this tier.
    Tier(Tier),
}

/// The URI of one store, checked. It prints as its address: without secrets, in the one spelling by which places are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionUri {
    scheme: Scheme,
    place: String,
    parameters: Parameters,
    locality: Option<StoreLocality>,
}

impl CollectionUri {
    /// The kind of store.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The directory's absolute path, the name of the store in memory, or the bucket and the path in it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The bucket or container of a store in a cloud.
    #[must_use]
    pub fn bucket(&self) -> &str {
        self.place.split('/').next().unwrap_or_default()
    }

    /// The path in the bucket; empty if the collection is the bucket's root.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.place.split_once('/').map_or("", |(_, path)| path)
    }

    /// Whose data it takes, if that was said.
    #[must_use]
    pub fn locality(&self) -> Option<&StoreLocality> {
        self.locality.as_ref()
    }

    /// The class in which data objects are stored, if not in the bucket's own. Metadata never is: an archive cannot be listed nor read
    /// at once.
    #[must_use]
    pub fn data_class(&self) -> Option<&str> {
        let given = self.parameters.get(name::S3_CLASS);
        given.or_else(|| self.parameters.get(name::STORAGE_CLASS))
    }

    /// For how many days objects that are written here cannot be removed; 0 if nothing is said of that.
    #[must_use]
    pub fn lock_days(&self) -> u64 {
        let days = self.parameters.get(name::LOCK_DAYS);
        days.and_then(|days| days.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The URI with all parameters and **all secrets**, as it can be read back. It is for sealing only.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut query = self.parameters.query();
        if let Some(locality) = &self.locality {
            let value = match locality {
                StoreLocality::Default => "default".to_owned(),
                StoreLocality::Tier(tier) => tier.to_string(),
            };
            let mut pairs = url::form_urlencoded::Serializer::new(query);
            pairs.append_pair(name::LOCALITY, &value);
            query = pairs.finish();
        }
        with_query(self.bare(), &query)
    }

    /// The URI with all parameters, the values of secret ones redacted.
    #[must_use]
    pub fn redacted(&self) -> String {
        with_query(self.bare(), &self.parameters.redacted(self.scheme))
    }

    /// The values of secret parameters, for those that look for them where they must not be.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parameters.secrets(self.scheme)
    }

    /// Whether the address says all there is to say, so that nothing need be sealed.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.parameters.is_address(self.scheme)
    }

    /// The same place, whosever data it takes.
    #[must_use]
    pub fn without_locality(mut self) -> Self {
        self.locality = None;
        self
    }

    /// A directory.
    ///
    /// # Errors
    /// `InvalidArgument` if the path is not absolute.
    pub fn file(path: &str) -> Result<Self, Fault> {
        if !path.starts_with('/') {
            return Err(invalid(format!(
                "collection path \"{}\" is not absolute",
                path.escape_debug()
            )));
        }
        let place = format!("/{}", components(path)?);
        if place == "/" {
            return Err(invalid(format!(
                "collection path \"{}\" names no directory of its own",
                path.escape_debug()
            )));
        }
        Ok(Self::plain(Scheme::File, place))
    }

    fn plain(scheme: Scheme, place: String) -> Self {
        Self {
            scheme,
            place,
            parameters: Parameters::default(),
            locality: None,
        }
    }

    /// Scheme and place, without parameters.
    fn bare(&self) -> String {
        match self.scheme {
            // The path is written as a URL, so that what is printed can be read back.
            Scheme::File => match Url::from_file_path(&self.place) {
                Ok(url) => url.to_string(),
                Err(()) => format!("file://{}", self.place),
            },
            Scheme::NodeLocal => format!("nodelocal://self/{}", encoded(&self.place)),
            Scheme::Memory => format!("memory://{}", self.place),
            Scheme::S3 | Scheme::Google | Scheme::Azure => {
                format!("{}://{}", self.scheme, encoded(&self.place))
            }
        }
    }
}

fn with_query(bare: String, query: &str) -> String {
    match query.is_empty() {
        true => bare,
        false => format!("{bare}?{query}"),
    }
}

/// A path with what a URI cannot hold written as `%XX`.
fn encoded(path: &str) -> String {
    const KEPT: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'=');
    percent_encoding::utf8_percent_encode(path, &KEPT).to_string()
}

/// The components of a path with single slashes between them, and none around them.
fn components(path: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_legal = |part: &str| part != "." && part != ".." && !part.chars().any(char::is_control);
    match parts.iter().all(|part| is_legal(part)) {
        true => Ok(parts.join("/")),
        false => Err(invalid(format!(
            "collection path \"{}\" names no place of its own",
            path.escape_debug()
        ))),
    }
}

/// The part of a URI that names a host elsewhere, and the path after it, decoded.
fn host_and_path(url: &Url) -> Result<(String, String), Fault> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        let decoded = decoded.map(std::borrow::Cow::into_owned);
        decoded.map_err(|_| invalid("a collection's path must be UTF-8".to_owned()))
    };
    let host = decode(url.host_str().unwrap_or_default())?;
    Ok((host, components(&decode(url.path())?)?))
}

fn check_bare(url: &Url) -> Result<(), Fault> {
    if url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.port().is_none()
    {
        return Ok(());
    }
    Err(invalid(format!(
        "a {}: URI takes no user, password, port or fragment: what is secret goes into its parameters",
        url.scheme()
    )))
}

fn place_of(scheme: Scheme, url: &Url) -> Result<String, Fault> {
    if scheme == Scheme::File {
        let path = url.to_file_path().map_err(|()| {
            invalid("a file: URI is written with three slashes, file:///path".to_owned())
        })?;
        let path = path
            .to_str()
            .ok_or_else(|| invalid("a collection's path must be UTF-8".to_owned()))?;
        return CollectionUri::file(path).map(|uri| uri.place);
    }
    let (host, path) = host_and_path(url)?;
    match scheme {
        Scheme::NodeLocal if host != "self" => Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "nodelocal://{}: processes do not serve each other's files",
                host.escape_debug()
            ),
        )
        .hint("write nodelocal://self/PATH: a directory below each process's --external-io-dir, which must be one file system to all of them")),
        Scheme::NodeLocal if path.is_empty() => Err(invalid(
            "a nodelocal: URI needs a path: nodelocal://self/PATH".to_owned(),
        )),
        Scheme::NodeLocal => Ok(path),
        _ if host.is_empty() && path.is_empty() => Err(invalid(format!(
            "a {scheme}: URI needs a name: {scheme}://NAME"
        ))),
        _ if host.is_empty() => Err(invalid(format!(
            "a {scheme}: URI is written with two slashes before the name, {scheme}://NAME/PATH"
        ))),
        _ if path.is_empty() => Ok(host),
        _ => Ok(format!("{host}/{path}")),
    }
}

fn read_locality(parameters: &mut Parameters) -> Result<Option<StoreLocality>, Fault> {
    let Some(value) = parameters.remove(name::LOCALITY) else {
        return Ok(None);
    };
    if value == "default" {
        return Ok(Some(StoreLocality::Default));
    }
    let tier = value.parse::<Tier>().map_err(|_| {
        invalid(format!(
            "{}: tier must be in the form key=value, and it is \"{}\"",
            name::LOCALITY,
            value.escape_debug()
        ))
    })?;
    Ok(Some(StoreLocality::Tier(tier)))
}

impl FromStr for CollectionUri {
    type Err = Fault;

    /// Reads a URI. Unknown schemes, unknown parameters and contradictions are errors, and no error repeats what could be a credential. That
    /// credentials are missing is found when it is opened: an address is a URI too.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let url = Url::parse(text.trim()).map_err(|error| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the collection's location is not a URI: {error}"),
            )
            .hint(SCHEMES)
        })?;
        let scheme = Scheme::read(url.scheme())?;
        check_bare(&url)?;
        let mut parameters = Parameters::read(scheme, &url)?;
        let locality = read_locality(&mut parameters)?;
        let uri = Self {
            place: place_of(scheme, &url)?,
            scheme,
            parameters,
            locality,
        };
        cloud::check(&uri)?;
        Ok(uri)
    }
}

impl fmt::Display for CollectionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = self.parameters.of_place(self.scheme);
        f.write_str(&with_query(self.bare(), &query))
    }
}

#[cfg(test)]
mod tests;
