//! How a member is reached: a connection string, read as libpq reads it.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long opening a session may take when the connection string does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

/// A secret: it is not shown and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, to be handed to the server and nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or address.
    Tcp(String),
    /// The directory of a local socket.
    Local(String),
}

/// How far the connection is protected, with libpq's names and meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it, unchecked (libpq's default; `allow` means the same here).
    Prefer,
    /// TLS or nothing; the certificate is not checked.
    Require,
    /// The certificate must come from a known authority.
    VerifyCa,
    /// And be the host's.
    VerifyFull,
}

impl TlsMode {
    /// Its name in a connection string.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Whether SCRAM is bound to the TLS channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Or the session is refused.
    Require,
}

/// A connection string, taken apart. `Debug` and `Display` never show the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Where the server listens.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The role's password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How far the connection is protected.
    pub tls: TlsMode,
    /// A file with the authorities' certificates (PEM), their text itself, or `system`.
    pub root_certificates: Option<String>,
    /// A file with the client's certificate chain (PEM), or its text.
    pub client_certificate: Option<String>,
    /// A file with the client's private key (PEM), or its text.
    pub client_key: Option<Secret>,
    /// Channel binding of SCRAM.
    pub binding: Binding,
    /// How long opening a session may take.
    pub connect_timeout: Duration,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
}

impl Dsn {
    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// `host:port`, or the path of the socket.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Local(directory) => format!("{directory}/.s.PGSQL.{}", self.port),
        }
    }

    fn from_settings(mut settings: BTreeMap<String, String>) -> Result<Self, Fault> {
        let mut take = |name: &str| settings.remove(name).filter(|value| !value.is_empty());
        let host = take("host");
        let host = take("hostaddr")
            .or(host)
            .unwrap_or_else(|| "localhost".to_owned());
        if host.contains(',') {
            return Err(invalid(
                "a member is one server, and the connection string names several hosts",
            )
            .hint("register each server as a member of its own"));
        }
        let port = match take("port") {
            Some(text) => text
                .parse()
                .map_err(|_| invalid("the port is not a number of 1 to 65535"))?,
            None => DEFAULT_PORT,
        };
        let user = take("user").ok_or_else(|| {
            invalid("the connection string names no role").hint(
                "write postgres://ROLE@HOST/DATABASE: no role is guessed from the system's user",
            )
        })?;
        let root_certificates = take("sslrootcert");
        let tls = tls_mode(take("sslmode").as_deref(), root_certificates.as_deref())?;
        let binding = match take("channel_binding").as_deref() {
            None | Some("prefer") => Binding::Prefer,
            Some("disable") => Binding::Disable,
            Some("require") => Binding::Require,
            Some(_) => {
                return Err(invalid(
                    "channel_binding is one of disable, prefer, require",
                ));
            }
        };
        let connect_timeout = match take("connect_timeout") {
            Some(text) => match text.parse() {
                Ok(0) | Err(_) => return Err(invalid("connect_timeout is a number of seconds")),
                Ok(seconds) => Duration::from_secs(seconds),
            },
            None => CONNECT_TIMEOUT,
        };
        let dsn = Self {
            host: match host.starts_with('/') {
                true => Host::Local(host.trim_end_matches('/').to_owned()),
                false => Host::Tcp(host),
            },
            port,
            password: take("password").map(Secret::new),
            database: take("dbname").unwrap_or_else(|| user.clone()),
            user,
            tls,
            root_certificates,
            client_certificate: take("sslcert"),
            client_key: take("sslkey").map(Secret::new),
            binding,
            connect_timeout,
            application_name: take("application_name").unwrap_or_else(|| "holdfast".to_owned()),
        };
        // Settings of the session are pinned by Holdfast, and what only tunes libpq does not matter here.
        const IGNORED: [&str; 9] = [
            "fallback_application_name",
            "gssencmode",
            "keepalives",
            "keepalives_count",
            "keepalives_idle",
            "keepalives_interval",
            "sslsni",
            "target_session_attrs",
            "tcp_user_timeout",
        ];
        match settings
            .keys()
            .find(|name| !IGNORED.contains(&name.as_str()))
        {
            Some(name) => Err(invalid(format!(
                "the connection string has a parameter that is not known: {}",
                name.escape_debug()
            ))),
            None => Ok(dsn),
        }
    }
}

fn tls_mode(mode: Option<&str>, root: Option<&str>) -> Result<TlsMode, Fault> {
    Ok(match mode {
        Some("disable") => TlsMode::Disable,
        // As in libpq: authorities that are named are meant to be used; "system" would otherwise be no check at all.
        None if root == Some("system") => TlsMode::VerifyFull,
        None | Some("prefer" | "allow") => TlsMode::Prefer,
        Some("require") if root.is_some() => TlsMode::VerifyCa,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some("verify-full") => TlsMode::VerifyFull,
        Some(_) => {
            return Err(invalid(
                "sslmode is one of disable, prefer, require, verify-ca, verify-full",
            ));
        }
    })
}

