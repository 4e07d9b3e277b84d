//! Clients of members, made from their records.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, MemberLimits, MemberRecord};
use std::sync::{Arc, Mutex, PoisonError};

use crate::dsn::{Dsn, Secret};
use crate::member::{Limits, PostgresMember, Rooms};

/// Clients that are kept for the next task of the same member. The one that was not asked for longest is let go first; tasks that have it
/// keep it.
const MAX_CLIENTS: usize = 128;

/// Makes [`PostgresMember`]s. All tasks of a member share one, with its limits and what restores keep in memory.
#[derive(Debug)]
pub struct PostgresFactory {
    env: Env,
    tag: String,
    rooms: Arc<Rooms>,
    limits: Limits,
    /// The one that was asked for last is the last.
    clients: Mutex<Vec<Client>>,
}

#[derive(Debug)]
struct Client {
    name: String,
    address: String,
    password: Option<Secret>,
    limits: MemberLimits,
    member: PostgresMember,
}

impl PostgresFactory {
    /// A factory. Names of slots and publications begin with `holdfast_` and the `tag`, which tells clusters of Holdfast apart. Files go below
    /// `directory`, which is this process's own and is emptied before its first use. PostgreSQL's client programs are looked for in
    /// `tools` first.
    #[must_use]
    pub fn new(
        env: Env,
        tag: impl Into<String>,
        directory: impl Into<String>,
        tools: Option<String>,
    ) -> Self {
        let rooms = Rooms::new(env.clone(), directory);
        let limits = Limits {
            tools,
            ..Limits::default()
        };
        Self {
            env,
            tag: tag.into(),
            rooms,
            limits,
            clients: Mutex::default(),
        }
    }

    /// Other bounds than the usual ones; [`Limits::tools`] stays as it is.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        let tools = self.limits.tools.take();
        self.limits = Limits { tools, ..limits };
        self
    }

    /// The client of a member, whose password was opened by the caller. Connections are made when they are needed.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that is no connection string, or that has a secret in it.
    pub fn member(
        &self,
        record: &MemberRecord,
        password: Option<Secret>,
    ) -> Result<PostgresMember, Fault> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |client: &Client| {
            client.name == record.name.as_str()
                && client.address == record.address
                && client.password == password
                && client.limits == record.limits
        };
        if let Some(place) = clients.iter().position(is_it) {
            let client = clients.remove(place);
            let member = client.member.clone();
            clients.push(client);
            return Ok(member);
        }
        let dsn = address(record.name.as_str(), &record.address)?;
        let member = PostgresMember::in_rooms(
            self.env.clone(),
            Dsn {
                password: password.clone(),
                ..dsn
            },
            self.tag.as_str(),
            Arc::clone(&self.rooms),
            self.limits_of(&record.limits),
        )?;
        // A password or a limit that was changed takes the old client's place.
        clients.retain(|client| {
            client.name != record.name.as_str() || client.address != record.address
        });
        if clients.len() >= MAX_CLIENTS {
            clients.remove(0);
        }
        clients.push(Client {
            name: record.name.as_str().to_owned(),
            address: record.address.clone(),
            password,
            limits: record.limits,
            member: member.clone(),
        });
        Ok(member)
    }

    /// The usual bounds, and those that a member has of its own.
    fn limits_of(&self, own: &MemberLimits) -> Limits {
        let usual = self.limits.clone();
        let streams = own
            .streams
            .and_then(|streams| usize::try_from(streams).ok());
        Limits {
            streams: streams.unwrap_or(usual.streams),
            bytes_per_second: own.bytes_per_second.or(usual.bytes_per_second),
            wal_budget: own.wal_budget.or(usual.wal_budget),
            ..usual
        }
    }
}

/// Reads a member's address, in which there must be no secret: it is in the ledger and in lists as it is.
///
/// # Errors
/// `InvalidArgument`, which does not show it.
pub fn address(name: &str, text: &str) -> Result<Dsn, Fault> {
    let refused = |what: &str| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "the address of member {} has {what} in it",
                name.escape_debug()
            ),
        )
    };
    let dsn: Dsn = text.parse().map_err(|fault: Fault| {
        fault.context(format_args!(
            "the address of member {}",
            name.escape_debug()
        ))
    })?;
    if dsn.password.is_some() {
        return Err(refused("a password")
            .hint("give the password apart from the connection string: it is kept sealed"));
    }
    let is_text = |key: &Secret| key.expose().contains("PRIVATE KEY");
    if dsn.client_key.as_ref().is_some_and(is_text) {
        return Err(refused("a private key").hint("name a file on the workers with sslkey"));
    }
    Ok(dsn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Locality, MemberName};

    fn record(address: &str) -> MemberRecord {
        MemberRecord {
            name: "m1".parse::<MemberName>().expect("a name"),
            locality: Locality::default(),
            address: address.to_owned(),
            secret: None,
            limits: MemberLimits::default(),
        }
    }

    fn factory() -> PostgresFactory {
        PostgresFactory::new(Env::system(), "t1", "/nowhere", None)
    }

    #[test]
    fn tasks_of_a_member_share_a_client() {
        let factory = factory();
        let get = |address: &str, password: &str| {
            let password = Some(Secret::new(password));
            factory.member(&record(address), password).expect("one")
        };
        let first = get("postgres://u@h/d", "one");
        assert!(first.is_same(&get("postgres://u@h/d", "one")));
        assert!(!first.is_same(&get("postgres://u@h/e", "one")));
        let second = get("postgres://u@h/d", "two");
        assert!(!first.is_same(&second));
        assert!(second.is_same(&get("postgres://u@h/d", "two")));
        assert!(!first.is_same(&get("postgres://u@h/d", "one")));
        assert!(!format!("{factory:?}").contains("\"two\""));
    }

    #[test]
    fn a_member_has_limits_of_its_own() {
        let factory = factory();
        let mut record = record("postgres://u@h/d");
        let first = factory.member(&record, None).expect("one");
        record.limits.streams = Some(2);
        record.limits.wal_budget = Some(5);
        let second = factory.member(&record, None).expect("one");
        assert!(!first.is_same(&second));
        assert!(second.is_same(&factory.member(&record, None).expect("one")));
        let usual = Limits::default();
        let expected = Limits {
            streams: 2,
            wal_budget: Some(5),
            ..usual
        };
        assert_eq!(factory.limits_of(&record.limits), expected);
    }

    #[test]
    fn an_address_has_no_secrets() {
        for wrong in [
            "postgres://u:hunter2@h/d",
            "postgres://u@h/d?password=hunter2",
            "user=u password=hunter2",
            "postgres://u@h/d?sslkey=-----BEGIN%20PRIVATE%20KEY-----hunter2",
            "hunter2",
        ] {
            let fault = factory().member(&record(wrong), None).expect_err(wrong);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        }
    }
}
