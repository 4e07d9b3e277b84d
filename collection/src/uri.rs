//! Where a collection is, as users write it.

use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::str::FromStr;
use url::Url;

/// The schemes that this build opens, for errors.
const SCHEMES: &str = "this version opens file:///absolute/path and memory://name";
/// The parameter that says whose data a URI takes, and the model system's spelling of it.
const LOCALITY_PARAMETERS: [&str; 2] = ["HOLDFAST_LOCALITY", "COCKROACH_LOCALITY"];

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// A directory: `file:///absolute/path`.
    File,
    /// Memory of this process, for demonstrations and tests: `memory://name`.
    Memory,
}

/// A collection's URI, checked. It prints without secrets, in the one spelling by which collections are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionUri {
    scheme: Scheme,
    place: String,
}

impl CollectionUri {
    /// The kind of store.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The directory's absolute path, or the name of the store in memory.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
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
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.iter().any(|part| *part == "." || *part == "..") {
            return Err(invalid(format!(
                "collection path \"{}\" names no directory of its own",
                path.escape_debug()
            )));
        }
        Ok(Self {
            scheme: Scheme::File,
            place: format!("/{}", parts.join("/")),
        })
    }
}

fn invalid(message: String) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, message).hint(SCHEMES)
}

impl FromStr for CollectionUri {
    type Err = Fault;

    /// Reads a URI. Unknown schemes and parameters are errors, and no error repeats what could be a credential.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let url = Url::parse(text.trim())
            .map_err(|error| invalid(format!("the collection's location is not a URI: {error}")))?;
        check_parameters(&url)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(invalid(format!(
                "a {}: URI takes no user, password or fragment",
                url.scheme()
            )));
        }
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| {
                    invalid("a file: URI is written with three slashes, file:///path".to_owned())
                })?;
                let path = path
                    .to_str()
                    .ok_or_else(|| invalid("a collection's path must be UTF-8".to_owned()))?;
                Self::file(path)
            }
            "memory" => {
                let host = url.host_str().unwrap_or_default();
                let place = format!("{host}{}", url.path());
                let place = place.trim_matches('/').to_owned();
                if place.is_empty() {
                    return Err(invalid("a memory: URI needs a name".to_owned()));
                }
                Ok(Self {
                    scheme: Scheme::Memory,
                    place,
                })
            }
            other => Err(Fault::new(
                ErrorCode::Unsupported,
                format!("collections on \"{other}\" are not supported"),
            )
            .hint(SCHEMES)),
        }
    }
}

fn check_parameters(url: &Url) -> Result<(), Fault> {
    for (name, value) in url.query_pairs() {
        if !LOCALITY_PARAMETERS.contains(&name.as_ref()) {
            return Err(invalid(format!(
                "unknown parameter \"{}\" in a {}: URI",
                name.escape_debug(),
                url.scheme()
            )));
        }
        if value != "default" {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "{name} \"{}\": collections with several localities are not supported yet",
                    value.escape_debug()
                ),
            )
            .hint(format!("leave {name} out, or write {name}=default")));
        }
    }
    Ok(())
}

impl fmt::Display for CollectionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            // The path is written as a URL, so that what is printed can be read back.
            Scheme::File => match Url::from_file_path(&self.place) {
                Ok(url) => fmt::Display::fmt(&url, f),
                Err(()) => write!(f, "file://{}", self.place),
            },
            Scheme::Memory => write!(f, "memory://{}", self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_spelling() {
        let cases = [
            ("file:///var/backups", "file:///var/backups"),
            ("file:///var//backups/", "file:///var/backups"),
            (
                "file:///var/my%20backups?HOLDFAST_LOCALITY=default",
                "file:///var/my%20backups",
            ),
            ("file:///var/x/../backups", "file:///var/backups"),
            ("memory://demo", "memory://demo"),
            ("memory://demo/?COCKROACH_LOCALITY=default", "memory://demo"),
        ];
        for (text, printed) in cases {
            let uri: CollectionUri = text.parse().expect(text);
            assert_eq!(uri.to_string(), printed);
            assert_eq!(printed.parse::<CollectionUri>().expect(printed), uri);
        }
        let uri: CollectionUri = "file:///var/my%20backups".parse().expect("legal");
        assert_eq!(uri.place(), "/var/my backups");
    }

    #[test]
    fn what_cannot_be_opened_is_refused_with_what_can() {
        let cases = [
            (
                "s3://bucket/x?AWS_SECRET_ACCESS_KEY=hunter2",
                ErrorCode::InvalidArgument,
            ),
            ("s3://key:hunter2@bucket/x", ErrorCode::InvalidArgument),
            ("s3://bucket/x", ErrorCode::Unsupported),
            ("file://host/x", ErrorCode::InvalidArgument),
            ("file:///", ErrorCode::InvalidArgument),
            ("/var/backups", ErrorCode::InvalidArgument),
            ("memory://", ErrorCode::InvalidArgument),
            (
                "file:///x?HOLDFAST_LOCALITY=region%3Deu",
                ErrorCode::Unsupported,
            ),
            ("file:///x?hunter=2", ErrorCode::InvalidArgument),
            ("", ErrorCode::InvalidArgument),
        ];
        for (text, code) in cases {
            let fault = text.parse::<CollectionUri>().expect_err(text);
            assert_eq!(fault.code, code, "{text}: {fault}");
            assert!(fault.hint.is_some(), "{fault}");
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }
}
