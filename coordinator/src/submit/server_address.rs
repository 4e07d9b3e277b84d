//! The address of a PostgreSQL server, as far as a coordinator looks: workers are who connect, and read all of it.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;

/// The longest one: certificates may be in it.
const MAX_LENGTH: usize = 16 * 1024;
/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;
/// What would put a secret where it is shown.
const SECRETS: [&str; 3] = ["password", "passfile", "sslpassword"];

/// Where a connection string leads: a password that was given for one is good for another that leads there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    host: String,
    port: u16,
    role: String,
}

/// Errors never repeat the string: somebody may have written a password into it.
fn invalid(why: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("the connection string {why}"),
    )
    .hint("write postgres://ROLE@HOST:PORT/DATABASE, with further settings after a question mark")
}

impl ServerAddress {
    /// Reads `postgres://role@host:port/database?name=value&…`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none, names no role, no host or several, or holds a password.
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_LENGTH {
            return Err(invalid("is too long"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid("has a blank or a control character in it"));
        }
        let schemes = ["postgres://", "postgresql://"];
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| invalid("does not begin with postgres://"))?;
        let mut settings = settings(rest)?;
        let mut take = |name: &str| settings.remove(name).filter(|value| !value.is_empty());
        if SECRETS.iter().any(|name| take(name).is_some()) {
            return Err(invalid("holds a password").hint(
                "leave it out, and give the password by itself: it is kept sealed, and an address is shown",
            ));
        }
        if take("sslkey").is_some_and(|key| key.contains("PRIVATE KEY")) {
            return Err(invalid("holds a private key")
                .hint("name a file in sslkey that every worker of the member has"));
        }
        let host = take("host");
        let host = take("hostaddr")
            .or(host)
            .ok_or_else(|| invalid("names no host"))?;
        if host.contains(',') {
            return Err(invalid("names several hosts")
                .hint("a member is one server: register each as a member of its own"));
        }
        let port = match take("port") {
            None => DEFAULT_PORT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| invalid("has a port that is not a number of 1 to 65535"))?,
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            role: take("user").ok_or_else(|| invalid("names no role"))?,
        })
    }
}

fn settings(rest: &str) -> Result<BTreeMap<String, String>, Fault> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest
        .split_once('/')
        .map_or(rest, |(authority, _)| authority);
    let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (role, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed
                .split_once(']')
                .ok_or_else(|| invalid("has a bracket that is not closed"))?;
            (host, after.strip_prefix(':').unwrap_or(""))
        }
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    let mut settings = BTreeMap::new();
    let parts = [
        ("user", role),
        ("password", password),
        ("host", host),
        ("port", port),
    ];
    for (name, value) in parts {
        settings.insert(name.to_owned(), decode(value)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid("has a setting without a value"))?;
        let (name, value) = (decode(name)?, decode(value)?);
        // A password is one wherever it stands, even if something later would count in its place.
        let is_first = |earlier: &String| SECRETS.contains(&name.as_str()) && !earlier.is_empty();
        if !settings.get(&name).is_some_and(is_first) {
            settings.insert(name, value);
        }
    }
    Ok(settings)
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, Fault> {
    let wrong = || invalid("has a % that is not followed by two hexadecimal digits of a text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(wrong());
        };
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| wrong())?);
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.contains('\0') {
        return Err(wrong());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16, role: &str) -> ServerAddress {
        ServerAddress {
            host: host.into(),
            port,
            role: role.into(),
        }
    }

    #[test]
    fn where_a_string_leads_is_read() {
        for (text, expected) in [
            (
                "postgres://app@db.example/shop",
                address("db.example", 5432, "app"),
            ),
            (
                "postgresql://al%40ice@DB.example:5433/my%20db?sslmode=verify-full",
                address("db.example", 5433, "al@ice"),
            ),
            ("postgres://a@[::1]:1/x", address("::1", 1, "a")),
            (
                "postgres://a@/x?host=/run/pg",
                address("/run/pg", 5432, "a"),
            ),
            ("postgres://a@%2Frun%2Fpg/x", address("/run/pg", 5432, "a")),
            ("postgres://h/x?user=a", address("h", 5432, "a")),
            (
                "postgres://a@h?hostaddr=10.0.0.1",
                address("10.0.0.1", 5432, "a"),
            ),
            ("postgres://a:@h/x", address("h", 5432, "a")),
            (
                "postgres://a@h/x?sslkey=/etc/key.pem",
                address("h", 5432, "a"),
            ),
        ] {
            assert_eq!(ServerAddress::read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_leads_nowhere_or_tells_a_secret_is_refused_without_repeating_it() {
        for (text, why) in [
            ("", "does not begin"),
            ("canary", "does not begin"),
            ("host=canary user=a", "has a blank"),
            ("mysql://canary@h/x", "does not begin"),
            ("postgres://canary@/x", "names no host"),
            ("postgres://canary/x", "names no role"),
            ("postgres://a@canary,other/x", "several hosts"),
            ("postgres://a@canary:0/x", "a port"),
            ("postgres://a@canary:99999/x", "a port"),
            ("postgres://a@[canary/x", "a bracket"),
            ("postgres://a@h/canary?b", "without a value"),
            ("postgres://a@h%zz/canary", "two hexadecimal digits"),
            ("postgres://a@h%0/canary", "two hexadecimal digits"),
            ("postgres://a@h%00/canary", "two hexadecimal digits"),
            ("postgres://a:canary@h/x", "holds a password"),
            ("postgres://a@h/x?password=canary", "holds a password"),
            ("postgres://a:canary@h/x?password=", "holds a password"),
            ("postgres://a@h/x?passwor%64=canary", "holds a password"),
            ("postgres://a@h/x?passfile=canary", "holds a password"),
            ("postgres://a@h/x?sslpassword=canary", "holds a password"),
            (
                "postgres://a@h/x?sslkey=-----BEGIN%20PRIVATE%20KEY-----canary",
                "holds a private key",
            ),
        ] {
            let fault = ServerAddress::read(text).expect_err(text);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(fault.message.contains(why), "{text}: {fault}");
            assert!(!fault.to_string().contains("canary"), "{fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
        let long = format!("postgres://a@h/{}", "x".repeat(MAX_LENGTH));
        assert!(ServerAddress::read(&long).is_err());
    }
}
