//! URIs that may lead through an external connection.

use holdfast_types::{ConnectionName, Fault};
use std::str::FromStr;
use url::Url;

use super::CollectionUri;
use super::parameters::invalid;

/// A URI as users write it: of a store, or `external://CONNECTION/PATH?PARAMETERS`. Its `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A store.
    Store(CollectionUri),
    /// Something below a connection's place.
    External(External),
}

/// What is written behind a connection's name.
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    /// The connection.
    pub connection: ConnectionName,
    /// The path below its place; empty for the place itself.
    path: String,
    /// Further parameters, as they were written.
    query: String,
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "External({}/{})", self.connection, self.path)
    }
}

impl FromStr for Reference {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        if !text.starts_with("external:") {
            return text.parse().map(Self::Store);
        }
        let url = Url::parse(text)
            .map_err(|error| invalid(format!("the collection's location is not a URI: {error}")))?;
        super::check_bare(&url)?;
        let connection = url.host_str().unwrap_or_default().parse()?;
        Ok(Self::External(External {
            connection,
            path: url.path().trim_matches('/').to_owned(),
            query: url.query().unwrap_or_default().to_owned(),
        }))
    }
}

impl External {
    /// The store that is meant, from the URI that the connection stands for. Parameters of the reference come in addition.
    ///
    /// # Errors
    /// As reading a URI: a parameter that both have is one that is given twice.
    pub fn resolve(&self, connection: &str) -> Result<CollectionUri, Fault> {
        let (base, query) = connection.split_once('?').unwrap_or((connection, ""));
        let path = match self.path.is_empty() {
            true => String::new(),
            false => format!("/{}", self.path),
        };
        let queries: Vec<&str> = [query, &self.query]
            .into_iter()
            .filter(|query| !query.is_empty())
            .collect();
        let base = base.trim_end_matches('/');
        let text = match queries.is_empty() {
            true => format!("{base}{path}"),
            false => format!("{base}{path}?{}", queries.join("&")),
        };
        let resolved = text.parse::<CollectionUri>();
        resolved.map_err(|fault| fault.context(format_args!("connection {}", self.connection)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external(text: &str) -> External {
        match text.parse().expect(text) {
            Reference::External(external) => external,
            Reference::Store(uri) => panic!("{uri}"),
        }
    }

    #[test]
    fn paths_and_parameters_are_added_to_the_connection() {
        let base = "s3://bucket/base/?AUTH=implicit&AWS_REGION=eu";
        let cases = [
            ("external://vault", "s3://bucket/base"),
            ("external://vault/", "s3://bucket/base"),
            ("external://vault/a/b/", "s3://bucket/base/a/b"),
            (
                "external://vault/a?HOLDFAST_LOCALITY=default",
                "s3://bucket/base/a",
            ),
        ];
        for (text, address) in cases {
            let found = external(text).resolve(base).expect(text);
            assert_eq!(found.to_string(), address);
            assert!(found.expose().contains("AUTH=implicit"));
        }
        let fault = external("external://vault?AWS_REGION=us").resolve(base);
        let fault = fault.expect_err("twice");
        assert!(
            fault.message.contains("given twice") && fault.message.contains("vault"),
            "{fault}"
        );
        assert_eq!(
            external("external://v/x")
                .resolve("memory://m")
                .expect("legal")
                .to_string(),
            "memory://m/x"
        );
        assert!("external://".parse::<Reference>().is_err());
        assert!("external://a b/x".parse::<Reference>().is_err());
    }
}