impl fmt::Display for Dsn {
    /// Role, server and database: what a message may name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.address(), self.database)
    }
}

impl FromStr for Dsn {
    type Err = Fault;

    /// Reads `postgres://role:password@host:port/database?name=value&…` or `host=… user=…`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let settings = match url {
            Some(rest) => url_settings(rest)?,
            None => pair_settings(text)?,
        };
        Self::from_settings(settings)
    }
}

/// The error never repeats the string: it may hold a password.
fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, message)
}

fn url_settings(rest: &str) -> Result<BTreeMap<String, String>, Fault> {
    let mut settings = BTreeMap::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        settings.insert("user".to_owned(), decode(user)?);
        settings.insert("password".to_owned(), decode(password)?);
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed
                .split_once(']')
                .ok_or_else(|| invalid("an address in brackets is not closed"))?;
            (host, after.strip_prefix(':').unwrap_or(""))
        }
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    settings.insert("host".to_owned(), decode(host)?);
    settings.insert("port".to_owned(), decode(port)?);
    settings.insert("dbname".to_owned(), decode(database)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid("a parameter of the connection string has no value"))?;
        let name = match decode(name)? {
            name if name == "ssl" && value == "true" => {
                settings.insert("sslmode".to_owned(), "require".to_owned());
                continue;
            }
            name => name,
        };
        settings.insert(name, decode(value)?);
    }
    Ok(settings)
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, Fault> {
    let wrong = || invalid("the connection string has a % that is not followed by two hex digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push(high << 4 | low);
    }
    if bytes.contains(&0) {
        return Err(invalid("the connection string holds a zero byte"));
    }
    String::from_utf8(bytes).map_err(|_| invalid("the connection string is not UTF-8"))
}

/// Reads `name = value` pairs; values may be in single quotes, with `\'` and `\\` inside.
fn pair_settings(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let wrong = || invalid("the connection string is not of the form postgres://… or name=value …");
    let mut settings = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(settings);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if name.is_empty() || rest.next() != Some('=') {
            return Err(wrong());
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.push(rest.next().ok_or_else(wrong)?),
                Some(c) if quoted || !c.is_whitespace() => value.push(c),
                None if quoted => return Err(wrong()),
                Some(_) | None => break,
            }
        }
        settings.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dsn(text: &str) -> Dsn {
        text.parse().expect(text)
    }

    #[test]
    fn urls_are_read() {
        let read = dsn(
            "postgresql://al%40ice:s%3Ae%2Fcret@db.example:5433/my%20db?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3",
        );
        assert_eq!(read.user, "al@ice");
        assert_eq!(read.password.as_ref().map(Secret::expose), Some("s:e/cret"));
        assert_eq!(read.address(), "db.example:5433");
        assert_eq!(read.database, "my db");
        assert_eq!(read.tls, TlsMode::VerifyFull);
        assert_eq!(read.connect_timeout, Duration::from_secs(3));
        assert_eq!(dsn("postgres://a@[::1]:1/x").address(), "[::1]:1");
        assert_eq!(
            dsn("postgres://a@/x?host=/run/pg").address(),
            "/run/pg/.s.PGSQL.5432"
        );
        assert_eq!(
            dsn("postgres://a@%2Frun%2Fpg/x").host,
            Host::Local("/run/pg".to_owned())
        );
        assert_eq!(dsn("postgres://a@h").database, "a");
        assert_eq!(
            dsn("postgres://a@h?sslmode=require&sslrootcert=c").tls,
            TlsMode::VerifyCa
        );
        assert_eq!(
            dsn("postgres://a@h?sslrootcert=system").tls,
            TlsMode::VerifyFull
        );
    }

    #[test]
    fn pairs_are_read() {
        let read = dsn("host = db user=u password='it\\'s a \\\\ secret' dbname=d port=7 ");
        assert_eq!(
            read.password.as_ref().map(Secret::expose),
            Some("it's a \\ secret")
        );
        assert_eq!(read.to_string(), "u@db:7/d");
    }

    #[test]
    fn passwords_are_never_shown() {
        let read = dsn("postgres://u:hunter2@h/d?sslkey=hunter2");
        assert!(!format!("{read:?} {read}").contains("hunter2"));
        for wrong in [
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2%zz@h/d",
            "postgres://u:hunter2@h/d?bogus=1",
            "postgres://u:hunter2@h,i/d",
            "postgres://:hunter2@h/d",
            "user=u password='hunter2",
            "hunter2",
            "postgres://u:hunter2@h/d?sslmode=yes",
            "postgres://u:hunter2@[::1/d",
        ] {
            let fault = wrong.parse::<Dsn>().expect_err(wrong);
            assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        }
    }
}
