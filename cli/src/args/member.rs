//! Members on the command line.

use holdfast_client::v1;
use holdfast_postgres::dsn::{Dsn, Secret};
use holdfast_types::{ErrorCode, Fault, Locality, MemberName, SourceKind};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// What begins the connection string of a PostgreSQL server.
const POSTGRES_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// How a member is written.
const FORM: &str = "write NAME=HOST:PORT[@LOCALITY], or NAME=postgres://ROLE[:PASSWORD]@HOST[:PORT]/DATABASE[@LOCALITY]";

/// A server on the command line: `HOST:PORT`, or a connection string of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) kind: SourceKind,
    /// Without the password.
    pub(crate) address: String,
    pub(crate) password: Option<Secret>,
}

/// A member on the command line: `NAME=ADDRESS[@LOCALITY]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberAddress {
    pub(crate) name: MemberName,
    pub(crate) server: ServerAddress,
    pub(crate) locality: Locality,
}

impl MemberAddress {
    /// A server of which nobody said where it is.
    pub(crate) fn nowhere(name: MemberName, server: ServerAddress) -> Self {
        Self {
            name,
            server,
            locality: Locality::default(),
        }
    }

    /// As the protocol has it.
    pub(crate) fn wire(&self) -> v1::Member {
        let password = self.server.password.as_ref();
        v1::Member {
            name: self.name.to_string(),
            locality: self.locality.to_string(),
            address: self.server.address.clone(),
            password: password
                .map(|secret| secret.expose().to_owned())
                .unwrap_or_default(),
            ..v1::Member::default()
        }
    }
}

/// An argument with a connection string, as it was written. It may hold a password, so it is not shown, and read only where errors
/// do not repeat it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Unread(String);

impl FromStr for Unread {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread(…)")
    }
}

impl Unread {
    /// As a member.
    pub(crate) fn member(&self) -> Result<MemberAddress, Fault> {
        let (name, rest) = self
            .0
            .split_once('=')
            .filter(|(name, _)| !name.contains("://"))
            .ok_or_else(|| malformed("a member has no name"))?;
        let name = MemberName::new(name)?;
        let (address, locality) = split_locality(rest);
        let named = |fault: Fault| fault.context(format_args!("member {name}"));
        Ok(MemberAddress {
            server: read_server(address).map_err(named)?,
            locality: locality.parse().map_err(|error| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("locality of member {name}: {error}"),
                )
            })?,
            name,
        })
    }

    /// As it was written, to be handed on.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// As a password.
    pub(crate) fn secret(&self) -> Option<Secret> {
        (!self.0.is_empty()).then(|| Secret::new(self.0.as_str()))
    }

    /// As a PostgreSQL server.
    pub(crate) fn postgres(&self) -> Result<ServerAddress, Fault> {
        match is_postgres(&self.0) {
            true => read_server(&self.0),
            false => Err(Fault::new(
                ErrorCode::InvalidArgument,
                "the server must be given as postgres://ROLE[:PASSWORD]@HOST[:PORT]/DATABASE",
            )),
        }
    }
}

fn malformed(what: &str) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, what).hint(FORM)
}

fn is_postgres(text: &str) -> bool {
    POSTGRES_SCHEMES
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// The locality after the last `@`. What is after the `@` of a connection string's role is no locality: it has no `=`, or a `/` or `?`
/// before it.
fn split_locality(text: &str) -> (&str, &str) {
    let is_locality = |text: &str| {
        text.is_empty() || (text.contains('=') && !text.contains(['/', '?', ':', '&']))
    };
    match text.rsplit_once('@') {
        Some((address, locality)) if !is_postgres(text) || is_locality(locality) => {
            (address, locality)
        }
        _ => (text, ""),
    }
}

fn read_server(text: &str) -> Result<ServerAddress, Fault> {
    if is_postgres(text) {
        let password = text.parse::<Dsn>()?.password;
        return Ok(ServerAddress {
            kind: SourceKind::Postgres,
            address: without_password(text),
            password,
        });
    }
    if !text.contains(':') || text.contains("://") {
        return Err(malformed("the address is not HOST:PORT"));
    }
    Ok(ServerAddress {
        kind: SourceKind::Mvcc,
        address: text.to_owned(),
        password: None,
    })
}

/// The same connection string without the role's password, wherever it stands in it.
fn without_password(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("postgres", text));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let role = credentials.split(':').next().unwrap_or_default();
    let query: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("password="))
        .collect();
    let mut address = format!("{scheme}://");
    if !role.is_empty() {
        address.push_str(role);
        address.push('@');
    }
    address.push_str(place);
    if !database.is_empty() || !query.is_empty() {
        address.push('/');
        address.push_str(database);
    }
    if !query.is_empty() {
        address.push('?');
        address.push_str(&query.join("&"));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<MemberAddress, Fault> {
        Unread(text.to_owned()).member()
    }

    #[test]
    fn members_carry_their_locality() {
        let read = |text: &str| {
            let member = member(text).expect(text);
            (member.server.address, member.locality.to_string())
        };
        assert_eq!(
            read("m1=a:1@region=eu,zone=b"),
            ("a:1".to_owned(), "region=eu,zone=b".to_owned())
        );
        assert_eq!(read("m2=b:1"), ("b:1".to_owned(), String::new()));
        for (text, address, locality) in [
            ("postgres://u@h/d", "postgres://u@h/d", ""),
            ("postgres://u:s3cret@h:5/d", "postgres://u@h:5/d", ""),
            (
                "postgres://u:s3@cret@h/d?sslmode=require&password=s3cret@region=eu,zone=b",
                "postgres://u@h/d?sslmode=require",
                "region=eu,zone=b",
            ),
            (
                "postgres://u@h?sslmode=require",
                "postgres://u@h/?sslmode=require",
                "",
            ),
            (
                "postgresql://u@/d?host=/run/pg&user=x",
                "postgresql://u@/d?host=/run/pg&user=x",
                "",
            ),
        ] {
            let read = read(&format!("m={text}"));
            assert_eq!(read, (address.to_owned(), locality.to_owned()));
            assert!(address.parse::<Dsn>().expect("legal").password.is_none());
        }
    }

    #[test]
    fn passwords_are_taken_out_and_never_shown() {
        let read = member("m=postgres://u:s3%3Acret@h/d").expect("legal");
        let password = read.server.password.as_ref().map(Secret::expose);
        assert_eq!(password, Some("s3:cret"));
        assert!(!format!("{read:?}").contains("cret"));
        for wrong in [
            "postgres://u:s3cret@h/d",
            "m=postgres://u:s3cret@h:x/d",
            "m=postgres://u:s3cret@h/d?what=1",
            "m=postgres://:s3cret@h/d",
            "m=http://u:s3cret@h",
            "=postgres://u:s3cret@h/d",
            "m=s3cret",
            "m=a:1@s3cret",
        ] {
            let fault = member(wrong).expect_err(wrong);
            assert_eq!(fault.code, ErrorCode::InvalidArgument, "{wrong}");
            let is_password = wrong.contains("s3cret@h");
            assert!(
                !is_password || !fault.to_string().contains("s3cret"),
                "{fault}"
            );
            assert!(!format!("{:?}", Unread(wrong.to_owned())).contains("s3cret"));
        }
        assert!(Unread("h:1".to_owned()).postgres().is_err());
    }
}
